package postgres

import (
	"strings"
	"sync"

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
			SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::bool[], $5::text[], $6::bigint[], $7::bigint[], $8::int[], $9::int[], $10::int[],
				$16::bigint[]) AS t (id, revision, state, settled, attention, wake, lease, at, engine, data, expect)
		), ` + clock + `, consumed AS MATERIALIZED (
			SELECT h.instance_id, h.input FROM unnest($17::text[], $18::text[]) AS n (id, input),
				LATERAL (SELECT h.instance_id, h.input FROM {{history}} h WHERE h.instance_id = n.id AND h.input = n.input OFFSET 0) h
		)`

	update = `written AS (
			UPDATE {{instances}} i SET revision = t.revision, state = t.state, settled = t.settled, attention = t.attention,
				engine = substring($bytes FROM t.at FOR t.engine), updated_at = clock.now,
				data = CASE WHEN t.data < 0 THEN i.data ELSE substring($bytes FROM t.at + t.engine FOR t.data) END,
				wake_at = CASE WHEN NOT t.settled THEN least(i.wake_at, clock.now + nullif(t.wake, -1) * interval '1 microsecond') END,
				lease_till = coalesce(clock.now + nullif(t.lease, 0) * interval '1 microsecond', i.lease_till)
			FROM t, clock
			WHERE i.id = t.id AND i.revision = t.expect AND (t.id IN (SELECT instance_id FROM consumed)) IS NOT TRUE`

	insertHistory = `, history AS (
			INSERT INTO {{history}} (instance_id, revision, input, entry, at)
			SELECT h.id, h.revision, nullif(h.input, ''), substring($bytes FROM h.at FOR h.entry), clock.now
			FROM unnest($11::text[], $12::bigint[], $13::text[], $14::int[], $15::int[]) AS h (id, revision, input, at, entry), clock
			WHERE (h.id IN (SELECT id FROM written)) IS TRUE
		)`

	answerWritten = ` SELECT '' AS id, 1 AS found, '' AS input, now FROM clock
		UNION ALL SELECT n.id, 4, '', now FROM unnest($1::text[]) AS n (id), clock WHERE (n.id IN (SELECT id FROM written)) IS NOT TRUE`

	answerUpdated = answerWritten + ` UNION ALL SELECT instance_id, 2, input, now FROM consumed, clock`

	// updateAllText waits for locked rows.
	updateAllText = `WITH ` + updated + `, ` + update + ` RETURNING i.id)` + insertHistory + answerUpdated

	// updateFreeText leaves out locked rows.
	updateFreeText = `WITH ` + updated + `, free AS MATERIALIZED (
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

	insertNewText = `WITH t AS (
			SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::bool[], $5::text[], $6::bigint[], $7::bigint[], $8::int[], $9::int[], $10::int[],
				$16::text[], $17::int[], $18::text[], $19::int[], $20::text[])
				AS t (id, revision, state, settled, attention, wake, lease, at, engine, data, definition, version, key, fingerprint, start_key)
		), ` + clock + `, written AS (
			INSERT INTO {{instances}} (id, definition, version, key, fingerprint, revision, state, settled, attention, engine, data,
				created_at, updated_at, wake_at, lease_till)
			SELECT t.id, t.definition, t.version, t.key, substring($bytes FROM t.at + t.engine + t.data FOR t.fingerprint),
				t.revision, t.state, t.settled, t.attention, substring($bytes FROM t.at FOR t.engine),
				substring($bytes FROM t.at + t.engine FOR t.data), clock.now, clock.now, CASE WHEN NOT t.settled THEN clock.now + nullif(t.wake, -1) * interval '1 microsecond' END,
				clock.now + nullif(t.lease, 0) * interval '1 microsecond'
			FROM t, clock
			WHERE t.start_key = '' OR t.id = (SELECT k.instance_id FROM {{start_keys}} k WHERE k.key = t.start_key)
			ORDER BY t.definition, t.key
			ON CONFLICT DO NOTHING
			RETURNING id)` + insertHistory + answerWritten
)

// The bytes are the last argument.
var (
	updateAll  = strings.ReplaceAll(updateAllText, "$bytes", "$19::bytea")
	updateFree = strings.ReplaceAll(updateFreeText, "$bytes", "$19::bytea")
	insertNew  = strings.ReplaceAll(insertNewText, "$bytes", "$21::bytea")
)

// rows are transitions as arrays. What is bytes goes as one value, from which the statements cut, and goes last: what is before it
// is copied as often as the driver's buffers grow.
type rows struct {
	bytes []byte

	ids, states, attentions []string
	revisions               []int64
	settled                 []bool
	wakes, leases           []int64
	at                      []int32 // where in bytes a row's begin, from 1: its engine, its data, its fingerprint
	engines, data           []int32 // how long they are; -1: the data stay as they are

	history struct {
		ids, inputs []string
		revisions   []int64
		at, entries []int32
	}

	expects                      []int64
	inputs                       struct{ ids, inputs []string } // those of the history that come from outside
	definitions, keys, startKeys []string
	versions                     []int64
	fingerprints                 []int32
}

// buffers are *[]byte that were sent.
var buffers sync.Pool

func rowsOf(items []batch.Item) *rows {
	n := len(items)
	r := &rows{
		ids: make([]string, 0, n), states: make([]string, 0, n), attentions: make([]string, 0, n), revisions: make([]int64, 0, n),
		settled: make([]bool, 0, n), wakes: make([]int64, 0, n), leases: make([]int64, 0, n), expects: make([]int64, 0, n),
		at: make([]int32, 0, n), engines: make([]int32, 0, n), data: make([]int32, 0, n),
	}
	r.history.ids, r.history.inputs, r.history.revisions = make([]string, 0, n), make([]string, 0, n), make([]int64, 0, n)
	r.history.at, r.history.entries = make([]int32, 0, n), make([]int32, 0, n)
	r.bytes = []byte{} // also when there are none: nil is NULL
	if used, ok := buffers.Get().(*[]byte); ok {
		r.bytes = (*used)[:0]
	}
	for _, it := range items {
		r.add(it.Transition)
	}
	return r
}

// sent lets others use the buffer: no statement with these rows is under way, and none will be.
func (r *rows) sent() {
	if used := r.bytes; cap(used) <= maxBytes/8 {
		buffers.Put(&used)
	}
	r.bytes = nil
}

// put adds bytes, and returns where they begin and how many there are.
func (r *rows) put(b []byte) (at, length int32) {
	at = int32(len(r.bytes)) + 1
	r.bytes = append(r.bytes, b...)
	return at, int32(len(b))
}

func (r *rows) add(t *saga.Transition) {
	r.ids, r.states, r.attentions = append(r.ids, t.ID), append(r.states, t.State), append(r.attentions, t.Attention)
	r.expects, r.revisions = append(r.expects, int64(t.Expect)), append(r.revisions, int64(t.Revision()))
	r.settled = append(r.settled, t.Settled)
	wake := int64(-1)
	if t.Wake >= 0 {
		wake = micros(t.Wake)
	}
	r.wakes, r.leases = append(r.wakes, wake), append(r.leases, micros(t.Lease))
	at, engine := r.put(t.Engine)
	_, data := r.put(t.Data)
	if t.Data == nil && t.Start == nil {
		data = -1
	}
	r.at, r.engines, r.data = append(r.at, at), append(r.engines, engine), append(r.data, data)
	if t.Start != nil {
		r.addStart(t.Start)
	}
	for i := range t.History {
		r.addHistory(t.ID, &t.History[i])
	}
}

func (r *rows) addHistory(id string, h *saga.HistoryRecord) {
	r.history.ids, r.history.inputs = append(r.history.ids, id), append(r.history.inputs, h.Input)
	at, entry := r.put(h.Entry)
	r.history.revisions = append(r.history.revisions, int64(h.Revision))
	r.history.at, r.history.entries = append(r.history.at, at), append(r.history.entries, entry)
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
	_, fingerprint := r.put(s.Fingerprint)
	r.fingerprints = append(r.fingerprints, fingerprint)
}

// args are those that the statements have in common.
func (r *rows) args(others ...any) []any {
	h := &r.history
	return append([]any{
		r.ids, r.revisions, r.states, flat(r.settled), r.attentions, r.wakes, r.leases, r.at, r.engines, r.data,
		h.ids, h.revisions, h.inputs, h.at, h.entries,
	}, others...)
}

// updateArgs are those of updateAll and updateFree.
func (r *rows) updateArgs() []any { return r.args(r.expects, r.inputs.ids, r.inputs.inputs, r.bytes) }

// insertArgs are those of insertNew.
func (r *rows) insertArgs() []any {
	return r.args(r.definitions, r.versions, r.keys, r.fingerprints, r.startKeys, r.bytes)
}

// flat spares the driver reflection, which it would use for slices of this type.
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
