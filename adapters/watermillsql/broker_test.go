package watermillsql_test

import (
	"context"
	"database/sql"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/watermillsql"
	"github.com/sagamill/sagamill/internal/services"
)

// fixture is a broker on one of the databases.
type fixture struct {
	*watermillsql.Broker
	db    *sql.DB
	topic string // of this test
	count func(table string) int
}

// onEach runs a test on each database.
func onEach(t *testing.T, config watermillsql.Config, test func(t *testing.T, f fixture)) {
	t.Helper()
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		db := openPostgres(t, services.Postgres.URL(t))
		test(t, newFixture(t, db, `"`, watermillsql.NewPostgres, config, dropPostgres))
	})
	t.Run("mysql", func(t *testing.T) {
		t.Parallel()
		u, err := url.Parse(services.MySQL.URL(t))
		require.NoError(t, err)
		test(t, newFixture(t, openMySQL(t, u), "`", watermillsql.NewMySQL, config, dropMySQL))
	})
}

func newFixture(t *testing.T, db *sql.DB, quote string,
	open func(*sql.DB, watermillsql.Config, watermill.LoggerAdapter) (*watermillsql.Broker, error), config watermillsql.Config,
	drop func(testing.TB, *sql.DB, ...string),
) fixture {
	t.Helper()
	b, err := open(db, config, nil)
	require.NoError(t, err)
	topic := services.Name()
	t.Cleanup(func() {
		require.NoError(t, b.Close())
		drop(t, db, topic)
		require.NoError(t, db.Close())
	})
	return fixture{b, db, topic, func(table string) (n int) {
		t.Helper()
		require.NoError(t, db.QueryRow("SELECT count(*) FROM "+quote+table+quote).Scan(&n))
		return n
	}}
}

func (f fixture) subscribe(t *testing.T, group string) (<-chan *message.Message, message.Subscriber) {
	t.Helper()
	s, err := f.Subscriber(group)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	messages, err := s.Subscribe(t.Context(), f.topic)
	require.NoError(t, err)
	return messages, s
}

func newMessage(payload string) *message.Message {
	return message.NewMessage(watermill.NewUUID(), []byte(payload))
}

// receive takes the next message, which must come.
func receive(t *testing.T, messages <-chan *message.Message) *message.Message {
	t.Helper()
	select {
	case msg, ok := <-messages:
		require.True(t, ok, "the subscription has ended")
		return msg
	case <-time.After(time.Minute):
		require.FailNow(t, "no message came")
		return nil
	}
}

func TestPublishInTheUsersTransaction(t *testing.T) {
	t.Parallel()
	onEach(t, config, func(t *testing.T, f fixture) {
		require.NoError(t, f.CreateTopics(t.Context(), f.topic))
		messages, _ := f.subscribe(t, "group")
		for _, outcome := range []string{"rolled back", "committed"} {
			tx, err := f.db.BeginTx(t.Context(), nil)
			require.NoError(t, err)
			p := f.InTx(tx)
			require.NoError(t, p.Publish(f.topic, newMessage(outcome), newMessage(outcome)))
			require.NoError(t, p.Close(), "which leaves the transaction open")
			if outcome == "committed" {
				require.NoError(t, tx.Commit())
			} else {
				require.NoError(t, tx.Rollback())
			}
		}
		for range 2 {
			msg := receive(t, messages)
			require.Equal(t, "committed", string(msg.Payload))
			msg.Ack()
		}
	})
}

func TestPublishInAPgxTransaction(t *testing.T) {
	t.Parallel()
	pool := openPool(t, services.Postgres.URL(t))
	t.Cleanup(pool.Close)
	db := openPostgres(t, services.Postgres.URL(t))
	b, err := watermillsql.NewPgx(pool, config, nil)
	require.NoError(t, err)
	topic := services.Name()
	t.Cleanup(func() {
		require.NoError(t, b.Close())
		dropPostgres(t, db, topic)
		require.NoError(t, db.Close())
	})
	require.NoError(t, b.CreateTopics(t.Context(), topic))
	messages, _ := fixture{Broker: b, topic: topic}.subscribe(t, "group")
	errNo := errors.New("no")
	for _, answer := range []error{errNo, nil} {
		err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
			what := "rolled back"
			if answer == nil {
				what = "committed"
			}
			return errors.Join(b.InPgxTx(tx).Publish(topic, newMessage(what)), answer)
		})
		require.ErrorIs(t, err, answer)
	}
	msg := receive(t, messages)
	require.Equal(t, "committed", string(msg.Payload))
	msg.Ack()
}

// A subscriber that stands by takes over at once from one that closes.
func TestStandbyTakesOver(t *testing.T) {
	t.Parallel()
	onEach(t, watermillsql.Config{RedeliverAfter: time.Hour}, func(t *testing.T, f fixture) {
		first, s := f.subscribe(t, "group")
		require.NoError(t, f.Publish(f.topic, newMessage("a")))
		receive(t, first)
		second, _ := f.subscribe(t, "group")
		select {
		case <-second:
			require.FailNow(t, "two of one group have a message in flight")
		case <-time.After(300 * time.Millisecond):
		}
		require.NoError(t, s.Close())
		receive(t, second).Ack()
	})
}

// Order is promised where nothing is redelivered: within one publisher.
func TestMessagesComeInOrder(t *testing.T) {
	t.Parallel()
	onEach(t, config, func(t *testing.T, f fixture) {
		messages, _ := f.subscribe(t, "group")
		for _, p := range []string{"1", "2", "3"} {
			require.NoError(t, f.Publish(f.topic, newMessage(p+"a"), newMessage(p+"b")))
		}
		for _, want := range []string{"1a", "1b", "2a", "2b", "3a", "3b"} {
			msg := receive(t, messages)
			require.Equal(t, want, string(msg.Payload))
			msg.Ack()
		}
	})
}

// Groups whose names look alike to a database are groups of their own.
func TestGroupsAreToldApart(t *testing.T) {
	t.Parallel()
	onEach(t, config, func(t *testing.T, f fixture) {
		var all []<-chan *message.Message
		for _, group := range []string{"a", "A", "ä", "a ", " ", "\t"} {
			messages, _ := f.subscribe(t, group)
			all = append(all, messages)
		}
		require.NoError(t, f.Publish(f.topic, newMessage("p")))
		for _, messages := range all {
			receive(t, messages).Ack()
		}
	})
}

// A message is handed on while the one before is not acknowledged yet, and comes again if it is not by the end: not so what was.
func TestMessagesAreHandedOnAhead(t *testing.T) {
	t.Parallel()
	db := openPostgres(t, services.Postgres.URL(t))
	f := newFixture(t, db, `"`, watermillsql.NewPostgres, config, dropPostgres)
	messages, s := f.subscribe(t, "group")
	require.NoError(t, f.Publish(f.topic, newMessage("first"), newMessage("second"), newMessage("third")))
	first, second, third := receive(t, messages), receive(t, messages), receive(t, messages)
	require.Equal(t, []string{"first", "second", "third"}, []string{string(first.Payload), string(second.Payload), string(third.Payload)})
	third.Ack() // which does not count before the second one is
	first.Ack()
	require.NoError(t, s.Close())
	messages, _ = f.subscribe(t, "group")
	for _, payload := range []string{"second", "third"} {
		msg := receive(t, messages)
		require.Equal(t, payload, string(msg.Payload))
		msg.Ack()
	}
}

// PostgreSQL shows a message when no older transaction is under way that has written anything. One that waits for an acknowledgement
// has not.
func TestUnacknowledgedMessageHoldsUpNoOtherTopic(t *testing.T) {
	t.Parallel()
	slow := config
	slow.RedeliverAfter = time.Hour
	open := func() fixture {
		return newFixture(t, openPostgres(t, services.Postgres.URL(t)), `"`, watermillsql.NewPostgres, slow, dropPostgres)
	}
	one, other := open(), open()
	held, _ := one.subscribe(t, "group")
	messages, _ := other.subscribe(t, "group")
	require.NoError(t, one.Publish(one.topic, newMessage("held")))
	msg := receive(t, held)
	require.NoError(t, other.Publish(other.topic, newMessage("passes")))
	receive(t, messages).Ack()
	msg.Ack()
}

func TestMalformedEntryIsHandedOn(t *testing.T) {
	t.Parallel()
	onEach(t, config, func(t *testing.T, f fixture) {
		messages, _ := f.subscribe(t, "group")
		msg := newMessage("payload")
		msg.Metadata = nil
		require.NoError(t, f.Publish(f.topic, msg))
		plain := receive(t, messages)
		require.NotNil(t, plain.Metadata, "nobody expects nil")
		plain.Ack()
		const odd = "INSERT INTO watermill_TOPIC (uuid, metadata COLUMN) VALUES ('odd', '[17]' VALUE)"
		column, value := "", ""
		if strings.HasSuffix(t.Name(), "postgres") {
			column, value = ", transaction_id", ", pg_current_xact_id()"
		}
		_, err := f.db.Exec(strings.NewReplacer("TOPIC", f.topic, "COLUMN", column, "VALUE)", value+")").Replace(odd))
		require.NoError(t, err)
		got := receive(t, messages)
		require.Equal(t, "odd", got.UUID)
		require.NotEmpty(t, got.Metadata.Get(watermillsql.MalformedKey))
		got.Ack()
	})
}

func TestWhatAllGroupsHaveAcknowledgedIsTrimmed(t *testing.T) {
	t.Parallel()
	trimming := config
	trimming.TrimInterval = 10 * time.Millisecond
	onEach(t, trimming, func(t *testing.T, f fixture) {
		fast, _ := f.subscribe(t, "fast")
		slow, _ := f.subscribe(t, "slow")
		const count = 10
		for range count {
			require.NoError(t, f.Publish(f.topic, newMessage("p")))
		}
		for range count {
			receive(t, fast).Ack()
		}
		for range 4 {
			receive(t, slow).Ack()
		}
		table := "watermill_" + f.topic
		require.Eventually(t, func() bool { return f.count(table) == count-4 }, time.Minute, 10*time.Millisecond)
		for range count - 4 {
			receive(t, slow).Ack()
		}
		require.Eventually(t, func() bool { return f.count(table) == 0 }, time.Minute, 10*time.Millisecond)
	})
}

func TestNamesAreValidated(t *testing.T) {
	t.Parallel()
	onEach(t, config, func(t *testing.T, f fixture) {
		for _, topic := range []string{"", "a b", `a"b`, "a`b", "a;b", "hôtel", strings.Repeat("x", 46), "offsets_orders"} {
			require.Error(t, f.Publish(topic, newMessage("p")), "topic %q", topic)
			require.Error(t, f.CreateTopics(context.Background(), topic), "topic %q", topic)
			s, err := f.Subscriber("group")
			require.NoError(t, err)
			_, err = s.Subscribe(t.Context(), topic)
			require.Error(t, err, "topic %q", topic)
			require.NoError(t, s.Close())
		}
		for _, group := range []string{"", strings.Repeat("x", 256), "a\x00b"} {
			_, err := f.Subscriber(group)
			require.Error(t, err, "group %q", group)
		}
		require.NoError(t, f.Publish(f.topic), "nothing to publish")
	})
	_, err := watermillsql.NewPostgres(nil, config, nil)
	require.Error(t, err)
	_, err = watermillsql.NewPgx(nil, config, nil)
	require.Error(t, err)
	_, err = watermillsql.NewMySQL(nil, config, nil)
	require.Error(t, err)
	require.Error(t, watermillsql.Config{PollInterval: -1}.Validate())
	require.Error(t, watermillsql.Config{RedeliverAfter: -1}.Validate())
}
