package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sagamill/sagamill/saga"
)

// postgresFloor writes a batch in one round trip: two statements over arrays, in one transaction.
type postgresFloor struct {
	pool                    *pgxpool.Pool
	insert, update, history string
}

func newPostgresFloor(pool *pgxpool.Pool, schema string) *postgresFloor {
	return &postgresFloor{
		pool: pool,
		insert: fmt.Sprintf(`INSERT INTO %s.sagamill_instances (id, definition, version, key, fingerprint, revision, state, settled, attention,
				engine, data, created_at, updated_at, wake_at, lease_till)
			SELECT id, definition, version, key, fingerprint, revision, state, settled, '', engine, data, now(), now(), now() + wake, now() + lease
			FROM unnest($1::text[], $2::text[], $3::int[], $4::text[], $5::bytea[], $6::bigint[], $7::text[], $8::bool[], $9::bytea[], $10::bytea[],
				$11::interval[], $12::interval[]) AS t (id, definition, version, key, fingerprint, revision, state, settled, engine, data, wake, lease)`, schema),
		update: fmt.Sprintf(`UPDATE %s.sagamill_instances i SET revision = t.revision, state = t.state, settled = t.settled, engine = t.engine,
				data = coalesce(t.data, i.data), updated_at = now(), wake_at = CASE WHEN NOT t.settled THEN least(i.wake_at, now() + t.wake) END,
				lease_till = coalesce(now() + t.lease, i.lease_till)
			FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::bool[], $6::bytea[], $7::bytea[], $8::interval[], $9::interval[])
				AS t (id, expect, revision, state, settled, engine, data, wake, lease)
			WHERE i.id = t.id AND i.revision = t.expect`, schema),
		history: fmt.Sprintf(`INSERT INTO %s.sagamill_history (instance_id, revision, input, entry, at)
			SELECT id, revision, nullif(input, ''), entry, now() FROM unnest($1::text[], $2::bigint[], $3::text[], $4::bytea[]) AS h (id, revision, input, entry)`, schema),
	}
}

func (f *postgresFloor) write(ctx context.Context, batch []saga.Transition) error {
	b := &pgx.Batch{}
	b.Queue("begin")
	b.Queue(`SELECT set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true)`)
	written := int64(0)
	statement, args := f.update, updateColumns(batch)
	if batch[0].Start != nil {
		statement, args = f.insert, insertColumns(batch)
	}
	b.Queue(statement, args...)
	b.Queue(f.history, historyColumns(batch)...)
	b.Queue("commit")
	results := f.pool.SendBatch(ctx, b)
	for n := range 5 {
		tag, err := results.Exec()
		if err != nil {
			_ = results.Close()
			return err
		}
		if n == 2 {
			written = tag.RowsAffected()
		}
	}
	if err := results.Close(); err != nil {
		return err
	}
	if written != int64(len(batch)) {
		return fmt.Errorf("%d of %d were written", written, len(batch))
	}
	return nil
}

func insertColumns(batch []saga.Transition) []any {
	n := len(batch)
	ids, definitions, versions, names := make([]string, n), make([]string, n), make([]int32, n), make([]string, n)
	fingerprints, revisions, states, settled := make([][]byte, n), make([]int64, n), make([]string, n), make([]bool, n)
	engines, data, wakes, leases := make([][]byte, n), make([][]byte, n), make([]*time.Duration, n), make([]*time.Duration, n)
	for k := range batch {
		t := &batch[k]
		ids[k], definitions[k], versions[k], names[k] = t.ID, t.Start.Definition, int32(t.Start.Version), t.Start.Key
		fingerprints[k], revisions[k], states[k], settled[k] = full(t.Start.Fingerprint), int64(t.Revision()), t.State, t.Settled
		engines[k], data[k], wakes[k], leases[k] = full(t.Engine), full(t.Data), wakeOf(t), leaseOf(t)
	}
	return []any{ids, definitions, versions, names, fingerprints, revisions, states, settled, engines, data, wakes, leases}
}

func updateColumns(batch []saga.Transition) []any {
	n := len(batch)
	ids, expects, revisions, states, settled := make([]string, n), make([]int64, n), make([]int64, n), make([]string, n), make([]bool, n)
	engines, data, wakes, leases := make([][]byte, n), make([][]byte, n), make([]*time.Duration, n), make([]*time.Duration, n)
	for k := range batch {
		t := &batch[k]
		ids[k], expects[k], revisions[k], states[k], settled[k] = t.ID, int64(t.Expect), int64(t.Revision()), t.State, t.Settled
		engines[k], data[k], wakes[k], leases[k] = full(t.Engine), t.Data, wakeOf(t), leaseOf(t)
	}
	return []any{ids, expects, revisions, states, settled, engines, data, wakes, leases}
}

func historyColumns(batch []saga.Transition) []any {
	var ids, inputs []string
	var revisions []int64
	var entries [][]byte
	for k := range batch {
		for _, h := range batch[k].History {
			ids, inputs = append(ids, batch[k].ID), append(inputs, h.Input)
			revisions, entries = append(revisions, int64(h.Revision)), append(entries, full(h.Entry))
		}
	}
	return []any{ids, revisions, inputs, entries}
}

func full(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

func wakeOf(t *saga.Transition) *time.Duration {
	if t.Wake < 0 {
		return nil
	}
	return &t.Wake
}

func leaseOf(t *saga.Transition) *time.Duration {
	if t.Lease == 0 {
		return nil
	}
	return &t.Lease
}
