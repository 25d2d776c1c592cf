package sqlite_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/sqlite"
	"github.com/sagamill/sagamill/idempotency"
	"github.com/sagamill/sagamill/idempotency/idempotencytest"
)

func openForKeys(t *testing.T, path string) *sqlite.DB {
	t.Helper()
	db, err := sqlite.Open(path)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

func TestIdempotencyStore(t *testing.T) {
	t.Parallel()
	idempotencytest.Run(t, func(t *testing.T, now func() time.Time) idempotency.Store {
		db := openForKeys(t, filepath.Join(t.TempDir(), "keys.db"))
		return sqlite.NewIdempotencyStore(db, sqlite.WithClock(now))
	})
}

var (
	payKey      = idempotency.Key{Tenant: "acme", Route: "POST /v1/orders/{id}/pay", Key: "abc"}
	payRequest  = idempotency.FingerprintOf([]byte("pay"))
	payResponse = idempotency.Response{Status: 202, Header: http.Header{"Content-Type": {"application/json"}}, Body: []byte(`{"state":"PAID"}`)}
)

// Two pools on one file contend like two processes do: each has a writer's queue of its own.
func TestIdempotencyStoreTwoPools(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keys.db")
	stores := []*sqlite.IdempotencyStore{
		sqlite.NewIdempotencyStore(openForKeys(t, path)), sqlite.NewIdempotencyStore(openForKeys(t, path)),
	}
	var (
		all   sync.WaitGroup
		mu    sync.Mutex
		count = map[idempotency.State]int{}
	)
	for i := range 32 {
		all.Go(func() {
			claim, err := stores[i%2].Begin(t.Context(), payKey, payRequest, time.Minute)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
			}
			count[claim.State]++
		})
	}
	all.Wait()
	require.Equal(t, map[idempotency.State]int{idempotency.Acquired: 1, idempotency.InFlight: 31}, count)
}

// What a killed process was answered is there for the next one.
func TestIdempotencyStoreSurvivesKill(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keys.db")
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestIdempotencyVictim$", "-test.v")
	cmd.Env = append(os.Environ(), "SAGAMILL_VICTIM_DB="+path)
	_, err := cmd.StdinPipe() // closed when this process ends, at which the victim ends
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	var inFlight, released idempotency.Token
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if n, _ := fmt.Sscanf(lines.Text(), "tokens %d %d", &inFlight, &released); n == 2 {
			require.NoError(t, cmd.Process.Kill()) // SIGKILL
			break
		}
	}
	require.Error(t, cmd.Wait(), "it was killed")
	require.NotZero(t, released)

	store := sqlite.NewIdempotencyStore(openForKeys(t, path))
	claim, err := store.Begin(t.Context(), payKey, payRequest, time.Minute)
	require.NoError(t, err)
	require.Equal(t, idempotency.Claim{State: idempotency.Completed, Response: payResponse}, claim)

	claim, err = store.Begin(t.Context(), victimKey("in flight"), payRequest, time.Minute)
	require.NoError(t, err)
	require.Equal(t, idempotency.InFlight, claim.State)

	claim, err = store.Begin(t.Context(), victimKey("released"), payRequest, time.Minute)
	require.NoError(t, err)
	require.Equal(t, idempotency.Acquired, claim.State)
	require.Greater(t, claim.Token, released)
	require.Greater(t, claim.Token, inFlight)

	require.NoError(t, store.Release(t.Context(), victimKey("in flight"), inFlight), "the token is good as long as nobody took the key over")
}

func victimKey(key string) idempotency.Key {
	return idempotency.Key{Tenant: "acme", Route: "POST /v1/orders", Key: key}
}

// TestIdempotencyVictim is the process that TestIdempotencyStoreSurvivesKill kills.
func TestIdempotencyVictim(t *testing.T) {
	path := os.Getenv("SAGAMILL_VICTIM_DB")
	if path == "" {
		t.Skip("only run by TestIdempotencyStoreSurvivesKill")
	}
	db, err := sqlite.Open(path)
	require.NoError(t, err)
	store := sqlite.NewIdempotencyStore(db)
	begin := func(key idempotency.Key) idempotency.Token {
		claim, err := store.Begin(t.Context(), key, payRequest, time.Hour)
		require.NoError(t, err)
		require.Equal(t, idempotency.Acquired, claim.State)
		return claim.Token
	}
	completion := idempotency.Completion{Response: payResponse, TTL: time.Hour}
	require.NoError(t, store.Complete(t.Context(), payKey, begin(payKey), completion))
	inFlight := begin(victimKey("in flight"))
	released := begin(victimKey("released"))
	require.NoError(t, store.Release(t.Context(), victimKey("released"), released))
	fmt.Printf("tokens %d %d\n", inFlight, released)
	_, _ = io.Copy(io.Discard, os.Stdin) // until it is killed
}

func TestIdempotencyStoreAway(t *testing.T) {
	t.Parallel()
	db, err := sqlite.Open(filepath.Join(t.TempDir(), "keys.db"))
	require.NoError(t, err)
	require.NoError(t, db.Close())
	store := sqlite.NewIdempotencyStore(db)
	claim, err := store.Begin(t.Context(), payKey, payRequest, time.Minute)
	require.Error(t, err)
	require.Zero(t, claim)
	require.NotErrorIs(t, store.Renew(t.Context(), payKey, 1, time.Minute), idempotency.ErrFenced)
	_, err = store.Expire(t.Context(), 1, func(context.Context, []string) ([]string, error) { return nil, nil })
	require.Error(t, err)
}
