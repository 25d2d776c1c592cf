package postgres

import (
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/sagamill/sagamill/adapters/internal/batch"
	"github.com/sagamill/sagamill/saga"
)

// The statements that write transitions are set-based: each takes arrays, an element for a transition, and answers rows of
// (id, found, input, now): one for all that was written, without an ID, and one for each that was not. They are written so that
//
//   - rows and keys are locked in the order of the arrays, which is the same for all batches;
//   - the history is written by the same statement as its instance, and only if that was;
//   - one time is that of all that a statement writes.
//
// "x IN (SELECT ...) IS TRUE" is looked up in a hash table, even where the planner may not join by one; OFFSET 0 makes it look up
// a row for each of the others, whatever it thinks of the size of a table.

const (
	foundWritten  = 1 // written, all of it
	foundConsumed = 2 // nothing was written: the instance had consumed the input before
	foundLocked   = 3 // nothing was written: somebody else has the row locked
	foundOther    = 4 // nothing was written: there is another revision, or none, or a new one's name is taken
)

const (
	clock = `clock AS MATERIALIZED (SELECT clock_timestamp() AS now)`

	updated = `t AS (
			SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::bool[], $6::text[], $7::bytea[], $8::bytea[], $9::bigint[], $10::bigint[])
				AS t (id, expect, revision, state, settled, attention, engine, data, wake, lease)
		), ` + clock + `, consumed AS MATERIALIZED (
			SELECT h.instance_id, h.input FROM unnest($15::text[], $16::text[]) AS n (id, input),
				LATERAL (SELECT h.instance_id, h.input FROM {{history}} h WHERE h.instance_id = n.id AND h.input = n.input OFFSET 0) h
		)`

	update = `written AS (
			UPDATE {{instances}} i SET revision = t.revision, state = t.state, settled = t.settled, attention = t.attention,
				engine = t.engine, data = coalesce(t.data, i.data), updated_at = clock.now,
				wake_at = CASE WHEN NOT t.settled THEN least(i.wake_at, clock.now + nullif(t.wake, -1) * interval '1 microsecond') END,
				lease_till = coalesce(clock.now + nullif(t.lease, 0) * interval '1 microsecond', i.lease_till)
			FROM t, clock
			WHERE i.id = t.id AND i.revision = t.expect AND (t.id IN (SELECT instance_id FROM consumed)) IS NOT TRUE`

	insertHistory = `, history AS (
			INSERT INTO {{history}} (instance_id, revision, input, entry, at)
			SELECT h.id, h.revision, nullif(h.input, ''), h.entry, clock.now
			FROM unnest($11::text[], $12::bigint[], $13::text[], $14::bytea[]) AS h (id, revision, input, entry), clock
			WHERE (h.id IN (SELECT id FROM written)) IS TRUE
		)`

	answerWritten = ` SELECT '' AS id, 1 AS found, '' AS input, now FROM clock
		UNION ALL SELECT n.id, 4, '', now FROM unnest($1::text[]) AS n (id), clock WHERE (n.id IN (SELECT id FROM written)) IS NOT TRUE`

	answerUpdated = answerWritten + ` UNION ALL SELECT instance_id, 2, input, now FROM consumed, clock`

	// updateAll waits for locked rows.
	updateAll = `WITH ` + updated + `, ` + update + ` RETURNING i.id)` + insertHistory + answerUpdated

	// updateFree leaves out locked rows.
	updateFree = `WITH ` + updated + `, free AS MATERIALIZED (
			SELECT i.id FROM t JOIN {{instances}} i ON i.id = t.id AND i.revision = t.expect
			ORDER BY i.id FOR NO KEY UPDATE OF i SKIP LOCKED
		), ` + update + ` AND (t.id IN (SELECT id FROM free)) IS TRUE RETURNING i.id)` + insertHistory + answerUpdated + `
		UNION ALL SELECT i.id, 3, '', now FROM clock, t JOIN {{instances}} i ON i.id = t.id AND i.revision = t.expect
			WHERE (i.id IN (SELECT id FROM free)) IS NOT TRUE`

	// takeStartKeys takes those that are free, for instances whose other names are free as far as is known. If one of these
	// cannot be written after all, the foreign key fails the transaction.
	takeStartKeys = `WITH k AS (
			SELECT * FROM unnest($1::text[], $2::bytea[], $3::bytea[], $4::text[], $5::bigint[], $6::text[], $7::text[])
				AS k (key, fingerprint, response, id, ttl, definition, business_key)
		)
		INSERT INTO {{start_keys}} AS taken (key, fingerprint, response, instance_id, expires_at)
		SELECT key, fingerprint, response, id, clock_timestamp() + ttl * interval '1 microsecond' FROM k
		WHERE NOT EXISTS (SELECT FROM {{instances}} i WHERE i.definition = k.definition AND i.key = k.business_key)
			AND NOT EXISTS (SELECT FROM {{instances}} i WHERE i.id = k.id)
		ORDER BY key
		ON CONFLICT (key) DO UPDATE SET fingerprint = excluded.fingerprint, response = excluded.response,
			instance_id = excluded.instance_id, expires_at = excluded.expires_at
		WHERE taken.expires_at <= clock_timestamp() AND (SELECT i.settled FROM {{instances}} i WHERE i.id = taken.instance_id)`

	insertNew = `WITH t AS (
			SELECT * FROM unnest($1::text[], $2::text[], $3::int[], $4::text[], $5::bytea[], $6::bigint[], $7::text[], $8::bool[], $9::text[],
				$10::bytea[], $15::bytea[], $16::bigint[], $17::bigint[], $18::text[])
				AS t (id, definition, version, key, fingerprint, revision, state, settled, attention, engine, data, wake, lease, start_key)
		), ` + clock + `, written AS (
			INSERT INTO {{instances}} (id, definition, version, key, fingerprint, revision, state, settled, attention, engine, data,
				created_at, updated_at, wake_at, lease_till)
			SELECT t.id, t.definition, t.version, t.key, t.fingerprint, t.revision, t.state, t.settled, t.attention, t.engine, t.data,
				clock.now, clock.now, CASE WHEN NOT t.settled THEN clock.now + nullif(t.wake, -1) * interval '1 microsecond' END,
				clock.now + nullif(t.lease, 0) * interval '1 microsecond'
			FROM t, clock
			WHERE t.start_key = '' OR t.id = (SELECT k.instance_id FROM {{start_keys}} k WHERE k.key = t.start_key)
			ORDER BY t.definition, t.key
			ON CONFLICT DO NOTHING
			RETURNING id)` + insertHistory + answerWritten
)

// rows are transitions as arrays.
type rows struct {
	ids, states, attentions []string
	expects, revisions      []int64
	settled                 []bool
	engines, data           [][]byte
	wakes, leases           []int64

	history struct {
		ids, inputs []string
		revisions   []int64
		entries     [][]byte
	}
	inputs struct{ ids, inputs []string } // those of the history that come from outside

	definitions, keys, startKeys []string
	versions                     []int64
	fingerprints                 [][]byte
}

func rowsOf(items []batch.Item) *rows {
	n := len(items)
	r := &rows{
		ids: make([]string, 0, n), states: make([]string, 0, n), attentions: make([]string, 0, n), expects: make([]int64, 0, n),
		revisions: make([]int64, 0, n), settled: make([]bool, 0, n), engines: make([][]byte, 0, n), data: make([][]byte, 0, n),
		wakes: make([]int64, 0, n), leases: make([]int64, 0, n),
	}
	r.history.ids, r.history.inputs = make([]string, 0, n), make([]string, 0, n)
	r.history.revisions, r.history.entries = make([]int64, 0, n), make([][]byte, 0, n)
	for _, it := range items {
		t := it.Transition
		r.ids, r.states, r.attentions = append(r.ids, t.ID), append(r.states, t.State), append(r.attentions, t.Attention)
		r.expects, r.revisions = append(r.expects, int64(t.Expect)), append(r.revisions, int64(t.Revision()))
		r.settled = append(r.settled, t.Settled)
		r.engines, r.data = append(r.engines, blob(t.Engine)), append(r.data, t.Data)
		wake := int64(-1)
		if t.Wake >= 0 {
			wake = micros(t.Wake)
		}
		r.wakes, r.leases = append(r.wakes, wake), append(r.leases, micros(t.Lease))
		for i := range t.History {
			r.addHistory(t.ID, &t.History[i])
		}
		if t.Start != nil {
			r.addStart(t.Start)
		}
	}
	return r
}

func (r *rows) addHistory(id string, h *saga.HistoryRecord) {
	r.history.ids, r.history.inputs = append(r.history.ids, id), append(r.history.inputs, h.Input)
	r.history.revisions, r.history.entries = append(r.history.revisions, int64(h.Revision)), append(r.history.entries, blob(h.Entry))
	if h.Input != "" {
		r.inputs.ids, r.inputs.inputs = append(r.inputs.ids, id), append(r.inputs.inputs, h.Input)
	}
}

func (r *rows) addStart(s *saga.Start) {
	startKey := ""
	if s.StartKey != nil {
		startKey = s.StartKey.Key
	}
	r.definitions, r.keys = append(r.definitions, s.Definition), append(r.keys, s.Key)
	r.versions, r.startKeys = append(r.versions, int64(s.Version)), append(r.startKeys, startKey)
	r.fingerprints = append(r.fingerprints, blob(s.Fingerprint))
}

// updateArgs are those of updateAll and updateFree.
func (r *rows) updateArgs() []any {
	h := &r.history
	return []any{
		r.ids, r.expects, r.revisions, r.states, flat(r.settled), r.attentions, flat(r.engines), flat(r.data), r.wakes, r.leases,
		h.ids, h.revisions, h.inputs, flat(h.entries), r.inputs.ids, r.inputs.inputs,
	}
}

// insertArgs are those of insertNew.
func (r *rows) insertArgs() []any {
	h := &r.history
	for i := range r.data {
		r.data[i] = blob(r.data[i])
	}
	return []any{
		r.ids, r.definitions, r.versions, r.keys, flat(r.fingerprints), r.revisions, r.states, flat(r.settled), r.attentions, flat(r.engines),
		h.ids, h.revisions, h.inputs, flat(h.entries), flat(r.data), r.wakes, r.leases, r.startKeys,
	}
}

// flat spares the driver reflection, which it would use for slices of these types.
func flat[T any](s []T) pgtype.FlatArray[T] { return s }

// startKeyArgs are those of takeStartKeys; nil: there are none.
func startKeyArgs(items []batch.Item) []any {
	var keys, ids, definitions, businessKeys []string
	var fingerprints, responses [][]byte
	var ttls []int64
	for _, it := range items {
		t := it.Transition
		k := t.Start.StartKey
		if k == nil {
			continue
		}
		keys, ids = append(keys, k.Key), append(ids, t.ID)
		definitions, businessKeys = append(definitions, t.Start.Definition), append(businessKeys, t.Start.Key)
		fingerprints, responses = append(fingerprints, blob(k.Fingerprint)), append(responses, blob(k.Response))
		ttls = append(ttls, micros(k.TTL))
	}
	if keys == nil {
		return nil
	}
	return []any{keys, fingerprints, responses, ids, ttls, definitions, businessKeys}
}

// blob makes an empty value of none: NULL means something else, or nothing.
func blob(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
