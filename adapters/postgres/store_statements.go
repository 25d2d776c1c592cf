package postgres

import (
	"slices"
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
//   - one time is that of all that a statement writes;
//   - that all was written, as it mostly is, is known by counting; only if it was not is each row looked up.
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
			WHERE i.id = t.id AND i.revision = t.expect`

	notConsumed = ` AND (t.id IN (SELECT instance_id FROM consumed)) IS NOT TRUE`

	insertHistory = `, all_written AS MATERIALIZED (SELECT count(*) = cardinality($1::text[]) AS yes FROM written
		), history AS (
			INSERT INTO {{history}} (instance_id, revision, input, entry, at)
			SELECT h.id, h.revision, nullif(h.input, ''), substring($bytes FROM h.at FOR h.entry), clock.now
			FROM unnest($11::text[], $12::bigint[], $13::text[], $14::int[], $15::int[]) AS h (id, revision, input, at, entry), clock
			WHERE (SELECT yes FROM all_written) OR (h.id IN (SELECT id FROM written)) IS TRUE
		)`

	answerWritten = ` SELECT '' AS id, 1 AS found, '' AS input, now FROM clock
		UNION ALL SELECT n.id, 4, '', now FROM unnest($1::text[]) AS n (id), clock
			WHERE NOT (SELECT yes FROM all_written) AND (n.id IN (SELECT id FROM written)) IS NOT TRUE`

	answerUpdated = answerWritten + ` UNION ALL SELECT instance_id, 2, input, now FROM consumed, clock`

	// updateAllText waits for locked rows.
	updateAllText = `WITH ` + updated + `, ` + update + notConsumed + ` RETURNING i.id)` + insertHistory + answerUpdated

	// updateOneText is updateAllText for a single transition by an input of the engine's own, as most are when there is little to do: with
	// values in the place of arrays it takes the server half the time.
	updateOneText = `WITH t AS (
			SELECT * FROM (SELECT $1::text, $2::bigint, $3::text, $4::bool, $5::text, $6::bigint, $7::bigint, $8::int, $9::int, $10::int, $16::bigint)
				AS t (id, revision, state, settled, attention, wake, lease, at, engine, data, expect)
		), ` + clock + `, ` + update + ` RETURNING i.id
		), history AS (
			INSERT INTO {{history}} (instance_id, revision, input, entry, at)
			SELECT $11::text, $12::bigint, nullif($13::text, ''), substring($bytes FROM $14::int FOR $15::int), clock.now FROM written, clock
		) SELECT '' AS id, 1 AS found, '' AS input, now FROM clock WHERE EXISTS (SELECT FROM written)
		UNION ALL SELECT $1::text, 4, '', now FROM clock WHERE NOT EXISTS (SELECT FROM written)`

	// updateFreeText leaves out locked rows.
	updateFreeText = `WITH ` + updated + `, free AS MATERIALIZED (
			SELECT i.id FROM t JOIN {{instances}} i ON i.id = t.id AND i.revision = t.expect
			ORDER BY i.id FOR NO KEY UPDATE OF i SKIP LOCKED
		), ` + update + notConsumed + ` AND (t.id IN (SELECT id FROM free)) IS TRUE RETURNING i.id)` + insertHistory + answerUpdated + `
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
			ORDER BY t.definition COLLATE "C", t.key COLLATE "C"
			ON CONFLICT DO NOTHING
			RETURNING id)` + insertHistory + answerWritten
)

// The bytes are the last argument.
var (
	updateAll  = strings.ReplaceAll(updateAllText, "$bytes", "$19::bytea")
	updateOne  = strings.ReplaceAll(updateOneText, "$bytes", "$17::bytea")
	updateFree = strings.ReplaceAll(updateFreeText, "$bytes", "$19::bytea")
	insertNew  = strings.ReplaceAll(insertNewText, "$bytes", "$21::bytea")
)

// rows are transitions as arrays. What is bytes goes as one value, from which the statements cut, and goes last.
type rows struct {
	bytes []byte

	ids, revisions, states, settled, attentions column
	wakes, leases                               column
	at                                          column // where in bytes a row's begin, from 1: its engine, its data, its fingerprint
	engines, data                               column // how long they are; -1: the data stay as they are
	history                                     struct{ ids, revisions, inputs, at, entries column }

	expects                                              column                       // of updates
	inputs                                               struct{ ids, inputs column } // those of the history that come from outside
	definitions, versions, keys, fingerprints, startKeys column                       // of new instances
}

// usedRows are *rows that were sent.
var usedRows = sync.Pool{New: func() any { return &rows{} }}

func rowsOf(items []batch.Item) *rows {
	r := usedRows.Get().(*rows)
	for _, c := range []*column{&r.ids, &r.states, &r.attentions, &r.history.ids, &r.history.inputs, &r.inputs.ids, &r.inputs.inputs,
		&r.definitions, &r.keys, &r.startKeys} {
		c.empty(pgtype.TextOID)
	}
	for _, c := range []*column{&r.revisions, &r.wakes, &r.leases, &r.history.revisions, &r.expects} {
		c.empty(pgtype.Int8OID)
	}
	for _, c := range []*column{&r.at, &r.engines, &r.data, &r.history.at, &r.history.entries, &r.versions, &r.fingerprints} {
		c.empty(pgtype.Int4OID)
	}
	r.settled.empty(pgtype.BoolOID)
	size := 1 // also when there are no bytes: nil is NULL
	for _, it := range items {
		size += batch.Size(it.Transition)
	}
	r.bytes = slices.Grow(r.bytes[:0], size)
	for _, it := range items {
		r.add(it.Transition)
	}
	return r
}

// over lets others use the room: no statement with these rows is under way, and none will be.
func (r *rows) over() {
	if cap(r.bytes) <= maxBytes/8 {
		usedRows.Put(r)
	}
}

// put adds bytes, and returns where they begin and how many there are.
func (r *rows) put(b []byte) (at, length int32) {
	at = int32(len(r.bytes)) + 1
	r.bytes = append(r.bytes, b...)
	return at, int32(len(b))
}

func (r *rows) add(t *saga.Transition) {
	r.ids.text(t.ID)
	r.states.text(t.State)
	r.attentions.text(t.Attention)
	r.revisions.int64(int64(t.Revision()))
	r.settled.bool(t.Settled)
	wake := int64(-1)
	if t.Wake >= 0 {
		wake = micros(t.Wake)
	}
	r.wakes.int64(wake)
	r.leases.int64(micros(t.Lease))
	at, engine := r.put(t.Engine)
	_, data := r.put(t.Data)
	if t.Data == nil && t.Start == nil {
		data = -1
	}
	r.at.int32(at)
	r.engines.int32(engine)
	r.data.int32(data)
	if t.Start != nil {
		r.addStart(t.Start)
	} else {
		r.expects.int64(int64(t.Expect))
	}
	for i := range t.History {
		r.addHistory(t.ID, &t.History[i])
	}
}

func (r *rows) addHistory(id string, h *saga.HistoryRecord) {
	at, entry := r.put(h.Entry)
	r.history.ids.text(id)
	r.history.revisions.int64(int64(h.Revision))
	r.history.inputs.text(h.Input)
	r.history.at.int32(at)
	r.history.entries.int32(entry)
	if h.Input != "" {
		r.inputs.ids.text(id)
		r.inputs.inputs.text(h.Input)
	}
}

func (r *rows) addStart(s *saga.Start) {
	startKey := ""
	if s.StartKey != nil {
		startKey = s.StartKey.Key
	}
	_, fingerprint := r.put(s.Fingerprint)
	r.definitions.text(s.Definition)
	r.versions.int32(int32(s.Version))
	r.keys.text(s.Key)
	r.fingerprints.int32(fingerprint)
	r.startKeys.text(startKey)
}

// arguments are those of a statement: arrays, and the bytes from which it cuts.
type arguments struct {
	columns []*column
	bytes   []byte // nil: it takes none
}

// args are those that the statements have in common, and others.
func (r *rows) args(others ...*column) arguments {
	h := &r.history
	return arguments{append([]*column{
		&r.ids, &r.revisions, &r.states, &r.settled, &r.attentions, &r.wakes, &r.leases, &r.at, &r.engines, &r.data,
		&h.ids, &h.revisions, &h.inputs, &h.at, &h.entries,
	}, others...), r.bytes}
}

// single tells whether the rows are what updateOne takes.
func (r *rows) single() bool { return r.ids.n == 1 && r.history.ids.n == 1 && r.inputs.ids.n == 0 }

// oneArgs are those of updateOne: values, not arrays.
func (r *rows) oneArgs() [][]byte {
	a := r.args(&r.expects)
	sent := make([][]byte, 0, len(a.columns)+1)
	for _, c := range a.columns {
		sent = append(sent, c.only())
	}
	return append(sent, a.bytes)
}

// updateArgs are those of updateAll and updateFree.
func (r *rows) updateArgs() arguments { return r.args(&r.expects, &r.inputs.ids, &r.inputs.inputs) }

// insertArgs are those of insertNew.
func (r *rows) insertArgs() arguments {
	return r.args(&r.definitions, &r.versions, &r.keys, &r.fingerprints, &r.startKeys)
}

// sent are the arguments as they are sent.
func (a arguments) sent() [][]byte {
	sent := make([][]byte, 0, len(a.columns)+1)
	for _, c := range a.columns {
		sent = append(sent, c.sent())
	}
	if a.bytes != nil {
		sent = append(sent, a.bytes)
	}
	return sent
}

// values are the arguments for a driver.
func (a arguments) values() []any {
	values := make([]any, 0, len(a.columns)+1)
	for _, c := range a.columns {
		values = append(values, c.value())
	}
	if a.bytes != nil {
		values = append(values, a.bytes)
	}
	return values
}

// startKeyArgs are those of takeStartKeys; false: there are none.
func startKeyArgs(items []batch.Item) (arguments, bool) {
	var keys, fingerprints, responses, ids, ttls, definitions, businessKeys column
	for _, c := range []*column{&keys, &ids, &definitions, &businessKeys} {
		c.empty(pgtype.TextOID)
	}
	fingerprints.empty(pgtype.ByteaOID)
	responses.empty(pgtype.ByteaOID)
	ttls.empty(pgtype.Int8OID)
	for _, it := range items {
		t := it.Transition
		k := t.Start.StartKey
		if k == nil {
			continue
		}
		keys.text(k.Key)
		fingerprints.bytes(k.Fingerprint)
		responses.bytes(k.Response)
		ids.text(t.ID)
		ttls.int64(micros(k.TTL))
		definitions.text(t.Start.Definition)
		businessKeys.text(t.Start.Key)
	}
	return arguments{columns: []*column{&keys, &fingerprints, &responses, &ids, &ttls, &definitions, &businessKeys}}, keys.n > 0
}

// blob makes an empty value of none: NULL means something else, or nothing.
func blob(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
