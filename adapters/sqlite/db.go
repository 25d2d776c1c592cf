// Package sqlite keeps sagas, idempotency keys and participants' inboxes in one SQLite file.
//
// [Open] opens the file in WAL mode with synchronous=FULL: what Commit answered survives a power cut, as far as the disk
// tells the truth about fsync. The three stores share the file. [Store.In] starts sagas in the user's own transaction, and
// the inbox gives its transaction to handlers:
//
//	db, err := sqlite.Open("shop.db")
//	store := sqlite.NewStore(db)                 // saga.Store
//	keys := sqlite.NewIdempotencyStore(db)       // idempotency.Store
//	inbox := sqlite.NewInbox(db)                 // saga.Inbox[*sql.Tx]
//
// The driver is modernc.org/sqlite: pure Go, no cgo.
package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"strings"
	"sync"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

//go:embed migrations/*.sql
var migrations embed.FS

// DB is an open database file. The embedded *sql.DB may be used for the user's own tables and reads. Write through
// [DB.Write], not through BeginTx: SQLite has one writer, and its own way of waiting for that is slow and unfair, and holds
// a connection of the pool.
type DB struct {
	*sql.DB
	writer chan struct{} // a mutex that a context can stop waiting for
	// conn is what Write writes through, guarded by writer. Always the same connection: SQLite drops a connection's page
	// cache when another one has written.
	conn *sql.Conn

	mu       sync.Mutex
	prepared map[string]*sql.Stmt
}

// Open opens or creates the database file at path and brings its tables up to date. It is safe to open one file from
// several processes on one machine; not over a network file system.
func Open(path string) (*DB, error) {
	if path == "" || strings.Contains(path, ":memory:") {
		return nil, errors.New("sqlite: path must name a file (for an in-memory store use adapters/memory)")
	}
	if i := strings.Index(path, ":"); strings.Contains(path, "://") || i > 0 && (path[:i] == "sqlite" || path[:i] == "file") {
		return nil, fmt.Errorf("sqlite: %q is no path: give the file's name as it is, without a scheme", path)
	}
	q := url.Values{}
	q.Set("_txlock", "immediate")
	for _, p := range []string{"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)"} {
		q.Add("_pragma", p)
	}
	pool, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?"+q.Encode())
	if err != nil {
		return nil, fmt.Errorf("sqlite: open %s: %w", path, err)
	}
	pool.SetMaxOpenConns(16)
	pool.SetMaxIdleConns(16)
	db := &DB{DB: pool, writer: make(chan struct{}, 1), prepared: map[string]*sql.Stmt{}}
	if err := db.migrate(context.Background()); err != nil {
		_ = db.Close()
		return nil, fmt.Errorf("sqlite: open %s: %w", path, err)
	}
	return db, nil
}

// Close closes the file. It waits for a Write that is under way.
func (db *DB) Close() error {
	db.writer <- struct{}{}
	defer func() { <-db.writer }()
	db.dropConn()
	return db.DB.Close()
}

// maxBusy bounds how long Write tries again when other processes hold the write lock.
const maxBusy = 10 * time.Second

// Write runs fn in an immediate (writing) transaction and commits it if fn returns nil; otherwise it is rolled back.
// fn runs again if SQLite answers that the database is busy, so it must have no effects outside of the transaction.
func (db *DB) Write(ctx context.Context, fn func(tx *sql.Tx) error) error {
	select {
	case db.writer <- struct{}{}:
		defer func() { <-db.writer }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	start := time.Now()
	for attempt := 1; ; attempt++ {
		err := db.tryWrite(ctx, fn)
		if err == nil || !isBusy(err) || attempt == 5 || time.Since(start) > maxBusy {
			return err
		}
		select {
		case <-time.After(time.Duration(attempt) * 10 * time.Millisecond):
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		}
	}
}

func (db *DB) tryWrite(ctx context.Context, fn func(tx *sql.Tx) error) (err error) {
	if db.conn == nil {
		if db.conn, err = db.Conn(ctx); err != nil {
			db.conn = nil
			return err
		}
	}
	clean := false
	defer func() {
		if !clean {
			db.dropConn() // the pool finds out whether it is still good
		}
		if errors.Is(err, sql.ErrTxDone) && ctx.Err() != nil { // it was rolled back because of that
			err = ctx.Err()
		}
	}()
	tx, err := db.conn.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after Commit it does nothing
	if err := fn(tx); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	clean = true
	return nil
}

func (db *DB) dropConn() {
	if db.conn != nil {
		_ = db.conn.Close()
		db.conn = nil
	}
}

// prepare returns the statement of a query, parsed at most once for each connection. Nothing is locked while it waits for a
// connection: all of them may be waiting for the write lock, whose holder may need a statement.
func (db *DB) prepare(ctx context.Context, query string) (*sql.Stmt, error) {
	if stmt := db.known(query, nil); stmt != nil {
		return stmt, nil
	}
	stmt, err := db.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	if first := db.known(query, stmt); first != stmt {
		return first, stmt.Close() // somebody else was quicker
	}
	return stmt, nil
}

// known returns the prepared statement of a query; if there is none it is stmt from now on.
func (db *DB) known(query string, stmt *sql.Stmt) *sql.Stmt {
	db.mu.Lock()
	defer db.mu.Unlock()
	if first := db.prepared[query]; first != nil || stmt == nil {
		return first
	}
	db.prepared[query] = stmt
	return stmt
}

// migrate runs the numbered files of migrations that the database has not seen. Two processes may run it at once: the
// second waits for the first one's write lock.
func (db *DB) migrate(ctx context.Context) error {
	files, err := fs.Glob(migrations, "migrations/*.sql") // in lexical, that is in numerical order
	if err != nil {
		return err
	}
	return db.Write(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS sagamill_migrations (name TEXT PRIMARY KEY) STRICT`); err != nil {
			return err
		}
		for _, file := range files {
			var done int
			if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM sagamill_migrations WHERE name = ?`, file).Scan(&done); err != nil {
				return err
			}
			if done > 0 {
				continue
			}
			text, err := migrations.ReadFile(file)
			if err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, string(text)); err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			if _, err := tx.ExecContext(ctx, `INSERT INTO sagamill_migrations (name) VALUES (?)`, file); err != nil {
				return err
			}
		}
		return nil
	})
}

// isBusy tells whether another connection held the lock that err's statement needed.
func isBusy(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && (e.Code()&0xff == sqlite3.SQLITE_BUSY || e.Code()&0xff == sqlite3.SQLITE_LOCKED)
}
