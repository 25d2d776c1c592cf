package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/sagamill/sagamill/adapters/internal/barrier"
	"github.com/sagamill/sagamill/saga"
)

// Inbox is a saga.Inbox in a [DB]: handlers write in the transaction that records the reply, whose isolation is READ COMMITTED.
// All Inboxes of the same tables, in any number of processes, are one. Participants may share it as long as their steps do not
// name the same key for their effects (see Step.Key).
//
// A handler holds a connection of the pool while it runs. If it needs another one, for a query outside of its transaction or to
// start a saga, the pool must be larger than the number of handlers that may run at once. Another command for the same effect waits
// for it as long as innodb_lock_wait_timeout says, and fails then, to be delivered again.
//
// A handler runs again if the server answers with a deadlock; its first transaction has been rolled back then, so only what it does
// outside of tx is done twice.
type Inbox struct{ db *DB }

var _ saga.Inbox[*sql.Tx] = (*Inbox)(nil)

// NewInbox makes an inbox in db.
func NewInbox(db *DB) *Inbox { return &Inbox{db} }

// Handle implements saga.Inbox. The handler must leave tx open; a savepoint named sagamill_inbox is around it. Statements that
// create or alter tables are not for handlers: MySQL commits before them.
func (i *Inbox) Handle(ctx context.Context, effect saga.Effect, handle func(context.Context, *sql.Tx) ([]byte, error)) (reply saga.Reply, err error) {
	if err := ctx.Err(); err != nil {
		return saga.Reply{}, err
	}
	err = again(ctx, isAccident, func() error {
		return i.db.transaction(ctx, func(tx *sql.Tx) (err error) {
			h := handling{db: i.db, tx: tx, effect: effect}
			reply, err = h.run(ctx, handle)
			return err
		})
	})
	if err != nil {
		return saga.Reply{}, fmt.Errorf("mysql: handle: %w", err)
	}
	return reply, nil
}

// handling is one command in its transaction.
type handling struct {
	db     *DB
	tx     *sql.Tx
	effect saga.Effect
}

// run answers from the records, or calls the handler and writes its record.
func (h *handling) run(ctx context.Context, handle func(context.Context, *sql.Tx) ([]byte, error)) (saga.Reply, error) {
	found, err := h.begin(ctx)
	if err != nil {
		return saga.Reply{}, err
	}
	known, besides := barrier.Judge(h.effect, found)
	if known != nil {
		return *known, errors.Join(h.write(ctx, false, besides.Action), h.write(ctx, true, besides.Undo))
	}
	reply, err := h.call(ctx, handle)
	if err != nil {
		return saga.Reply{}, err // the whole transaction is rolled back
	}
	return reply, errors.Join(h.write(ctx, false, besides.Action), h.write(ctx, h.effect.Undo, &reply))
}

// call runs the handler, and takes back what it wrote if it rejects.
func (h *handling) call(ctx context.Context, handle func(context.Context, *sql.Tx) ([]byte, error)) (saga.Reply, error) {
	if _, err := exec(ctx, h.tx, `SAVEPOINT sagamill_inbox`); err != nil {
		return saga.Reply{}, err
	}
	result, err := handle(ctx, h.tx)
	reply, err := barrier.Settle(h.effect.Undo, result, err)
	if err != nil {
		return saga.Reply{}, err
	}
	// The savepoint is gone if the server has ended the transaction: rolled back for a deadlock that the handler has passed over, or
	// committed by a statement that creates something.
	end := `RELEASE SAVEPOINT sagamill_inbox`
	if reply.Outcome != saga.ReplySucceeded {
		end = `ROLLBACK TO SAVEPOINT sagamill_inbox`
	}
	_, err = exec(ctx, h.tx, end)
	return reply, err
}

// begin makes all commands of an effect wait for each other until the transaction ends, by the lock of a row, and finds the
// effect's records in it.
func (h *handling) begin(ctx context.Context) (found barrier.Records, err error) {
	ctx, cancel := context.WithTimeout(ctx, callWithin)
	defer cancel()
	const lock = `INSERT INTO {{inbox}} (effect, at) VALUES (?, {{now}}) ON DUPLICATE KEY UPDATE at = at`
	if _, err := exec(ctx, h.tx, h.db.sql(lock), text(h.effect.ID)); err != nil {
		if isLocked(err) {
			err = fmt.Errorf("another handler is at %q for too long: %w", h.effect.ID, err)
		}
		return found, err
	}
	const read = `SELECT outcome, COALESCE(reason, ''), reply, undo_outcome, COALESCE(undo_reason, ''), undo_reply FROM {{inbox}} WHERE effect = ?`
	var action, undo saga.Reply
	err = h.tx.QueryRowContext(ctx, h.db.sql(read), text(h.effect.ID)).
		Scan(&action.Outcome, &action.Reason, &action.Payload, &undo.Outcome, &undo.Reason, &undo.Payload)
	if action.Outcome != "" {
		found.Action = &action
	}
	if undo.Outcome != "" {
		found.Undo = &undo
	}
	return found, err
}

func (h *handling) write(ctx context.Context, undo bool, r *saga.Reply) error {
	if r == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callWithin)
	defer cancel()
	statement := `UPDATE {{inbox}} SET outcome = ?, reason = ?, reply = ?, at = {{now}} WHERE effect = ?`
	if undo {
		statement = `UPDATE {{inbox}} SET undo_outcome = ?, undo_reason = ?, undo_reply = ?, at = {{now}} WHERE effect = ?`
	}
	changed, err := exec(ctx, h.tx, h.db.sql(statement), text(string(r.Outcome)), text(r.Reason), blob(r.Payload), text(h.effect.ID))
	if err == nil && changed != 1 {
		err = fmt.Errorf("the record of %q is gone", h.effect.ID)
	}
	return err
}

// Expire deletes the records of up to limit effects of which nothing was heard for olderThan, and returns of how many.
//
// olderThan must be longer than a saga may live, plus the longest time after which a broker may deliver a message again: when
// an action's record is gone, its compensation is answered that there is nothing to undo, and the action itself, should it
// come again, is applied again.
func (i *Inbox) Expire(ctx context.Context, olderThan time.Duration, limit int) (removed int, err error) {
	if limit <= 0 || olderThan < 0 {
		return 0, fmt.Errorf("mysql: expire: %w: limit (%d) must be positive and olderThan (%s) not negative", saga.ErrInvalid, limit, olderThan)
	}
	err = i.db.write(ctx, func(ctx context.Context, tx *sql.Tx) error {
		const statement = `DELETE FROM {{inbox}} WHERE at < {{now}} - ? ORDER BY at LIMIT ?`
		n, err := exec(ctx, tx, i.db.sql(statement), microseconds(olderThan), limit)
		removed = int(n)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("mysql: expire: %w", err)
	}
	return removed, nil
}
