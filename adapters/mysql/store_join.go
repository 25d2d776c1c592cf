package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/sagamill/sagamill/adapters/internal/batch"
	"github.com/sagamill/sagamill/saga"
)

// In returns a Committer that writes within the user's own transaction, in the database of the store's [DB]. What it answers
// becomes true when the user commits. A transition that is refused leaves the transaction usable. If it returns an error, the
// transaction should be rolled back; after [ErrRolledBack] it may succeed when it is run again.
//
// A key that another open transaction has taken is waited for as long as innodb_lock_wait_timeout of the session allows (50
// seconds, by default), and is [saga.Busy] then.
func (s *Store) In(tx *sql.Tx) saga.Committer { return joined{s, tx} }

type joined struct {
	store *Store
	tx    *sql.Tx
}

// Commit writes each transition behind a savepoint of its own, to be able to take it back.
func (j joined) Commit(ctx context.Context, transitions []saga.Transition) ([]saga.Verdict, error) {
	if err := errors.Join(ctx.Err(), batch.Check(transitions)); err != nil {
		return nil, fmt.Errorf("mysql: commit: %w", err)
	}
	verdicts := make([]saga.Verdict, len(transitions))
	starts, updates := batch.Split(j.store.itemsOf(transitions, verdicts), batch.Item.IsStart)
	batch.ByKey(starts)
	for _, it := range append(starts, updates...) {
		for round := 1; it.Verdict.Outcome == 0; round++ {
			if err := j.commitOne(ctx, it); err != nil {
				return nil, fmt.Errorf("mysql: commit: %w", err)
			}
			if round == maxTries && it.Verdict.Outcome == 0 {
				it.Answer(saga.Busy)
			}
		}
	}
	return verdicts, nil
}

// commitOne gives an item its verdict, or none if what was in its way has just gone.
func (j joined) commitOne(ctx context.Context, it batch.Item) error {
	if _, err := exec(ctx, j.tx, `SAVEPOINT sagamill`); err != nil {
		return err
	}
	w := writing{db: j.store.db, tx: j.tx}
	err := j.write(ctx, &w, it)
	if err == nil && len(w.found) > 0 {
		w.answer()
		return j.end(ctx, `RELEASE SAVEPOINT sagamill`)
	}
	if undone := j.end(ctx, `ROLLBACK TO SAVEPOINT sagamill`); undone != nil {
		return errors.Join(err, undone)
	}
	switch {
	case isLocked(err):
		it.Answer(saga.Busy)
	case isRejection(err):
		*it.Verdict = saga.Verdict{Outcome: saga.Unwritable, Err: fmt.Errorf("mysql: %w", err)}
	case err != nil && !isTaken(err):
		return err
	case !it.IsStart(): // locked, of which nothing was written
		it.Answer(saga.Busy)
	default:
		one := []batch.Item{it}
		if err := j.store.db.tellExisting(ctx, j.tx, one, ""); err != nil {
			return err
		}
		if it.Verdict.Outcome == 0 { // it may have come after the transaction's snapshot
			return j.store.db.tellExisting(ctx, j.tx, one, ` LOCK IN SHARE MODE`)
		}
	}
	return nil
}

// end ends the savepoint. That it is gone is how a client learns that the server has rolled back the transaction.
func (j joined) end(ctx context.Context, statement string) error {
	_, err := exec(ctx, j.tx, statement)
	if isRolledBack(err) {
		return fmt.Errorf("%w: %w", ErrRolledBack, err)
	}
	return err
}

func (j joined) write(ctx context.Context, w *writing, it batch.Item) error {
	one := []batch.Item{it}
	if !it.IsStart() {
		return w.updates(ctx, one)
	}
	// Names are not looked for: in a transaction of REPEATABLE READ that would lock the gaps between them.
	if err := w.tx.QueryRowContext(ctx, w.db.sql(`SELECT {{now}}`)).Scan(&w.now); err != nil {
		return err
	}
	err := w.insert(ctx, one, nil)
	if isTaken(err) && it.Start.StartKey != nil {
		// The instance may be written, and its start key on record, and over.
		kept, readErr := w.startKeys(ctx, one)
		if readErr != nil || kept.of(it) != startKeyOver {
			return errors.Join(err, readErr)
		}
		if _, undone := exec(ctx, j.tx, `ROLLBACK TO SAVEPOINT sagamill`); undone != nil {
			return undone
		}
		err = w.insert(ctx, one, kept)
	}
	if err != nil {
		return err
	}
	return w.committed(ctx, one)
}
