package redis_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/redis"
	"github.com/sagamill/sagamill/idempotency"
)

// losesAnswer is a connection that breaks when the answer to what was sent last is there.
type losesAnswer struct {
	net.Conn
	armed *atomic.Bool
}

func (c losesAnswer) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err == nil && c.armed.CompareAndSwap(true, false) {
		return 0, errors.Join(io.EOF, c.Close())
	}
	return n, err
}

// The client sends a call again whose answer it did not get; it has taken effect once.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	o := sharedClient(t).Options()
	var armed atomic.Bool
	client := goredis.NewClient(&goredis.Options{
		Addr: o.Addr, ContextTimeoutEnabled: true, MinRetryBackoff: time.Millisecond,
		Dialer: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
			return losesAnswer{conn, &armed}, err
		},
	})
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	store := newStore(t, client, redis.WithPrefix(newPrefix(t, sharedClient(t))))
	first := begin(t, store, orderKey("so that the server has the scripts"))
	require.NoError(t, store.Release(t.Context(), orderKey("so that the server has the scripts"), first))

	lose := func() { armed.Store(true) }
	lose()
	token := begin(t, store, payKey)
	require.False(t, armed.Load())
	lose()
	require.NoError(t, store.Renew(t.Context(), payKey, token, time.Hour))
	lose()
	require.NoError(t, store.Complete(t.Context(), payKey, token, paid))
	lose()
	require.Equal(t, idempotency.Completed, find(t, store, payKey).State)

	token = begin(t, store, orderKey("released"))
	lose()
	require.ErrorIs(t, store.Release(t.Context(), orderKey("released"), token), idempotency.ErrFenced, "nobody can know who released it")
	require.Equal(t, idempotency.Acquired, find(t, store, orderKey("released")).State)
	require.False(t, armed.Load())
}

func TestScriptsAreLoadedAgain(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	client := s.client()
	for name, store := range map[string]*redis.IdempotencyStore{
		"waits for nobody": newStore(t, client),
		"waits":            newStore(t, client, redis.WaitReplicas(1, time.Second), redis.WithPrefix("replicated")),
	} {
		t.Run(name, func(t *testing.T) {
			var fails error
			if name == "waits" {
				fails = redis.ErrNotReplicated // there is none
			}
			for range 2 {
				require.NoError(t, client.ScriptFlush(t.Context()).Err())
				_, err := store.Begin(t.Context(), payKey, payRequest, time.Minute)
				require.ErrorIs(t, err, fails)
			}
		})
	}
}

func TestServerAway(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	client := s.client(func(o *goredis.Options) { o.MaxRetries, o.DialerRetries = -1, 1 })
	s.kill()
	var log bytes.Buffer
	store := newStore(t, client, redis.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	require.Contains(t, log.String(), "could not be checked")
	_, err := store.Check(t.Context())
	require.Error(t, err)
	claim, err := store.Begin(t.Context(), payKey, payRequest, time.Minute)
	require.Error(t, err)
	require.Zero(t, claim)
	require.Error(t, store.Renew(t.Context(), payKey, 1, time.Minute))
	require.NotErrorIs(t, store.Renew(t.Context(), payKey, 1, time.Minute), idempotency.ErrFenced)
	require.NotErrorIs(t, store.Complete(t.Context(), payKey, 1, paid), idempotency.ErrFenced)
	require.NotErrorIs(t, store.Release(t.Context(), payKey, 1), idempotency.ErrFenced)
	_, err = store.Expire(t.Context(), 1, nothingIsLive)
	require.Error(t, err)

	s.start()
	begin(t, store, payKey)
}

// A server that takes connections and answers nothing holds nobody longer than the context allows.
func TestServerThatHangs(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, l.Close()) }()
	client := goredis.NewClient(&goredis.Options{Addr: l.Addr().String(), ContextTimeoutEnabled: true, MaxRetries: -1, DialTimeout: time.Second})
	defer func() { require.NoError(t, client.Close()) }()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	store, err := redis.NewIdempotencyStore(ctx, client, redis.WithLogger(silent))
	require.NoError(t, err)
	ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err = store.Begin(ctx, payKey, payRequest, time.Minute)
	require.Error(t, err)
	require.Less(t, time.Since(began), 2*time.Second, "the client alone would wait for 5s")
}

// What is in the way of the store's keys is an error, never a claim.
func TestBrokenKeys(t *testing.T) {
	t.Parallel()
	client := sharedClient(t)
	for name, c := range map[string]struct {
		spoil func(ctx context.Context, prefix string) error
		want  string
	}{
		"a record of another type": {func(ctx context.Context, prefix string) error {
			return client.Set(ctx, redis.RecordKey(prefix, payKey.String()), "x", 0).Err()
		}, "WRONGTYPE"},
		"a counter that is no number": {func(ctx context.Context, prefix string) error {
			_, _, counter := redis.Keys(prefix)
			return client.Set(ctx, counter, "x", 0).Err()
		}, "begin"},
		"a counter at its end": {func(ctx context.Context, prefix string) error {
			_, _, counter := redis.Keys(prefix)
			return client.Set(ctx, counter, "9007199254740991", 0).Err()
		}, "no token after 9007199254740991"},
		"a response that cannot be read": {func(ctx context.Context, prefix string) error {
			return client.HSet(ctx, redis.RecordKey(prefix, payKey.String()), "token", "1", "until", "9000000000000000", "fingerprint", "",
				"completed", "1", "holds", "", "status", "x").Err()
		}, "status"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			prefix := newPrefix(t, client)
			require.NoError(t, c.spoil(t.Context(), prefix))
			claim, err := newStore(t, client, redis.WithPrefix(prefix)).Begin(t.Context(), payKey, payRequest, time.Minute)
			require.ErrorContains(t, err, c.want)
			require.Zero(t, claim)
		})
	}
}
