package postgres

import (
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
)

// Option changes how [Open] opens a database.
type Option func(*options)

type options struct {
	names
	unmigrated    bool
	unsafe        bool
	lockTimeout   time.Duration
	acquireWithin time.Duration
}

// WithSchema names the schema of the tables, which is created if it does not exist. Any name that PostgreSQL takes will do: it
// is quoted wherever it is used. Default "public".
func WithSchema(schema string) Option { return func(o *options) { o.schema = schema } }

// WithPrefix begins the names of all tables, indexes and functions: lower-case letters, digits and underscores, at most 32.
// Default "sagamill_".
func WithPrefix(prefix string) Option { return func(o *options) { o.prefix = prefix } }

// WithoutMigrating lets Open create and change nothing; it answers an error if a migration is missing. For databases whose
// tables are made by somebody else, from [Migrations].
func WithoutMigrating() Option { return func(o *options) { o.unmigrated = true } }

// AcceptDataLoss lets Open take a server that may forget what it has committed, because fsync, full_page_writes or
// synchronous_commit is off: for tests, not for money.
func AcceptDataLoss() Option { return func(o *options) { o.unsafe = true } }

// WithLockTimeout says how long a batch of transitions waits for a row or a key that somebody else has locked. When the time
// is over that one is answered Busy, to be tried again, and the others are committed without it. Default 100ms.
func WithLockTimeout(d time.Duration) Option { return func(o *options) { o.lockTimeout = d } }

// WithAcquireTimeout bounds how long a call waits for a connection of the pool. Default 10s.
func WithAcquireTimeout(d time.Duration) Option { return func(o *options) { o.acquireWithin = d } }

func newOptions(opts []Option) (options, error) {
	o := options{
		names:       names{schema: "public", prefix: "sagamill_"},
		lockTimeout: 100 * time.Millisecond, acquireWithin: 10 * time.Second,
	}
	for _, opt := range opts {
		opt(&o)
	}
	if o.lockTimeout < time.Millisecond || o.acquireWithin <= 0 {
		return o, fmt.Errorf("lock timeout (%s) must be at least 1ms, acquire timeout (%s) positive", o.lockTimeout, o.acquireWithin)
	}
	return o, o.names.validate()
}

// names makes the names of what is in the database.
type names struct{ schema, prefix string }

// maxPrefix leaves room for the longest name within PostgreSQL's 63 bytes.
const maxPrefix = 32

var validPrefix = regexp.MustCompile(`^([a-z_][a-z0-9_]*)?$`)

func (n names) validate() error {
	switch {
	case n.schema == "" || len(n.schema) > 63:
		return fmt.Errorf("schema %.100q: a name has 1 to 63 bytes", n.schema)
	case !utf8.ValidString(n.schema) || strings.Contains(n.schema, "\x00"):
		return fmt.Errorf("schema %q: a name is UTF-8 without NUL", n.schema)
	case strings.HasPrefix(n.schema, "pg_") || n.schema == "information_schema":
		return fmt.Errorf("schema %q belongs to PostgreSQL", n.schema)
	case len(n.prefix) > maxPrefix:
		return fmt.Errorf("prefix %.100q: at most %d bytes", n.prefix, maxPrefix)
	case !validPrefix.MatchString(n.prefix):
		return fmt.Errorf("prefix %q: only a-z, 0-9 and _, beginning with a letter or _", n.prefix)
	}
	return nil
}

var placeholder = regexp.MustCompile(`\{\{(=?)([a-z_]+)\}\}`)

// expand puts quoted names in the place of {{name}} (with the schema) and {{=name}} (without).
func (n names) expand(sql string) string {
	return placeholder.ReplaceAllStringFunc(sql, func(match string) string {
		parts := placeholder.FindStringSubmatch(match)
		if parts[1] == "=" {
			return pgx.Identifier{n.prefix + parts[2]}.Sanitize()
		}
		return pgx.Identifier{n.schema, n.prefix + parts[2]}.Sanitize()
	})
}
