package mysql_test

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	sagamysql "github.com/sagamill/sagamill/adapters/mysql"
	"github.com/sagamill/sagamill/internal/services"
	"github.com/sagamill/sagamill/saga"
	"github.com/sagamill/sagamill/saga/inboxtest"
)

// withWrites adds a table that handlers write to.
func (d *database) withWrites() {
	d.exec(`CREATE TABLE ` + d.table("writes") + ` (name VARCHAR(255) NOT NULL)`)
}

func (d *database) write(ctx context.Context, tx *sql.Tx, name string) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO `+d.table("writes")+` (name) VALUES (?)`, name)
	return err
}

func (d *database) count(ctx context.Context, name string) (n int, err error) {
	err = d.pool.QueryRowContext(ctx, `SELECT COUNT(*) FROM `+d.table("writes")+` WHERE name = ?`, name).Scan(&n)
	return n, err
}

func TestInbox(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	db := d.open()
	d.withWrites()
	inboxtest.Run(t, func(tb testing.TB) inboxtest.Harness[*sql.Tx] {
		own := services.Name() + " " // the rules share the tables, but no names
		return inboxtest.Harness[*sql.Tx]{
			Inbox:  apartInbox{sagamysql.NewInbox(db), own},
			Write:  func(ctx context.Context, tx *sql.Tx, name string) error { return d.write(ctx, tx, own+name) },
			Count:  func(ctx context.Context, name string) (int, error) { return d.count(ctx, own+name) },
			Reopen: func() saga.Inbox[*sql.Tx] { return apartInbox{sagamysql.NewInbox(d.openOn(d.of(tb).newPool())), own} },
		}
	})
}

// apartInbox gives effects names that no other test has.
type apartInbox struct {
	*sagamysql.Inbox
	own string
}

func (i apartInbox) Handle(ctx context.Context, e saga.Effect, handle func(context.Context, *sql.Tx) ([]byte, error)) (saga.Reply, error) {
	e.ID = i.own + e.ID
	return i.Inbox.Handle(ctx, e, handle)
}

// Two processes that share the tables behave as one.
func TestInboxOfTwoProcesses(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	one, two := sagamysql.NewInbox(d.open()), sagamysql.NewInbox(d.openOn(d.newPool()))
	effect := saga.Effect{ID: "trip-1/hotel/1"}
	replies, second := make(chan saga.Reply, 1), make(chan error, 1)
	reply, err := one.Handle(t.Context(), effect, func(context.Context, *sql.Tx) ([]byte, error) {
		go func() {
			r, err := two.Handle(context.Background(), effect, func(context.Context, *sql.Tx) ([]byte, error) {
				return []byte("second"), nil
			})
			replies <- r
			second <- err
		}()
		require.Eventually(t, func() bool { return d.waiting() == 1 }, 30*time.Second, lockTick)
		return []byte("first"), nil
	})
	require.NoError(t, err)
	require.NoError(t, <-second)
	require.Equal(t, reply, <-replies)
	require.Equal(t, "first", string(reply.Payload))
}

// A handler may pass over the error of a statement: MySQL takes back that statement alone.
func TestInboxOfHandlersThatPassOverErrors(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	inbox := sagamysql.NewInbox(d.open())
	d.withWrites()
	handler := func(answer error) func(context.Context, *sql.Tx) ([]byte, error) {
		return func(ctx context.Context, tx *sql.Tx) ([]byte, error) {
			require.NoError(t, d.write(ctx, tx, "x"))
			_, err := tx.ExecContext(ctx, `SELECT nothing`)
			require.Error(t, err)
			return []byte("done"), answer
		}
	}
	reply, err := inbox.Handle(t.Context(), saga.Effect{ID: "a"}, handler(nil))
	require.NoError(t, err)
	require.Equal(t, saga.Reply{Outcome: saga.ReplySucceeded, Payload: []byte("done")}, reply)
	reply, err = inbox.Handle(t.Context(), saga.Effect{ID: "b"}, handler(saga.Reject("taken")))
	require.NoError(t, err)
	require.Equal(t, saga.Reply{Outcome: saga.ReplyRejected, Reason: "taken"}, reply)
	n, err := d.count(t.Context(), "x")
	require.NoError(t, err)
	require.Equal(t, 1, n)
}

// After a deadlock there is no transaction any more, and the session is one that commits each statement. A handler that passes over
// that must not have its command recorded.
func TestInboxOfHandlersThatPassOverDeadlocks(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	inbox := sagamysql.NewInbox(d.open())
	d.withWrites()
	d.exec(`CREATE TABLE ` + d.table("rows") + ` (id INT PRIMARY KEY, n INT NOT NULL)`)
	d.exec(`INSERT INTO ` + d.table("rows") + ` VALUES (1, 0), (2, 0)`)
	lock := `UPDATE ` + d.table("rows") + ` SET n = n + 1 WHERE id = ?`
	_, err := inbox.Handle(t.Context(), saga.Effect{ID: "e"}, func(ctx context.Context, tx *sql.Tx) ([]byte, error) {
		foreign, err := d.pool.BeginTx(ctx, nil)
		require.NoError(t, err)
		var heavy strings.Builder // the server gives up the lighter of two
		for n := range 500 {
			fmt.Fprintf(&heavy, ", (%d, 0)", n+11)
		}
		_, err = foreign.ExecContext(ctx, `INSERT INTO `+d.table("rows")+` VALUES (10, 0)`+heavy.String())
		require.NoError(t, err)
		_, err = foreign.ExecContext(ctx, lock, 2)
		require.NoError(t, err)
		_, err = tx.ExecContext(ctx, lock, 1)
		require.NoError(t, err)
		waits := make(chan error, 1)
		go func() { _, err := foreign.ExecContext(ctx, lock, 1); waits <- err }()
		require.Eventually(t, func() bool { return d.waiting() > 0 }, 30*time.Second, lockTick)
		_, err = tx.ExecContext(ctx, lock, 2)
		require.ErrorContains(t, err, "1213")
		require.NoError(t, <-waits)
		require.NoError(t, foreign.Rollback())
		return []byte("done"), nil
	})
	require.ErrorContains(t, err, "1305", "the savepoint is gone")
	ran := false
	_, err = inbox.Handle(t.Context(), saga.Effect{ID: "e"}, func(context.Context, *sql.Tx) ([]byte, error) { ran = true; return nil, nil })
	require.NoError(t, err)
	require.True(t, ran, "nothing had been recorded")
}

// lockTick is how often waiting is asked.
const lockTick = 10 * time.Millisecond

// waiting counts the locks on tables of the test that transactions wait for. It reads the server's own report: the tables of
// information_schema show what was, for as long as anybody (another test, say) reads them more than ten times a second.
func (d *database) waiting() (n int) {
	var engine, name, report string
	require.NoError(d.tb, d.pool.QueryRowContext(context.Background(), `SHOW ENGINE INNODB STATUS`).Scan(&engine, &name, &report))
	_, now, found := strings.Cut(report, "LIST OF TRANSACTIONS FOR EACH SESSION") // before it stands the last deadlock
	require.True(d.tb, found, report)
	for line := range strings.Lines(now) {
		if strings.Contains(line, " of table `"+d.schema+"`.") && strings.HasSuffix(line, " waiting\n") {
			n++
		}
	}
	return n
}

// What becomes of its transaction is not a handler's business.
func TestInboxOfHandlersThatEndTheTransaction(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	inbox := sagamysql.NewInbox(d.open())
	d.withWrites()
	for i, end := range []func(context.Context, *sql.Tx) error{
		func(_ context.Context, tx *sql.Tx) error { return tx.Commit() },
		func(_ context.Context, tx *sql.Tx) error { return tx.Rollback() },
		func(ctx context.Context, tx *sql.Tx) error { _, err := tx.ExecContext(ctx, `ROLLBACK`); return err },
	} {
		effect := saga.Effect{ID: fmt.Sprint("e", i)}
		_, err := inbox.Handle(t.Context(), effect, func(ctx context.Context, tx *sql.Tx) ([]byte, error) {
			return nil, end(ctx, tx)
		})
		require.Error(t, err, "end %d", i)
		ran := false
		_, err = inbox.Handle(t.Context(), effect, func(context.Context, *sql.Tx) ([]byte, error) { ran = true; return nil, nil })
		require.NoError(t, err)
		require.True(t, ran, "end %d: nothing had been stored", i)
	}
}

func TestInboxExpire(t *testing.T) {
	t.Parallel()
	d := newDatabase(t).withClocks()
	clock := d.newClock()
	inbox := sagamysql.NewInbox(d.open(clock.option()))
	handle := func(id string, undo bool) (ran bool) {
		_, err := inbox.Handle(t.Context(), saga.Effect{ID: id, Undo: undo}, func(context.Context, *sql.Tx) ([]byte, error) {
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
	handle("never came", true)
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
