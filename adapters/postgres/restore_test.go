package postgres_test

import (
	"bytes"
	"context"
	"net/url"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/postgres"
	"github.com/sagamill/sagamill/idempotency"
	"github.com/sagamill/sagamill/internal/services"
	"github.com/sagamill/sagamill/saga"
)

// A dump that is restored elsewhere is the same store: nothing in it hangs on the server that it came from.
func TestDumpAndRestore(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	db := d.open()
	store, keys, inbox := postgres.NewStore(db), postgres.NewIdempotencyStore(db), postgres.NewInbox(db)
	keyed := start("b")
	keyed.Start.StartKey = &saga.StartKey{Key: "sk", TTL: time.Hour, Response: []byte("response")}
	outcomes(t, store, start("a"), keyed)
	outcomes(t, store, next("a", 1))
	require.NoError(t, store.Bury(t.Context(), saga.DeadLetter{ID: "letter", Metadata: map[string]string{"k": "v\x00"}}))
	claims := map[string]idempotency.Claim{}
	for _, k := range []string{"held", "released"} {
		claim, err := keys.Begin(t.Context(), requestKey(k), idempotency.Fingerprint{}, time.Hour)
		require.NoError(t, err)
		claims[k] = claim
	}
	require.NoError(t, keys.Release(t.Context(), requestKey("released"), claims["released"].Token))
	done := func(context.Context, pgx.Tx) ([]byte, error) { return []byte("done"), nil }
	_, err := inbox.Handle(t.Context(), saga.Effect{ID: "e"}, done)
	require.NoError(t, err)

	restored := d.restoreElsewhere(t)
	db = restored.open(postgres.WithoutMigrating())
	copied := postgres.NewStore(db)
	ids := []string{"a", "b"}
	want, err := store.Load(t.Context(), ids...)
	require.NoError(t, err)
	got, err := copied.Load(t.Context(), ids...)
	require.NoError(t, err)
	byID := cmpopts.SortSlices(func(a, b saga.Record) bool { return a.ID < b.ID })
	require.Empty(t, cmp.Diff(want, got, byID, cmpopts.IgnoreFields(saga.Record{}, "ReadAt")))
	wantHistory, err := store.History(t.Context(), "a", 0, 10)
	require.NoError(t, err)
	gotHistory, err := copied.History(t.Context(), "a", 0, 10)
	require.NoError(t, err)
	require.Equal(t, wantHistory, gotHistory)
	letters, err := copied.DeadLetters(t.Context(), "", 10)
	require.NoError(t, err)
	require.Equal(t, map[string]string{"k": "v\x00"}, letters[0].Metadata)

	// What had been consumed, taken or answered still is.
	again := next("b", 1)
	again.History[0].Input = "in"
	keyed.ID, keyed.Start.Key = "c", "another key"
	require.Equal(t, []saga.Outcome{saga.Committed, saga.Duplicate, saga.Exists}, outcomes(t, copied, next("a", 2), again, keyed))
	keys = postgres.NewIdempotencyStore(db)
	require.NoError(t, keys.Renew(t.Context(), requestKey("held"), claims["held"].Token, time.Hour))
	claim, err := keys.Begin(t.Context(), requestKey("released"), idempotency.Fingerprint{}, time.Hour)
	require.NoError(t, err)
	require.Greater(t, claim.Token, claims["released"].Token)
	reply, err := postgres.NewInbox(db).Handle(t.Context(), saga.Effect{ID: "e"}, func(context.Context, pgx.Tx) ([]byte, error) { return nil, saga.Reject("again?") })
	require.NoError(t, err)
	require.Equal(t, "done", string(reply.Payload))
	require.Equal(t, 2, scan[int](restored, `SELECT count(*) FROM `+restored.table("sagas")), "the view for people")
}

func requestKey(k string) idempotency.Key {
	return idempotency.Key{Tenant: "acme", Route: "POST /orders", Key: k}
}

// restoreElsewhere dumps the test's schema, and restores it in a database of its own.
func (d *database) restoreElsewhere(t *testing.T) *database {
	t.Helper()
	name := services.Name()
	d.exec(`CREATE DATABASE ` + name + ` TEMPLATE template0`)
	t.Cleanup(func() { d.exec(`DROP DATABASE ` + name + ` WITH (FORCE)`) })
	u, err := url.Parse(d.url)
	require.NoError(t, err)
	u.Path = "/" + name
	dump := run(t, nil, "pg_dump", "--schema", d.schema, "--dbname", d.url)
	run(t, dump, "psql", "--quiet", "--no-psqlrc", "--set", "ON_ERROR_STOP=1", "--dbname", u.String())
	elsewhere := &database{tb: t, url: u.String(), schema: d.schema}
	elsewhere.pool = elsewhere.newPool()
	return elsewhere
}

// run runs one of PostgreSQL's own programs.
func run(t *testing.T, stdin []byte, program string, args ...string) []byte {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		if os.Getenv("SAGAMILL_REQUIRE_SERVICES") == "1" {
			t.Fatal(err)
		}
		t.Skipf("needs %s: %v", program, err)
	}
	cmd := exec.CommandContext(t.Context(), program, args...)
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stderr = bytes.NewReader(stdin), &stderr
	out, err := cmd.Output()
	require.NoError(t, err, "%s: %s", program, stderr.String())
	return out
}

// A copy whose sequence lags behind, as logical replication leaves it, gives no fencing token twice.
func TestSequenceThatLagsBehind(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	keys := postgres.NewIdempotencyStore(d.open())
	var last idempotency.Token
	for _, k := range []string{"a", "b", "c"} {
		claim, err := keys.Begin(t.Context(), requestKey(k), idempotency.Fingerprint{}, time.Hour)
		require.NoError(t, err)
		last = claim.Token
	}
	d.exec(`ALTER SEQUENCE ` + d.table("idempotency_token") + ` RESTART`)
	keys = postgres.NewIdempotencyStore(d.open())
	claim, err := keys.Begin(t.Context(), requestKey("d"), idempotency.Fingerprint{}, time.Hour)
	require.NoError(t, err)
	require.Greater(t, claim.Token, last)
	before := claim.Token
	keys = postgres.NewIdempotencyStore(d.open())
	claim, err = keys.Begin(t.Context(), requestKey("e"), idempotency.Fingerprint{}, time.Hour)
	require.NoError(t, err)
	require.Equal(t, before+1, claim.Token, "a sequence that is right is left alone")
}

// The view shows JSON as such, and other bytes in hexadecimal digits.
func TestViewForPeople(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	store := postgres.NewStore(d.open())
	binary := start("b")
	binary.Data, binary.Engine = []byte{0xff, 0}, []byte("no JSON")
	outcomes(t, store, start("a"), binary)
	query := `SELECT id || ' ' || engine::text || ' ' || data::text || ' ' || (wake_at IS NOT NULL) FROM ` + d.table("sagas") + ` ORDER BY id`
	require.Equal(t, []string{`a {"ledger": []} {"amount": 3} true`, `b "6e6f204a534f4e" "ff00" true`}, d.strings(query))
}

func (d *database) strings(query string, args ...any) []string {
	d.tb.Helper()
	rows, err := d.pool.Query(context.Background(), query, args...)
	require.NoError(d.tb, err)
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(d.tb, err)
	return all
}
