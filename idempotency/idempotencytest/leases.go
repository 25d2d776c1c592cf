package idempotencytest

import (
	"fmt"
	"time"

	"github.com/sagamill/sagamill/idempotency"
)

var leaseChecks = []check{
	{"a lease that is over can be taken over", "Once a claim's lease is over, and not before, the same request may claim the key, with a greater token.", testTakeover},
	{"a takeover fences the one before", "After a takeover Renew, Complete and Release of the earlier claim answer ErrFenced and change nothing.", testTakeoverFences},
	{"a lease that is over fences nobody by itself", "As long as nobody took the key over, its last token is good.", testLateHolder},
	{"renew makes the claim last from now", "Renew sets the lease anew, counted from now.", testRenew},
	{"an abandoned claim is not for another request", "A takeover is for the same request only; another one is a Mismatch also when the lease is over.", testAbandonedMismatch},
	{"leases must be positive", "Begin and Renew refuse a lease of zero or less, and change nothing.", testLeasePositive},
}

func testTakeover(s *script) error {
	token, err := s.acquire(keyA, first)
	if err != nil {
		return err
	}
	s.clock.advance(lease - time.Millisecond)
	if _, err := s.expect(idempotency.InFlight, keyA, first); err != nil {
		return fmt.Errorf("just before the end of the lease: %w", err)
	}
	s.clock.advance(time.Millisecond)
	taken, err := s.acquire(keyA, first)
	if err != nil {
		return fmt.Errorf("at the end of the lease: %w", err)
	}
	if taken <= token {
		return fmt.Errorf("the takeover has token %d, the claim before it %d", taken, token)
	}
	_, err = s.expect(idempotency.InFlight, keyA, first)
	return err
}

func testTakeoverFences(s *script) error {
	old, err := s.acquire(keyA, first)
	if err != nil {
		return err
	}
	s.clock.advance(lease)
	token, err := s.acquire(keyA, first)
	if err != nil {
		return err
	}
	if err := s.expectFenced(keyA, old); err != nil {
		return err
	}
	claim, err := s.expect(idempotency.InFlight, keyA, first)
	if err != nil {
		return err
	}
	if claim.RetryAfter != lease {
		return fmt.Errorf("a fenced Renew changed the lease: %v are left, want %v", claim.RetryAfter, lease)
	}
	if err := s.Complete(s.ctx, keyA, token, completion("by the later", "")); err != nil {
		return fmt.Errorf("Complete of the later claim: %w", err)
	}
	if err := s.expectFenced(keyA, old); err != nil {
		return fmt.Errorf("after the later one completed: %w", err)
	}
	return s.expectBody(keyA, "by the later")
}

func testLateHolder(s *script) error {
	token, err := s.acquire(keyA, first)
	if err != nil {
		return err
	}
	s.clock.advance(2 * lease)
	if err := s.Renew(s.ctx, keyA, token, lease); err != nil {
		return fmt.Errorf("Renew after the lease: %w", err)
	}
	if _, err := s.expect(idempotency.InFlight, keyA, first); err != nil {
		return err
	}
	s.clock.advance(2 * lease)
	if err := s.Complete(s.ctx, keyA, token, completion("late", "")); err != nil {
		return fmt.Errorf("Complete after the lease: %w", err)
	}
	return s.expectBody(keyA, "late")
}

func testRenew(s *script) error {
	token, err := s.acquire(keyA, first)
	if err != nil {
		return err
	}
	for range 5 {
		s.clock.advance(lease - time.Millisecond)
		if err := s.Renew(s.ctx, keyA, token, lease); err != nil {
			return fmt.Errorf("Renew: %w", err)
		}
		claim, err := s.expect(idempotency.InFlight, keyA, first)
		if err != nil {
			return err
		}
		if claim.RetryAfter != lease {
			return fmt.Errorf("after Renew %v are left of the lease, want %v", claim.RetryAfter, lease)
		}
	}
	s.clock.advance(lease)
	_, err = s.acquire(keyA, first)
	return err
}

func testAbandonedMismatch(s *script) error {
	if _, err := s.acquire(keyA, first); err != nil {
		return err
	}
	s.clock.advance(lease)
	if _, err := s.expect(idempotency.Mismatch, keyA, second); err != nil {
		return err
	}
	_, err := s.acquire(keyA, first)
	return err
}

func testLeasePositive(s *script) error {
	for _, bad := range []time.Duration{0, -lease} {
		if claim, err := s.Begin(s.ctx, keyA, first, bad); err == nil {
			return fmt.Errorf("Begin with a lease of %v answers %q", bad, claim.State)
		}
	}
	token, err := s.acquire(keyA, first)
	if err != nil {
		return err
	}
	for _, bad := range []time.Duration{0, -lease} {
		if err := s.Renew(s.ctx, keyA, token, bad); err == nil {
			return fmt.Errorf("Renew with a lease of %v answers nil", bad)
		}
	}
	_, err = s.expect(idempotency.InFlight, keyA, first)
	return err
}
