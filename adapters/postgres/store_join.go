package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/sagamill/sagamill/adapters/internal/batch"
	"github.com/sagamill/sagamill/saga"
)

// In returns a Committer that writes within the user's own transaction, in the database of the store's [DB]. What it answers
// becomes true when the user commits. A transition that is refused leaves the transaction usable. If it returns an error, the
// transaction should be rolled back; that of a serialization failure (SQLSTATE 40001) may succeed when it is run again.
//
// A key that another open transaction has taken is waited for as long as lock_timeout of the transaction allows (for ever, by
// default), and is [saga.Busy] then.
func (s *Store) In(tx pgx.Tx) saga.Committer { return joined{s, pgxSession{tx}} }

// InSQL is In for a transaction of database/sql, on the driver github.com/jackc/pgx/v5/stdlib.
func (s *Store) InSQL(tx *sql.Tx) saga.Committer { return joined{s, sqlSession{tx}} }

// session is somebody's open transaction.
type session interface {
	exec(ctx context.Context, sql string, args ...any) error
	query(ctx context.Context, sql string, args []any, each func(scanner) error) error
}

type pgxSession struct{ tx pgx.Tx }

func (s pgxSession) exec(ctx context.Context, sql string, args ...any) error {
	_, err := s.tx.Exec(ctx, sql, args...)
	return err
}

func (s pgxSession) query(ctx context.Context, sql string, args []any, each func(scanner) error) error {
	rows, err := s.tx.Query(ctx, sql, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := each(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

type sqlSession struct{ tx *sql.Tx }

func (s sqlSession) exec(ctx context.Context, sql string, args ...any) error {
	_, err := s.tx.ExecContext(ctx, sql, args...)
	return err
}

func (s sqlSession) query(ctx context.Context, sql string, args []any, each func(scanner) error) (err error) {
	rows, err := s.tx.QueryContext(ctx, sql, args...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		if err := each(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

type joined struct {
	store *Store
	session
}

// Commit writes each transition behind a savepoint of its own, to be able to take it back.
func (j joined) Commit(ctx context.Context, transitions []saga.Transition) ([]saga.Verdict, error) {
	if err := errors.Join(ctx.Err(), batch.Check(transitions)); err != nil {
		return nil, fmt.Errorf("postgres: commit: %w", err)
	}
	verdicts := make([]saga.Verdict, len(transitions))
	items := itemsOf(transitions, verdicts)
	starts, updates := batch.Split(items, batch.Item.IsStart)
	batch.ByKey(starts)
	for _, it := range append(starts, updates...) {
		for round := 0; it.Verdict.Outcome == 0; round++ {
			if round == maxRounds {
				it.Verdict.Outcome = saga.Busy
				break
			}
			if err := j.commitOne(ctx, it); err != nil {
				return nil, fmt.Errorf("postgres: commit: %w", err)
			}
		}
	}
	return verdicts, nil
}

// commitOne gives an item its verdict, or none if what was in its way has just gone.
func (j joined) commitOne(ctx context.Context, it batch.Item) error {
	if err := j.exec(ctx, `SAVEPOINT sagamill`); err != nil {
		return err
	}
	f := &findings{}
	err := j.write(ctx, it, f)
	if err != nil || f.of(it.ID).what != foundWritten {
		if undo := j.exec(ctx, `ROLLBACK TO SAVEPOINT sagamill`); undo != nil {
			return errors.Join(err, undo)
		}
	}
	switch {
	case isLocked(err) || sqlState(err) == "40P01":
		it.Verdict.Outcome = saga.Busy
	case isRejection(err):
		*it.Verdict = saga.Verdict{Outcome: saga.Unwritable, Err: fmt.Errorf("postgres: %w", err)}
	case err != nil:
		return err
	default:
		judge(it, f)
	}
	if it.Verdict.Outcome == 0 {
		if err := j.tellExisting(ctx, it); err != nil {
			return err
		}
	}
	return j.exec(ctx, `RELEASE SAVEPOINT sagamill`)
}

// The statements are those of a batch. They are told apart from those for their plans, which are not made for many.
const joinedMark = "/* joined */ "

func (j joined) write(ctx context.Context, it batch.Item, f *findings) error {
	one, sql := []batch.Item{it}, j.store.db.sql
	r := rowsOf(one)
	defer r.over()
	if !it.IsStart() {
		return j.query(ctx, joinedMark+sql(updateAll), r.updateArgs().values(), f.readOne)
	}
	if args, any := startKeyArgs(one); any {
		if err := j.exec(ctx, joinedMark+sql(takeStartKeys), args.values()...); err != nil {
			return err
		}
	}
	return j.query(ctx, joinedMark+sql(insertNew), r.insertArgs().values(), f.readOne)
}

func (j joined) tellExisting(ctx context.Context, it batch.Item) error {
	var rows []inTheWay
	one := []batch.Item{it}
	err := j.query(ctx, joinedMark+j.store.db.sql(selectExisting), existingArgs(one), func(row scanner) error {
		w, err := scanInTheWay(row)
		rows = append(rows, w)
		return err
	})
	if err == nil {
		answerExisting(one, rows)
	}
	return err
}
