package redisstream_test

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/redisstream"
	"github.com/sagamill/sagamill/adapters/transporttest"
	"github.com/sagamill/sagamill/internal/services"
)

const redeliverAfter = 2 * time.Second

// connect returns where the server is, and a client of the test's own.
func connect(t testing.TB) (*redis.Options, *redis.Client) {
	t.Helper()
	options, err := redis.ParseURL(services.Redis.URL(t))
	require.NoError(t, err)
	client := redis.NewClient(options)
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	return options, client
}

// Not parallel: it looks for goroutines that are left behind.
func TestTransport(t *testing.T) {
	transporttest.Run(t, func(t testing.TB) transporttest.Harness {
		options, client := connect(t)
		return transporttest.Harness{
			Open: func(t testing.TB) transporttest.Process {
				proxy := transporttest.NewProxy(t, options.Addr)
				broker, err := redisstream.New(&redis.UniversalOptions{Addrs: []string{proxy.Addr()}, DB: options.DB, Password: options.Password},
					redisstream.Config{RedeliverAfter: redeliverAfter, TrimInterval: 100 * time.Millisecond}, nil)
				require.NoError(t, err)
				return transporttest.Process{Broker: broker, Cut: proxy.Cut, Restore: proxy.Restore}
			},
			RedeliverAfter: redeliverAfter,
			Malform: func(topic string) error {
				return client.XAdd(context.Background(), &redis.XAddArgs{Stream: topic, Values: map[string]any{"hello": "world"}}).Err()
			},
			Clean: func(topics []string) { client.Del(context.Background(), topics...) },
		}
	})
}
