package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/sagamill/sagamill/adapters/internal/batch"
	"github.com/sagamill/sagamill/saga"
)

// Commit implements saga.Store.
//
// A batch is written twice at most: first in one go, and if the database rejects something, once more with a savepoint for
// each transition, to tell which. Nothing else needs a savepoint, since everything that a verdict but Unwritable depends
// on is looked up before an instance's first row is written; nobody else can write meanwhile.
func (s *Store) Commit(ctx context.Context, transitions []saga.Transition) ([]saga.Verdict, error) {
	if err := batch.Check(transitions); err != nil {
		return nil, fmt.Errorf("sqlite: commit: %w", err)
	}
	if len(transitions) == 0 {
		return nil, ctx.Err()
	}
	verdicts, err := s.commit(ctx, transitions, false)
	if isRejection(err) {
		verdicts, err = s.commit(ctx, transitions, true)
	}
	if isBusy(err) { // another process held the lock all the time, so nothing has been written
		return repeat(saga.Verdict{Outcome: saga.Busy}, len(transitions)), nil
	}
	if err != nil {
		return nil, fmt.Errorf("sqlite: commit: %w", err)
	}
	return verdicts, nil
}

func repeat(v saga.Verdict, n int) []saga.Verdict {
	verdicts := make([]saga.Verdict, n)
	for i := range verdicts {
		verdicts[i] = v
	}
	return verdicts
}

func (s *Store) commit(ctx context.Context, transitions []saga.Transition, savepoints bool) (verdicts []saga.Verdict, err error) {
	err = s.db.Write(ctx, func(tx *sql.Tx) error {
		c := s.committing(tx, len(transitions))
		// The driver starts a goroutine for each statement that can be cancelled. BEGIN, where the waiting is done, can be.
		verdicts, err = c.writeAll(context.WithoutCancel(ctx), transitions, savepoints)
		return err
	})
	return verdicts, err
}

// In returns a Committer that writes within the user's own transaction, which must be one of the store's DB. What it answers
// becomes true when the user commits. If it returns an error, the transaction should be rolled back.
func (s *Store) In(tx *sql.Tx) saga.Committer { return joined{s, tx} }

type joined struct {
	store *Store
	tx    *sql.Tx
}

func (j joined) Commit(ctx context.Context, transitions []saga.Transition) ([]saga.Verdict, error) {
	if err := errors.Join(ctx.Err(), batch.Check(transitions)); err != nil {
		return nil, fmt.Errorf("sqlite: commit: %w", err)
	}
	verdicts, err := j.store.committing(j.tx, len(transitions)).writeAll(context.WithoutCancel(ctx), transitions, true)
	if isBusy(err) {
		return repeat(saga.Verdict{Outcome: saga.Busy}, len(transitions)), nil
	}
	if err != nil {
		return nil, fmt.Errorf("sqlite: commit: %w", err)
	}
	return verdicts, nil
}

// committing is one batch on its way into a transaction.
type committing struct {
	statements
	now     micros
	history []any // arguments of history rows that are not written yet
}

func (s *Store) committing(tx *sql.Tx, size int) *committing {
	return &committing{statements: statements{db: s.db, tx: tx}, now: s.clock(), history: make([]any, 0, 4*size*historyColumns)}
}

func (c *committing) writeAll(ctx context.Context, transitions []saga.Transition, savepoints bool) ([]saga.Verdict, error) {
	verdicts := make([]saga.Verdict, len(transitions))
	for i := range transitions {
		write := c.write
		if savepoints {
			write = c.writeAlone
		}
		var err error
		if verdicts[i], err = write(ctx, &transitions[i]); err != nil {
			return nil, err
		}
	}
	return verdicts, c.flushHistory(ctx)
}

// writeAlone writes one transition so that it can be taken back.
func (c *committing) writeAlone(ctx context.Context, t *saga.Transition) (saga.Verdict, error) {
	if _, err := c.exec(ctx, savepoint); err != nil {
		return saga.Verdict{}, err
	}
	verdict, err := c.write(ctx, t)
	if err == nil {
		err = c.flushHistory(ctx)
	}
	if err != nil {
		c.history = c.history[:0]
		if _, undo := c.exec(ctx, rollbackTo); undo != nil {
			return saga.Verdict{}, errors.Join(err, undo)
		}
	}
	if isRejection(err) {
		verdict, err = saga.Verdict{Outcome: saga.Unwritable, Err: fmt.Errorf("sqlite: %w", err)}, nil
	}
	_, freed := c.exec(ctx, release)
	return verdict, errors.Join(err, freed)
}

// write writes one transition's instance, and leaves its history to flushHistory.
func (c *committing) write(ctx context.Context, t *saga.Transition) (verdict saga.Verdict, err error) {
	if err := batch.CheckTransition(t); err != nil {
		return saga.Verdict{Outcome: saga.Unwritable, Err: fmt.Errorf("sqlite: %w", err)}, nil
	}
	if repeated := batch.Repeated(t); repeated != nil {
		return saga.Verdict{Outcome: saga.Duplicate, Duplicates: repeated}, nil
	}
	if t.Expect == 0 {
		verdict, err = c.start(ctx, t)
	} else {
		verdict, err = c.update(ctx, t)
	}
	if err != nil || verdict.Outcome != saga.Committed {
		return verdict, err
	}
	verdict.At = c.now.time()
	for i := range t.History {
		h := &t.History[i]
		input := any(nil)
		if h.Input != "" {
			input = h.Input
		}
		c.history = append(c.history, t.ID, int64(h.Revision), input, blob(h.Entry), int64(c.now))
	}
	if len(c.history) >= 2*maxHistoryRows*historyColumns {
		err = c.flushHistory(ctx)
	}
	return verdict, err
}

const noWake = micros(math.MaxInt64) // later than all that is due

func (c *committing) update(ctx context.Context, t *saga.Transition) (saga.Verdict, error) {
	if consumed, err := c.consumed(ctx, t); err != nil || consumed != nil {
		return saga.Verdict{Outcome: saga.Duplicate, Duplicates: consumed}, err
	}
	wake, lease := noWake, any(nil)
	if t.Wake >= 0 {
		wake = c.now.add(t.Wake)
	}
	if t.Lease != 0 {
		lease = int64(c.now.add(t.Lease))
	}
	var data any
	if t.Data != nil {
		data = t.Data
	}
	args := append(make([]any, 0, 11), int64(t.Revision()), t.State, blob(t.Engine), data, int64(c.now), lease, t.ID, int64(t.Expect))
	if !t.Settled {
		if n, err := c.exec(ctx, updateState, append(args, t.Attention, int64(wake))...); err != nil || n > 0 {
			return saga.Verdict{Outcome: saga.Committed}, err
		}
	}
	n, err := c.exec(ctx, updateAll, append(args, t.Settled, t.Attention, int64(wake))...)
	if err != nil || n > 0 {
		return saga.Verdict{Outcome: saga.Committed}, err
	}
	return saga.Verdict{Outcome: saga.Conflict}, nil
}

// consumed returns the inputs of t that its instance had before.
func (c *committing) consumed(ctx context.Context, t *saga.Transition) (consumed []string, err error) {
	for i := range t.History {
		input := t.History[i].Input
		if input == "" {
			continue
		}
		err := c.query(ctx, selectInput, []any{t.ID, input}, func(*sql.Rows) error {
			consumed = append(consumed, input)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return consumed, nil
}

func (c *committing) start(ctx context.Context, t *saga.Transition) (saga.Verdict, error) {
	start := t.Start
	if start.StartKey != nil {
		if verdict, err := c.startKeyTaken(ctx, start.StartKey.Key); err != nil || verdict.Outcome == saga.Exists {
			return verdict, err
		}
	}
	var wake, lease any
	if t.Wake >= 0 && !t.Settled {
		wake = int64(c.now.add(t.Wake))
	}
	if t.Lease != 0 {
		lease = int64(c.now.add(t.Lease))
	}
	n, err := c.exec(ctx, insertInstance, t.ID, start.Definition, int64(start.Version), start.Key, blob(start.Fingerprint),
		int64(t.Revision()), t.State, t.Settled, t.Attention, blob(t.Engine), blob(t.Data), int64(c.now), int64(c.now), wake, lease)
	if err != nil {
		return saga.Verdict{}, err
	}
	if n == 0 {
		return c.whyNotStarted(ctx, t)
	}
	if k := start.StartKey; k != nil {
		if _, err := c.exec(ctx, upsertStartKey, k.Key, blob(k.Fingerprint), blob(k.Response), t.ID, int64(c.now.add(k.TTL))); err != nil {
			return saga.Verdict{}, err
		}
	}
	return saga.Verdict{Outcome: saga.Committed}, nil
}

func (c *committing) startKeyTaken(ctx context.Context, key string) (verdict saga.Verdict, err error) {
	kept := saga.StartKey{Key: key}
	var id string
	err = c.query(ctx, selectStartKey, []any{key, int64(c.now)}, func(rows *sql.Rows) error {
		return rows.Scan(&kept.Fingerprint, &kept.Response, &id)
	})
	if err != nil || id == "" {
		return saga.Verdict{}, err
	}
	verdict, err = c.exists(ctx, selectByID, id)
	verdict.StartKey = &kept
	return verdict, err
}

// whyNotStarted finds out which of its unique names an instance could not have.
func (c *committing) whyNotStarted(ctx context.Context, t *saga.Transition) (saga.Verdict, error) {
	verdict, err := c.exists(ctx, selectByKey, t.Start.Definition, t.Start.Key)
	if err == nil && verdict.Existing == nil {
		return c.exists(ctx, selectByID, t.ID)
	}
	return verdict, err
}

func (c *committing) exists(ctx context.Context, query string, args ...any) (saga.Verdict, error) {
	verdict := saga.Verdict{Outcome: saga.Exists}
	err := c.query(ctx, query, args, func(rows *sql.Rows) error {
		r, err := scanRecord(rows, c.now)
		verdict.Existing = &r
		return err
	})
	return verdict, err
}

// isRejection tells whether the database refuses the values of a statement, as it would whenever it were tried.
func isRejection(err error) bool {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISMATCH:
		return true
	}
	return false
}

// blob makes an empty value of none: no column of bytes is NULL.
func blob(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
