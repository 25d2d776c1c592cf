package watermillsql_test

import (
	"context"
	"database/sql"
	"net/url"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql" // the driver
	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/transporttest"
	"github.com/sagamill/sagamill/adapters/watermillsql"
	"github.com/sagamill/sagamill/internal/services"
)

// openMySQL opens the server's database "test".
func openMySQL(t testing.TB, u *url.URL) *sql.DB {
	t.Helper()
	db, err := sql.Open("mysql", u.User.String()+"@tcp("+u.Host+")/test")
	require.NoError(t, err)
	db.SetMaxOpenConns(12)
	db.SetMaxIdleConns(12)
	return db
}

func dropMySQL(t testing.TB, db *sql.DB, topics ...string) {
	for _, topic := range topics {
		_, err := db.ExecContext(context.Background(), "DROP TABLE IF EXISTS `watermill_"+topic+"`, `watermill_offsets_"+topic+"`")
		require.NoError(t, err)
	}
}

// A number can be drawn before another one, and its message be there after the other one's: at any time until the transaction ends
// that has drawn it.
func TestMessageThatIsLateIsNotPassedOver(t *testing.T) {
	t.Parallel()
	u, err := url.Parse(services.MySQL.URL(t))
	require.NoError(t, err)
	for _, late := range []bool{true, false} {
		f := newFixture(t, openMySQL(t, u), "`", watermillsql.NewMySQL, config, dropMySQL)
		require.NoError(t, f.CreateTopics(t.Context(), f.topic))
		messages, _ := f.subscribe(t, "group")
		tx, err := f.db.BeginTx(t.Context(), &sql.TxOptions{Isolation: sql.LevelReadCommitted}) // it locks no gap
		require.NoError(t, err)
		t.Cleanup(func() { _ = tx.Rollback() })
		for _, statement := range []string{"SELECT * FROM `watermill_" + f.topic + "`", "SAVEPOINT drawn"} {
			_, err = tx.Exec(statement)
			require.NoError(t, err)
		}
		require.NoError(t, f.InTx(tx).Publish(f.topic, newMessage("first")))
		var number int64
		require.NoError(t, tx.QueryRow("SELECT `offset` FROM `watermill_"+f.topic+"`").Scan(&number))
		_, err = tx.Exec("ROLLBACK TO SAVEPOINT drawn")
		require.NoError(t, err)

		require.NoError(t, f.Publish(f.topic, newMessage("second")))
		select {
		case msg := <-messages:
			require.FailNow(t, "the group has passed over a number that is drawn", "it got %s", msg.Payload)
		case <-time.After(300 * time.Millisecond):
		}
		want := []string{"second"}
		if late {
			want = []string{"first", "second"}
			_, err = tx.Exec("INSERT INTO `watermill_"+f.topic+"` (`offset`, uuid, payload) VALUES (?, 'late', 'first')", number)
			require.NoError(t, err)
		}
		require.NoError(t, tx.Commit())
		for _, payload := range want {
			msg := receive(t, messages)
			require.Equal(t, payload, string(msg.Payload))
			msg.Ack()
		}
	}
}

// Without its row of the table of offsets a topic is not safe to publish to.
func TestPublishNeedsTheRowThatItLocks(t *testing.T) {
	t.Parallel()
	u, err := url.Parse(services.MySQL.URL(t))
	require.NoError(t, err)
	f := newFixture(t, openMySQL(t, u), "`", watermillsql.NewMySQL, config, dropMySQL)
	require.NoError(t, f.Publish(f.topic, newMessage("a")))
	_, err = f.db.Exec("DELETE FROM `watermill_offsets_" + f.topic + "`")
	require.NoError(t, err)
	require.Error(t, f.Publish(f.topic, newMessage("b")))
	require.NoError(t, f.CreateTopics(t.Context(), f.topic))
	require.NoError(t, f.Publish(f.topic, newMessage("c"), newMessage("d")))
	messages, _ := f.subscribe(t, "group")
	for _, want := range []string{"a", "c", "d"} {
		msg := receive(t, messages)
		require.Equal(t, want, string(msg.Payload))
		msg.Ack()
	}
}

// Not parallel: it looks for goroutines that are left behind.
func TestMySQLTransport(t *testing.T) {
	transporttest.Run(t, func(t testing.TB) transporttest.Harness {
		address := services.MySQL.URL(t)
		u, err := url.Parse(address)
		require.NoError(t, err)
		direct := openMySQL(t, u)
		t.Cleanup(func() { require.NoError(t, direct.Close()) })
		return transporttest.Harness{
			Open: func(t testing.TB) transporttest.Process {
				u, proxy := throughProxy(t, address)
				db := openMySQL(t, u)
				broker, err := watermillsql.NewMySQL(db, config, nil)
				require.NoError(t, err)
				return transporttest.Process{Broker: broker, Cut: proxy.Cut, Restore: proxy.Restore, Release: func() { _ = db.Close() }}
			},
			RedeliverAfter: redeliverAfter,
			Malform: func(topic string) error {
				_, err := direct.Exec("INSERT INTO `watermill_" + topic + "` (uuid, metadata) VALUES ('odd', '[17]')")
				return err
			},
			Clean:       func(topics []string) { dropMySQL(t, direct, topics...) },
			NotPromised: notPromised,
		}
	})
}
