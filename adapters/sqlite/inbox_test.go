package sqlite_test

import (
	"context"
	"database/sql"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/sqlite"
	"github.com/sagamill/sagamill/saga"
	"github.com/sagamill/sagamill/saga/inboxtest"
)

func openInboxDB(tb testing.TB, path string) *sqlite.DB {
	tb.Helper()
	db, err := sqlite.Open(path)
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, db.Close()) })
	_, err = db.Exec(`CREATE TABLE IF NOT EXISTS writes (name TEXT NOT NULL)`)
	require.NoError(tb, err)
	return db
}

func write(ctx context.Context, tx *sql.Tx, name string) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO writes (name) VALUES (?)`, name)
	return err
}

func count(ctx context.Context, db *sqlite.DB, name string) (n int, err error) {
	err = db.QueryRowContext(ctx, `SELECT count(*) FROM writes WHERE name = ?`, name).Scan(&n)
	return n, err
}

func TestInbox(t *testing.T) {
	t.Parallel()
	inboxtest.Run(t, func(tb testing.TB) inboxtest.Harness[*sql.Tx] {
		path := filepath.Join(tb.TempDir(), "inbox.db")
		db := openInboxDB(tb, path)
		return inboxtest.Harness[*sql.Tx]{
			Inbox:  sqlite.NewInbox(db),
			Write:  write,
			Count:  func(ctx context.Context, name string) (int, error) { return count(ctx, db, name) },
			Reopen: func() saga.Inbox[*sql.Tx] { return sqlite.NewInbox(openInboxDB(tb, path)) },
		}
	})
}

// Two processes that share the file behave as one.
func TestInboxOfTwoProcesses(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "inbox.db")
	one, two := sqlite.NewInbox(openInboxDB(t, path)), sqlite.NewInbox(openInboxDB(t, path))
	effect := saga.Effect{ID: "trip-1/hotel/1"}

	handling, replies := make(chan struct{}), make(chan saga.Reply, 1)
	second := make(chan error, 1)
	reply, err := one.Handle(t.Context(), effect, func(context.Context, *sql.Tx) ([]byte, error) {
		go func() {
			close(handling)
			r, err := two.Handle(context.Background(), effect, func(context.Context, *sql.Tx) ([]byte, error) {
				return []byte("second"), nil
			})
			replies <- r
			second <- err
		}()
		<-handling
		return []byte("first"), nil
	})
	require.NoError(t, err)
	require.NoError(t, <-second)
	require.Equal(t, reply, <-replies)
	require.Equal(t, "first", string(reply.Payload))
}

// An error that a handler passes over may have made SQLite roll back everything: then nothing must be stored.
func TestInboxNoticesThatTheTransactionIsGone(t *testing.T) {
	t.Parallel()
	db := openInboxDB(t, filepath.Join(t.TempDir(), "inbox.db"))
	_, err := db.Exec(`CREATE UNIQUE INDEX writes_name ON writes (name)`)
	require.NoError(t, err)
	inbox := sqlite.NewInbox(db)
	for _, answer := range []error{nil, saga.Reject("taken")} {
		_, err = inbox.Handle(t.Context(), saga.Effect{ID: "a"}, func(ctx context.Context, tx *sql.Tx) ([]byte, error) {
			require.NoError(t, write(ctx, tx, "x"))
			_, err := tx.ExecContext(ctx, `INSERT OR ROLLBACK INTO writes (name) VALUES ('x')`)
			require.Error(t, err)
			return nil, answer
		})
		require.Error(t, err)
	}
	reply, err := inbox.Handle(t.Context(), saga.Effect{ID: "a"}, func(ctx context.Context, tx *sql.Tx) ([]byte, error) {
		return []byte("done"), write(ctx, tx, "x")
	})
	require.NoError(t, err)
	require.Equal(t, saga.Reply{Outcome: saga.ReplySucceeded, Payload: []byte("done")}, reply)
}

func TestInboxExpire(t *testing.T) {
	t.Parallel()
	now := time.Now()
	inbox := sqlite.NewInbox(openInboxDB(t, filepath.Join(t.TempDir(), "inbox.db")), sqlite.WithClock(func() time.Time { return now }))
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
	handle("never came", true) // two records
	handle("undone lately", false)
	now = now.Add(time.Second)
	handle("old", false)
	now = now.Add(time.Hour)
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
