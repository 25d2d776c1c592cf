package idempotencytest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sagamill/sagamill/idempotency"
)

var ttlChecks = []check{
	{"a response lapses after its TTL", "A completed record that holds nothing answers until its TTL is over; then the key is free, also for another request.", testTTL},
	{"what holds something does not lapse", "A completed record that holds something answers until Expire removes it, however old it is.", testHolds},
	{"TTLs must be positive", "Complete refuses a TTL of zero or less, and changes nothing.", testTTLPositive},
}

var expireChecks = []check{
	{"expire removes what is over", "Expire removes completed records after their TTL, not before, and says how many.", testExpire},
	{"expire keeps claims that may be taken over", "A claim is removed AbandonedAfter the end of its lease, not before.", testExpireAbandoned},
	{"expire removes at most limit", "Expire removes no more than limit records at once, and the rest when called again.", testExpireLimit},
	{"expire needs a limit", "Expire refuses a limit of zero or less, and removes nothing.", testExpireLimitPositive},
	{"nobody to ask keeps what is held", "With live nil, Expire removes no record that holds something.", testExpireWithoutLive},
	{"what is live is kept", "Expire removes a record that holds something once its TTL is over and live does not answer it.", testExpireLive},
	{"a failing live keeps what is held", "When live fails, Expire keeps what is held, removes the rest, and answers the error.", testExpireLiveFails},
	{"live records do not stand in the way", "However many live records are older, Expire gets to the settled ones.", testExpireBehindLive},
	{"live may use the store", "live is called outside of any transaction or lock, and what is claimed meanwhile is kept.", testExpireMeanwhile},
}

func testTTL(s *script) error {
	if _, err := s.completed(keyA, ""); err != nil {
		return err
	}
	s.clock.advance(ttl - time.Millisecond)
	if err := s.expectBody(keyA, "done"); err != nil {
		return fmt.Errorf("just before the end of the TTL: %w", err)
	}
	s.clock.advance(time.Millisecond)
	token, err := s.acquire(keyA, second)
	if err != nil {
		return fmt.Errorf("at the end of the TTL: %w", err)
	}
	if _, err := s.expect(idempotency.Mismatch, keyA, first); err != nil {
		return fmt.Errorf("the key is that of the new request now: %w", err)
	}
	if err := s.Release(s.ctx, keyA, token); err != nil {
		return fmt.Errorf("Release: %w", err)
	}
	_, err = s.acquire(keyA, first)
	return err
}

func testHolds(s *script) error {
	if _, err := s.completed(keyA, "saga-1"); err != nil {
		return err
	}
	s.clock.advance(10 * ttl)
	if err := s.expectBody(keyA, "done"); err != nil {
		return err
	}
	_, err := s.expect(idempotency.Mismatch, keyA, second)
	return err
}

func testTTLPositive(s *script) error {
	token, err := s.acquire(keyA, first)
	if err != nil {
		return err
	}
	for _, bad := range []time.Duration{0, -ttl} {
		if err := s.Complete(s.ctx, keyA, token, idempotency.Completion{TTL: bad}); err == nil {
			return fmt.Errorf("Complete with a TTL of %v answers nil", bad)
		}
	}
	_, err = s.expect(idempotency.InFlight, keyA, first)
	return err
}

// expire answers an error unless Expire removes that many.
func (s *script) expire(want, limit int, live idempotency.Live) error {
	removed, err := s.Expire(s.ctx, limit, live)
	if err != nil {
		return fmt.Errorf("Expire: %w", err)
	}
	if removed != want {
		return fmt.Errorf("Expire with limit %d removes %d, want %d", limit, removed, want)
	}
	return nil
}

// nth is one of many keys.
func nth(i int) idempotency.Key {
	return idempotency.Key{Tenant: "acme", Route: "POST /v1/orders", Key: fmt.Sprint(i)}
}

// fill leaves n completed records, nth(0) the oldest; holds says what each of them holds.
func (s *script) fill(n int, holds func(i int) string) error {
	for i := range n {
		if _, err := s.completed(nth(i), holds(i)); err != nil {
			return err
		}
		s.clock.advance(time.Millisecond)
	}
	return nil
}

func nothing(int) string { return "" }

func everySaga(i int) string { return fmt.Sprintf("saga-%d", i) }

// allBut answers what is not settled.
func allBut(settled ...string) idempotency.Live {
	return func(_ context.Context, holds []string) ([]string, error) {
		return slices.DeleteFunc(slices.Clone(holds), func(h string) bool { return slices.Contains(settled, h) }), nil
	}
}

func testExpire(s *script) error {
	if err := s.fill(3, nothing); err != nil {
		return err
	}
	s.clock.advance(ttl - time.Second)
	if err := s.expire(0, 100, nil); err != nil {
		return fmt.Errorf("before the end of the TTL: %w", err)
	}
	if _, err := s.completed(nth(3), ""); err != nil {
		return err
	}
	s.clock.advance(time.Second)
	if err := s.expire(3, 100, nil); err != nil {
		return fmt.Errorf("at the end of the TTL: %w", err)
	}
	if err := s.expectBody(nth(3), "done"); err != nil {
		return err
	}
	if _, err := s.acquire(nth(0), second); err != nil {
		return err
	}
	return s.expire(0, 100, nil)
}

func testExpireAbandoned(s *script) error {
	token, err := s.acquire(keyA, first)
	if err != nil {
		return err
	}
	s.clock.advance(lease + idempotency.AbandonedAfter - time.Millisecond)
	if err := s.expire(0, 100, allBut()); err != nil {
		return fmt.Errorf("before AbandonedAfter: %w", err)
	}
	if _, err := s.expect(idempotency.Mismatch, keyA, second); err != nil {
		return err
	}
	s.clock.advance(time.Millisecond)
	if err := s.expire(1, 100, nil); err != nil {
		return fmt.Errorf("at AbandonedAfter: %w", err)
	}
	if err := s.expectFenced(keyA, token); err != nil {
		return err
	}
	_, err = s.acquire(keyA, second)
	return err
}

func testExpireLimit(s *script) error {
	if err := s.fill(7, func(i int) string {
		if i%2 == 0 {
			return ""
		}
		return everySaga(i)
	}); err != nil {
		return err
	}
	s.clock.advance(ttl)
	nobody := func(context.Context, []string) ([]string, error) { return nil, nil }
	for call, want := range []int{3, 3, 1, 0} {
		if err := s.expire(want, 3, nobody); err != nil {
			return fmt.Errorf("call %d on 7 records that are over: %w", call+1, err)
		}
	}
	return nil
}

func testExpireLimitPositive(s *script) error {
	if err := s.fill(1, nothing); err != nil {
		return err
	}
	s.clock.advance(ttl)
	for _, bad := range []int{0, -1} {
		if removed, err := s.Expire(s.ctx, bad, nil); err == nil || removed != 0 {
			return fmt.Errorf("Expire with limit %d removes %d, error %v", bad, removed, err)
		}
	}
	return s.expire(1, 1, nil)
}

func testExpireWithoutLive(s *script) error {
	if err := s.fill(2, everySaga); err != nil {
		return err
	}
	s.clock.advance(10 * ttl)
	if err := s.expire(0, 100, nil); err != nil {
		return err
	}
	return s.expectBody(nth(1), "done")
}

func testExpireLive(s *script) error {
	if err := s.fill(3, everySaga); err != nil {
		return err
	}
	s.clock.advance(ttl - time.Second)
	if err := s.expire(0, 100, allBut("saga-0", "saga-1", "saga-2")); err != nil {
		return fmt.Errorf("before the end of the TTL: %w", err)
	}
	s.clock.advance(time.Second)
	if err := s.expire(1, 100, allBut("saga-1")); err != nil {
		return fmt.Errorf("with saga-1 settled: %w", err)
	}
	if _, err := s.acquire(nth(1), second); err != nil {
		return err
	}
	for _, i := range []int{0, 2} {
		if err := s.expectBody(nth(i), "done"); err != nil {
			return fmt.Errorf("saga-%d is live: %w", i, err)
		}
	}
	return s.expire(2, 100, allBut("saga-0", "saga-1", "saga-2"))
}

func testExpireLiveFails(s *script) error {
	if err := s.fill(4, func(i int) string {
		if i < 2 {
			return everySaga(i)
		}
		return ""
	}); err != nil {
		return err
	}
	s.clock.advance(ttl)
	away := errors.New("the saga store is away")
	removed, err := s.Expire(s.ctx, 100, func(context.Context, []string) ([]string, error) { return nil, away })
	if !errors.Is(err, away) {
		return fmt.Errorf("Expire answers error %v, want that of live", err)
	}
	if removed != 2 {
		return fmt.Errorf("Expire removes %d, want the 2 that hold nothing", removed)
	}
	for i := range 2 {
		if err := s.expectBody(nth(i), "done"); err != nil {
			return err
		}
	}
	return nil
}

func testExpireBehindLive(s *script) error {
	if err := s.fill(10, everySaga); err != nil {
		return err
	}
	s.clock.advance(ttl)
	for _, settled := range []int{9, 4} {
		if err := s.expire(1, 2, allBut(everySaga(settled))); err != nil {
			return fmt.Errorf("with saga-%d settled, of 10: %w", settled, err)
		}
	}
	return nil
}

func testExpireMeanwhile(s *script) error {
	if err := s.fill(2, everySaga); err != nil {
		return err
	}
	s.clock.advance(ttl)
	var token idempotency.Token
	asked := false
	err := s.expire(1, 100, func(ctx context.Context, _ []string) ([]string, error) {
		if asked {
			return nil, nil
		}
		asked = true
		// Another process removes the first, and its key is claimed for a new request.
		if err := s.expire(1, 100, allBut("saga-0")); err != nil {
			return nil, err
		}
		var err error
		token, err = s.acquire(nth(0), second)
		return nil, err
	})
	if err != nil {
		return err
	}
	if err := s.Renew(s.ctx, nth(0), token, lease); err != nil {
		return fmt.Errorf("Renew of the claim made meanwhile: %w", err)
	}
	return nil
}
