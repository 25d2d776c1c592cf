package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// DB is a database in which the stores keep their tables. It borrows connections of the user's pool, one for a call, and owns
// nothing that has to be closed.
type DB struct {
	pool *sql.DB
	options
	maxPacket int // what the server takes in one statement

	expanded sync.Map // SQL with placeholders -> without
}

// openWithin bounds how long Open waits: for the server, and for other processes that migrate.
const openWithin = time.Minute

// Open checks that the server keeps what it commits, and brings the tables up to date. The pool is one of the driver
// github.com/go-sql-driver/mysql; it stays the user's: close it when nobody works on it any more. Any number of processes may open
// one database at once.
func Open(ctx context.Context, pool *sql.DB, opts ...Option) (*DB, error) {
	if pool == nil {
		return nil, errors.New("mysql: open: the pool is nil")
	}
	o, err := newOptions(opts)
	if err != nil {
		return nil, fmt.Errorf("mysql: open: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, openWithin)
	defer cancel()
	db := &DB{pool: pool, options: o}
	for _, step := range []func(context.Context) error{db.checkServer, db.migrate} {
		if err := step(ctx); err != nil {
			return nil, fmt.Errorf("mysql: open: %w", err)
		}
	}
	return db, nil
}

// ErrUnsafe says that the server may forget what it has committed: see [AcceptDataLoss].
var ErrUnsafe = errors.New("the server may forget what it has committed")

// server is what matters of a server's settings.
type server struct {
	version, binlogFormat        string
	schema                       sql.NullString
	autocommit, readOnly, binlog bool
	flush, syncBinlog, maxPacket int
	doublewrite                  string
}

// checkServer refuses what would not work, or not be safe.
func (db *DB) checkServer(ctx context.Context) error {
	var s server
	err := db.read(ctx, func(conn *sql.Conn) error {
		const settings = `SELECT VERSION(), DATABASE(), @@autocommit, @@global.read_only, @@log_bin, @@binlog_format,
			@@innodb_flush_log_at_trx_commit, @@sync_binlog, @@innodb_doublewrite, @@max_allowed_packet`
		return conn.QueryRowContext(ctx, settings).Scan(&s.version, &s.schema, &s.autocommit, &s.readOnly, &s.binlog, &s.binlogFormat,
			&s.flush, &s.syncBinlog, &s.doublewrite, &s.maxPacket)
	})
	if err != nil {
		return err
	}
	if !db.named {
		db.schema = s.schema.String
	}
	db.maxPacket = s.maxPacket
	if err := s.check(); err != nil {
		return err
	}
	if db.schema == "" {
		return errors.New("the connections use no database: name one in the DSN, or by WithSchema")
	}
	if off := s.unsafe(); len(off) > 0 && !db.unsafe {
		return fmt.Errorf("%w: %s (for tests there is AcceptDataLoss)", ErrUnsafe, strings.Join(off, ", "))
	}
	return nil
}

func (s *server) check() error {
	switch name, major, minor := parseVersion(s.version); {
	case name == "MariaDB" && (major < 10 || major == 10 && minor < 6):
		return fmt.Errorf("the server is MariaDB %s, at least 10.6 is needed", s.version)
	case name == "MySQL" && major < 8:
		return fmt.Errorf("the server is MySQL %s, at least 8.0 is needed", s.version)
	case !s.autocommit:
		return errors.New("the connections have autocommit off: take it out of the DSN")
	case s.readOnly:
		return errors.New("the server is read-only, as replicas are")
	case s.binlog && s.binlogFormat == "STATEMENT":
		return errors.New("binlog_format is STATEMENT, which cannot log READ COMMITTED: make it ROW or MIXED")
	}
	return nil
}

// unsafe names the settings by which a crash of the machine may take what is committed.
func (s *server) unsafe() (off []string) {
	if s.flush != 1 && s.flush != 3 {
		off = append(off, fmt.Sprintf("innodb_flush_log_at_trx_commit is %d", s.flush))
	}
	if s.binlog && s.syncBinlog != 1 { // with a binary log, what that lacks after a crash is rolled back
		off = append(off, fmt.Sprintf("log_bin is on and sync_binlog is %d", s.syncBinlog))
	}
	switch strings.ToUpper(s.doublewrite) {
	case "0", "OFF", "DETECT_ONLY":
		off = append(off, "innodb_doublewrite is "+strings.ToLower(s.doublewrite))
	}
	return off
}

var versionPattern = regexp.MustCompile(`^(\d+)\.(\d+)`)

func parseVersion(version string) (name string, major, minor int) {
	name = "MySQL"
	if strings.Contains(version, "MariaDB") {
		name = "MariaDB"
		version = strings.TrimPrefix(version, "5.5.5-") // as some proxies show it to old clients
	}
	if m := versionPattern.FindStringSubmatch(version); m != nil {
		major, _ = strconv.Atoi(m[1])
		minor, _ = strconv.Atoi(m[2])
	}
	return name, major, minor
}

// sql puts the names of the tables into a statement.
func (db *DB) sql(text string) string {
	if known, ok := db.expanded.Load(text); ok {
		return known.(string)
	}
	expanded := db.expand(text)
	db.expanded.Store(text, expanded)
	return expanded
}
