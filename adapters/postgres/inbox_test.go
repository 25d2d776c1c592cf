package postgres_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/postgres"
	"github.com/sagamill/sagamill/internal/services"
	"github.com/sagamill/sagamill/saga"
	"github.com/sagamill/sagamill/saga/inboxtest"
)

// withWrites adds a table that handlers write to.
func (d *database) withWrites() {
	d.exec(`CREATE TABLE ` + d.table("writes") + ` (name text NOT NULL)`)
}

func (d *database) write(ctx context.Context, tx pgx.Tx, name string) error {
	_, err := tx.Exec(ctx, `INSERT INTO `+d.table("writes")+` (name) VALUES ($1)`, name)
	return err
}

func (d *database) count(ctx context.Context, name string) (n int, err error) {
	err = d.pool.QueryRow(ctx, `SELECT count(*) FROM `+d.table("writes")+` WHERE name = $1`, name).Scan(&n)
	return n, err
}

func TestInbox(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	db := d.open()
	d.withWrites()
	inboxtest.Run(t, func(tb testing.TB) inboxtest.Harness[pgx.Tx] {
		own := services.Name() + " " // the rules share the tables, but no names
		return inboxtest.Harness[pgx.Tx]{
			Inbox:  apartInbox{postgres.NewInbox(db), own},
			Write:  func(ctx context.Context, tx pgx.Tx, name string) error { return d.write(ctx, tx, own+name) },
			Count:  func(ctx context.Context, name string) (int, error) { return d.count(ctx, own+name) },
			Reopen: func() saga.Inbox[pgx.Tx] { return apartInbox{postgres.NewInbox(d.openOn(d.of(tb).newPool())), own} },
		}
	})
}

// apartInbox gives effects names that no other test has.
type apartInbox struct {
	*postgres.Inbox
	own string
}

func (i apartInbox) Handle(ctx context.Context, e saga.Effect, handle func(context.Context, pgx.Tx) ([]byte, error)) (saga.Reply, error) {
	e.ID = i.own + e.ID
	return i.Inbox.Handle(ctx, e, handle)
}

// Two processes that share the tables behave as one.
func TestInboxOfTwoProcesses(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	one, two := postgres.NewInbox(d.open()), postgres.NewInbox(d.openOn(d.newPool()))
	effect := saga.Effect{ID: "trip-1/hotel/1"}
	replies, second := make(chan saga.Reply, 1), make(chan error, 1)
	reply, err := one.Handle(t.Context(), effect, func(context.Context, pgx.Tx) ([]byte, error) {
		go func() {
			r, err := two.Handle(context.Background(), effect, func(context.Context, pgx.Tx) ([]byte, error) {
				return []byte("second"), nil
			})
			replies <- r
			second <- err
		}()
		require.Eventually(t, func() bool { return d.waiting() == 1 }, 30*time.Second, 5*time.Millisecond)
		return []byte("first"), nil
	})
	require.NoError(t, err)
	require.NoError(t, <-second)
	require.Equal(t, reply, <-replies)
	require.Equal(t, "first", string(reply.Payload))
}

// After an error of a statement PostgreSQL takes nothing more in a transaction. If a handler passes over one, nothing must be
// stored; a rejection because of one is a rejection.
func TestInboxOfHandlersThatPassOverErrors(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	inbox := postgres.NewInbox(d.open())
	d.withWrites()
	handler := func(answer error) func(context.Context, pgx.Tx) ([]byte, error) {
		return func(ctx context.Context, tx pgx.Tx) ([]byte, error) {
			require.NoError(t, d.write(ctx, tx, "x"))
			_, err := tx.Exec(ctx, `SELECT 1/0`)
			require.Error(t, err)
			return nil, answer
		}
	}
	_, err := inbox.Handle(t.Context(), saga.Effect{ID: "a"}, handler(nil))
	require.Error(t, err)
	reply, err := inbox.Handle(t.Context(), saga.Effect{ID: "b"}, handler(saga.Reject("taken")))
	require.NoError(t, err)
	require.Equal(t, saga.Reply{Outcome: saga.ReplyRejected, Reason: "taken"}, reply)
	reply, err = inbox.Handle(t.Context(), saga.Effect{ID: "a"}, func(ctx context.Context, tx pgx.Tx) ([]byte, error) {
		return []byte("done"), d.write(ctx, tx, "x")
	})
	require.NoError(t, err)
	require.Equal(t, saga.Reply{Outcome: saga.ReplySucceeded, Payload: []byte("done")}, reply)
	n, err := d.count(t.Context(), "x")
	require.NoError(t, err)
	require.Equal(t, 1, n)
}

// What becomes of its transaction is not a handler's business.
func TestInboxOfHandlersThatEndTheTransaction(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	inbox := postgres.NewInbox(d.open())
	d.withWrites()
	for i, end := range []func(context.Context, pgx.Tx) error{
		func(ctx context.Context, tx pgx.Tx) error { return tx.Commit(ctx) },
		func(ctx context.Context, tx pgx.Tx) error { return tx.Rollback(ctx) },
		func(ctx context.Context, tx pgx.Tx) error { _, err := tx.Exec(ctx, `ROLLBACK`); return err },
	} {
		effect := saga.Effect{ID: fmt.Sprint("e", i)}
		_, err := inbox.Handle(t.Context(), effect, func(ctx context.Context, tx pgx.Tx) ([]byte, error) {
			require.NoError(t, d.write(ctx, tx, "x"))
			return nil, end(ctx, tx)
		})
		require.Error(t, err, "end %d", i)
		ran := false
		_, err = inbox.Handle(t.Context(), effect, func(context.Context, pgx.Tx) ([]byte, error) { ran = true; return nil, nil })
		require.NoError(t, err)
		require.True(t, ran, "end %d: nothing had been stored", i)
	}
	n, err := d.count(t.Context(), "x")
	require.NoError(t, err)
	require.Zero(t, n)
}

// The settings of the handler's session are its own.
func TestInboxLeavesSettingsAlone(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	pool := d.newPool(func(c *pgxpool.Config) { c.ConnConfig.RuntimeParams["lock_timeout"] = "1234ms" })
	inbox := postgres.NewInbox(d.openOn(pool))
	_, err := inbox.Handle(t.Context(), saga.Effect{ID: "e"}, func(ctx context.Context, tx pgx.Tx) ([]byte, error) {
		var timeout, seqscan string
		err := tx.QueryRow(ctx, `SELECT current_setting('lock_timeout'), current_setting('enable_seqscan')`).Scan(&timeout, &seqscan)
		require.Equal(t, []string{"1234ms", "on"}, []string{timeout, seqscan})
		return nil, err
	})
	require.NoError(t, err)
}

func TestInboxExpire(t *testing.T) {
	t.Parallel()
	d := newDatabase(t).withClocks()
	clock := d.newClock()
	inbox := postgres.NewInbox(d.openOn(d.newPool(clock.sees)))
	handle := func(id string, undo bool) (ran bool) {
		_, err := inbox.Handle(t.Context(), saga.Effect{ID: id, Undo: undo}, func(context.Context, pgx.Tx) ([]byte, error) {
			ran = true
			return nil, nil
		})
		require.NoError(t, err)
		return ran
	}
	expire := func(olderThan time.Duration, limit, want int) {
		t.Helper()
		n, err := inbox.Expire(t.Context(), olderThan, limit)
		require.NoError(t, err)
		require.Equal(t, want, n)
	}
	handle("never came", true) // two records
	handle("undone lately", false)
	clock.advance(time.Second)
	handle("old", false)
	clock.advance(time.Hour)
	require.True(t, handle("undone lately", true))

	expire(2*time.Hour, 10, 0)
	expire(time.Minute, 1, 1)
	require.False(t, handle("old", false), "the oldest are deleted first")
	require.True(t, handle("never came", false), "deleted")
	expire(time.Minute, 10, 1)
	require.True(t, handle("old", false), "deleted")
	require.False(t, handle("undone lately", false), "an effect is deleted whole")

	_, err := inbox.Expire(t.Context(), time.Minute, 0)
	require.ErrorIs(t, err, saga.ErrInvalid)
}
