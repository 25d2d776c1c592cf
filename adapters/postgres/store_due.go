package postgres

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sagamill/sagamill/adapters/internal/batch"
	"github.com/sagamill/sagamill/saga"
)

const (
	// claimDue locks what is due, passes over what somebody else has locked, and moves its wake-up time.
	claimDue = `WITH clock AS MATERIALIZED (SELECT clock_timestamp() AS now), due AS MATERIALIZED (
			SELECT d.id, d.wake_at AS was_due
			FROM clock, unnest($1::text[], $2::int[]) AS v (definition, version), LATERAL (
				SELECT i.id, i.wake_at FROM {{instances}} i
				WHERE i.definition = v.definition AND i.version = v.version AND i.wake_at <= clock.now
				ORDER BY i.wake_at LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED
			) d ORDER BY d.wake_at LIMIT $3
		), held AS (
			UPDATE {{instances}} i SET wake_at = clock.now + $4::bigint * interval '1 microsecond'
			FROM due, clock WHERE i.id = due.id RETURNING i.*, due.was_due
		)
		SELECT ` + columns + ` FROM held ORDER BY was_due`

	// selectNextDue says in how many microseconds the next one is due; NULL: none has a wake-up time.
	selectNextDue = `SELECT ceil(extract(epoch FROM min(d.wake_at) - clock_timestamp()) * 1000000)::bigint
		FROM unnest($1::text[], $2::int[]) AS v (definition, version), LATERAL (
			SELECT i.wake_at FROM {{instances}} i
			WHERE i.definition = v.definition AND i.version = v.version AND i.wake_at IS NOT NULL
			ORDER BY i.wake_at LIMIT 1
		) d`
)

// Claim implements saga.Store. It writes nothing, and takes no lock, when nothing is due.
func (s *Store) Claim(ctx context.Context, claim saga.Claim) (records []saga.Record, next time.Duration, err error) {
	names, versions := versionsOf(claim.Definitions)
	if len(names) == 0 {
		return nil, -1, ctx.Err()
	}
	err = s.db.writeAgain(ctx, s.db.lockTimeout, func(b *pgx.Batch) {
		next = -1
		queueRows(b, &records, scanRecord, s.db.sql(claimDue), names, versions, batch.Limit(claim.Limit), micros(claim.Hold))
		b.Queue(s.db.sql(selectNextDue), names, versions).QueryRow(func(row pgx.Row) error {
			var in *int64
			if err := row.Scan(&in); err != nil || in == nil {
				return err
			}
			next = max(0, time.Duration(*in)*time.Microsecond)
			return nil
		})
	})
	if err != nil {
		return nil, 0, fmt.Errorf("postgres: claim: %w", err)
	}
	if len(records) == 0 && next == 0 {
		next = lookAgain
	}
	return records, next, nil
}

// lookAgain is how long to wait when all that is due is locked.
const lookAgain = 100 * time.Millisecond

// versionsOf makes arrays of versions, without those that come twice.
func versionsOf(all []saga.DefinitionVersion) (names []string, versions []int64) {
	all = slices.Clone(all)
	slices.SortFunc(all, func(a, b saga.DefinitionVersion) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Version, b.Version))
	})
	for _, v := range slices.Compact(all) {
		names, versions = append(names, v.Name), append(versions, int64(v.Version))
	}
	return names, versions
}

const (
	touched = `WITH t AS (
			SELECT * FROM unnest($1::text[], $2::bigint[], $3::bool[], $4::bigint[], $5::bigint[]) AS t (id, revision, keep, wake, lease)
		), clock AS MATERIALIZED (SELECT clock_timestamp() AS now)`

	touch = ` UPDATE {{instances}} i SET
			wake_at = CASE WHEN t.keep THEN i.wake_at ELSE clock.now + nullif(t.wake, -1) * interval '1 microsecond' END,
			lease_till = coalesce(clock.now + nullif(t.lease, 0) * interval '1 microsecond', i.lease_till)
		FROM t, clock WHERE i.id = t.id AND t.revision IN (0, i.revision)`

	// touchAll waits for locked rows, touchFree leaves them out.
	touchAll  = touched + touch
	touchFree = touched + `, free AS MATERIALIZED (
			SELECT i.id FROM t JOIN {{instances}} i ON i.id = t.id AND t.revision IN (0, i.revision)
			ORDER BY i.id FOR NO KEY UPDATE OF i SKIP LOCKED
		)` + touch + ` AND (t.id IN (SELECT id FROM free)) IS TRUE`
)

// Touch implements saga.Store. Instances that somebody else keeps locked are left alone as well.
func (s *Store) Touch(ctx context.Context, touches []saga.Touch) error {
	if len(touches) == 0 {
		return ctx.Err()
	}
	args := touchArgs(touches)
	run := func(statement string) error {
		return s.db.writeAgain(ctx, s.db.lockTimeout, func(b *pgx.Batch) { b.Queue(s.db.sql(statement), args...) })
	}
	err := run(touchAll)
	if isLocked(err) || isAccident(err) {
		err = run(touchFree)
	}
	if err != nil {
		return fmt.Errorf("postgres: touch: %w", err)
	}
	return nil
}

// touchArgs are those of touchAll and touchFree, in the order in which all batches lock rows.
func touchArgs(touches []saga.Touch) []any {
	touches = slices.Clone(touches)
	slices.SortStableFunc(touches, func(a, b saga.Touch) int { return cmp.Compare(a.ID, b.ID) })
	var ids []string
	var revisions, wakes, leases []int64
	var keep []bool
	for _, t := range touches {
		wake := int64(-1)
		if t.Wake >= 0 {
			wake = micros(t.Wake)
		}
		ids, revisions, keep = append(ids, t.ID), append(revisions, int64(t.Revision)), append(keep, t.Wake == saga.KeepWake)
		wakes, leases = append(wakes, wake), append(leases, micros(t.Lease))
	}
	return []any{ids, revisions, keep, wakes, leases}
}
