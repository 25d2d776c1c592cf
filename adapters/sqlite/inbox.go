package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/sagamill/sagamill/adapters/internal/barrier"
	"github.com/sagamill/sagamill/saga"
)

// Inbox is a saga.Inbox in the file of a [DB]: handlers write in the transaction that records the reply. All Inboxes of a file,
// in any number of processes, are one. Participants may share it as long as their steps do not name the same key for
// their effects (see Step.Key).
//
// SQLite has one writer, so one handler runs at a time: it should be short. It runs again if SQLite answers that the database
// is busy; its first transaction has been rolled back then, so only what it does outside of tx is done twice.
type Inbox struct {
	db    *DB
	clock func() time.Time
}

var _ saga.Inbox[*sql.Tx] = (*Inbox)(nil)

// NewInbox makes an inbox in db.
func NewInbox(db *DB, opts ...Option) *Inbox { return &Inbox{db: db, clock: newOptions(opts).now} }

func (i *Inbox) now() micros { return micros(i.clock().UnixMicro()) }

// Handle implements saga.Inbox. The handler must leave tx open; a savepoint named sagamill_inbox is around it.
func (i *Inbox) Handle(ctx context.Context, effect saga.Effect, handle func(context.Context, *sql.Tx) ([]byte, error)) (reply saga.Reply, err error) {
	if err := ctx.Err(); err != nil {
		return saga.Reply{}, err
	}
	err = i.db.Write(ctx, func(tx *sql.Tx) (err error) {
		h := handling{statements: statements{db: i.db, tx: tx}, effect: effect, now: i.now()}
		reply, err = h.run(ctx, handle)
		return err
	})
	if err != nil {
		return saga.Reply{}, fmt.Errorf("sqlite: handle: %w", err)
	}
	return reply, nil
}

// handling is one command in its transaction. The transaction writes from its beginning, so what it finds stays true.
type handling struct {
	statements
	effect saga.Effect
	now    micros
}

func (h *handling) run(ctx context.Context, handle func(context.Context, *sql.Tx) ([]byte, error)) (saga.Reply, error) {
	// The driver starts a goroutine for each statement that can be cancelled; these are short.
	quick := context.WithoutCancel(ctx)
	found, err := h.find(quick)
	if err != nil {
		return saga.Reply{}, err
	}
	known, besides := barrier.Judge(h.effect, found)
	if known != nil {
		return *known, errors.Join(h.write(quick, false, besides.Action), h.write(quick, true, besides.Undo))
	}
	if _, err := h.exec(quick, `SAVEPOINT sagamill_inbox`); err != nil {
		return saga.Reply{}, err
	}
	result, err := handle(ctx, h.tx)
	reply, err := barrier.Settle(h.effect.Undo, result, err)
	if err != nil {
		return saga.Reply{}, err // the whole transaction is rolled back
	}
	if reply.Outcome != saga.ReplySucceeded {
		if _, err := h.exec(quick, `ROLLBACK TO sagamill_inbox`); err != nil {
			return saga.Reply{}, err
		}
	}
	// It fails if an error that the handler has passed over made SQLite roll back all of the transaction.
	if _, err := h.exec(quick, `RELEASE sagamill_inbox`); err != nil {
		return saga.Reply{}, err
	}
	return reply, errors.Join(h.write(quick, false, besides.Action), h.write(quick, h.effect.Undo, &reply))
}

func (h *handling) find(ctx context.Context) (found barrier.Records, err error) {
	const query = `SELECT undo, outcome, reason, reply FROM sagamill_inbox WHERE effect = ?`
	err = h.query(ctx, query, []any{h.effect.ID}, func(rows *sql.Rows) error {
		var undo bool
		r := &saga.Reply{}
		if err := rows.Scan(&undo, &r.Outcome, &r.Reason, &r.Payload); err != nil {
			return err
		}
		if undo {
			found.Undo = r
		} else {
			found.Action = r
		}
		return nil
	})
	return found, err
}

func (h *handling) write(ctx context.Context, undo bool, r *saga.Reply) error {
	if r == nil {
		return nil
	}
	const query = `INSERT INTO sagamill_inbox (effect, undo, outcome, reason, reply, at) VALUES (?, ?, ?, ?, ?, ?)`
	_, err := h.exec(ctx, query, h.effect.ID, undo, string(r.Outcome), r.Reason, blob(r.Payload), int64(h.now))
	return err
}

// Expire deletes the records of up to limit effects of which nothing was heard for olderThan, and returns of how many.
//
// olderThan must be longer than a saga may live, plus the longest time after which a broker may deliver a message again: when
// an action's record is gone, its compensation is answered that there is nothing to undo, and the action itself, should it
// come again, is applied again.
func (i *Inbox) Expire(ctx context.Context, olderThan time.Duration, limit int) (removed int, err error) {
	if limit <= 0 || olderThan < 0 {
		return 0, fmt.Errorf("sqlite: expire: %w: limit (%d) must be positive and olderThan (%s) not negative", saga.ErrInvalid, limit, olderThan)
	}
	const query = `DELETE FROM sagamill_inbox WHERE effect IN (
			SELECT DISTINCT effect FROM sagamill_inbox old WHERE at < ?1
				AND NOT EXISTS (SELECT 1 FROM sagamill_inbox young WHERE young.effect = old.effect AND young.at >= ?1)
			ORDER BY at LIMIT ?2)
		RETURNING effect`
	err = i.db.Write(ctx, func(tx *sql.Tx) error {
		effects := map[string]bool{}
		s := statements{db: i.db, tx: tx}
		err := s.query(context.WithoutCancel(ctx), query, []any{int64(i.now().add(-olderThan)), limit}, func(rows *sql.Rows) error {
			var effect string
			err := rows.Scan(&effect)
			effects[effect] = true
			return err
		})
		removed = len(effects)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("sqlite: expire: %w", err)
	}
	return removed, nil
}
