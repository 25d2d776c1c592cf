package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/postgres"
	"github.com/sagamill/sagamill/idempotency"
	"github.com/sagamill/sagamill/saga"
	"github.com/sagamill/sagamill/saga/storetest"
)

// accident makes the server give up the next n transactions that write to a table. Sequences are not rolled back.
func (d *database) accident(table, state string, n int) {
	d.tb.Helper()
	name := pgx.Identifier{d.schema, "accident_of_" + table}.Sanitize()
	d.exec(`DROP SEQUENCE IF EXISTS ` + name)
	d.exec(`CREATE SEQUENCE ` + name)
	d.exec(fmt.Sprintf(`CREATE OR REPLACE FUNCTION %s() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		IF nextval('%s') <= %d THEN RAISE EXCEPTION 'an accident' USING ERRCODE = '%s'; END IF;
		RETURN coalesce(NEW, OLD);
	END $$`, name, name, n, state))
	d.exec(`CREATE OR REPLACE TRIGGER accident BEFORE INSERT OR UPDATE OR DELETE ON ` + d.table(table) + ` FOR EACH ROW EXECUTE FUNCTION ` + name + `()`)
}

// Serialization failures and deadlocks are the database's own affair: nobody hears of them.
func TestAccidents(t *testing.T) {
	t.Parallel()
	for _, state := range []string{"40001", "40P01"} {
		t.Run(state, func(t *testing.T) {
			t.Parallel()
			d := newDatabase(t)
			db := d.open()
			store, keys, inbox := postgres.NewStore(db), postgres.NewIdempotencyStore(db), postgres.NewInbox(db)
			accident := func(table string) { d.accident(table, state, 3) }

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

			accident("inbox")
			runs := 0
			reply, err := inbox.Handle(t.Context(), saga.Effect{ID: "e"}, func(context.Context, pgx.Tx) ([]byte, error) {
				runs++
				return []byte("done"), nil
			})
			require.NoError(t, err)
			require.Equal(t, "done", string(reply.Payload))
			require.Equal(t, 4, runs)
		})
	}
}

// Where accidents do not end, a transition is Busy, and comes again. It is never rejected, and never counts as failed.
func TestAccidentsWithoutEnd(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	store := postgres.NewStore(d.open())
	outcomes(t, store, start("a"))
	d.accident("history", "40001", 1_000_000)
	require.Equal(t, []saga.Outcome{saga.Busy, saga.Busy}, outcomes(t, store, next("a", 1), start("b")))
	d.accident("history", "40001", 0)
	require.Equal(t, []saga.Outcome{saga.Committed, saga.Committed}, outcomes(t, store, next("a", 1), start("b")))
}

// Users may have made serializable the default of their sessions.
func TestSerializableByDefault(t *testing.T) {
	t.Parallel()
	d := newDatabase(t).withClocks()
	d.run(t, []string{"concurrency/"}, func(tb testing.TB) storetest.Harness {
		d := d.of(tb)
		clock := d.newClock()
		pool := d.newPool(clock.sees, func(c *pgxpool.Config) {
			c.ConnConfig.RuntimeParams["default_transaction_isolation"] = "serializable"
		})
		return storetest.Harness{Store: postgres.NewStore(d.openOn(pool)), Advance: clock.advance}
	})
}

// The ways in which pgx can talk to the server, some of which are for poolers in between.
func TestExecModes(t *testing.T) {
	t.Parallel()
	for _, mode := range []pgx.QueryExecMode{
		pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol,
	} {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			d := newDatabase(t)
			tryOut(t, d.openOn(d.newPool(func(c *pgxpool.Config) { c.ConnConfig.DefaultQueryExecMode = mode })))
		})
	}
}

// A session that has forgotten what was prepared learns it again.
func TestSessionThatForgets(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	pool := d.newPool(func(c *pgxpool.Config) { c.MaxConns = 1 })
	store := postgres.NewStore(d.openOn(pool))
	require.Equal(t, []saga.Outcome{saga.Committed}, outcomes(t, store, start("a")))
	_, err := pool.Exec(t.Context(), `DEALLOCATE ALL`)
	require.NoError(t, err)
	require.Equal(t, []saga.Outcome{saga.Committed}, outcomes(t, store, next("a", 1)))
}

// A pool without a free connection is an error that says so. Nothing of ours needs two at a time.
func TestPoolExhausted(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	pool := d.newPool(func(c *pgxpool.Config) { c.MaxConns = 1 })
	db := d.openOn(pool, postgres.WithAcquireTimeout(2*time.Second))
	tryOut(t, db)
	store := postgres.NewStore(db)
	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	_, err = store.Commit(t.Context(), []saga.Transition{next("b", 1)})
	require.ErrorIs(t, err, postgres.ErrNoConnection)
	require.ErrorContains(t, err, "1 of at most 1 are in use")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = store.Load(ctx, "b")
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, postgres.ErrNoConnection)
	conn.Release()
	require.Equal(t, []saga.Outcome{saga.Committed}, outcomes(t, store, next("b", 1)))
}

// A batch that is too large for one transaction goes in several.
func TestLargeBatch(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	store := postgres.NewStore(d.open())
	var batch []saga.Transition
	for i := range 40 {
		s := start(fmt.Sprintf("i%02d", i))
		s.Data = make([]byte, 1<<20)
		batch = append(batch, s)
	}
	for _, o := range outcomes(t, store, batch...) {
		require.Equal(t, saga.Committed, o)
	}
	require.Equal(t, 40, scan[int](d, `SELECT count(*) FROM `+d.table("instances")+` WHERE length(data) = 1 << 20`))
	require.Greater(t, scan[int](d, `SELECT count(DISTINCT created_at) FROM `+d.table("instances")), 1)
}

// tracer notes what a pool's tracer is told of batches.
type tracer struct {
	mu     sync.Mutex
	events []string
}

func (tr *tracer) note(format string, args ...any) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.events = append(tr.events, fmt.Sprintf(format, args...))
}

func (tr *tracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}
func (tr *tracer) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (tr *tracer) TraceBatchStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceBatchStartData) context.Context {
	tr.note("start of %d", data.Batch.Len())
	return ctx
}

func (tr *tracer) TraceBatchQuery(_ context.Context, _ *pgx.Conn, data pgx.TraceBatchQueryData) {
	verb, _, _ := strings.Cut(data.SQL, " ")
	tr.note("%s: %v", verb, data.Err)
}

func (tr *tracer) TraceBatchEnd(_ context.Context, _ *pgx.Conn, data pgx.TraceBatchEndData) {
	tr.note("end: %v", data.Err)
}

// The tracer of the user's pool sees what a commit sends.
func TestTracerSeesCommits(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	tr := &tracer{}
	store := postgres.NewStore(d.openOn(d.newPool(func(c *pgxpool.Config) { c.ConnConfig.Tracer = tr })))
	tr.events = nil
	require.Equal(t, []saga.Outcome{saga.Committed}, outcomes(t, store, start("a")))
	require.Equal(t, []string{"start of 4", "begin: <nil>", "SELECT: <nil>", "WITH: <nil>", "commit: <nil>", "end: <nil>"}, tr.events)
}

// Each command's transaction ends once: a server complains of the second time.
func TestCommandsEndTheirTransactionsOnce(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	var notices []string
	pool := d.newPool(func(c *pgxpool.Config) {
		c.ConnConfig.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { notices = append(notices, n.Message) }
	})
	inbox := postgres.NewInbox(d.openOn(pool))
	notices = nil
	for _, answer := range []error{nil, saga.Reject("no"), errors.New("not now")} {
		_, _ = inbox.Handle(t.Context(), saga.Effect{ID: fmt.Sprint(answer)}, func(context.Context, pgx.Tx) ([]byte, error) { return nil, answer })
	}
	require.Empty(t, notices)
}

// After a restart of the server all connections of a pool are dead, however many there are: who reads does not notice.
func TestReadAfterTheServersRestart(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	name := d.schema + " many"
	pool := d.newPool(func(c *pgxpool.Config) {
		c.MaxConns, c.ConnConfig.RuntimeParams["application_name"] = 12, name
	})
	store := postgres.NewStore(d.openOn(pool))
	require.Equal(t, []saga.Outcome{saga.Committed}, outcomes(t, store, start("a")))
	var conns []*pgxpool.Conn
	for range 12 {
		c, err := pool.Acquire(t.Context())
		require.NoError(t, err)
		conns = append(conns, c)
	}
	for _, c := range conns {
		c.Release()
	}
	require.Equal(t, 12, scan[int](d, `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = $1`, name))
	records, err := store.Load(t.Context(), "a")
	require.NoError(t, err)
	require.Len(t, records, 1)
}
