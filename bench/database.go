package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sagamill/sagamill/adapters/postgres"
	"github.com/sagamill/sagamill/adapters/sqlite"
	"github.com/sagamill/sagamill/saga"
)

// database is a store, and what is measured of it.
type database struct {
	store saga.Store
	write writeBatch

	pool     *pgxpool.Pool // nil: it is none of PostgreSQL's
	schema   string        // in it
	empty    func(ctx context.Context) error
	counters func(ctx context.Context) (counters, error)
	close    func()
}

// counters are totals of the server.
type counters struct {
	commits, rows, bytes int64
	cpu                  time.Duration // 0: it is on another machine
}

// countersOf reads those of a PostgreSQL.
func countersOf(ctx context.Context, pool *pgxpool.Pool, schema string) (c counters, err error) {
	for _, conn := range pool.AcquireAllIdle(ctx) { // a session tells what it has counted when it has time to
		_, failed := conn.Exec(ctx, `SELECT pg_stat_force_next_flush()`)
		err = errors.Join(err, failed)
		conn.Release()
	}
	if err != nil {
		return c, err
	}
	err = pool.QueryRow(ctx, `SELECT d.xact_commit, pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint,
			(SELECT coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0)::bigint FROM pg_stat_user_tables WHERE schemaname = $1)
		FROM pg_stat_database d WHERE d.datname = current_database()`, schema).Scan(&c.commits, &c.bytes, &c.rows)
	if err != nil {
		return c, err
	}
	rows, err := pool.Query(ctx, `SELECT pid FROM pg_stat_activity`)
	if err != nil {
		return c, err
	}
	pids, err := pgx.CollectRows(rows, pgx.RowTo[int])
	for _, pid := range pids {
		c.cpu += cpuOf(pid, "postgres")
	}
	return c, err
}

// cpuOf is what a process of this machine has used of its processors. With a name: unless it is another one's.
func cpuOf(pid int, name string) time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	before, after, ok := strings.Cut(string(stat), ") ")
	if err != nil || !ok || !strings.HasSuffix(before, name) {
		return 0
	}
	fields := strings.Fields(after)
	ticks := int64(0)
	for _, f := range fields[11:13] { // utime and stime, see proc(5)
		n, _ := strconv.ParseInt(f, 10, 64)
		ticks += n
	}
	return time.Duration(ticks) * time.Second / 100
}

func (db *database) floor(template []saga.Transition) (*floor, error) {
	if len(template) == 0 || template[0].Start == nil {
		return nil, errors.New("the recorded saga does not begin with its start")
	}
	return &floor{template, db.write}, nil
}

func open(ctx context.Context, store string) (*database, error) {
	switch {
	case store == "sqlite:":
		return openSQLite(ctx)
	case strings.HasPrefix(store, "postgres://"), strings.HasPrefix(store, "postgresql://"):
		return openPostgres(ctx, store)
	}
	return nil, fmt.Errorf("-store is %q: it is sqlite: or postgres://...", store)
}

// newPool makes a pool whose connections find their tables in a schema.
func newPool(ctx context.Context, url, schema string, connections int32) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	config.MaxConns = connections
	config.ConnConfig.RuntimeParams["search_path"] = schema
	return pgxpool.NewWithConfig(ctx, config)
}

func openPostgres(ctx context.Context, url string) (*database, error) {
	schema := "sagamill_bench_" + strings.ToLower(rand.Text()[:8])
	pool, err := newPool(ctx, url, schema, 16)
	if err != nil {
		return nil, err
	}
	quoted := pgx.Identifier{schema}.Sanitize()
	drop := func() {
		_, _ = pool.Exec(context.WithoutCancel(ctx), `DROP SCHEMA IF EXISTS `+quoted+` CASCADE`)
		pool.Close()
	}
	db, err := postgres.Open(ctx, pool, postgres.WithSchema(schema))
	if err != nil {
		drop()
		return nil, err
	}
	f := newPostgresFloor(pool, quoted)
	return &database{
		store: postgres.NewStore(db), write: f.write, close: drop, pool: pool, schema: schema,
		empty: func(ctx context.Context) error {
			_, err := pool.Exec(ctx, fmt.Sprintf(`TRUNCATE %[1]s.sagamill_instances, %[1]s.sagamill_history, %[1]s.sagamill_start_keys`, quoted))
			if err == nil {
				_, err = pool.Exec(ctx, `CHECKPOINT`)
			}
			return err
		},
		counters: func(ctx context.Context) (counters, error) { return countersOf(ctx, pool, schema) },
	}, nil
}

func openSQLite(ctx context.Context) (*database, error) {
	dir, err := os.MkdirTemp("", "sagamill-bench")
	if err != nil {
		return nil, err
	}
	db, err := sqlite.Open(filepath.Join(dir, "bench.db"))
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	f, err := newSQLiteFloor(ctx, db)
	if err != nil {
		return nil, errors.Join(err, db.Close(), os.RemoveAll(dir))
	}
	return &database{
		store: sqlite.NewStore(db), write: f.write,
		close: func() {
			_ = db.Close()
			_ = os.RemoveAll(dir)
		},
		empty: func(ctx context.Context) error {
			return db.Write(ctx, func(tx *sql.Tx) error {
				for _, table := range []string{"instances", "history", "start_keys"} {
					if _, err := tx.ExecContext(ctx, `DELETE FROM sagamill_`+table); err != nil {
						return err
					}
				}
				return nil
			})
		},
		counters: func(context.Context) (counters, error) { return counters{}, nil }, // it keeps none
	}, nil
}
