package postgres_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/postgres"
	"github.com/sagamill/sagamill/idempotency"
	"github.com/sagamill/sagamill/internal/services"
	"github.com/sagamill/sagamill/saga"
)

// Processes that start at the same time do not get in each other's way.
func TestMigrationsOfManyProcessesAtOnce(t *testing.T) {
	t.Parallel()
	for _, isolation := range []string{"read committed", "repeatable read", "serializable"} {
		t.Run(isolation, func(t *testing.T) {
			t.Parallel()
			d := newDatabase(t)
			var all sync.WaitGroup
			for range 8 {
				pool := d.newPool(func(c *pgxpool.Config) {
					c.MaxConns = 1
					c.ConnConfig.RuntimeParams["default_transaction_isolation"] = isolation
				})
				all.Go(func() {
					_, err := postgres.Open(t.Context(), pool, postgres.WithSchema(d.schema), postgres.AcceptDataLoss())
					assert.NoError(t, err)
				})
			}
			all.Wait()
			migrations, err := postgres.Migrations()
			require.NoError(t, err)
			require.Equal(t, len(migrations), scan[int](d, `SELECT count(*) FROM `+d.table("migrations")))
		})
	}
}

// A DBA runs what is printed, in psql or otherwise, and the application needs no right to create anything.
func TestMigrationsByHand(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	opts := []postgres.Option{postgres.WithSchema(d.schema), postgres.WithoutMigrating(), postgres.AcceptDataLoss()}
	_, err := postgres.Open(t.Context(), d.pool, opts...)
	require.ErrorContains(t, err, "lacks migrations 0001_sagas, 0002_idempotency, 0003_inbox")
	require.False(t, scan[bool](d, `SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)`, d.schema), "nothing was made")

	migrations, err := postgres.Migrations(opts...)
	require.NoError(t, err)
	for i, m := range migrations {
		_, err := postgres.Open(t.Context(), d.pool, opts...)
		require.ErrorContains(t, err, m.Name)
		d.exec(m.SQL)
		if i == 0 {
			_, err = d.pool.Exec(t.Context(), m.SQL)
			require.Error(t, err, "the second time")
			d.exec(`ROLLBACK`)
		}
	}

	role := services.Name()
	d.exec(`CREATE ROLE ` + role + ` LOGIN`)
	t.Cleanup(func() {
		d.exec(`DROP OWNED BY ` + role)
		d.exec(`DROP ROLE ` + role)
	})
	d.exec(`GRANT USAGE ON SCHEMA ` + d.schema + ` TO ` + role)
	d.exec(`GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA ` + d.schema + ` TO ` + role)
	d.exec(`GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA ` + d.schema + ` TO ` + role)
	d.exec(`GRANT ` + role + ` TO CURRENT_USER`)
	humble := d.newPool(func(c *pgxpool.Config) {
		c.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, `SET ROLE `+role)
			return err
		}
	})
	db, err := postgres.Open(t.Context(), humble, postgres.WithSchema(d.schema), postgres.AcceptDataLoss())
	require.NoError(t, err)
	tryOut(t, db)
}

// tryOut uses all that is in a database, once.
func tryOut(t *testing.T, db *postgres.DB) {
	t.Helper()
	store, keys, inbox := postgres.NewStore(db), postgres.NewIdempotencyStore(db), postgres.NewInbox(db)
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
	reply, err := inbox.Handle(t.Context(), saga.Effect{ID: "e"}, func(context.Context, pgx.Tx) ([]byte, error) { return []byte("done"), nil })
	require.NoError(t, err)
	require.Equal(t, "done", string(reply.Payload))
	_, err = inbox.Expire(t.Context(), time.Hour, 10)
	require.NoError(t, err)
}

// Names that PostgreSQL takes in quotes only.
func TestOddNames(t *testing.T) {
	t.Parallel()
	for name, prefix := range map[string]string{
		`Sch"ema`: "sagamill_", `select`: "", `two words`: "_", `ünï.cödé`: "p1_", `$1`: "x", `'`: "s_", `{{instances}}`: "order",
		strings.Repeat("s", 43): strings.Repeat("p", 32),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDatabase(t)
			d.schema = name[:min(len(name), 36)] + d.schema
			db, err := postgres.Open(t.Context(), d.pool, postgres.WithSchema(d.schema), postgres.WithPrefix(prefix), postgres.AcceptDataLoss())
			require.NoError(t, err)
			tryOut(t, db)
			view := pgx.Identifier{d.schema, prefix + "sagas"}.Sanitize()
			require.Equal(t, 2, scan[int](d, `SELECT count(*) FROM `+view))
		})
	}
}

func TestNamesThatAreRefused(t *testing.T) {
	t.Parallel()
	for want, opt := range map[string]postgres.Option{
		`a name has 1 to 63 bytes`:                               postgres.WithSchema(""),
		`has 1 to 63`:                                            postgres.WithSchema(strings.Repeat("s", 64)),
		`schema "a\x00": a name is UTF-8 without NUL`:            postgres.WithSchema("a\x00"),
		`schema "\xff": a name is UTF-8 without NUL`:             postgres.WithSchema("\xff"),
		`schema "pg_sagas" belongs to PostgreSQL`:                postgres.WithSchema("pg_sagas"),
		`schema "information_schema" belongs to PostgreSQL`:      postgres.WithSchema("information_schema"),
		`prefix "Saga_": only a-z, 0-9 and _`:                    postgres.WithPrefix("Saga_"),
		`prefix "1_": only`:                                      postgres.WithPrefix("1_"),
		`prefix "a\"; DROP TABLE orders; --": only`:              postgres.WithPrefix(`a"; DROP TABLE orders; --`),
		`prefix "ü": only`:                                       postgres.WithPrefix("ü"),
		`at most 32 bytes`:                                       postgres.WithPrefix(strings.Repeat("p", 33)),
		`lock timeout (0s) must be at least 1ms`:                 postgres.WithLockTimeout(0),
		`lock timeout (100ms) must be at least 1ms, acquire tim`: postgres.WithAcquireTimeout(-1),
	} {
		_, err := postgres.Migrations(opt)
		require.ErrorContains(t, err, want)
	}
	_, err := postgres.Open(t.Context(), nil)
	require.ErrorContains(t, err, "the pool is nil")
}

// A server that forgets is refused, unless that is wanted.
func TestUnsafeServer(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	pool := d.newPool(func(c *pgxpool.Config) { c.ConnConfig.RuntimeParams["synchronous_commit"] = "off" })
	_, err := postgres.Open(t.Context(), pool, postgres.WithSchema(d.schema))
	require.ErrorIs(t, err, postgres.ErrUnsafe)
	require.ErrorContains(t, err, "synchronous_commit is off")
	d.openOn(pool)
}

// Texts are UTF-8, which not every database can hold.
func TestDatabaseOfAnotherEncoding(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	name := services.Name()
	d.exec(fmt.Sprintf(`CREATE DATABASE %s TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'`, name))
	t.Cleanup(func() { d.exec(`DROP DATABASE ` + name) })
	pool := d.newPool(func(c *pgxpool.Config) { c.ConnConfig.Database = name })
	_, err := postgres.Open(t.Context(), pool, postgres.AcceptDataLoss())
	require.ErrorContains(t, err, "encoding is LATIN1, UTF8 is needed")
	pool.Close()
}
