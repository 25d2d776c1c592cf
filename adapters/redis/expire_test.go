package redis_test

import (
	"context"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/redis"
	"github.com/sagamill/sagamill/idempotency"
	"github.com/sagamill/sagamill/internal/services"
)

// An entry whose record is gone, or a record whose entry is, as an evicting server leaves them, is in nobody's way.
func TestPartsThatWereEvicted(t *testing.T) {
	t.Parallel()
	client := sharedClient(t)
	prefix := newPrefix(t, client)
	store := newStore(t, client, redis.WithPrefix(prefix))
	over, held, _ := redis.Keys(prefix)
	complete := func(key, holds string) {
		t.Helper()
		c := idempotency.Completion{Response: payResponse, TTL: time.Microsecond, Holds: holds}
		require.NoError(t, store.Complete(t.Context(), orderKey(key), begin(t, store, orderKey(key)), c))
	}
	evict := func(key string) {
		t.Helper()
		require.EqualValues(t, 1, client.Del(t.Context(), redis.RecordKey(prefix, orderKey(key).String())).Val())
	}
	entries := func() int64 { return client.ZCard(t.Context(), over).Val() + client.ZCard(t.Context(), held).Val() }

	complete("gone", "")
	evict("gone")
	complete("gone, held", "saga-1")
	evict("gone, held")
	complete("claimed anew", "saga-2")
	evict("claimed anew")
	token := begin(t, store, orderKey("claimed anew"))
	require.EqualValues(t, 3, entries())
	await(t, "the entries are due", func() bool {
		removed, err := store.Expire(t.Context(), 10, nothingIsLive)
		require.NoError(t, err)
		require.Zero(t, removed)
		return entries() == 1
	})
	require.NoError(t, store.Release(t.Context(), orderKey("claimed anew"), token))

	complete("entry is gone", "")
	require.NoError(t, client.Del(t.Context(), over).Err())
	begin(t, store, orderKey("entry is gone"))
	require.EqualValues(t, 1, entries())
}

// A claim is abandoned by the end of its last lease, which Expire finds out.
func TestExpireKeepsWhatWasRenewed(t *testing.T) {
	t.Parallel()
	client := sharedClient(t)
	now := time.Date(2026, time.March, 29, 12, 0, 0, 0, time.UTC)
	store := newTimedStore(t, client, newPrefix(t, client), func() time.Time { return now })
	expire := func(want int) {
		t.Helper()
		removed, err := store.Expire(t.Context(), 10, nil)
		require.NoError(t, err)
		require.Equal(t, want, removed)
	}
	token := begin(t, store, payKey) // for an hour
	now = now.Add(time.Hour)
	require.NoError(t, store.Renew(t.Context(), payKey, token, time.Hour))
	now = now.Add(idempotency.AbandonedAfter)
	expire(0)
	now = now.Add(time.Hour - time.Microsecond)
	expire(0)
	require.NoError(t, store.Renew(t.Context(), payKey, token, time.Hour))
	now = now.Add(time.Hour + idempotency.AbandonedAfter)
	expire(1)
	require.ErrorIs(t, store.Renew(t.Context(), payKey, token, time.Hour), idempotency.ErrFenced)
}

// between does something before the nth call that a client makes.
type between struct {
	calls atomic.Int64
	nth   int64
	do    func()
}

func (h *between) count() {
	if h.calls.Add(1) == h.nth {
		h.do()
	}
}

func (h *between) DialHook(next goredis.DialHook) goredis.DialHook { return next }

func (h *between) ProcessHook(next goredis.ProcessHook) goredis.ProcessHook {
	return func(ctx context.Context, cmd goredis.Cmder) error {
		h.count()
		return next(ctx, cmd)
	}
}

func (h *between) ProcessPipelineHook(next goredis.ProcessPipelineHook) goredis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []goredis.Cmder) error {
		h.count()
		return next(ctx, cmds)
	}
}

// What comes to hold something while Expire is at work is not removed, whenever that happens: nobody was asked whether that
// is settled.
func TestExpireRemovesNothingUnasked(t *testing.T) {
	t.Parallel()
	client := sharedClient(t)
	for name, first := range map[string]func(t *testing.T, store idempotency.Store) idempotency.Token{
		"an abandoned claim": func(t *testing.T, store idempotency.Store) idempotency.Token {
			token := begin(t, store, payKey)
			return token
		},
		"a claim in the other index": func(t *testing.T, store idempotency.Store) idempotency.Token {
			token := begin(t, store, payKey)
			prefix := store.(timedStore).prefix
			_, held, _ := redis.Keys(prefix)
			entry := goredis.Z{Score: 1, Member: redis.RecordKey(prefix, payKey.String())}
			require.NoError(t, client.ZAdd(t.Context(), held, entry).Err())
			return token
		},
		"a settled saga, and the key claimed anew": func(t *testing.T, store idempotency.Store) idempotency.Token {
			c := idempotency.Completion{Response: payResponse, TTL: time.Minute, Holds: "settled"}
			require.NoError(t, store.Complete(t.Context(), payKey, begin(t, store, payKey), c))
			return 0
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for nth := range int64(10) {
				var passed atomic.Int64
				now := func() time.Time {
					return time.Date(2026, time.March, 29, 12, 0, 0, 0, time.UTC).Add(time.Duration(passed.Load()))
				}
				prefix := newPrefix(t, client)
				store := newTimedStore(t, client, prefix, now)
				token := first(t, store)
				passed.Add(int64(time.Hour + idempotency.AbandonedAfter))

				other := sharedClient(t)
				expiring := newTimedStore(t, other, prefix, now)
				hook := &between{nth: nth, do: func() {
					if token == 0 { // somebody else expires it
						removed, err := store.Expire(t.Context(), 1, nothingIsLive)
						require.NoError(t, err)
						if removed == 0 {
							return
						}
						token = begin(t, store, payKey)
					}
					c := idempotency.Completion{Response: payResponse, TTL: time.Minute, Holds: "live"}
					err := store.Complete(t.Context(), payKey, token, c)
					if !errors.Is(err, idempotency.ErrFenced) { // expired before
						require.NoError(t, err)
					}
					passed.Add(int64(time.Hour))
					require.NoError(t, store.set(t.Context()))
				}}
				other.AddHook(hook)
				_, err := expiring.Expire(t.Context(), 1, func(_ context.Context, holds []string) ([]string, error) {
					return slices.DeleteFunc(holds, func(h string) bool { return h != "live" }), nil
				})
				require.NoError(t, err)
				claim := find(t, store, payKey)
				if hook.calls.Load() >= nth && nth > 0 && claim.State != idempotency.Completed {
					held := store.seesNoLive(t, token)
					require.True(t, held, "the live record is gone when it comes before call %d", nth)
				}
			}
		})
	}
}

// More records than a script looks at, several with one time.
func TestExpireInPages(t *testing.T) {
	t.Parallel()
	const all = 2*redis.MaxPage + redis.MaxPage/2
	client := sharedClient(t)
	now := time.Date(2026, time.March, 29, 12, 0, 0, 0, time.UTC)
	store := newTimedStore(t, client, newPrefix(t, client), func() time.Time { return now })
	var sagas []string
	for i := range all {
		saga := services.Name()
		key := orderKey(saga)
		require.NoError(t, store.Complete(t.Context(), key, begin(t, store, key), idempotency.Completion{TTL: time.Minute, Holds: saga}))
		if i%2 == 0 {
			sagas = append(sagas, saga)
		}
		if i%redis.MaxPage == 0 {
			now = now.Add(time.Millisecond)
		}
		key.Key += " holds nothing"
		require.NoError(t, store.Complete(t.Context(), key, begin(t, store, key), idempotency.Completion{TTL: time.Minute}))
	}
	now = now.Add(time.Hour)
	asked := 0
	live := func(_ context.Context, holds []string) ([]string, error) {
		asked += len(holds)
		return sagas, nil
	}
	removed, err := store.Expire(t.Context(), 10*all, live)
	require.NoError(t, err)
	require.Equal(t, all+all/2, removed)
	require.Equal(t, all, asked, "each is asked for once")
	for range 2 {
		sagas = nil
		removed, err = store.Expire(t.Context(), redis.MaxPage, live)
		require.NoError(t, err)
		require.LessOrEqual(t, removed, redis.MaxPage)
	}
	require.Equal(t, all/2-redis.MaxPage, removed)
}
