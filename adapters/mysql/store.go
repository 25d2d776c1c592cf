package mysql

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"github.com/sagamill/sagamill/adapters/internal/batch"
	"github.com/sagamill/sagamill/saga"
)

// Store is a saga.Store in a [DB]. All time in it is the server's.
type Store struct{ db *DB }

var _ saga.Store = (*Store)(nil)

// NewStore makes a store in db. Any number of them, in any number of processes, are one store.
func NewStore(db *DB) *Store { return &Store{db} }

// micros is a time as the tables keep it.
type micros int64

func (m micros) time() time.Time { return time.UnixMicro(int64(m)).UTC() }

func (m micros) add(d time.Duration) micros { return m + micros(microseconds(d)) }

// microseconds is a duration in the unit of the tables. What is not nothing does not become nothing.
func microseconds(d time.Duration) int64 {
	if d > 0 {
		d += time.Microsecond - 1
	}
	return d.Microseconds()
}

const columns = `i.id, i.definition, i.version, i.business_key, i.fingerprint, i.revision, i.state, i.settled, i.attention, i.engine, i.data,
	i.created_at, i.updated_at, i.wake_at, i.lease_till, {{now}}`

const selectInstances = `SELECT ` + columns + ` FROM {{instances}} i `

func scanRecord(row scanner) (saga.Record, error) { return scanRecordAnd(row) }

// scanRecordAnd reads more behind the columns.
func scanRecordAnd(row scanner, more ...any) (saga.Record, error) {
	var r saga.Record
	var created, updated, read micros
	var wake, lease sql.NullInt64
	err := row.Scan(append([]any{
		&r.ID, &r.Definition, &r.Version, &r.Key, &r.Fingerprint, &r.Revision, &r.State, &r.Settled, &r.Attention, &r.Engine, &r.Data,
		&created, &updated, &wake, &lease, &read,
	}, more...)...)
	if err != nil {
		return saga.Record{}, err
	}
	r.CreatedAt, r.UpdatedAt, r.ReadAt = created.time(), updated.time(), read.time()
	if wake.Valid {
		r.WakeAt = micros(wake.Int64).time()
	}
	if lease.Valid {
		r.LeaseTill = micros(lease.Int64).time()
	}
	return r, nil
}

// Load implements saga.Store.
func (s *Store) Load(ctx context.Context, ids ...string) (records []saga.Record, err error) {
	if len(ids) == 0 {
		return nil, ctx.Err()
	}
	for len(ids) > 0 {
		n := min(len(ids), maxRows)
		page, err := readRows(ctx, s.db, scanRecord, selectInstances+`WHERE i.id IN `+list(n), texts(ids[:n])...)
		if err != nil {
			return nil, fmt.Errorf("mysql: load: %w", err)
		}
		records, ids = append(records, page...), ids[n:]
	}
	return records, nil
}

// maxRows is how many rows a statement names or writes at most.
const maxRows = 100

// list is "(?, ?, ?)".
func list(n int) string { return `(?` + strings.Repeat(`, ?`, n-1) + `)` }

// repeated is the text n times, with what is between.
func repeated(text, between string, n int) string { return text + strings.Repeat(between+text, n-1) }

// text is an argument for a column of bytes. As a string the driver would send it in the character set of the connection.
func text(s string) []byte { return append(make([]byte, 0, len(s)), s...) }

func texts(all []string) []any {
	args := make([]any, len(all))
	for i, s := range all {
		args[i] = text(s)
	}
	return args
}

// blob makes an empty value of none.
func blob(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// Lookup implements saga.Store.
func (s *Store) Lookup(ctx context.Context, definition, key string) (saga.Record, error) {
	const where = `WHERE i.definition = ? AND i.business_key = ?`
	records, err := readRows(ctx, s.db, scanRecord, selectInstances+where, text(definition), text(key))
	if err != nil {
		return saga.Record{}, fmt.Errorf("mysql: look up: %w", err)
	}
	if len(records) == 0 {
		return saga.Record{}, saga.ErrNotFound
	}
	return records[0], nil
}

// List implements saga.Store.
func (s *Store) List(ctx context.Context, query saga.Query) ([]saga.Record, error) {
	statement, args := listStatement(query)
	records, err := readRows(ctx, s.db, scanRecord, statement, args...)
	if err != nil {
		return nil, fmt.Errorf("mysql: list: %w", err)
	}
	return records, nil
}

// listStatement has only those conditions that are asked for.
func listStatement(query saga.Query) (statement string, args []any) {
	where := []string{`i.id > ?`}
	args = []any{text(query.After)}
	and := func(condition string, more ...any) {
		where, args = append(where, condition), append(args, more...)
	}
	if query.Definition != "" {
		and(`i.definition = ?`, text(query.Definition))
	}
	if query.KeyPrefix != "" {
		and(`LEFT(i.business_key, ?) = ?`, len(query.KeyPrefix), text(query.KeyPrefix))
	}
	if query.State != "" {
		and(`i.state = ?`, text(query.State))
	}
	if query.Unsettled {
		and(`i.settled = 0`)
	}
	if query.Settled {
		and(`i.settled = 1`)
	}
	if query.IdleFor != 0 {
		and(`i.updated_at <= {{now}} - ?`, microseconds(query.IdleFor))
	}
	if query.NeedsAttention {
		and(`i.attention > ''`)
	}
	if query.OlderThan != 0 {
		and(`i.created_at <= {{now}} - ?`, microseconds(query.OlderThan))
	}
	args = append(args, batch.Limit(query.Limit))
	return selectInstances + `WHERE ` + strings.Join(where, ` AND `) + ` ORDER BY i.id LIMIT ?`, args
}

// History implements saga.Store.
func (s *Store) History(ctx context.Context, id string, after uint64, limit int) ([]saga.HistoryRecord, error) {
	const statement = `SELECT revision, COALESCE(input, ''), entry, at FROM {{history}}
		WHERE instance_id = ? AND revision > ? ORDER BY revision LIMIT ?`
	records, err := readRows(ctx, s.db, scanHistory, statement, text(id), after, batch.Limit(limit))
	if err != nil {
		return nil, fmt.Errorf("mysql: history of %s: %w", id, err)
	}
	return records, nil
}

func scanHistory(row scanner) (h saga.HistoryRecord, err error) {
	var at micros
	err = row.Scan(&h.Revision, &h.Input, &h.Entry, &at)
	h.At = at.time()
	return h, err
}
