package mysql_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	sagamysql "github.com/sagamill/sagamill/adapters/mysql"
	"github.com/sagamill/sagamill/idempotency"
	"github.com/sagamill/sagamill/idempotency/idempotencytest"
)

func TestIdempotencyStore(t *testing.T) {
	t.Parallel()
	idempotencytest.Run(t, func(t *testing.T, now func() time.Time) idempotency.Store {
		d := newDatabase(t).withClocks() // tables of its own, as Expire looks at all records
		clock := d.newClock()
		return timedKeys{sagamysql.NewIdempotencyStore(d.open(clock.option())), clock, now}
	})
}

// timedKeys is a store in whose database it is the time that now says.
type timedKeys struct {
	*sagamysql.IdempotencyStore
	clock *clock
	now   func() time.Time
}

func (s timedKeys) Begin(ctx context.Context, key idempotency.Key, f idempotency.Fingerprint, lease time.Duration) (idempotency.Claim, error) {
	s.clock.follow(s.now())
	return s.IdempotencyStore.Begin(ctx, key, f, lease)
}

func (s timedKeys) Renew(ctx context.Context, key idempotency.Key, token idempotency.Token, lease time.Duration) error {
	s.clock.follow(s.now())
	return s.IdempotencyStore.Renew(ctx, key, token, lease)
}

func (s timedKeys) Complete(ctx context.Context, key idempotency.Key, token idempotency.Token, c idempotency.Completion) error {
	s.clock.follow(s.now())
	return s.IdempotencyStore.Complete(ctx, key, token, c)
}

func (s timedKeys) Release(ctx context.Context, key idempotency.Key, token idempotency.Token) error {
	s.clock.follow(s.now())
	return s.IdempotencyStore.Release(ctx, key, token)
}

func (s timedKeys) Expire(ctx context.Context, limit int, live idempotency.Live) (int, error) {
	s.clock.follow(s.now())
	return s.IdempotencyStore.Expire(ctx, limit, live)
}

// Processes that race for a key: one of them has it.
func TestIdempotencyStoreOfTwoProcesses(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	stores := []*sagamysql.IdempotencyStore{sagamysql.NewIdempotencyStore(d.open()), sagamysql.NewIdempotencyStore(d.openOn(d.newPool()))}
	var (
		all   sync.WaitGroup
		mu    sync.Mutex
		count = map[idempotency.State]int{}
	)
	for i := range 32 {
		all.Go(func() {
			claim, err := stores[i%2].Begin(t.Context(), requestKey("k"), idempotency.Fingerprint{}, time.Minute)
			mu.Lock()
			defer mu.Unlock()
			assert.NoError(t, err)
			count[claim.State]++
		})
	}
	all.Wait()
	require.Equal(t, map[idempotency.State]int{idempotency.Acquired: 1, idempotency.InFlight: 31}, count)
}

func requestKey(k string) idempotency.Key {
	return idempotency.Key{Tenant: "acme", Route: "POST /orders", Key: k}
}

// Tokens go on where they were, also after all records are gone and a server was started anew (it keeps AUTO_INCREMENT).
func TestTokensAfterDeletion(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	keys := sagamysql.NewIdempotencyStore(d.open())
	var last idempotency.Token
	for _, k := range []string{"a", "b", "a", "c"} {
		claim, err := keys.Begin(t.Context(), requestKey(k), idempotency.Fingerprint{}, time.Minute)
		require.NoError(t, err)
		require.Greater(t, claim.Token, last)
		last = claim.Token
		require.NoError(t, keys.Release(t.Context(), requestKey(k), claim.Token))
		require.Zero(t, scan[int](d, `SELECT COUNT(*) FROM `+d.table("idempotency")))
	}
}

// To renew a lease by nothing is no change, and no fence.
func TestRenewedToTheSame(t *testing.T) {
	t.Parallel()
	d := newDatabase(t).withClocks()
	keys := sagamysql.NewIdempotencyStore(d.open(d.newClock().option()))
	claim, err := keys.Begin(t.Context(), requestKey("k"), idempotency.Fingerprint{}, time.Minute)
	require.NoError(t, err)
	require.NoError(t, keys.Renew(t.Context(), requestKey("k"), claim.Token, time.Minute))
	require.ErrorIs(t, keys.Renew(t.Context(), requestKey("k"), claim.Token+1, time.Minute), idempotency.ErrFenced)
	require.NoError(t, keys.Complete(t.Context(), requestKey("k"), claim.Token, idempotency.Completion{TTL: time.Hour}))
	require.ErrorIs(t, keys.Renew(t.Context(), requestKey("k"), claim.Token, time.Minute), idempotency.ErrFenced)
}

// A token is newer than all that were given before the key was free, however long its claim has waited for that.
func TestIdempotencyTokenOfAClaimThatWaited(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	keys := sagamysql.NewIdempotencyStore(d.open())
	k := requestKey("k")
	foreign := d.foreign(`INSERT INTO ` + d.table("idempotency") + ` (tenant, route, request_key, fingerprint, until)
		VALUES ('` + k.Tenant + `', '` + k.Route + `', '` + k.Key + `', '', 4000000000000000)`)
	claims := make(chan idempotency.Claim, 1)
	go func() {
		claim, err := keys.Begin(t.Context(), requestKey("k"), idempotency.Fingerprint{}, time.Minute)
		assert.NoError(t, err)
		claims <- claim
	}()
	require.Eventually(t, func() bool { return d.waiting() == 1 }, 30*time.Second, lockTick)
	meanwhile, err := keys.Begin(t.Context(), requestKey("another"), idempotency.Fingerprint{}, time.Minute)
	require.NoError(t, err)
	require.NoError(t, foreign.Rollback())
	claim := <-claims
	require.Equal(t, idempotency.Acquired, claim.State)
	require.Greater(t, claim.Token, meanwhile.Token)
}

func TestIdempotencyStoreAway(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	pool := d.newPool()
	store := sagamysql.NewIdempotencyStore(d.openOn(pool))
	require.NoError(t, pool.Close())
	claim, err := store.Begin(t.Context(), requestKey("k"), idempotency.Fingerprint{}, time.Minute)
	require.Error(t, err)
	require.Zero(t, claim)
	require.NotErrorIs(t, store.Renew(t.Context(), requestKey("k"), 1, time.Minute), idempotency.ErrFenced)
	_, err = store.Expire(t.Context(), 1, func(context.Context, []string) ([]string, error) { return nil, nil })
	require.Error(t, err)
}
