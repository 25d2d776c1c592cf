package redis_test

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/redis"
	"github.com/sagamill/sagamill/idempotency"
)

// switched is a client of the server that address has at the time, as one that follows a failover.
func switched(tb testing.TB, address *atomic.Pointer[server]) *goredis.Client {
	tb.Helper()
	client := goredis.NewClient(&goredis.Options{
		Addr: "switched", ContextTimeoutEnabled: true,
		Dialer: func(ctx context.Context, _, _ string) (net.Conn, error) {
			o := address.Load().options()
			return (&net.Dialer{}).DialContext(ctx, o.Network, o.Addr)
		},
	})
	tb.Cleanup(func() { require.NoError(tb, client.Close()) })
	return client
}

// Whatever Redis forgets, no token comes again: neither in the process that had it, nor in one that knows nothing.
func TestTokensGrowWhateverIsForgotten(t *testing.T) {
	t.Parallel()
	for name, forget := range map[string]func(t *testing.T, s *server){
		"the server is emptied":      func(t *testing.T, s *server) { require.NoError(t, s.client().FlushAll(t.Context()).Err()) },
		"it is killed, and is empty": func(_ *testing.T, s *server) { s.kill(); s.start() },
		"it is killed, and falls back to a snapshot": func(t *testing.T, s *server) {
			saved, err := os.ReadFile(s.file("early.rdb"))
			require.NoError(t, err)
			s.kill()
			require.NoError(t, os.WriteFile(s.file("dump.rdb"), saved, 0o600))
			s.start()
		},
		"the counter is evicted": func(t *testing.T, s *server) {
			_, _, counter := redis.Keys("sagamill:idempotency")
			require.EqualValues(t, 1, s.client().Del(t.Context(), counter).Val())
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			client := s.client()
			store := newStore(t, client)
			var last idempotency.Token
			next := func(store idempotency.Store, key string) {
				t.Helper()
				token := begin(t, store, orderKey(key))
				require.Greater(t, token, last)
				last = token
			}
			next(store, "1")
			require.NoError(t, client.Save(t.Context()).Err())
			saved, err := os.ReadFile(s.file("dump.rdb"))
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(s.file("early.rdb"), saved, 0o600))
			require.NoError(t, os.Remove(s.file("dump.rdb")))
			next(store, "2")
			next(store, "3")
			require.NoError(t, store.Release(t.Context(), orderKey("3"), last))
			released := last

			forget(t, s)
			next(newStore(t, s.client()), "3")
			next(store, "4")
			require.ErrorIs(t, store.Complete(t.Context(), orderKey("3"), released, paid), idempotency.ErrFenced)
		})
	}
}

// A replica that took over without the last tokens goes on above them, as the clocks of both are about the same.
func TestTokensGrowAcrossAFailoverThatLosesWrites(t *testing.T) {
	t.Parallel()
	primary, replica := newTCPServer(t), newTCPServer(t)
	replica.replicate(primary)
	var current atomic.Pointer[server]
	current.Store(primary)
	store := newStore(t, switched(t, &current))
	before := begin(t, store, orderKey("known to both"))
	require.EqualValues(t, 1, primary.client().Do(t.Context(), "wait", 1, 0).Val()) // of another connection, but the offset is the server's
	await(t, "the replica has it", func() bool { return replica.client().DBSize(t.Context()).Val() > 0 })
	replica.promote() // from here on it hears nothing
	lost := begin(t, store, orderKey("lost"))

	primary.kill()
	current.Store(replica)
	after := begin(t, newStore(t, switched(t, &current)), orderKey("lost"))
	require.Greater(t, after, lost)
	require.Greater(t, lost, before)
	require.ErrorIs(t, store.Complete(t.Context(), orderKey("lost"), lost, paid), idempotency.ErrFenced)
	require.NoError(t, store.Complete(t.Context(), orderKey("known to both"), before, paid))
}

// Where the clock falls back as well, the process that had the greater token goes on above it, and with it all others.
func TestTokensGrowThoughTheClockFellBack(t *testing.T) {
	t.Parallel()
	client := sharedClient(t)
	prefix := newPrefix(t, client)
	setTime := func(at time.Time) {
		t.Helper()
		require.NoError(t, client.Set(t.Context(), redis.ClockKey(prefix), at.UnixMicro(), 0).Err())
	}
	open := func() *redis.IdempotencyStore { return newStore(t, client, redis.WithPrefix(prefix), redis.OnClock()) }
	noon := time.Date(2026, time.March, 29, 12, 0, 0, 0, time.UTC)
	store := open()
	setTime(noon)
	before := begin(t, store, orderKey("1"))
	require.EqualValues(t, noon.UnixMicro(), before)
	setTime(noon.Add(-time.Hour))
	counted := begin(t, open(), orderKey("2"))
	require.EqualValues(t, before+1, counted, "the counter knows")

	_, _, counter := redis.Keys(prefix)
	require.NoError(t, client.Del(t.Context(), counter).Err())
	require.EqualValues(t, before+1, begin(t, store, orderKey("3")), "the process knows")
	require.EqualValues(t, before+2, begin(t, open(), orderKey("4")), "the counter knows again")
}

func TestForgettingIsLogged(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	var log bytes.Buffer
	store := newStore(t, s.client(), redis.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	begin(t, store, orderKey("1"))
	log.Reset()
	begin(t, store, orderKey("2"))
	require.Empty(t, log.String())
	require.NoError(t, s.client().FlushAll(t.Context()).Err())
	begin(t, store, orderKey("1"))
	require.Contains(t, log.String(), "the server has forgotten records that it had")
	log.Reset()
	begin(t, store, orderKey("2"))
	require.Empty(t, log.String(), "once is enough")
}

// With appendonly, what was answered is there after a SIGKILL.
func TestIdempotencyStoreSurvivesKill(t *testing.T) {
	t.Parallel()
	s := newServer(t, "--appendonly", "yes", "--appendfsync", "always")
	store := newStore(t, s.client())
	require.NoError(t, store.Complete(t.Context(), payKey, begin(t, store, payKey), paid))
	inFlight := begin(t, store, orderKey("in flight"))
	released := begin(t, store, orderKey("released"))
	require.NoError(t, store.Release(t.Context(), orderKey("released"), released))
	s.kill()
	_, err := store.Begin(t.Context(), payKey, payRequest, time.Minute)
	require.Error(t, err)
	s.start()

	require.Equal(t, idempotency.Claim{State: idempotency.Completed, Response: payResponse}, find(t, store, payKey))
	require.Equal(t, idempotency.InFlight, find(t, store, orderKey("in flight")).State)
	claim := find(t, store, orderKey("released"))
	require.Equal(t, idempotency.Acquired, claim.State)
	require.Greater(t, claim.Token, released)
	require.NoError(t, store.Release(t.Context(), orderKey("in flight"), inFlight), "the token is good as long as nobody took the key over")
}
