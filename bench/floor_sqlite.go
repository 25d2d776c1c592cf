package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/sagamill/sagamill/adapters/sqlite"
	"github.com/sagamill/sagamill/saga"
)

// sqliteFloor writes a batch with prepared statements, in one transaction.
type sqliteFloor struct {
	db                      *sqlite.DB
	insert, update, history *sql.Stmt
}

func newSQLiteFloor(ctx context.Context, db *sqlite.DB) (*sqliteFloor, error) {
	f := &sqliteFloor{db: db}
	var errs []error
	prepare := func(query string) *sql.Stmt {
		s, err := db.PrepareContext(ctx, query)
		errs = append(errs, err)
		return s
	}
	f.insert = prepare(`INSERT INTO sagamill_instances (id, definition, version, key, fingerprint, revision, state, settled, attention, engine, data,
		created_at, updated_at, wake_at, lease_till) VALUES (?, ?, ?, ?, ?, ?, ?, ?, '', ?, ?, ?, ?, ?, ?)`)
	f.update = prepare(`UPDATE sagamill_instances SET revision = ?, state = ?, settled = ?, engine = ?, data = coalesce(?, data), updated_at = ?,
		wake_at = ?, lease_till = coalesce(?, lease_till) WHERE id = ? AND revision = ?`)
	f.history = prepare(`INSERT INTO sagamill_history (instance_id, revision, input, entry, at) VALUES (?, ?, nullif(?, ''), ?, ?)`)
	return f, errors.Join(errs...)
}

func (f *sqliteFloor) write(ctx context.Context, batch []saga.Transition) error {
	quick := context.WithoutCancel(ctx)
	return f.db.Write(ctx, func(tx *sql.Tx) error {
		insert, update, history := tx.StmtContext(quick, f.insert), tx.StmtContext(quick, f.update), tx.StmtContext(quick, f.history)
		now := time.Now().UnixMicro()
		for k := range batch {
			t := &batch[k]
			var wake, lease any
			if t.Wake >= 0 && !t.Settled {
				wake = now + t.Wake.Microseconds()
			}
			if t.Lease > 0 {
				lease = now + t.Lease.Microseconds()
			}
			var result sql.Result
			var err error
			if t.Start != nil {
				result, err = insert.ExecContext(quick, t.ID, t.Start.Definition, t.Start.Version, t.Start.Key, full(t.Start.Fingerprint), t.Revision(), t.State, t.Settled,
					full(t.Engine), full(t.Data), now, now, wake, lease)
			} else {
				result, err = update.ExecContext(quick, t.Revision(), t.State, t.Settled, full(t.Engine), t.Data, now, wake, lease, t.ID, t.Expect)
			}
			if err != nil {
				return err
			}
			if n, err := result.RowsAffected(); err != nil || n != 1 {
				return fmt.Errorf("%s was not written: %w", t.ID, err)
			}
			for _, h := range t.History {
				if _, err := history.ExecContext(quick, t.ID, h.Revision, h.Input, full(h.Entry), now); err != nil {
					return err
				}
			}
		}
		return nil
	})
}
