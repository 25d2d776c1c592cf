package redis_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/redis"
	"github.com/sagamill/sagamill/idempotency"
)

// What was answered is known to the replica that takes over.
func TestFailoverWithReplicasThatWereWaitedFor(t *testing.T) {
	t.Parallel()
	primary, replica, other := newTCPServer(t), newTCPServer(t), newTCPServer(t)
	replica.replicate(primary)
	other.replicate(primary)
	var current atomic.Pointer[server]
	current.Store(primary)
	open := func() *redis.IdempotencyStore {
		return newStore(t, switched(t, &current), redis.WaitReplicas(2, 4*time.Second))
	}
	store := open()
	require.NoError(t, store.Complete(t.Context(), payKey, begin(t, store, payKey), paid))
	inFlight := begin(t, store, orderKey("in flight"))
	released := begin(t, store, orderKey("released"))
	require.NoError(t, store.Release(t.Context(), orderKey("released"), released))
	require.NoError(t, store.Renew(t.Context(), orderKey("in flight"), inFlight, 2*time.Hour))

	primary.kill()
	replica.promote()
	third := newTCPServer(t)
	other.replicate(replica)
	third.replicate(replica)
	current.Store(replica)
	for _, store := range []idempotency.Store{store, open()} {
		require.Equal(t, idempotency.Claim{State: idempotency.Completed, Response: payResponse}, find(t, store, payKey))
		claim := find(t, store, orderKey("in flight"))
		require.Equal(t, idempotency.InFlight, claim.State)
		require.Greater(t, claim.RetryAfter, time.Hour, "the renewal is known")
		claim = find(t, store, orderKey("released"))
		require.Equal(t, idempotency.Acquired, claim.State)
		require.Greater(t, claim.Token, released)
		require.NoError(t, store.Release(t.Context(), orderKey("released"), claim.Token))
	}
	require.NoError(t, store.Complete(t.Context(), orderKey("in flight"), inFlight, paid))
}

// Without enough replicas nothing is promised, and nobody is left in the way.
func TestTooFewReplicas(t *testing.T) {
	t.Parallel()
	primary, replica := newTCPServer(t), newTCPServer(t)
	replica.replicate(primary)
	client := primary.client()
	waits := newStore(t, client, redis.WaitReplicas(1, 50*time.Millisecond))
	trusts := newStore(t, client)
	completed := begin(t, trusts, payKey)
	require.NoError(t, trusts.Complete(t.Context(), payKey, completed, paid))
	token := begin(t, trusts, orderKey("claimed"))
	replica.kill()

	claim, err := waits.Begin(t.Context(), orderKey("free"), payRequest, time.Hour)
	require.ErrorIs(t, err, redis.ErrNotReplicated)
	require.ErrorContains(t, err, "by 0 of 1 within 50ms")
	require.Zero(t, claim)
	begin(t, trusts, orderKey("free")) // it was given back

	claim, err = waits.Begin(t.Context(), payKey, payRequest, time.Hour)
	require.ErrorIs(t, err, redis.ErrNotReplicated, "nor is that told which may be lost")
	require.Zero(t, claim)
	require.ErrorIs(t, waits.Renew(t.Context(), orderKey("claimed"), token, time.Hour), redis.ErrNotReplicated)
	require.ErrorIs(t, waits.Complete(t.Context(), orderKey("claimed"), token, paid), redis.ErrNotReplicated)

	replica = newTCPServer(t)
	replica.replicate(primary)
	patient := newStore(t, client, redis.WaitReplicas(1, 4*time.Second))
	require.NoError(t, patient.Complete(t.Context(), orderKey("claimed"), token, paid), "completing again is no error")
	require.Equal(t, idempotency.Completed, find(t, patient, orderKey("claimed")).State)
}
