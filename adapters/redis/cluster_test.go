package redis_test

import (
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/redis"
	"github.com/sagamill/sagamill/idempotency"
)

// newCluster starts three primaries, and answers a client.
func newCluster(tb testing.TB) (*goredis.ClusterClient, []*server) {
	tb.Helper()
	var all []*server
	var addresses []string
	for range 3 {
		s := newTCPServer(tb, "--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf", "--cluster-node-timeout", "2000")
		all, addresses = append(all, s), append(addresses, s.address)
	}
	ctx := tb.Context()
	for i, s := range all {
		client := s.client()
		require.NoError(tb, client.Do(ctx, "cluster", "addslotsrange", i*5461, min((i+1)*5461-1+i/2, 16383)).Err())
		require.NoError(tb, client.Do(ctx, "cluster", "set-config-epoch", i+1).Err())
	}
	for _, s := range all[1:] {
		host, port, _ := net.SplitHostPort(s.address)
		require.NoError(tb, all[0].client().ClusterMeet(ctx, host, port).Err())
	}
	for _, s := range all {
		client := s.client()
		await(tb, "the cluster is whole", func() bool {
			info := client.ClusterInfo(ctx).Val()
			return strings.Contains(info, "cluster_state:ok") && strings.Contains(info, "cluster_slots_assigned:16384") && strings.Contains(info, "cluster_known_nodes:3")
		})
	}
	client := goredis.NewClusterClient(&goredis.ClusterOptions{Addrs: addresses, ContextTimeoutEnabled: true})
	tb.Cleanup(func() { require.NoError(tb, client.Close()) })
	return client, all
}

// The store's slot goes to another server of the cluster, and the tokens with it.
func TestSlotMoves(t *testing.T) {
	t.Parallel()
	client, servers := newCluster(t)
	store := newStore(t, client)
	require.NoError(t, store.Complete(t.Context(), payKey, begin(t, store, payKey), paid))
	last := begin(t, store, orderKey("claimed"))
	from, to := owner(t, client, servers)
	moveSlot(t, servers, from, to)
	now, _ := owner(t, client, servers)
	require.Equal(t, to, now)

	require.Equal(t, idempotency.Completed, find(t, store, payKey).State)
	require.Equal(t, idempotency.InFlight, find(t, store, orderKey("claimed")).State)
	require.Greater(t, begin(t, newStore(t, client), orderKey("new")), last)
}

// storesSlot is the slot of all keys of a store with the default prefix.
func storesSlot(tb testing.TB, s *server) int64 {
	tb.Helper()
	_, _, counter := redis.Keys("sagamill:idempotency")
	slot, err := s.client().ClusterKeySlot(tb.Context(), counter).Result()
	require.NoError(tb, err)
	return slot
}

// owner is the server that has the store's slot, and another one.
func owner(tb testing.TB, client *goredis.ClusterClient, servers []*server) (is, other *server) {
	tb.Helper()
	_, _, counter := redis.Keys("sagamill:idempotency")
	client.ReloadState(tb.Context())
	await(tb, "somebody has the slot", func() bool {
		node, err := client.MasterForKey(tb.Context(), counter)
		require.NoError(tb, err)
		for _, s := range servers {
			if s.process == nil {
				continue
			}
			if s.address == node.Options().Addr && s.client().Get(tb.Context(), counter).Err() == nil {
				is = s
			} else {
				other = s
			}
		}
		if is == nil {
			client.ReloadState(tb.Context())
		}
		return is != nil
	})
	return is, other
}

func moveSlot(tb testing.TB, servers []*server, from, to *server) {
	tb.Helper()
	ctx, slot := tb.Context(), storesSlot(tb, from)
	source, target := from.client(), to.client()
	id := func(c *goredis.Client) string { return c.Do(ctx, "cluster", "myid").Val().(string) }
	require.NoError(tb, target.Do(ctx, "cluster", "setslot", slot, "importing", id(source)).Err())
	require.NoError(tb, source.Do(ctx, "cluster", "setslot", slot, "migrating", id(target)).Err())
	keys := source.ClusterGetKeysInSlot(ctx, int(slot), 1000).Val()
	require.NotEmpty(tb, keys)
	host, port, err := net.SplitHostPort(to.address)
	require.NoError(tb, err)
	for _, key := range keys {
		require.NoError(tb, source.Migrate(ctx, host, port, key, 0, time.Second).Err())
	}
	for _, s := range servers {
		require.NoError(tb, s.client().Do(ctx, "cluster", "setslot", slot, "node", id(target)).Err())
	}
}

// A replica takes over in a cluster.
func TestClusterFailover(t *testing.T) {
	t.Parallel()
	client, servers := newCluster(t)
	first := newStore(t, client)
	last := begin(t, first, orderKey("before there was a replica"))
	primary, _ := owner(t, client, servers)
	replica := newTCPServer(t, "--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf", "--cluster-node-timeout", "2000")
	host, port, _ := net.SplitHostPort(primary.address)
	require.NoError(t, replica.client().ClusterMeet(t.Context(), host, port).Err())
	for _, s := range append(servers, replica) {
		await(t, "all know all", func() bool {
			return strings.Contains(s.client().ClusterInfo(t.Context()).Val(), "cluster_known_nodes:4") &&
				!strings.Contains(s.client().ClusterNodes(t.Context()).Val(), "handshake")
		})
	}
	id := primary.client().Do(t.Context(), "cluster", "myid").Val().(string)
	await(t, "the replica knows its primary", func() bool { return replica.client().ClusterReplicate(t.Context(), id).Err() == nil })
	await(t, "the replica is in step", func() bool {
		return primary.client().Do(t.Context(), "wait", 1, 100).Val() == int64(1)
	})

	store := newStore(t, client, redis.WaitReplicas(1, 4*time.Second))
	require.NoError(t, store.Complete(t.Context(), payKey, begin(t, store, payKey), paid))
	inFlight := begin(t, store, orderKey("in flight"))
	require.Greater(t, inFlight, last)

	primary.kill()
	require.NoError(t, replica.client().Do(t.Context(), "cluster", "failover", "takeover").Err())
	began := time.Now()
	await(t, "the client follows", func() bool {
		claim, err := first.Begin(t.Context(), payKey, payRequest, time.Minute)
		if err == nil {
			require.Equal(t, idempotency.Claim{State: idempotency.Completed, Response: payResponse}, claim)
		}
		return err == nil
	})
	require.Less(t, time.Since(began), 20*time.Second, "the client alone asks anew after a minute")
	require.Equal(t, idempotency.InFlight, find(t, first, orderKey("in flight")).State)
	require.Greater(t, begin(t, first, orderKey("new")), inFlight)
	await(t, "the store that waits follows, and finds no replica", func() bool {
		_, err := store.Begin(t.Context(), payKey, payRequest, time.Minute)
		require.Error(t, err)
		return errors.Is(err, redis.ErrNotReplicated)
	})
}
