package mysql_test

import (
	"bytes"
	"context"
	"database/sql"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/stretchr/testify/require"

	sagamysql "github.com/sagamill/sagamill/adapters/mysql"
	"github.com/sagamill/sagamill/idempotency"
	"github.com/sagamill/sagamill/internal/services"
	"github.com/sagamill/sagamill/saga"
)

// A dump that is restored elsewhere is the same store: nothing in it hangs on the server that it came from.
func TestDumpAndRestore(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	db := d.open()
	store, keys, inbox := sagamysql.NewStore(db), sagamysql.NewIdempotencyStore(db), sagamysql.NewInbox(db)
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
	done := func(context.Context, *sql.Tx) ([]byte, error) { return []byte("done"), nil }
	_, err := inbox.Handle(t.Context(), saga.Effect{ID: "e"}, done)
	require.NoError(t, err)

	restored := d.restoreElsewhere(t)
	db = restored.open(sagamysql.WithoutMigrating())
	copied := sagamysql.NewStore(db)
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
	keys = sagamysql.NewIdempotencyStore(db)
	require.NoError(t, keys.Renew(t.Context(), requestKey("held"), claims["held"].Token, time.Hour))
	claim, err := keys.Begin(t.Context(), requestKey("released"), idempotency.Fingerprint{}, time.Hour)
	require.NoError(t, err)
	require.Greater(t, claim.Token, claims["released"].Token)
	reply, err := sagamysql.NewInbox(db).Handle(t.Context(), saga.Effect{ID: "e"}, func(context.Context, *sql.Tx) ([]byte, error) { return nil, saga.Reject("again?") })
	require.NoError(t, err)
	require.Equal(t, "done", string(reply.Payload))
	require.Equal(t, 2, scan[int](restored, `SELECT count(*) FROM `+restored.table("sagas")), "the view for people")
}

// restoreElsewhere dumps the test's schema, and restores it as another one.
func (d *database) restoreElsewhere(t *testing.T) *database {
	t.Helper()
	elsewhere := newDatabase(t)
	elsewhere.exec(`CREATE DATABASE ` + elsewhere.schema)
	dump := d.program(t, nil, services.Program(t, "mysqldump"), d.schema)
	dump = bytes.ReplaceAll(dump, []byte(d.schema), []byte(elsewhere.schema)) // the view names its table with the schema
	d.program(t, dump, services.Program(t, "mysql"), elsewhere.schema)
	return elsewhere
}

// The view shows JSON as such, and other bytes in hexadecimal digits.
func TestViewForPeople(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	store := sagamysql.NewStore(d.open())
	binary := start("b")
	binary.Data, binary.Engine = []byte{0xff, 0}, []byte("no JSON")
	outcomes(t, store, start("a"), binary)
	query := `SELECT CONCAT_WS(' ', id, engine, data, wake_at > '2026-01-01') FROM ` + d.table("sagas") + ` ORDER BY id`
	require.Equal(t, []string{`a {"ledger":[]} {"amount":3} 1`, `b 6E6F204A534F4E FF00 1`}, d.strings(query))
}
