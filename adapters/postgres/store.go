package postgres

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sagamill/sagamill/adapters/internal/batch"
	"github.com/sagamill/sagamill/saga"
)

// Store is a saga.Store in a [DB]. All time in it is the server's.
type Store struct {
	db       *DB
	suspects suspects
}

var _ saga.Store = (*Store)(nil)

// NewStore makes a store in db. Any number of them, in any number of processes, are one store.
func NewStore(db *DB) *Store { return &Store{db: db} }

const columns = `id, definition, version, key, fingerprint, revision, state, settled, attention, engine, data,
	created_at, updated_at, wake_at, lease_till, clock_timestamp()`

const (
	selectByIDs = `SELECT ` + columns + ` FROM {{instances}} WHERE id = ANY ($1::text[])`
	selectByKey = `SELECT ` + columns + ` FROM {{instances}} WHERE definition = $1 AND key = $2`

	selectHistory = `SELECT revision, coalesce(input, ''), entry, at FROM {{history}}
		WHERE instance_id = $1 AND revision > $2 ORDER BY revision LIMIT $3`
)

// scanner is a row of pgx or of database/sql.
type scanner interface{ Scan(...any) error }

func scanRecord(row scanner) (saga.Record, error) { return scanRecordAnd(row) }

// scanRecordAnd reads more behind the columns.
func scanRecordAnd(row scanner, more ...any) (saga.Record, error) {
	var r saga.Record
	var wake, lease *time.Time
	err := row.Scan(append([]any{
		&r.ID, &r.Definition, &r.Version, &r.Key, &r.Fingerprint, &r.Revision, &r.State, &r.Settled, &r.Attention, &r.Engine, &r.Data,
		&r.CreatedAt, &r.UpdatedAt, &wake, &lease, &r.ReadAt,
	}, more...)...)
	if err != nil {
		return saga.Record{}, err
	}
	r.CreatedAt, r.UpdatedAt, r.ReadAt = r.CreatedAt.UTC(), r.UpdatedAt.UTC(), r.ReadAt.UTC()
	if wake != nil {
		r.WakeAt = wake.UTC()
	}
	if lease != nil {
		r.LeaseTill = lease.UTC()
	}
	return r, nil
}

// records answers what a statement that selects columns has read.
func (s *Store) records(ctx context.Context, read reading, query string, args ...any) (records []saga.Record, err error) {
	err = read(ctx, func(b *pgx.Batch) { queueRows(b, &records, scanRecord, s.db.sql(query), args...) })
	return records, err
}

// Load implements saga.Store.
func (s *Store) Load(ctx context.Context, ids ...string) ([]saga.Record, error) {
	if len(ids) == 0 {
		return nil, ctx.Err()
	}
	records, err := s.records(ctx, s.db.read, selectByIDs, ids)
	if err != nil {
		return nil, fmt.Errorf("postgres: load: %w", err)
	}
	return records, nil
}

// Lookup implements saga.Store.
func (s *Store) Lookup(ctx context.Context, definition, key string) (saga.Record, error) {
	records, err := s.records(ctx, s.db.read, selectByKey, definition, key)
	if err != nil {
		return saga.Record{}, fmt.Errorf("postgres: look up: %w", err)
	}
	if len(records) == 0 {
		return saga.Record{}, saga.ErrNotFound
	}
	return records[0], nil
}

// List implements saga.Store.
func (s *Store) List(ctx context.Context, query saga.Query) ([]saga.Record, error) {
	statement, args := listStatement(query)
	records, err := s.records(ctx, s.db.browse, statement, args...)
	if err != nil {
		return nil, fmt.Errorf("postgres: list: %w", err)
	}
	return records, nil
}

// listStatement has only those conditions that are asked for, so that each combination has a plan of its own.
func listStatement(query saga.Query) (statement string, args []any) {
	var where strings.Builder
	args = []any{query.After, batch.Limit(query.Limit)}
	and := func(condition string, arg any) {
		args = append(args, arg)
		fmt.Fprintf(&where, " AND "+condition, len(args))
	}
	if query.Definition != "" {
		and("definition = $%d", query.Definition)
	}
	if query.KeyPrefix != "" {
		and("starts_with(key, $%d)", query.KeyPrefix)
	}
	if query.State != "" {
		and("state = $%d", query.State)
	}
	if query.Unsettled {
		where.WriteString(" AND NOT settled")
	}
	if query.Settled {
		where.WriteString(" AND settled")
	}
	if query.IdleFor != 0 {
		and("updated_at <= clock_timestamp() - $%d::bigint * interval '1 microsecond'", micros(query.IdleFor))
	}
	if query.NeedsAttention {
		where.WriteString(" AND attention <> ''")
	}
	if query.OlderThan != 0 {
		and("created_at <= clock_timestamp() - $%d::bigint * interval '1 microsecond'", micros(query.OlderThan))
	}
	return `SELECT ` + columns + ` FROM {{instances}} WHERE id > $1` + where.String() + ` ORDER BY id LIMIT $2`, args
}

// History implements saga.Store.
func (s *Store) History(ctx context.Context, id string, after uint64, limit int) (records []saga.HistoryRecord, err error) {
	err = s.db.read(ctx, func(b *pgx.Batch) {
		queueRows(b, &records, scanHistory, s.db.sql(selectHistory), id, int64(after), batch.Limit(limit))
	})
	if err != nil {
		return nil, fmt.Errorf("postgres: history of %s: %w", id, err)
	}
	return records, nil
}

func scanHistory(row scanner) (h saga.HistoryRecord, err error) {
	err = row.Scan(&h.Revision, &h.Input, &h.Entry, &h.At)
	h.At = h.At.UTC()
	return h, err
}

// micros is a duration in the unit of the server. What is not nothing does not become nothing.
func micros(d time.Duration) int64 {
	if d > 0 {
		d += time.Microsecond - 1
	}
	return d.Microseconds()
}
