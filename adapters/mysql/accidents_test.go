package mysql_test

import (
	"context"
	"database/sql"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	sagamysql "github.com/sagamill/sagamill/adapters/mysql"
	"github.com/sagamill/sagamill/idempotency"
	"github.com/sagamill/sagamill/saga"
)

// accident makes the server give up the next n transactions that write to a table. The counter is of an engine that rolls nothing
// back.
func (d *database) accident(table string, number, n int) {
	d.tb.Helper()
	counter := d.table("accidents_of_" + table)
	d.exec(`CREATE TABLE IF NOT EXISTS ` + counter + ` (left_over INT NOT NULL) ENGINE = MyISAM`)
	d.exec(`DELETE FROM ` + counter)
	d.exec(`INSERT INTO `+counter+` VALUES (?)`, n)
	for _, event := range []string{"INSERT", "UPDATE", "DELETE"} {
		trigger := quoted(d.schema) + "." + quoted("accident_of_"+table+event)
		d.exec(`DROP TRIGGER IF EXISTS ` + trigger)
		d.exec(fmt.Sprintf(`CREATE TRIGGER %s BEFORE %s ON %s FOR EACH ROW BEGIN
			IF (SELECT left_over FROM %s) > 0 THEN
				UPDATE %s SET left_over = left_over - 1;
				SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = %d, MESSAGE_TEXT = 'an accident';
			END IF;
		END`, trigger, event, d.table(table), counter, counter, number))
	}
}

// Deadlocks are the database's own affair: nobody hears of them.
func TestAccidents(t *testing.T) {
	t.Parallel()
	for _, number := range []int{1213, 1020} {
		t.Run(fmt.Sprint(number), func(t *testing.T) {
			t.Parallel()
			d := newDatabase(t)
			db := d.open()
			store, keys, inbox := sagamysql.NewStore(db), sagamysql.NewIdempotencyStore(db), sagamysql.NewInbox(db)
			accident := func(table string) { d.accident(table, number, 3) }

			accident("instances")
			require.Equal(t, []saga.Outcome{saga.Committed, saga.Committed}, outcomes(t, store, start("a"), start("b")))
			accident("history")
			require.Equal(t, []saga.Outcome{saga.Committed, saga.Committed, saga.Conflict}, outcomes(t, store, next("a", 1), start("c"), next("d", 1)))
			accident("start_keys")
			keyed := start("e")
			keyed.Start.StartKey = &saga.StartKey{Key: "sk"}
			require.Equal(t, []saga.Outcome{saga.Committed}, outcomes(t, store, keyed))
			accident("instances")
			claim := saga.Claim{Definitions: []saga.DefinitionVersion{{Name: "order", Version: 1}}, Hold: time.Hour}
			records, _, err := store.Claim(t.Context(), claim)
			require.NoError(t, err)
			require.Len(t, records, 4)
			accident("instances")
			require.NoError(t, store.Touch(t.Context(), []saga.Touch{{ID: "a"}}))
			accident("shapes")
			_, live, err := store.Register(t.Context(), saga.Shape{Definition: "order", Version: 1}, false)
			require.NoError(t, err)
			require.Equal(t, 4, live)
			accident("dead_letters")
			require.NoError(t, store.Bury(t.Context(), saga.DeadLetter{ID: "l"}))

			key := idempotency.Key{Tenant: "acme", Route: "r", Key: "k"}
			for range 2 {
				accident("idempotency")
				c, err := keys.Begin(t.Context(), key, idempotency.Fingerprint{}, time.Minute)
				require.NoError(t, err)
				accident("idempotency")
				require.NoError(t, keys.Renew(t.Context(), key, c.Token, time.Minute))
				accident("idempotency")
				require.NoError(t, keys.Release(t.Context(), key, c.Token))
			}

			d.withWrites()
			accident("inbox")
			d.accident("writes", number, 2)
			runs := 0
			reply, err := inbox.Handle(t.Context(), saga.Effect{ID: "e"}, func(ctx context.Context, tx *sql.Tx) ([]byte, error) {
				runs++
				return []byte("done"), d.write(ctx, tx, "x")
			})
			require.NoError(t, err)
			require.Equal(t, "done", string(reply.Payload))
			require.Equal(t, 3, runs)
		})
	}
}

// Where accidents do not end, a transition is Busy, and comes again. It is never rejected, and never counts as failed.
func TestAccidentsWithoutEnd(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	store := sagamysql.NewStore(d.open())
	outcomes(t, store, start("a"))
	d.accident("history", 1213, 1_000_000)
	require.Equal(t, []saga.Outcome{saga.Busy, saga.Busy}, outcomes(t, store, next("a", 1), start("b")))
	d.accident("history", 1213, 0)
	require.Equal(t, []saga.Outcome{saga.Committed, saga.Committed}, outcomes(t, store, next("a", 1), start("b")))
}

// A pool without a free connection is an error that says so. Nothing of ours needs two at a time.
func TestPoolExhausted(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	pool := d.newPool()
	pool.SetMaxOpenConns(1)
	db := d.openOn(pool, sagamysql.WithAcquireTimeout(2*time.Second))
	tryOut(t, db)
	store := sagamysql.NewStore(db)
	conn, err := pool.Conn(t.Context())
	require.NoError(t, err)
	_, err = store.Commit(t.Context(), []saga.Transition{next("b", 1)})
	require.ErrorIs(t, err, sagamysql.ErrNoConnection)
	require.ErrorContains(t, err, "1 of at most 1 are in use")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = store.Load(ctx, "b")
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, sagamysql.ErrNoConnection)
	require.NoError(t, conn.Close())
	require.Equal(t, []saga.Outcome{saga.Committed}, outcomes(t, store, next("b", 1)))
}
