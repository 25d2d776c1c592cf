package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sagamill/sagamill/saga"
)

// postgresFloor writes a batch in one round trip: two statements over arrays, in one transaction. The arrays are written in the
// server's format, into buffers that are used again: there is no quicker way to make them.
type postgresFloor struct {
	pool                    *pgxpool.Pool
	insert, update, history string
	used                    sync.Pool // of *arrays
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
	a, _ := f.used.Get().(*arrays)
	if a == nil {
		a = &arrays{}
	}
	defer f.used.Put(a)
	statement := f.update
	a.reset(batch[0].Start != nil)
	if batch[0].Start != nil {
		statement = f.insert
	}
	for k := range batch {
		a.add(&batch[k])
	}
	conn, err := f.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	const settings = `SELECT set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true)`
	pipeline := []struct {
		sql  string
		args [][]byte
	}{{"begin", nil}, {settings, nil}, {statement, sent(a.row)}, {f.history, sent(a.history)}, {"commit", nil}}
	prepared := make([]*pgconn.StatementDescription, len(pipeline))
	for k, s := range pipeline {
		if prepared[k], err = conn.Conn().Prepare(ctx, s.sql, s.sql); err != nil {
			return err
		}
	}
	p := conn.Conn().PgConn().StartPipeline(ctx)
	defer func() { _ = p.Close() }()
	format := []int16{pgx.BinaryFormatCode}
	for k, s := range pipeline {
		p.SendQueryStatement(prepared[k], s.args, format, format)
	}
	if err := p.Sync(); err != nil {
		return err
	}
	for k := range pipeline {
		results, err := p.GetResults()
		if err != nil {
			return err
		}
		tag, err := results.(*pgconn.ResultReader).Close()
		if err != nil {
			return err
		}
		if k == 2 && tag.RowsAffected() != int64(len(batch)) {
			return fmt.Errorf("%d of %d were written", tag.RowsAffected(), len(batch))
		}
	}
	return p.Close()
}

// arrays are the arguments of a batch: of insert or update, and of history.
type arrays struct {
	row, history []array
	starts       bool
}

// array is one, as array_recv of PostgreSQL reads it.
type array struct {
	element uint32
	n       int
	b       []byte
}

const headOfArray = 20

func (a *arrays) reset(starts bool) {
	row := []uint32{pgtype.TextOID, pgtype.Int8OID, pgtype.Int8OID, pgtype.TextOID, pgtype.BoolOID, pgtype.ByteaOID, pgtype.ByteaOID, pgtype.IntervalOID, pgtype.IntervalOID}
	if starts {
		row = []uint32{pgtype.TextOID, pgtype.TextOID, pgtype.Int4OID, pgtype.TextOID, pgtype.ByteaOID, pgtype.Int8OID, pgtype.TextOID, pgtype.BoolOID,
			pgtype.ByteaOID, pgtype.ByteaOID, pgtype.IntervalOID, pgtype.IntervalOID}
	}
	a.starts, a.row = starts, emptied(a.row, row)
	a.history = emptied(a.history, []uint32{pgtype.TextOID, pgtype.Int8OID, pgtype.TextOID, pgtype.ByteaOID})
}

func emptied(used []array, elements []uint32) []array {
	for len(used) < len(elements) {
		used = append(used, array{})
	}
	for k, element := range elements {
		used[k] = array{element: element, b: append(used[k].b[:0], make([]byte, headOfArray)...)}
	}
	return used[:len(elements)]
}

func (a *arrays) add(t *saga.Transition) {
	next := 0
	column := func() *array { next++; return &a.row[next-1] }
	column().text(t.ID)
	if a.starts {
		column().text(t.Start.Definition)
		column().number(int64(t.Start.Version), 4)
		column().text(t.Start.Key)
		column().bytes(full(t.Start.Fingerprint))
		column().number(int64(t.Revision()), 8)
		column().text(t.State)
		column().flag(t.Settled)
		column().bytes(full(t.Engine))
		column().bytes(full(t.Data))
	} else {
		column().number(int64(t.Expect), 8)
		column().number(int64(t.Revision()), 8)
		column().text(t.State)
		column().flag(t.Settled)
		column().bytes(full(t.Engine))
		column().bytes(t.Data)
	}
	column().interval(t.Wake, t.Wake < 0)
	column().interval(t.Lease, t.Lease == 0)
	for _, h := range t.History {
		a.history[0].text(t.ID)
		a.history[1].number(int64(h.Revision), 8)
		a.history[2].text(h.Input)
		a.history[3].bytes(full(h.Entry))
	}
}

func (a *array) text(s string) {
	a.b = append(binary.BigEndian.AppendUint32(a.b, uint32(len(s))), s...)
	a.n++
}

// bytes adds a value; nil: NULL.
func (a *array) bytes(b []byte) {
	length := uint32(len(b))
	if b == nil {
		length = math.MaxUint32
	}
	a.b = append(binary.BigEndian.AppendUint32(a.b, length), b...)
	a.n++
}

func (a *array) number(v int64, size int) {
	a.b = binary.BigEndian.AppendUint32(a.b, uint32(size))
	for shift := 8 * (size - 1); shift >= 0; shift -= 8 {
		a.b = append(a.b, byte(v>>shift))
	}
	a.n++
}

func (a *array) flag(v bool) {
	if v {
		a.number(1, 1)
	} else {
		a.number(0, 1)
	}
}

func (a *array) interval(d time.Duration, null bool) {
	if null {
		a.bytes(nil)
		return
	}
	a.number(d.Microseconds(), 8)
	a.b = binary.BigEndian.AppendUint64(a.b, 0) // days and months
	binary.BigEndian.PutUint32(a.b[len(a.b)-20:], 16)
}

func sent(all []array) [][]byte {
	args := make([][]byte, len(all))
	for k := range all {
		a := &all[k]
		binary.BigEndian.PutUint32(a.b, 1)     // dimensions
		binary.BigEndian.PutUint32(a.b[4:], 1) // there may be NULLs
		binary.BigEndian.PutUint32(a.b[8:], a.element)
		binary.BigEndian.PutUint32(a.b[12:], uint32(a.n))
		binary.BigEndian.PutUint32(a.b[16:], 1)
		args[k] = a.b
	}
	return args
}

func full(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
