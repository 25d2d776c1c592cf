package mysql

import (
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"
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

// WithSchema names the schema of the tables, which MySQL also calls a database; it is created if it does not exist. Any name
// that the server takes will do: it is quoted wherever it is used. Default: the one that the connections use, as the DSN says.
func WithSchema(schema string) Option { return func(o *options) { o.schema, o.named = schema, true } }

// WithPrefix begins the names of all tables: lower-case letters, digits and underscores, at most 32. Default "sagamill_".
func WithPrefix(prefix string) Option { return func(o *options) { o.prefix = prefix } }

// WithoutMigrating lets Open create and change nothing; it answers an error if a migration is missing. For databases whose
// tables are made by somebody else, from [Migrations].
func WithoutMigrating() Option { return func(o *options) { o.unmigrated = true } }

// AcceptDataLoss lets Open take a server that may forget what it has committed, see [ErrUnsafe]: for tests, not for money.
func AcceptDataLoss() Option { return func(o *options) { o.unsafe = true } }

// WithLockTimeout says how long a batch of transitions tries again for instances that somebody else has locked, while the others are
// committed. When the time is over these are answered Busy. Default 20ms.
func WithLockTimeout(d time.Duration) Option { return func(o *options) { o.lockTimeout = d } }

// WithAcquireTimeout bounds how long a call waits for a connection of the pool. Default 10s.
func WithAcquireTimeout(d time.Duration) Option { return func(o *options) { o.acquireWithin = d } }

func newOptions(opts []Option) (options, error) {
	o := options{
		names:       names{prefix: "sagamill_", now: serverClock},
		lockTimeout: 20 * time.Millisecond, acquireWithin: 10 * time.Second,
	}
	for _, opt := range opts {
		opt(&o)
	}
	if o.lockTimeout < time.Millisecond || o.acquireWithin <= 0 {
		return o, fmt.Errorf("lock timeout (%s) must be at least 1ms, acquire timeout (%s) positive", o.lockTimeout, o.acquireWithin)
	}
	return o, o.names.validate()
}

// serverClock is the time in microseconds since 1970, whatever the time zone of the session.
const serverClock = `TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))`

// names makes the names of what is in the database.
type names struct {
	schema, prefix string
	named          bool // the schema is the user's choice, not that of the connections
	now            string
}

// maxPrefix leaves room for the longest name within MySQL's 64 characters.
const maxPrefix = 32

var validPrefix = regexp.MustCompile(`^([a-z_][a-z0-9_]*)?$`)

func (n names) validate() error {
	switch {
	case n.named && (n.schema == "" || utf8.RuneCountInString(n.schema) > 64):
		return fmt.Errorf("schema %.100q: a name has 1 to 64 characters", n.schema)
	case !utf8.ValidString(n.schema) || strings.Contains(n.schema, "\x00"):
		return fmt.Errorf("schema %q: a name is UTF-8 without NUL", n.schema)
	case strings.HasSuffix(n.schema, " "):
		return fmt.Errorf("schema %q: a name does not end with a space", n.schema)
	case systemSchemas[strings.ToLower(n.schema)]:
		return fmt.Errorf("schema %q belongs to MySQL", n.schema)
	case len(n.prefix) > maxPrefix:
		return fmt.Errorf("prefix %.100q: at most %d bytes", n.prefix, maxPrefix)
	case !validPrefix.MatchString(n.prefix):
		return fmt.Errorf("prefix %q: only a-z, 0-9 and _, beginning with a letter or _", n.prefix)
	}
	return nil
}

var systemSchemas = map[string]bool{"mysql": true, "information_schema": true, "performance_schema": true, "sys": true}

func quoted(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }

// table is the quoted name of a table.
func (n names) table(name string) string {
	if n.schema == "" {
		return quoted(n.prefix + name)
	}
	return quoted(n.schema) + "." + quoted(n.prefix+name)
}

var placeholder = regexp.MustCompile(`\{\{([a-z_]+)\}\}`)

// expand puts quoted names in the place of {{name}}, and the clock in that of {{now}}.
func (n names) expand(sql string) string {
	return placeholder.ReplaceAllStringFunc(sql, func(match string) string {
		name := strings.Trim(match, "{}")
		if name == "now" {
			return n.now
		}
		return n.table(name)
	})
}
