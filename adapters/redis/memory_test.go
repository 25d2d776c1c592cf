package redis_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/idempotency"
)

// info is a number that the server tells of itself.
func (s *server) info(name string) int {
	s.tb.Helper()
	for line := range strings.Lines(s.client().Info(s.tb.Context()).Val()) {
		if value, found := strings.CutPrefix(strings.TrimSpace(line), name+":"); found {
			n, err := strconv.Atoi(value)
			require.NoError(s.tb, err)
			return n
		}
	}
	s.tb.Fatalf("the server does not tell its %s", name)
	return 0
}

// Short of memory, a server that evicts nothing refuses to claim, and lets go.
func TestMemoryIsShort(t *testing.T) {
	t.Parallel()
	s := newServer(t, "--maxmemory-policy", "noeviction")
	store := newStore(t, s.client())
	token := begin(t, store, payKey)
	released := begin(t, store, orderKey("released"))
	s.configure("maxmemory", "1")

	claim, err := store.Begin(t.Context(), orderKey("new"), payRequest, time.Minute)
	require.ErrorContains(t, err, "OOM")
	require.Zero(t, claim)
	require.ErrorContains(t, store.Renew(t.Context(), payKey, token, time.Hour), "OOM")
	require.ErrorContains(t, store.Complete(t.Context(), payKey, token, paid), "OOM")
	require.NoError(t, store.Release(t.Context(), orderKey("released"), released))
	require.Equal(t, idempotency.InFlight, find(t, store, payKey).State)

	s.configure("maxmemory", "0")
	require.NoError(t, store.Complete(t.Context(), payKey, token, paid))
	require.Greater(t, begin(t, store, orderKey("released")), released)
	require.Equal(t, idempotency.Acquired, find(t, store, orderKey("new")).State, "the refused Begin has left nothing")
}

// The policies that evict keys with a TTL only leave the store's alone, which have none.
func TestVolatilePoliciesEvictNothingOfTheStore(t *testing.T) {
	t.Parallel()
	for _, policy := range []string{"volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl"} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, "--maxmemory-policy", policy)
			client := s.client()
			store := newStore(t, client)
			const records = 50
			for i := range records {
				key := orderKey(strconv.Itoa(i))
				token := begin(t, store, key)
				if i%2 == 0 {
					require.NoError(t, store.Complete(t.Context(), key, token, paid))
				}
			}
			s.configure("maxmemory", strconv.Itoa(s.info("used_memory")+1<<20))
			for batch := range 20 {
				_, err := client.Pipelined(t.Context(), func(pipe goredis.Pipeliner) error {
					for i := range 200 {
						pipe.Set(t.Context(), fmt.Sprint("cached ", batch, i), strings.Repeat("x", 1000), time.Hour)
					}
					return nil
				})
				require.NoError(t, err)
			}
			require.Greater(t, s.info("evicted_keys"), 1000)
			for i := range records {
				want := idempotency.InFlight
				if i%2 == 0 {
					want = idempotency.Completed
				}
				require.Equal(t, want, find(t, store, orderKey(strconv.Itoa(i))).State)
			}
		})
	}
}
