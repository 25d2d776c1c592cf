package mysql

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

const (
	selectNextDue = `(SELECT wake_at, {{now}} AS clock FROM {{instances}} FORCE INDEX (by_due)
		WHERE definition = ? AND version = ? AND wake_at IS NOT NULL ORDER BY wake_at LIMIT 1)`

	// lockDue locks what is due, and passes over what somebody else has locked.
	lockDue = `SELECT ` + columns + ` FROM {{instances}} i FORCE INDEX (by_due)
		WHERE i.definition = ? AND i.version = ? AND i.wake_at <= {{now}} ORDER BY i.wake_at LIMIT ? FOR UPDATE SKIP LOCKED`
)

// Claim implements saga.Store. It writes nothing, and takes no lock, when nothing is due.
func (s *Store) Claim(ctx context.Context, claim saga.Claim) ([]saga.Record, time.Duration, error) {
	versions := slices.Clone(claim.Definitions)
	slices.SortFunc(versions, func(a, b saga.DefinitionVersion) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Version, b.Version))
	})
	versions = slices.Compact(versions)
	if len(versions) == 0 {
		return nil, -1, ctx.Err()
	}
	next, err := s.nextDue(ctx, versions)
	var records []saga.Record
	for try := 1; err == nil && next == 0 && len(records) == 0 && try <= maxLooks && (try == 1 || pause(ctx, try)); try++ {
		err = s.db.write(ctx, func(ctx context.Context, tx *sql.Tx) (err error) {
			records, err = s.claim(ctx, tx, versions, batch.Limit(claim.Limit), claim.Hold)
			return err
		})
		if err == nil {
			next, err = s.nextDue(ctx, versions)
		}
	}
	if err != nil {
		return nil, 0, fmt.Errorf("mysql: claim: %w", err)
	}
	if len(records) == 0 && next == 0 {
		next = lookAgain
	}
	return records, next, nil
}

const (
	// maxLooks is how often what is due is looked for that seems to be locked. Whoever looks through another definition's part of the
	// index has the first row behind it locked for a moment.
	maxLooks = 3

	// lookAgain is how long to wait when all that is due is locked.
	lookAgain = 100 * time.Millisecond
)

// nextDue returns how long it is until an instance of one of the versions is due; negative: none has a wake-up time.
func (s *Store) nextDue(ctx context.Context, versions []saga.DefinitionVersion) (time.Duration, error) {
	next := time.Duration(-1)
	for page := range slices.Chunk(versions, maxRows) {
		var args []any
		for _, v := range page {
			args = append(args, text(v.Name), v.Version)
		}
		waits, err := readRows(ctx, s.db, scanWait, repeated(selectNextDue, ` UNION ALL `, len(page)), args...)
		if err != nil {
			return 0, err
		}
		for _, wait := range waits {
			if next < 0 || wait < next {
				next = wait
			}
		}
	}
	return next, nil
}

// scanWait never says that nothing is left when there is something: a time is due when its microsecond has come.
func scanWait(row scanner) (time.Duration, error) {
	var at, now micros
	err := row.Scan(&at, &now)
	return max(0, time.Duration(at-now)*time.Microsecond), err
}

func (s *Store) claim(ctx context.Context, tx *sql.Tx, versions []saga.DefinitionVersion, limit int, hold time.Duration) ([]saga.Record, error) {
	var due []saga.Record
	for _, v := range versions {
		err := query(ctx, tx, s.db.sql(lockDue), []any{text(v.Name), v.Version, limit}, func(row scanner) error {
			r, err := scanRecord(row)
			due = append(due, r)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(due, func(a, b saga.Record) int { return a.WakeAt.Compare(b.WakeAt) })
	due = due[:min(len(due), limit)]
	for page := range slices.Chunk(due, maxRows) {
		wake := micros(page[0].ReadAt.UnixMicro()).add(hold)
		args := []any{int64(wake)}
		for i := range page {
			page[i].WakeAt = wake.time()
			args = append(args, text(page[i].ID))
		}
		if _, err := exec(ctx, tx, s.db.sql(`UPDATE {{instances}} SET wake_at = ? WHERE id IN `)+list(len(page)), args...); err != nil {
			return nil, err
		}
	}
	return due, nil
}

// Touch implements saga.Store. Instances that somebody else has locked are left alone as well.
func (s *Store) Touch(ctx context.Context, touches []saga.Touch) error {
	if len(touches) == 0 {
		return ctx.Err()
	}
	touches = slices.Clone(touches)
	slices.SortStableFunc(touches, func(a, b saga.Touch) int { return cmp.Compare(a.ID, b.ID) })
	for page := range slices.Chunk(touches, maxRows) {
		err := s.db.write(ctx, func(ctx context.Context, tx *sql.Tx) error { return s.touch(ctx, tx, page) })
		if err != nil {
			return fmt.Errorf("mysql: touch: %w", err)
		}
	}
	return nil
}

const (
	setLease     = `lease_till = COALESCE({{now}} + ?, lease_till)`
	touchLease   = `UPDATE {{instances}} SET ` + setLease + ` WHERE id = ? AND ? IN (0, revision)`
	touchAndWake = `UPDATE {{instances}} SET ` + setLease + `, wake_at = {{now}} + ? WHERE id = ? AND ? IN (0, revision)`
)

func (s *Store) touch(ctx context.Context, tx *sql.Tx, touches []saga.Touch) error {
	ids := make([]string, len(touches))
	for i := range touches {
		ids[i] = touches[i].ID
	}
	free := map[string]bool{}
	statement := `SELECT id FROM {{instances}} WHERE id IN ` + list(len(ids)) + ` ORDER BY id FOR UPDATE SKIP LOCKED`
	err := query(ctx, tx, s.db.sql(statement), texts(ids), func(row scanner) error {
		var id string
		err := row.Scan(&id)
		free[id] = true
		return err
	})
	if err != nil {
		return err
	}
	for i := range touches {
		t := &touches[i]
		if !free[t.ID] {
			continue
		}
		var wake, lease any
		if t.Lease != 0 {
			lease = microseconds(t.Lease)
		}
		if t.Wake >= 0 {
			wake = microseconds(t.Wake)
		}
		if t.Wake == saga.KeepWake {
			_, err = exec(ctx, tx, s.db.sql(touchLease), lease, text(t.ID), t.Revision)
		} else {
			_, err = exec(ctx, tx, s.db.sql(touchAndWake), lease, wake, text(t.ID), t.Revision)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
