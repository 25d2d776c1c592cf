package data

import (
	"context"
	"database/sql/driver"
	"errors"
	"regexp"
	"strconv"
	"strings"
	"sync"
)

// The services write SQL with numbered parameters, and say what to do about a row that is there (ON CONFLICT), as SQLite and
// PostgreSQL understand it. MySQL has other words for both. They are put in below database/sql, so that no service knows.

var (
	parameter = regexp.MustCompile(`\$(\d+)`)
	nothing   = regexp.MustCompile(`(?s)^(\s*INSERT INTO \w+ \((\w+).*)ON CONFLICT(?: \(\w+\))? DO NOTHING\s*$`)
	instead   = regexp.MustCompile(`ON CONFLICT \(\w+\) DO UPDATE SET`)
	excluded  = regexp.MustCompile(`excluded\.(\w+)`)
)

// translation is a statement in MySQL's words, and which of the arguments is the first, the second...; nil: as they come.
type translation struct {
	query string
	order []int
}

func translate(query string) translation {
	t := translation{query: nothing.ReplaceAllString(query, "${1}ON DUPLICATE KEY UPDATE $2 = $2")}
	t.query = instead.ReplaceAllString(t.query, "ON DUPLICATE KEY UPDATE")
	t.query = excluded.ReplaceAllString(t.query, "VALUES($1)")
	t.query = parameter.ReplaceAllStringFunc(t.query, func(p string) string {
		n, _ := strconv.Atoi(strings.TrimPrefix(p, "$"))
		t.order = append(t.order, n-1)
		return "?"
	})
	return t
}

// arguments brings the arguments into the order of the question marks.
func (t translation) arguments(args []driver.NamedValue) ([]driver.NamedValue, error) {
	if t.order == nil {
		return args, nil
	}
	ordered := make([]driver.NamedValue, len(t.order))
	for i, n := range t.order {
		if n >= len(args) {
			return nil, errors.New("a parameter without an argument")
		}
		ordered[i] = driver.NamedValue{Ordinal: i + 1, Value: args[n].Value}
	}
	return ordered, nil
}

// translating makes connections that translate.
type translating struct{ driver.Connector }

// Connect implements driver.Connector.
func (t translating) Connect(ctx context.Context) (driver.Conn, error) {
	c, err := t.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return translatingConn{c.(mysqlConn)}, nil
}

// mysqlConn is what a connection of the driver is.
type mysqlConn interface {
	driver.Conn
	driver.ConnPrepareContext
	driver.ConnBeginTx
	driver.ExecerContext
	driver.QueryerContext
	driver.Pinger
	driver.SessionResetter
	driver.Validator
	driver.NamedValueChecker
}

type translatingConn struct{ mysqlConn }

var translations sync.Map // query -> translation

func translated(query string, args []driver.NamedValue) (string, []driver.NamedValue, error) {
	t, ok := translations.Load(query)
	if !ok {
		t, _ = translations.LoadOrStore(query, translate(query))
	}
	ordered, err := t.(translation).arguments(args)
	return t.(translation).query, ordered, err
}

// ExecContext implements driver.ExecerContext.
func (c translatingConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	query, args, err := translated(query, args)
	if err != nil {
		return nil, err
	}
	return c.mysqlConn.ExecContext(ctx, query, args)
}

// QueryContext implements driver.QueryerContext.
func (c translatingConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	query, args, err := translated(query, args)
	if err != nil {
		return nil, err
	}
	return c.mysqlConn.QueryContext(ctx, query, args)
}

// PrepareContext implements driver.ConnPrepareContext, for statements that need no translation.
func (c translatingConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	if t := translate(query); t.order != nil {
		return nil, errors.New("a statement of a service is prepared, or too large for interpolateParams")
	}
	return c.mysqlConn.PrepareContext(ctx, query)
}
