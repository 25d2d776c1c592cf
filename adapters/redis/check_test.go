package redis_test

import (
	"bytes"
	"log/slog"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/redis"
	"github.com/sagamill/sagamill/idempotency"
)

func TestJudge(t *testing.T) {
	t.Parallel()
	const good = "redis_version:7.0.15\r\ncluster_enabled:0\r\nrole:master\r\nconnected_slaves:0\r\nmaxmemory_policy:noeviction\r\naof_enabled:1\r\n"
	for name, c := range map[string]struct {
		info          string // later lines count
		appendfsync   string
		replicas      int
		clusterClient bool
		want          []string // settings
	}{
		"all is well":                      {appendfsync: "everysec"},
		"better still":                     {appendfsync: "always", replicas: 1, info: "connected_slaves:2"},
		"keys without a TTL are safe":      {appendfsync: "always", info: "maxmemory_policy:volatile-lru"},
		"evicting":                         {appendfsync: "always", info: "maxmemory_policy:allkeys-lru", want: []string{"maxmemory-policy"}},
		"nothing on disk":                  {info: "aof_enabled:0", want: []string{"appendonly"}},
		"loading":                          {info: "aof_enabled:0\r\nloading:1", want: []string{"appendonly"}},
		"never synced":                     {appendfsync: "no", want: []string{"appendfsync"}},
		"sync unknown":                     {want: []string{"appendfsync"}},
		"replicas that nobody waits for":   {appendfsync: "always", info: "connected_slaves:1", want: []string{"WaitReplicas"}},
		"too few replicas":                 {appendfsync: "always", replicas: 2, info: "connected_slaves:1", want: []string{"WaitReplicas"}},
		"a replica":                        {appendfsync: "always", info: "role:slave", want: []string{"role"}},
		"a cluster":                        {appendfsync: "always", info: "cluster_enabled:1", clusterClient: true},
		"a cluster, and a client of one":   {appendfsync: "always", info: "cluster_enabled:1", want: []string{"cluster-enabled"}},
		"before scripts could tell time":   {appendfsync: "always", info: "redis_version:4.0.14", want: []string{"redis_version"}},
		"a server that tells little":       {info: "maxmemory_policy:\r\naof_enabled:\r\nconnected_slaves:", want: []string{"maxmemory-policy", "appendonly", "connected_slaves"}},
		"a version that is not of numbers": {appendfsync: "always", info: "redis_version:unstable"},
		"two things":                       {appendfsync: "no", info: "maxmemory_policy:allkeys-random", want: []string{"maxmemory-policy", "appendfsync"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.want, settings(redis.Judge(good+c.info, c.appendfsync, c.replicas, c.clusterClient)))
		})
	}
}

func settings(warnings []redis.Warning) (names []string) {
	for _, w := range warnings {
		names = append(names, w.Setting)
	}
	return names
}

func check(tb testing.TB, store *redis.IdempotencyStore) []string {
	tb.Helper()
	warnings, err := store.Check(tb.Context())
	require.NoError(tb, err)
	return settings(warnings)
}

func TestCheck(t *testing.T) {
	t.Parallel()
	s := newServer(t, "--appendonly", "yes", "--maxmemory-policy", "allkeys-lru", "--appendfsync", "no")
	var log bytes.Buffer
	client := s.client(func(o *goredis.Options) { o.ContextTimeoutEnabled = false })
	store := newStore(t, client, redis.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	want := []string{"ContextTimeoutEnabled", "maxmemory-policy", "appendfsync"}
	require.Equal(t, want, check(t, store))
	for _, setting := range want {
		require.Contains(t, log.String(), "level=WARN msg=\"redis: "+setting+" is ")
	}
	require.Contains(t, log.String(), "maxmemory-policy is allkeys-lru: when memory is short the server drops records")

	s.configure("maxmemory-policy", "noeviction", "appendfsync", "everysec")
	log.Reset()
	store = newStore(t, s.client(), redis.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	require.Empty(t, check(t, store))
	require.Empty(t, log.String())
	require.Equal(t, []string{"WaitReplicas"}, check(t, newStore(t, s.client(), redis.WaitReplicas(1, time.Second))))
	require.Equal(t, []string{"ReadTimeout", "WaitReplicas"}, check(t, newStore(t, s.client(), redis.WaitReplicas(1, time.Minute))))
}

func TestCheckOfReplicas(t *testing.T) {
	t.Parallel()
	primary, replica := newTCPServer(t, "--appendonly", "yes"), newTCPServer(t, "--appendonly", "yes")
	replica.replicate(primary)
	require.Equal(t, []string{"WaitReplicas"}, check(t, newStore(t, primary.client())))
	require.Empty(t, check(t, newStore(t, primary.client(), redis.WaitReplicas(1, time.Second))))
	require.Equal(t, []string{"role"}, check(t, newStore(t, replica.client())))
}

func TestCheckOfACluster(t *testing.T) {
	t.Parallel()
	client, servers := newCluster(t)
	require.Equal(t, []string{"appendonly"}, check(t, newStore(t, client)))
	require.Equal(t, []string{"cluster-enabled", "appendonly"}, check(t, newStore(t, servers[0].client())))
}

// The commands that the manual lists are enough, and a server that does not tell its settings is used all the same.
func TestUserWithFewRights(t *testing.T) {
	t.Parallel()
	s := newServer(t, "--appendonly", "yes")
	admin := s.client()
	require.NoError(t, admin.Do(t.Context(), append([]any{"acl", "setuser", "shop", "on", ">secret", "~{sagamill:idempotency}:*"}, rights...)...).Err())
	client := s.client(func(o *goredis.Options) { o.Username, o.Password = "shop", "secret" })
	var log bytes.Buffer
	store := newStore(t, client, redis.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	require.Contains(t, log.String(), "INFO: the server refuses to tell its settings")
	require.Equal(t, []string{"INFO"}, check(t, store))
	everyCall(t, store)
	require.ErrorIs(t, func() error {
		_, err := newStore(t, client, redis.WaitReplicas(1, time.Millisecond)).Begin(t.Context(), payKey, payRequest, time.Minute)
		return err
	}(), redis.ErrNotReplicated)

	require.NoError(t, admin.Do(t.Context(), "acl", "setuser", "shop", "+info").Err())
	require.Equal(t, []string{"appendfsync"}, check(t, store))
	require.NoError(t, admin.Do(t.Context(), "acl", "setuser", "shop", "+config|get").Err())
	require.Empty(t, check(t, store))
}

// rights are those of the manual.
var rights = []any{"+evalsha", "+eval", "+time", "+get", "+set", "+del", "+unlink", "+hmget", "+hset", "+hdel", "+zadd", "+zrem", "+zrangebyscore", "+incr", "+wait"}

// everyCall makes each call of the store at least once, with each answer.
func everyCall(tb testing.TB, store *redis.IdempotencyStore) {
	tb.Helper()
	token := begin(tb, store, orderKey("completed"))
	require.Equal(tb, idempotency.InFlight, find(tb, store, orderKey("completed")).State)
	require.NoError(tb, store.Renew(tb.Context(), orderKey("completed"), token, time.Minute))
	require.NoError(tb, store.Complete(tb.Context(), orderKey("completed"), token, idempotency.Completion{TTL: time.Microsecond, Holds: "saga"}))
	require.Equal(tb, idempotency.Completed, find(tb, store, orderKey("completed")).State)
	require.NoError(tb, store.Release(tb.Context(), orderKey("released"), begin(tb, store, orderKey("released"))))
	require.NoError(tb, store.Complete(tb.Context(), orderKey("over"), begin(tb, store, orderKey("over")), idempotency.Completion{TTL: time.Microsecond}))
	await(tb, "both are removed", func() bool {
		removed, err := store.Expire(tb.Context(), 10, nothingIsLive)
		require.NoError(tb, err)
		return removed > 0
	})
}
