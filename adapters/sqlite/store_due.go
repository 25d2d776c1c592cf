package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"github.com/sagamill/sagamill/adapters/internal/batch"
	"github.com/sagamill/sagamill/saga"
)

// Claim implements saga.Store. It writes nothing, and takes no lock, when nothing is due.
func (s *Store) Claim(ctx context.Context, claim saga.Claim) ([]saga.Record, time.Duration, error) {
	versions := slices.Clone(claim.Definitions)
	slices.SortFunc(versions, func(a, b saga.DefinitionVersion) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Version, b.Version))
	})
	claim.Definitions = slices.Compact(versions)
	claim.Limit = batch.Limit(claim.Limit)

	next, err := nextDue(ctx, s.query, claim.Definitions, s.clock())
	if err != nil {
		return nil, 0, fmt.Errorf("sqlite: claim: %w", err)
	}
	if next != 0 {
		return nil, next, nil
	}
	var records []saga.Record
	err = s.db.Write(ctx, func(tx *sql.Tx) (err error) {
		x := &statements{db: s.db, tx: tx}
		records, next, err = x.claim(context.WithoutCancel(ctx), claim, s.clock())
		return err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("sqlite: claim: %w", err)
	}
	return records, next, nil
}

type queryFunc func(ctx context.Context, query string, args []any, each func(*sql.Rows) error) error

// nextDue returns how long it is until an instance of one of the versions is due; negative: none has a wake-up time.
func nextDue(ctx context.Context, query queryFunc, versions []saga.DefinitionVersion, now micros) (time.Duration, error) {
	next := time.Duration(-1)
	for _, v := range versions {
		err := query(ctx, selectNextDue, []any{v.Name, v.Version}, func(rows *sql.Rows) error {
			var at sql.NullInt64
			if err := rows.Scan(&at); err != nil || !at.Valid {
				return err
			}
			if wait := max(0, micros(at.Int64).sub(now)); next < 0 || wait < next {
				next = wait
			}
			return nil
		})
		if err != nil {
			return 0, err
		}
	}
	return next, nil
}

func (s *statements) claim(ctx context.Context, claim saga.Claim, now micros) ([]saga.Record, time.Duration, error) {
	type dueInstance struct {
		id string
		at micros
	}
	var due []dueInstance
	for _, v := range claim.Definitions {
		err := s.query(ctx, selectDue, []any{v.Name, v.Version, int64(now), claim.Limit}, func(rows *sql.Rows) error {
			var d dueInstance
			err := rows.Scan(&d.id, &d.at)
			due = append(due, d)
			return err
		})
		if err != nil {
			return nil, 0, err
		}
	}
	slices.SortStableFunc(due, func(a, b dueInstance) int { return cmp.Compare(a.at, b.at) })
	due = due[:min(len(due), claim.Limit)]

	records := make([]saga.Record, 0, len(due))
	for _, d := range due {
		err := s.query(ctx, updateHold, []any{int64(now.add(claim.Hold)), d.id}, func(rows *sql.Rows) error {
			r, err := scanRecord(rows, now)
			records = append(records, r)
			return err
		})
		if err != nil {
			return nil, 0, err
		}
	}
	next, err := nextDue(ctx, s.query, claim.Definitions, now)
	return records, next, err
}

// Touch implements saga.Store.
func (s *Store) Touch(ctx context.Context, touches []saga.Touch) error {
	if len(touches) == 0 {
		return nil
	}
	err := s.db.Write(ctx, func(tx *sql.Tx) error {
		x, now, ctx := &statements{db: s.db, tx: tx}, s.clock(), context.WithoutCancel(ctx)
		for i := range touches {
			t := &touches[i]
			var wake, lease any
			if t.Lease != 0 {
				lease = int64(now.add(t.Lease))
			}
			if t.Wake >= 0 {
				wake = int64(now.add(t.Wake))
			}
			var err error
			if t.Wake == saga.KeepWake {
				_, err = x.exec(ctx, updateLease, lease, t.ID, int64(t.Revision))
			} else {
				_, err = x.exec(ctx, updateWake, lease, wake, t.ID, int64(t.Revision))
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("sqlite: touch: %w", err)
	}
	return nil
}
