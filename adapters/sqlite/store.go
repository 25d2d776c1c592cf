package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sagamill/sagamill/adapters/internal/batch"
	"github.com/sagamill/sagamill/saga"
)

// Store is a saga.Store in the file of a [DB]. Its clock is that of the process, unless told otherwise: SQLite has none of
// its own, and all processes that can open the file share a machine.
type Store struct {
	db  *DB
	now func() time.Time
}

var _ saga.Store = (*Store)(nil)

// NewStore makes a store in db. Any number of them, in any number of processes, are one store.
func NewStore(db *DB, opts ...Option) *Store {
	s := &Store{db: db, now: newOptions(opts).now}
	s.prepareAll()
	return s
}

// micros is a time as the tables keep it.
type micros int64

func (s *Store) clock() micros { return micros(s.now().UnixMicro()) }

func (m micros) time() time.Time { return time.UnixMicro(int64(m)).UTC() }

func (m micros) add(d time.Duration) micros { return m + micros(d.Microseconds()) }

// sub never says that nothing is left when there is something: a time is due when its microsecond has come.
func (m micros) sub(o micros) time.Duration { return time.Duration(m-o) * time.Microsecond }

func scanRecord(row interface{ Scan(...any) error }, readAt micros) (saga.Record, error) {
	r := saga.Record{ReadAt: readAt.time()}
	var created, updated micros
	var wake, lease sql.NullInt64
	err := row.Scan(&r.ID, &r.Definition, &r.Version, &r.Key, &r.Fingerprint, &r.Revision, &r.State, &r.Settled,
		&r.Attention, &r.Engine, &r.Data, &created, &updated, &wake, &lease)
	if err != nil {
		return saga.Record{}, err
	}
	r.CreatedAt, r.UpdatedAt = created.time(), updated.time()
	if wake.Valid {
		r.WakeAt = micros(wake.Int64).time()
	}
	if lease.Valid {
		r.LeaseTill = micros(lease.Int64).time()
	}
	return r, nil
}

// Load implements saga.Store.
func (s *Store) Load(ctx context.Context, ids ...string) ([]saga.Record, error) {
	switch len(ids) {
	case 0:
		return nil, nil
	case 1:
		return s.records(ctx, "load", selectByID, ids[0])
	}
	list, err := json.Marshal(ids)
	if err != nil {
		return nil, fmt.Errorf("sqlite: load: %w", err)
	}
	return s.records(ctx, "load", selectByIDs, string(list))
}

// Lookup implements saga.Store.
func (s *Store) Lookup(ctx context.Context, definition, key string) (saga.Record, error) {
	records, err := s.records(ctx, "look up", selectByKey, definition, key)
	if err != nil {
		return saga.Record{}, err
	}
	if len(records) == 0 {
		return saga.Record{}, saga.ErrNotFound
	}
	return records[0], nil
}

// List implements saga.Store.
func (s *Store) List(ctx context.Context, query saga.Query) ([]saga.Record, error) {
	var where strings.Builder
	args := []any{query.After}
	if query.Definition != "" {
		where.WriteString(` AND definition = ?`)
		args = append(args, query.Definition)
	}
	if query.KeyPrefix != "" {
		where.WriteString(` AND substr(key, 1, length(?)) = ?`)
		args = append(args, query.KeyPrefix, query.KeyPrefix)
	}
	if query.State != "" {
		where.WriteString(` AND state = ?`)
		args = append(args, query.State)
	}
	if query.Unsettled {
		where.WriteString(` AND settled = 0`)
	}
	if query.Settled {
		where.WriteString(` AND settled = 1`)
	}
	if query.IdleFor != 0 {
		where.WriteString(` AND updated_at <= ?`)
		args = append(args, s.clock().add(-query.IdleFor))
	}
	if query.NeedsAttention {
		where.WriteString(` AND attention <> ''`)
	}
	if query.OlderThan != 0 {
		where.WriteString(` AND created_at <= ?`)
		args = append(args, s.clock().add(-query.OlderThan))
	}
	args = append(args, batch.Limit(query.Limit))
	return s.records(ctx, "list", `SELECT `+columns+` FROM sagamill_instances WHERE id > ?`+where.String()+` ORDER BY id LIMIT ?`, args...)
}

func (s *Store) records(ctx context.Context, op, query string, args ...any) ([]saga.Record, error) {
	var records []saga.Record
	err := s.query(ctx, query, args, func(rows *sql.Rows) error {
		r, err := scanRecord(rows, s.clock())
		records = append(records, r)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("sqlite: %s: %w", op, err)
	}
	return records, nil
}

// query reads outside of any transaction.
func (s *Store) query(ctx context.Context, query string, args []any, each func(*sql.Rows) error) error {
	stmt, err := s.db.prepare(ctx, query)
	if err != nil {
		return err
	}
	rows, err := stmt.QueryContext(ctx, args...)
	return eachRow(rows, err, each)
}

func eachRow(rows *sql.Rows, err error, each func(*sql.Rows) error) error {
	if err != nil {
		return err
	}
	for rows.Next() {
		if err := each(rows); err != nil {
			return errors.Join(err, rows.Close())
		}
	}
	return errors.Join(rows.Err(), rows.Close())
}

// History implements saga.Store.
func (s *Store) History(ctx context.Context, id string, after uint64, limit int) ([]saga.HistoryRecord, error) {
	const query = `SELECT revision, coalesce(input, ''), entry, at FROM sagamill_history
		WHERE instance_id = ? AND revision > ? ORDER BY revision LIMIT ?`
	var records []saga.HistoryRecord
	err := s.query(ctx, query, []any{id, after, batch.Limit(limit)}, func(rows *sql.Rows) error {
		var h saga.HistoryRecord
		var at micros
		err := rows.Scan(&h.Revision, &h.Input, &h.Entry, &at)
		h.At = at.time()
		records = append(records, h)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("sqlite: history of %s: %w", id, err)
	}
	return records, nil
}
