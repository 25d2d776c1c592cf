package mysql_test

import (
	"bytes"
	"context"
	"database/sql"
	"net"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	sagamysql "github.com/sagamill/sagamill/adapters/mysql"
	"github.com/sagamill/sagamill/idempotency"
	"github.com/sagamill/sagamill/internal/services"
	"github.com/sagamill/sagamill/saga"
)

// Processes that start at the same time do not get in each other's way.
func TestMigrationsOfManyProcessesAtOnce(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	var all sync.WaitGroup
	for range 8 {
		pool := d.newPool()
		pool.SetMaxOpenConns(1)
		all.Go(func() {
			_, err := sagamysql.Open(t.Context(), pool, sagamysql.WithSchema(d.schema), sagamysql.AcceptDataLoss())
			assert.NoError(t, err)
		})
	}
	all.Wait()
	migrations, err := sagamysql.Migrations()
	require.NoError(t, err)
	require.Equal(t, len(migrations), scan[int](d, `SELECT COUNT(*) FROM `+d.table("migrations")))
}

// A process that dies while it migrates leaves some of the tables. The next one makes the rest.
func TestMigrationsThatBrokeOff(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.open()
	for _, table := range []string{"shapes", "inbox"} {
		d.exec(`DROP TABLE ` + d.table(table))
	}
	d.exec(`DROP VIEW ` + d.table("sagas"))
	d.exec(`DELETE FROM ` + d.table("migrations"))
	tryOut(t, d.open())
}

// A DBA runs what is printed, in the client or otherwise, and the application needs no right to create anything.
func TestMigrationsByHand(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	opts := []sagamysql.Option{sagamysql.WithSchema(d.schema), sagamysql.WithoutMigrating(), sagamysql.AcceptDataLoss()}
	_, err := sagamysql.Open(t.Context(), d.pool, opts...)
	require.ErrorContains(t, err, "lacks migrations 0001_sagas, 0002_idempotency, 0003_inbox")
	require.Zero(t, scan[int](d, `SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name = ?`, d.schema), "nothing was made")

	migrations, err := sagamysql.Migrations(opts...)
	require.NoError(t, err)
	for i, m := range migrations {
		_, err := sagamysql.Open(t.Context(), d.pool, opts...)
		require.ErrorContains(t, err, m.Name)
		d.client(t, m.SQL)
		if i == 0 {
			d.client(t, m.SQL) // once more is no harm
		}
	}

	user := services.Name()
	d.exec(`CREATE USER ` + user + `@'%' IDENTIFIED BY 'secret'`)
	t.Cleanup(func() { d.exec(`DROP USER ` + user) })
	d.exec(`GRANT SELECT, INSERT, UPDATE, DELETE ON ` + d.schema + `.* TO ` + user)
	humble := d.newPool(func(c *mysql.Config) { c.User, c.Passwd, c.DBName = user, "secret", d.schema })
	db, err := sagamysql.Open(t.Context(), humble, sagamysql.AcceptDataLoss()) // in the schema that the connections use
	require.NoError(t, err)
	tryOut(t, db)
}

// client runs a script in the server's own client.
func (d *database) client(t *testing.T, script string) []byte {
	t.Helper()
	return d.program(t, []byte(script), services.Program(t, "mysql"))
}

func (d *database) program(t *testing.T, stdin []byte, path string, args ...string) []byte {
	t.Helper()
	host, port, err := net.SplitHostPort(d.server.Addr)
	require.NoError(t, err)
	args = append([]string{"--no-defaults", "--protocol=tcp", "--host=" + host, "--port=" + port, "--user=" + d.server.User, "--password=" + d.server.Passwd}, args...)
	cmd := exec.CommandContext(t.Context(), path, args...)
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stderr = bytes.NewReader(stdin), &stderr
	out, err := cmd.Output()
	require.NoError(t, err, "%s: %s", path, stderr.String())
	return out
}

// tryOut uses all that is in a database, once.
func tryOut(t *testing.T, db *sagamysql.DB) {
	t.Helper()
	store, keys, inbox := sagamysql.NewStore(db), sagamysql.NewIdempotencyStore(db), sagamysql.NewInbox(db)
	keyed := start("b")
	keyed.Start.StartKey = &saga.StartKey{Key: "sk", TTL: time.Hour}
	require.Equal(t, []saga.Outcome{saga.Committed, saga.Committed}, outcomes(t, store, start("a"), keyed))
	keyed.ID, keyed.Start.Key = "c", "another"
	require.Equal(t, []saga.Outcome{saga.Committed, saga.Exists}, outcomes(t, store, next("a", 1), keyed))
	records, _, err := store.Claim(t.Context(), saga.Claim{Definitions: []saga.DefinitionVersion{{Name: "order", Version: 1}}, Limit: 9, Hold: time.Hour})
	require.NoError(t, err)
	require.Len(t, records, 2)
	require.NoError(t, store.Touch(t.Context(), []saga.Touch{{ID: "a", Wake: saga.NoWake}}))
	_, _, err = store.Register(t.Context(), saga.Shape{Definition: "order", Version: 1}, false)
	require.NoError(t, err)
	require.NoError(t, store.Bury(t.Context(), saga.DeadLetter{ID: "letter"}))
	key := idempotency.Key{Tenant: "acme", Route: "POST /orders", Key: "k"}
	claim, err := keys.Begin(t.Context(), key, idempotency.Fingerprint{}, time.Minute)
	require.NoError(t, err)
	require.NoError(t, keys.Complete(t.Context(), key, claim.Token, idempotency.Completion{TTL: time.Hour}))
	_, err = keys.Expire(t.Context(), 10, nil)
	require.NoError(t, err)
	reply, err := inbox.Handle(t.Context(), saga.Effect{ID: "e"}, func(context.Context, *sql.Tx) ([]byte, error) { return []byte("done"), nil })
	require.NoError(t, err)
	require.Equal(t, "done", string(reply.Payload))
	_, err = inbox.Expire(t.Context(), time.Hour, 10)
	require.NoError(t, err)
}

// Names that MySQL takes in quotes only.
func TestOddNames(t *testing.T) {
	t.Parallel()
	for name, prefix := range map[string]string{
		"Sch`ema": "sagamill_", `select`: "", `two words`: "_", `ünï cödé`: "p1_", `$1`: "x", `'`: "s_", `{{instances}}`: "order", `a.b`: "q_",
		strings.Repeat("s", 37): strings.Repeat("p", 32),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDatabase(t)
			d.schema = name + d.schema
			db, err := sagamysql.Open(t.Context(), d.pool, sagamysql.WithSchema(d.schema), sagamysql.WithPrefix(prefix), sagamysql.AcceptDataLoss())
			require.NoError(t, err)
			tryOut(t, db)
			require.Equal(t, 2, scan[int](d, `SELECT COUNT(*) FROM `+quoted(d.schema)+"."+quoted(prefix+"sagas")))
		})
	}
}

func TestNamesThatAreRefused(t *testing.T) {
	t.Parallel()
	for want, opt := range map[string]sagamysql.Option{
		`a name has 1 to 64 characters`:                         sagamysql.WithSchema(""),
		`has 1 to 64`:                                           sagamysql.WithSchema(strings.Repeat("s", 65)),
		`schema "a\x00": a name is UTF-8 without NUL`:           sagamysql.WithSchema("a\x00"),
		`schema "\xff": a name is UTF-8 without NUL`:            sagamysql.WithSchema("\xff"),
		`schema "a ": a name does not end with a space`:         sagamysql.WithSchema("a "),
		`schema "Information_Schema" belongs to MySQL`:          sagamysql.WithSchema("Information_Schema"),
		`prefix "Saga_": only a-z, 0-9 and _`:                   sagamysql.WithPrefix("Saga_"),
		`prefix "1_": only`:                                     sagamysql.WithPrefix("1_"),
		"prefix \"a`; DROP TABLE orders; --\": only":            sagamysql.WithPrefix("a`; DROP TABLE orders; --"),
		`prefix "ü": only`:                                      sagamysql.WithPrefix("ü"),
		`at most 32 bytes`:                                      sagamysql.WithPrefix(strings.Repeat("p", 33)),
		`lock timeout (0s) must be at least 1ms`:                sagamysql.WithLockTimeout(0),
		`lock timeout (20ms) must be at least 1ms, acquire tim`: sagamysql.WithAcquireTimeout(-1),
	} {
		_, err := sagamysql.Migrations(opt)
		require.ErrorContains(t, err, want)
	}
	_, err := sagamysql.Open(t.Context(), nil)
	require.ErrorContains(t, err, "the pool is nil")
}

// What would not work, or not be safe, is refused when it is opened, with what to do about it.
func TestServersThatAreRefused(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	_, err := sagamysql.Open(t.Context(), d.pool, sagamysql.AcceptDataLoss())
	require.ErrorContains(t, err, "the connections use no database: name one in the DSN, or by WithSchema")
	_, err = sagamysql.Open(t.Context(), d.newPool(param("autocommit", "0")), sagamysql.WithSchema(d.schema))
	require.ErrorContains(t, err, "autocommit off")
}
