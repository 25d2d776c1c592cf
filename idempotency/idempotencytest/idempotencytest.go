// Package idempotencytest tests whether an idempotency.Store keeps the promises of that interface, in the manner of
// testing/slogtest. In a test of your store:
//
//	func TestConformance(t *testing.T) {
//		idempotencytest.Run(t, func(t *testing.T, now func() time.Time) idempotency.Store {
//			return mystore.New(mystore.WithClock(now))
//		})
//	}
//
// Each promise is a subtest, and a failure says which rule was broken and how it was seen. The package's own tests break a
// good store in one way after another and see that the suite notices.
package idempotencytest

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sagamill/sagamill/idempotency"
)

// Run runs the suite. newStore is called once for each subtest, which run in parallel, and answers a store without
// records that takes its time from now; what it has to clean up, it leaves to t.Cleanup.
func Run(t *testing.T, newStore func(t *testing.T, now func() time.Time) idempotency.Store) {
	t.Helper()
	for _, c := range checks() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			clock := newClock()
			store := newStore(t, clock.now)
			if err := c.run(t.Context(), store, clock); err != nil {
				t.Errorf("the store breaks a rule:\n\t%s\nwhat was seen:\n\t%v", c.rule, err)
			}
		})
	}
}

// check is one promise.
type check struct {
	name string
	rule string
	test func(s *script) error
}

// run judges a store that has no records yet.
func (c check) run(ctx context.Context, store idempotency.Store, clock *clock) error {
	return c.test(&script{Store: store, ctx: ctx, clock: clock})
}

func checks() []check {
	var all []check
	for _, some := range [][]check{claimChecks, leaseChecks, responseChecks, ttlChecks, expireChecks, requestChecks, concurrencyChecks} {
		all = append(all, some...)
	}
	return all
}

// clock is the time of one subtest. It stands still but when it is moved.
type clock struct{ passed atomic.Int64 }

func newClock() *clock { return &clock{} }

func (c *clock) now() time.Time {
	return time.Date(2026, time.March, 29, 1, 30, 0, 0, time.UTC).Add(time.Duration(c.passed.Load()))
}

func (c *clock) advance(d time.Duration) { c.passed.Add(int64(d)) }

const (
	lease = 10 * time.Second
	ttl   = time.Hour
)

var (
	keyA   = idempotency.Key{Tenant: "acme", Route: "POST /v1/orders", Key: "a"}
	keyB   = idempotency.Key{Tenant: "acme", Route: "POST /v1/orders", Key: "b"}
	first  = idempotency.FingerprintOf([]byte("the request"))
	second = idempotency.FingerprintOf([]byte("another request"))
	none   = idempotency.Fingerprint{}
)

// script is a store in the hands of a check.
type script struct {
	idempotency.Store
	ctx   context.Context
	clock *clock
}

// expect answers an error unless Begin finds the state.
func (s *script) expect(want idempotency.State, key idempotency.Key, f idempotency.Fingerprint) (idempotency.Claim, error) {
	claim, err := s.Begin(s.ctx, key, f, lease)
	if err != nil {
		return claim, fmt.Errorf("Begin(%s): %w", key, err)
	}
	if claim.State != want {
		return claim, fmt.Errorf("Begin(%s) answers %q, want %q", key, claim.State, want)
	}
	if want == idempotency.Acquired && claim.Token == 0 {
		return claim, fmt.Errorf("Begin(%s) answers no token", key)
	}
	return claim, nil
}

// acquire claims a key that must be free.
func (s *script) acquire(key idempotency.Key, f idempotency.Fingerprint) (idempotency.Token, error) {
	claim, err := s.expect(idempotency.Acquired, key, f)
	return claim.Token, err
}

// completed leaves a completed record of a request with the fingerprint first, which holds what is given.
func (s *script) completed(key idempotency.Key, holds string) (idempotency.Token, error) {
	token, err := s.acquire(key, first)
	if err != nil {
		return 0, err
	}
	if err := s.Complete(s.ctx, key, token, completion("done", holds)); err != nil {
		return 0, fmt.Errorf("Complete(%s): %w", key, err)
	}
	return token, nil
}

func completion(body, holds string) idempotency.Completion {
	return idempotency.Completion{Response: idempotency.Response{Status: 201, Body: []byte(body)}, TTL: ttl, Holds: holds}
}

// expectBody answers an error unless the key is completed with this body.
func (s *script) expectBody(key idempotency.Key, body string) error {
	claim, err := s.expect(idempotency.Completed, key, first)
	if err != nil {
		return err
	}
	if string(claim.Response.Body) != body {
		return fmt.Errorf("Begin(%s) answers the body %q, want %q", key, claim.Response.Body, body)
	}
	return nil
}

// firstOf runs steps until one fails.
func firstOf(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}
