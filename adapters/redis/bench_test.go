package redis_test

import (
	"context"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/redis"
	"github.com/sagamill/sagamill/idempotency"
)

// A request: its key is claimed, and its response stored.
func BenchmarkBeginComplete(b *testing.B) {
	client := sharedClient(b)
	store := newStore(b, client, redis.WithPrefix(newPrefix(b, client)))
	var n atomic.Int64
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			key := orderKey(strconv.FormatInt(n.Add(1), 10))
			claim, err := store.Begin(context.Background(), key, payRequest, time.Minute)
			if err != nil || claim.State != idempotency.Acquired {
				b.Error(claim, err)
			}
			if err := store.Complete(context.Background(), key, claim.Token, paid); err != nil {
				b.Error(err)
			}
		}
	})
}

// A repeated request is answered with the stored response.
func BenchmarkReplay(b *testing.B) {
	client := sharedClient(b)
	store := newStore(b, client, redis.WithPrefix(newPrefix(b, client)))
	require.NoError(b, store.Complete(b.Context(), payKey, begin(b, store, payKey), paid))
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			claim, err := store.Begin(context.Background(), payKey, payRequest, time.Minute)
			if err != nil || claim.State != idempotency.Completed {
				b.Error(claim, err)
			}
		}
	})
}
