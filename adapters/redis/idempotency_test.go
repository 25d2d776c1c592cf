package redis_test

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/redis"
	"github.com/sagamill/sagamill/idempotency"
	"github.com/sagamill/sagamill/idempotency/idempotencytest"
	"github.com/sagamill/sagamill/internal/services"
)

func TestIdempotencyStore(t *testing.T) {
	t.Parallel()
	idempotencytest.Run(t, func(t *testing.T, now func() time.Time) idempotency.Store {
		client := sharedClient(t)
		return newTimedStore(t, client, newPrefix(t, client), now)
	})
}

func TestIdempotencyStoreInACluster(t *testing.T) {
	t.Parallel()
	client, _ := newCluster(t)
	t.Run("suite", func(t *testing.T) { // until it is over the cluster is there
		idempotencytest.Run(t, func(t *testing.T, now func() time.Time) idempotency.Store {
			return newTimedStore(t, client, services.Name(), now)
		})
	})
}

func TestIdempotencyStoreThatWaitsForReplicas(t *testing.T) {
	t.Parallel()
	primary, replica := newTCPServer(t), newTCPServer(t)
	replica.replicate(primary)
	client := primary.client()
	t.Run("suite", func(t *testing.T) {
		idempotencytest.Run(t, func(t *testing.T, now func() time.Time) idempotency.Store {
			return newTimedStore(t, client, services.Name(), now, redis.WaitReplicas(1, 4*time.Second))
		})
	})
}

// newStore makes a store whose warnings nobody reads.
func newStore(tb testing.TB, client goredis.UniversalClient, opts ...redis.Option) *redis.IdempotencyStore {
	tb.Helper()
	store, err := redis.NewIdempotencyStore(tb.Context(), client, append([]redis.Option{redis.WithLogger(silent)}, opts...)...)
	require.NoError(tb, err)
	return store
}

// timedStore is a store on whose server it is the time that now says.
type timedStore struct {
	*redis.IdempotencyStore
	set func(context.Context) error
}

func newTimedStore(tb testing.TB, client goredis.UniversalClient, prefix string, now func() time.Time, opts ...redis.Option) timedStore {
	tb.Helper()
	store := newStore(tb, client, append(opts, redis.WithPrefix(prefix), redis.OnClock())...)
	return timedStore{store, func(ctx context.Context) error {
		if ctx.Err() != nil {
			return nil // the store has to say so
		}
		return setClock.Run(ctx, client, []string{redis.ClockKey(prefix)}, now().UnixMicro()).Err()
	}}
}

// setClock moves the clock, forward only: of two callers the one with the older time may come last.
var setClock = goredis.NewScript(`
	if tonumber(ARGV[1]) > tonumber(redis.call('GET', KEYS[1]) or '0') then redis.call('SET', KEYS[1], ARGV[1]) end
	return 1`)

func (s timedStore) Begin(ctx context.Context, key idempotency.Key, f idempotency.Fingerprint, lease time.Duration) (idempotency.Claim, error) {
	if err := s.set(ctx); err != nil {
		return idempotency.Claim{}, err
	}
	return s.IdempotencyStore.Begin(ctx, key, f, lease)
}

func (s timedStore) Renew(ctx context.Context, key idempotency.Key, token idempotency.Token, lease time.Duration) error {
	if err := s.set(ctx); err != nil {
		return err
	}
	return s.IdempotencyStore.Renew(ctx, key, token, lease)
}

func (s timedStore) Complete(ctx context.Context, key idempotency.Key, token idempotency.Token, c idempotency.Completion) error {
	if err := s.set(ctx); err != nil {
		return err
	}
	return s.IdempotencyStore.Complete(ctx, key, token, c)
}

func (s timedStore) Release(ctx context.Context, key idempotency.Key, token idempotency.Token) error {
	if err := s.set(ctx); err != nil {
		return err
	}
	return s.IdempotencyStore.Release(ctx, key, token)
}

func (s timedStore) Expire(ctx context.Context, limit int, live idempotency.Live) (int, error) {
	if err := s.set(ctx); err != nil {
		return 0, err
	}
	return s.IdempotencyStore.Expire(ctx, limit, live)
}

var (
	payKey      = idempotency.Key{Tenant: "acme", Route: "POST /v1/orders/{id}/pay", Key: "abc"}
	payRequest  = idempotency.FingerprintOf([]byte("pay"))
	payResponse = idempotency.Response{Status: 202, Header: http.Header{"Content-Type": {"application/json"}}, Body: []byte(`{"state":"PAID"}`)}
	paid        = idempotency.Completion{Response: payResponse, TTL: time.Hour}
)

func orderKey(key string) idempotency.Key {
	return idempotency.Key{Tenant: "acme", Route: "POST /v1/orders", Key: key}
}

// begin claims a key, which must be free.
func begin(tb testing.TB, store idempotency.Store, key idempotency.Key) idempotency.Token {
	tb.Helper()
	claim, err := store.Begin(tb.Context(), key, payRequest, time.Hour)
	require.NoError(tb, err)
	require.Equal(tb, idempotency.Acquired, claim.State)
	return claim.Token
}

// find answers what Begin finds.
func find(tb testing.TB, store idempotency.Store, key idempotency.Key) idempotency.Claim {
	tb.Helper()
	claim, err := store.Begin(tb.Context(), key, payRequest, time.Hour)
	require.NoError(tb, err)
	return claim
}

// Two clients contend like two processes do.
func TestIdempotencyStoreTwoClients(t *testing.T) {
	t.Parallel()
	client := sharedClient(t)
	prefix := redis.WithPrefix(newPrefix(t, client))
	stores := []*redis.IdempotencyStore{newStore(t, client, prefix), newStore(t, sharedClient(t), prefix)}
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

// The server's clock judges leases, also the one that the process has.
func TestServersTimeCounts(t *testing.T) {
	t.Parallel()
	client := sharedClient(t)
	store := newStore(t, client, redis.WithPrefix(newPrefix(t, client)))
	before := client.Time(t.Context()).Val()
	token := begin(t, store, payKey)
	after := client.Time(t.Context()).Val()
	require.GreaterOrEqual(t, token, idempotency.Token(before.UnixMicro()))
	require.LessOrEqual(t, token, idempotency.Token(after.UnixMicro()))

	claim := find(t, store, payKey)
	require.Equal(t, idempotency.InFlight, claim.State)
	require.LessOrEqual(t, claim.RetryAfter, time.Hour)
	require.Greater(t, claim.RetryAfter, 59*time.Minute)

	require.NoError(t, store.Renew(t.Context(), payKey, token, time.Nanosecond), "of the shortest leases")
	await(t, "the lease is over", func() bool { return find(t, store, payKey).State == idempotency.Acquired })
}

func TestStoresWithDifferentPrefixesAreApart(t *testing.T) {
	t.Parallel()
	client := sharedClient(t)
	one := newStore(t, client, redis.WithPrefix(newPrefix(t, client)))
	two := newStore(t, client, redis.WithPrefix(newPrefix(t, client)))
	token := begin(t, one, payKey)
	begin(t, two, payKey)
	require.ErrorIs(t, two.Release(t.Context(), payKey, token), idempotency.ErrFenced)
	require.NoError(t, one.Complete(t.Context(), payKey, token, idempotency.Completion{Response: payResponse, TTL: time.Microsecond}))
	await(t, "the TTL is over", func() bool {
		removed, err := two.Expire(t.Context(), 100, nil)
		require.NoError(t, err)
		require.Zero(t, removed)
		removed, err = one.Expire(t.Context(), 100, nil)
		require.NoError(t, err)
		return removed == 1
	})
}

func TestOptions(t *testing.T) {
	t.Parallel()
	client := goredis.NewClient(&goredis.Options{})
	require.NoError(t, client.Close())
	for wrong, opt := range map[string]redis.Option{
		`prefix ""`:     redis.WithPrefix(""),
		`prefix "a{b}"`: redis.WithPrefix("a{b}"),
		`prefix "ä"`:    redis.WithPrefix("ä"),
		`prefix "a b"`:  redis.WithPrefix("a b"),
		`prefix "a*"`:   redis.WithPrefix("a*"),
		`prefix "aaa`:   redis.WithPrefix("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
		"-1 replicas":   redis.WaitReplicas(-1, time.Second),
		"at least 1ms":  redis.WaitReplicas(1, 0),
		"WithLogger":    redis.WithLogger(nil),
	} {
		_, err := redis.NewIdempotencyStore(t.Context(), client, opt)
		require.ErrorContains(t, err, wrong)
	}
	_, err := redis.NewIdempotencyStore(t.Context(), nil)
	require.ErrorContains(t, err, "no client")
	ring := goredis.NewRing(&goredis.RingOptions{})
	defer func() { require.NoError(t, ring.Close()) }()
	_, err = redis.NewIdempotencyStore(t.Context(), ring)
	require.ErrorContains(t, err, "Ring")
}

func TestCallsWithBadArgumentsAskNobody(t *testing.T) {
	t.Parallel()
	client := goredis.NewClient(&goredis.Options{})
	store := newStore(t, client)
	require.NoError(t, client.Close())
	_, err := store.Begin(t.Context(), idempotency.Key{}, payRequest, time.Minute)
	var bad *idempotency.KeyError
	require.ErrorAs(t, err, &bad)
	require.ErrorContains(t, store.Renew(t.Context(), payKey, 1, 0), "lease must be positive")
	require.ErrorContains(t, store.Complete(t.Context(), payKey, 1, idempotency.Completion{}), "TTL must be positive")
	_, err = store.Expire(t.Context(), 0, nil)
	require.ErrorContains(t, err, "limit must be positive")
}

// nothingIsLive says that everything is settled.
func nothingIsLive(context.Context, []string) ([]string, error) { return nil, nil }
