package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sagamill/sagamill/adapters/internal/barrier"
	"github.com/sagamill/sagamill/saga"
)

// Inbox is a saga.Inbox in a [DB]: handlers write in the transaction that records the reply. All Inboxes of the same tables,
// in any number of processes, are one. Participants may share it as long as their steps do not name the same key for
// their effects (see Step.Key).
//
// A handler holds a connection of the pool while it runs. If it needs another one, for a query outside of its transaction or to
// start a saga, the pool must be larger than the number of handlers that may run at once.
//
// A handler runs again if the server answers with a deadlock or a serialization failure; its first transaction has been
// rolled back then, so only what it does outside of tx is done twice.
type Inbox struct{ db *DB }

var _ saga.Inbox[pgx.Tx] = (*Inbox)(nil)

// NewInbox makes an inbox in db. Handlers that work with database/sql take [NewSQLInbox].
func NewInbox(db *DB) *Inbox { return &Inbox{db: db} }

// Handle implements saga.Inbox. To commit the transaction, or to roll it back, is not the handler's business, and makes Handle
// fail. A savepoint named sagamill_inbox is around what the handler writes.
func (i *Inbox) Handle(ctx context.Context, effect saga.Effect, handle func(context.Context, pgx.Tx) ([]byte, error)) (reply saga.Reply, err error) {
	if err := ctx.Err(); err != nil {
		return saga.Reply{}, err
	}
	err = i.db.transaction(ctx, func(tx pgx.Tx) (err error) {
		h := handling{db: i.db, tx: tx, effect: effect, commits: true}
		reply, err = h.run(ctx, func() ([]byte, error) {
			lent := &lentTx{Tx: tx}
			result, err := handle(ctx, lent)
			if lent.misused != nil {
				return nil, lent.misused
			}
			return result, err
		})
		return err
	})
	if err != nil {
		return saga.Reply{}, fmt.Errorf("postgres: handle: %w", err)
	}
	return reply, nil
}

// lentTx is the transaction as handlers get it.
type lentTx struct {
	pgx.Tx
	misused error
}

var errLent = errors.New("the transaction is not the handler's to end: it is committed when the handler returns nil, and rolled back when it does not")

// Commit implements pgx.Tx.
func (t *lentTx) Commit(context.Context) error { t.misused = errLent; return errLent }

// Rollback implements pgx.Tx.
func (t *lentTx) Rollback(context.Context) error { t.misused = errLent; return errLent }

// handling is one command in its transaction: one round trip to the server before its handler is called, and one after it.
type handling struct {
	db      *DB
	tx      statements
	effect  saga.Effect
	commits bool // with its last statement; otherwise its caller does
}

// statements is what the barrier's own statements are sent through: a pgx.Tx, or the connection of an *sql.Tx.
type statements interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}

// run answers from the records, or calls the handler and writes its record.
func (h *handling) run(ctx context.Context, handle func() ([]byte, error)) (saga.Reply, error) {
	found, err := h.begin(ctx)
	if err != nil {
		return saga.Reply{}, err
	}
	known, besides := barrier.Judge(h.effect, found)
	if known != nil {
		return *known, h.end(ctx, besides.Action, besides.Undo)
	}
	result, err := handle()
	reply, err := barrier.Settle(h.effect.Undo, result, err)
	if err != nil {
		return saga.Reply{}, err // the whole transaction is rolled back
	}
	if reply.Outcome != saga.ReplySucceeded { // what the handler wrote is taken back
		if _, err := h.tx.Exec(ctx, `ROLLBACK TO SAVEPOINT sagamill_inbox`); err != nil {
			return saga.Reply{}, err
		}
	}
	action, undo := besides.Action, &reply
	if !h.effect.Undo {
		action, undo = &reply, nil
	}
	return reply, h.end(ctx, action, undo)
}

// begin makes all commands of an effect wait for each other until the transaction ends, and finds the effect's records. Two
// effects whose locks have the same number wait needlessly.
func (h *handling) begin(ctx context.Context) (found barrier.Records, err error) {
	b := &pgx.Batch{}
	b.Queue(`SELECT set_config('sagamill.lock_timeout', current_setting('lock_timeout'), true), set_config('lock_timeout', $1, true)`,
		fmt.Sprintf("%dms", handlerWait.Milliseconds()))
	b.Queue(`SELECT pg_advisory_xact_lock(hashtextextended($1, 0))`, h.db.sql("{{inbox}} ")+h.effect.ID)
	b.Queue(`SELECT set_config('lock_timeout', current_setting('sagamill.lock_timeout'), true)`)
	b.Queue(h.db.sql(`SELECT undo, outcome, reason, reply FROM {{inbox}} WHERE effect = $1`), h.effect.ID).Query(func(rows pgx.Rows) error {
		for rows.Next() {
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
		}
		return rows.Err()
	})
	b.Queue(`SAVEPOINT sagamill_inbox`)
	ctx, cancel := context.WithTimeout(ctx, callWithin)
	defer cancel()
	err = h.tx.SendBatch(ctx, b).Close()
	if isLocked(err) {
		err = fmt.Errorf("another handler has been at %q for more than %s: %w", h.effect.ID, handlerWait, err)
	}
	return found, err
}

// handlerWait is how long a command waits for the handler of another one for the same effect. It has a connection meanwhile.
const handlerWait = 10 * time.Second

// end writes the records that there are. It fails if the handler has passed over an error, after which PostgreSQL takes nothing
// more in the transaction.
func (h *handling) end(ctx context.Context, action, undo *saga.Reply) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	b := &pgx.Batch{}
	b.Queue(`RELEASE SAVEPOINT sagamill_inbox`)
	for k, r := range []*saga.Reply{action, undo} {
		if r != nil {
			const query = `INSERT INTO {{inbox}} (effect, undo, outcome, reason, reply, at) VALUES ($1, $2, $3, $4, $5, clock_timestamp())`
			b.Queue(h.db.sql(query), h.effect.ID, k == 1, string(r.Outcome), r.Reason, blob(r.Payload))
		}
	}
	if h.commits {
		b.Queue(`commit`)
		ctx = context.WithoutCancel(ctx) // from here on a context that ends makes nothing uncertain
	}
	ctx, cancel := context.WithTimeout(ctx, callWithin)
	defer cancel()
	return h.tx.SendBatch(ctx, b).Close()
}

// Expire deletes the records of up to limit effects of which nothing was heard for olderThan, and returns of how many.
//
// olderThan must be longer than a saga may live, plus the longest time after which a broker may deliver a message again: when
// an action's record is gone, its compensation is answered that there is nothing to undo, and the action itself, should it
// come again, is applied again.
func (i *Inbox) Expire(ctx context.Context, olderThan time.Duration, limit int) (removed int, err error) {
	if limit <= 0 || olderThan < 0 {
		return 0, fmt.Errorf("postgres: expire: %w: limit (%d) must be positive and olderThan (%s) not negative", saga.ErrInvalid, limit, olderThan)
	}
	const query = `WITH horizon AS MATERIALIZED (SELECT clock_timestamp() - $1::bigint * interval '1 microsecond' AS at), old AS (
			SELECT DISTINCT effect FROM (
				SELECT o.effect FROM horizon, {{inbox}} o WHERE o.at < horizon.at
					AND NOT EXISTS (SELECT FROM {{inbox}} young WHERE young.effect = o.effect AND young.at >= horizon.at)
				ORDER BY o.at LIMIT 2 * $2::bigint
			) oldest LIMIT $2
		), deleted AS (
			DELETE FROM {{inbox}} i USING old WHERE i.effect = old.effect RETURNING i.effect
		)
		SELECT count(DISTINCT effect) FROM deleted`
	err = i.db.writeAgain(ctx, keyWait, func(b *pgx.Batch) {
		b.Queue(i.db.sql(query), micros(olderThan), limit).QueryRow(func(row pgx.Row) error { return row.Scan(&removed) })
	})
	if err != nil {
		return 0, fmt.Errorf("postgres: expire: %w", err)
	}
	return removed, nil
}
