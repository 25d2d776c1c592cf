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

// afterReading does something when Expire has read records, and before it removes them.
type afterReading struct {
	goredis.Hook
	do func()
}

func (h afterReading) DialHook(next goredis.DialHook) goredis.DialHook          { return next }
func (h afterReading) ProcessHook(next goredis.ProcessHook) goredis.ProcessHook { return next }

func (h afterReading) ProcessPipelineHook(next goredis.ProcessPipelineHook) goredis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []goredis.Cmder) error {
		err := next(ctx, cmds)
		h.do()
		return err
	}
}

// What comes to hold something after Expire has looked at it is not removed, as nobody was asked whether that is settled.
func TestExpireRemovesNothingUnasked(t *testing.T) {
	t.Parallel()
	client := sharedClient(t)
	prefix := newPrefix(t, client)
	store := newStore(t, client, redis.WithPrefix(prefix))
	_, held, _ := redis.Keys(prefix)
	token := begin(t, store, payKey)
	left := goredis.Z{Score: 1, Member: redis.RecordKey(prefix, payKey.String())} // by a record that was evicted
	require.NoError(t, client.ZAdd(t.Context(), held, left).Err())

	reader := sharedClient(t)
	expiring := newStore(t, reader, redis.WithPrefix(prefix))
	reader.AddHook(afterReading{do: func() {
		c := idempotency.Completion{Response: payResponse, TTL: time.Microsecond, Holds: "saga-1"}
		require.NoError(t, store.Complete(t.Context(), payKey, token, c))
	}})
	removed, err := expiring.Expire(t.Context(), 1, func(_ context.Context, holds []string) ([]string, error) { return holds, nil })
	require.NoError(t, err)
	require.Zero(t, removed)
	require.Equal(t, idempotency.Completed, find(t, store, payKey).State)
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
