package postgres_test

import (
	"context"
	"database/sql"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite"

	"github.com/sagamill/sagamill/adapters/postgres"
	"github.com/sagamill/sagamill/internal/services"
	"github.com/sagamill/sagamill/saga"
	"github.com/sagamill/sagamill/saga/inboxtest"
)

// newSQL makes a pool of database/sql.
func (d *database) newSQL() *sql.DB {
	pool := stdlib.OpenDBFromPool(d.newPool())
	d.tb.Cleanup(func() { require.NoError(d.tb, pool.Close()) })
	return pool
}

func (d *database) writeSQL(ctx context.Context, tx *sql.Tx, name string) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO `+d.table("writes")+` (name) VALUES ($1)`, name)
	return err
}

func TestSQLInbox(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	db, pool := d.open(), d.newSQL()
	d.withWrites()
	inboxtest.Run(t, func(tb testing.TB) inboxtest.Harness[*sql.Tx] {
		own := services.Name() + " "
		return inboxtest.Harness[*sql.Tx]{
			Inbox: apartSQLInbox{postgres.NewSQLInbox(db, pool), own},
			Write: func(ctx context.Context, tx *sql.Tx, name string) error { return d.writeSQL(ctx, tx, own+name) },
			Count: func(ctx context.Context, name string) (int, error) { return d.count(ctx, own+name) },
			Reopen: func() saga.Inbox[*sql.Tx] {
				o := d.of(tb)
				return apartSQLInbox{postgres.NewSQLInbox(d.openOn(o.newPool()), o.newSQL()), own}
			},
		}
	})
}

type apartSQLInbox struct {
	*postgres.SQLInbox
	own string
}

func (i apartSQLInbox) Handle(ctx context.Context, e saga.Effect, handle func(context.Context, *sql.Tx) ([]byte, error)) (saga.Reply, error) {
	e.ID = i.own + e.ID
	return i.SQLInbox.Handle(ctx, e, handle)
}

// A service may have handlers of both kinds: they share the records.
func TestBothInboxesAreOne(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	db := d.open()
	effect := saga.Effect{ID: "trip-1/hotel/1"}
	first, err := postgres.NewSQLInbox(db, d.newSQL()).Handle(t.Context(), effect, func(context.Context, *sql.Tx) ([]byte, error) {
		return []byte("first"), nil
	})
	require.NoError(t, err)
	second, err := postgres.NewInbox(db).Handle(t.Context(), effect, func(context.Context, pgx.Tx) ([]byte, error) {
		return nil, errors.New("it ran twice")
	})
	require.NoError(t, err)
	require.Equal(t, first, second)
}

func TestSQLInboxOfHandlersThatPassOverErrors(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	inbox := postgres.NewSQLInbox(d.open(), d.newSQL())
	d.withWrites()
	handler := func(answer error) func(context.Context, *sql.Tx) ([]byte, error) {
		return func(ctx context.Context, tx *sql.Tx) ([]byte, error) {
			require.NoError(t, d.writeSQL(ctx, tx, "x"))
			_, err := tx.ExecContext(ctx, `SELECT 1/0`)
			require.Error(t, err)
			return nil, answer
		}
	}
	_, err := inbox.Handle(t.Context(), saga.Effect{ID: "a"}, handler(nil))
	require.Error(t, err)
	reply, err := inbox.Handle(t.Context(), saga.Effect{ID: "b"}, handler(saga.Reject("taken")))
	require.NoError(t, err)
	require.Equal(t, saga.Reply{Outcome: saga.ReplyRejected, Reason: "taken"}, reply)
	n, err := d.count(t.Context(), "x")
	require.NoError(t, err)
	require.Zero(t, n)
}

func TestSQLInboxOfAnEndedContext(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	inbox := postgres.NewSQLInbox(d.open(), d.newSQL())
	d.withWrites()
	ctx, cancel := context.WithCancel(t.Context())
	_, err := inbox.Handle(ctx, saga.Effect{ID: "a"}, func(ctx context.Context, tx *sql.Tx) ([]byte, error) {
		require.NoError(t, d.writeSQL(ctx, tx, "x"))
		cancel()
		return nil, nil
	})
	require.ErrorIs(t, err, context.Canceled)
	n, err := d.count(t.Context(), "x")
	require.NoError(t, err)
	require.Zero(t, n)
}

func TestSQLInboxOfAnotherDriver(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	pool, err := sql.Open("sqlite", ":memory:")
	require.NoError(t, err)
	defer func() { require.NoError(t, pool.Close()) }()
	_, err = postgres.NewSQLInbox(d.open(), pool).Handle(t.Context(), saga.Effect{ID: "a"}, nil)
	require.ErrorContains(t, err, "it must be github.com/jackc/pgx/v5/stdlib")
}
