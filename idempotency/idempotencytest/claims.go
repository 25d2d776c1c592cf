package idempotencytest

import (
	"errors"
	"fmt"

	"github.com/sagamill/sagamill/idempotency"
)

var claimChecks = []check{
	{"a free key is acquired, a claimed one is in flight", "Begin claims a key that has no record; until it is completed, released or its lease is over, another Begin is InFlight.", testClaim},
	{"RetryAfter is what is left of the lease", "InFlight says how long the other's lease will last by the store's clock.", testRetryAfter},
	{"a claim is of one key only", "A key is tenant, route and key, each compared as a whole.", testKeysDiffer},
	{"release frees the key", "After Release the key is as if never seen: also another request may claim it.", testRelease},
	{"release fences", "The token of a released claim is no good any more.", testReleaseFences},
	{"a token without a claim is fenced", "Renew, Complete and Release answer ErrFenced for a key that is not claimed, and create nothing.", testNeverClaimed},
	{"a wrong token is fenced", "Renew, Complete and Release answer ErrFenced to a token that is not that of the last claim, and change nothing.", testWrongToken},
	{"tokens grow", "Each token is greater than all before it, for whichever key, also after the record was released, lapsed or expired.", testTokensGrow},
}

func testClaim(s *script) error {
	if _, err := s.acquire(keyA, first); err != nil {
		return err
	}
	for range 2 {
		if _, err := s.expect(idempotency.InFlight, keyA, first); err != nil {
			return err
		}
	}
	return nil
}

func testRetryAfter(s *script) error {
	if _, err := s.acquire(keyA, first); err != nil {
		return err
	}
	for left := lease; left > 0; left -= lease / 5 {
		claim, err := s.expect(idempotency.InFlight, keyA, first)
		if err != nil {
			return err
		}
		if claim.RetryAfter != left {
			return fmt.Errorf("RetryAfter is %v, want %v", claim.RetryAfter, left)
		}
		s.clock.advance(lease / 5)
	}
	return nil
}

func testKeysDiffer(s *script) error {
	seen := map[idempotency.Token]idempotency.Key{}
	for _, k := range []idempotency.Key{
		{Tenant: "t", Route: "r", Key: "k"},
		{Tenant: "t2", Route: "r", Key: "k"},
		{Tenant: "t", Route: "r2", Key: "k"},
		{Tenant: "t", Route: "r", Key: "k2"},
		{Tenant: "t|r", Route: "k", Key: "x"},
		{Tenant: "t", Route: "r|k", Key: "x"},
		{Tenant: "t", Route: "r", Key: "k|x"},
		{Tenant: "t:r", Route: "k", Key: "x"},
		{Tenant: "t", Route: "r:k", Key: "x"},
		{Tenant: "tr", Route: "k", Key: "x"},
		{Tenant: "t", Route: "rk", Key: "x"},
	} {
		token, err := s.acquire(k, first)
		if err != nil {
			return fmt.Errorf("%#v: %w", k, err)
		}
		seen[token] = k
	}
	for token, k := range seen {
		if err := s.Complete(s.ctx, k, token, completion(k.String(), "")); err != nil {
			return fmt.Errorf("Complete(%#v): %w", k, err)
		}
	}
	for _, k := range seen {
		if err := s.expectBody(k, k.String()); err != nil {
			return fmt.Errorf("%#v: %w", k, err)
		}
	}
	return nil
}

func testRelease(s *script) error {
	token, err := s.acquire(keyA, first)
	if err != nil {
		return err
	}
	if err := s.Release(s.ctx, keyA, token); err != nil {
		return fmt.Errorf("Release: %w", err)
	}
	_, err = s.acquire(keyA, second)
	return err
}

func testReleaseFences(s *script) error {
	token, err := s.acquire(keyA, first)
	if err != nil {
		return err
	}
	if err := s.Release(s.ctx, keyA, token); err != nil {
		return fmt.Errorf("Release: %w", err)
	}
	if err := s.expectFenced(keyA, token); err != nil {
		return err
	}
	_, err = s.acquire(keyA, second)
	return err
}

func testNeverClaimed(s *script) error {
	for _, token := range []idempotency.Token{0, 1} {
		if err := s.expectFenced(keyA, token); err != nil {
			return err
		}
	}
	_, err := s.acquire(keyA, first)
	return err
}

func testWrongToken(s *script) error {
	token, err := s.acquire(keyA, first)
	if err != nil {
		return err
	}
	for _, wrong := range []idempotency.Token{0, token - 1, token + 1} {
		if err := s.expectFenced(keyA, wrong); err != nil {
			return err
		}
	}
	claim, err := s.expect(idempotency.InFlight, keyA, first)
	if err != nil {
		return err
	}
	if claim.RetryAfter != lease {
		return fmt.Errorf("a fenced Renew changed the lease: %v are left, want %v", claim.RetryAfter, lease)
	}
	if err := s.Complete(s.ctx, keyA, token, completion("done", "")); err != nil {
		return fmt.Errorf("Complete with the right token, after wrong ones: %w", err)
	}
	return s.expectBody(keyA, "done")
}

// expectFenced answers an error unless the token is refused by each call that takes one.
func (s *script) expectFenced(key idempotency.Key, token idempotency.Token) error {
	for _, call := range []struct {
		name string
		err  error
	}{
		{"Renew", s.Renew(s.ctx, key, token, 100*lease)},
		{"Complete", s.Complete(s.ctx, key, token, completion("fenced", ""))},
		{"Release", s.Release(s.ctx, key, token)},
	} {
		if !errors.Is(call.err, idempotency.ErrFenced) {
			return fmt.Errorf("%s(%s, token %d) answers %v, want ErrFenced", call.name, key, token, call.err)
		}
	}
	return nil
}

func testTokensGrow(s *script) error {
	var last idempotency.Token
	next := func(why string, key idempotency.Key) (idempotency.Token, error) {
		token, err := s.acquire(key, first)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", why, err)
		}
		if token <= last {
			return 0, fmt.Errorf("%s: the token is %d, after %d", why, token, last)
		}
		last = token
		return token, nil
	}
	var token idempotency.Token
	begin := func(why string, key idempotency.Key) func() error {
		return func() (err error) {
			token, err = next(why, key)
			return err
		}
	}
	release := func() error { return s.Release(s.ctx, keyA, token) }
	complete := func() error { return s.Complete(s.ctx, keyA, token, completion("", "")) }
	wait := func() error { s.clock.advance(2 * ttl); return nil }
	expire := func() error {
		s.clock.advance(2 * idempotency.AbandonedAfter)
		_, err := s.Expire(s.ctx, 100, nil)
		return err
	}
	return firstOf(
		begin("of a new key", keyA), release,
		begin("after Release", keyA), complete, wait,
		begin("after the TTL", keyA), wait,
		begin("at a takeover", keyA), expire,
		begin("after Expire of an abandoned claim", keyA), complete, expire,
		begin("after Expire of a completed record", keyA),
		begin("of another key", keyB), expire,
		begin("when the store is empty again", keyB),
	)
}
