package idempotencytest

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/sagamill/sagamill/idempotency"
)

var requestChecks = []check{
	{"another request is a mismatch", "A request with another fingerprint than the one on record is a Mismatch, in progress and completed, and changes nothing.", testMismatch},
	{"no fingerprint matches any", "A request without fingerprint matches any record, and a record without matches any request.", testNoFingerprint},
	{"a takeover keeps the fingerprint", "A fingerprint once known is not forgotten when a request without takes the key over.", testTakeoverKeepsFingerprint},
	{"keys are compared byte by byte", "No case folding, no trimming, no Unicode normalization, no truncation.", testKeyBytes},
	{"an invalid key is refused", "Begin answers a *KeyError for a key that Key.Validate refuses.", testInvalidKey},
	{"a cancelled call changes nothing", "A call whose context is already cancelled answers its error and changes nothing.", testCancelled},
}

func testMismatch(s *script) error {
	token, err := s.acquire(keyA, first)
	if err != nil {
		return err
	}
	s.clock.advance(lease / 2)
	if _, err := s.expect(idempotency.Mismatch, keyA, second); err != nil {
		return fmt.Errorf("in progress: %w", err)
	}
	claim, err := s.expect(idempotency.InFlight, keyA, first)
	if err != nil {
		return err
	}
	if claim.RetryAfter != lease/2 {
		return fmt.Errorf("the Mismatch changed the lease: %v are left, want %v", claim.RetryAfter, lease/2)
	}
	if err := s.Complete(s.ctx, keyA, token, completion("done", "")); err != nil {
		return fmt.Errorf("Complete: %w", err)
	}
	claim, err = s.expect(idempotency.Mismatch, keyA, second)
	if err != nil {
		return fmt.Errorf("completed: %w", err)
	}
	if len(claim.Response.Body) > 0 {
		return fmt.Errorf("the Mismatch gives away the response of the other request: %q", claim.Response.Body)
	}
	return s.expectBody(keyA, "done")
}

func testNoFingerprint(s *script) error {
	for _, keys := range []struct {
		key            idempotency.Key
		before, behind idempotency.Fingerprint
	}{{keyA, none, second}, {keyB, first, none}} {
		token, err := s.acquire(keys.key, keys.before)
		if err != nil {
			return err
		}
		if _, err := s.expect(idempotency.InFlight, keys.key, keys.behind); err != nil {
			return err
		}
		if err := s.Complete(s.ctx, keys.key, token, completion("done", "")); err != nil {
			return fmt.Errorf("Complete: %w", err)
		}
		if _, err := s.expect(idempotency.Completed, keys.key, keys.behind); err != nil {
			return err
		}
	}
	return nil
}

func testTakeoverKeepsFingerprint(s *script) error {
	if _, err := s.acquire(keyA, first); err != nil {
		return err
	}
	s.clock.advance(lease)
	if _, err := s.acquire(keyA, none); err != nil {
		return err
	}
	if _, err := s.expect(idempotency.Mismatch, keyA, second); err != nil {
		return err
	}
	_, err := s.expect(idempotency.InFlight, keyA, first)
	return err
}

func testKeyBytes(s *script) error {
	long := strings.Repeat("x", idempotency.MaxKey-1)
	seen := map[idempotency.Token]bool{}
	for _, parts := range []string{
		"a", "A", "a ", " a", "ä", "a\u0308", "Ä", "ß", "ss", "İ", "i", "☕", "%", "_", "'", `\`, `"`, long + "1", long + "2",
	} {
		for _, key := range []idempotency.Key{
			{Tenant: parts, Route: "r", Key: "k"}, {Tenant: "t", Route: parts, Key: "k"}, {Tenant: "t", Route: "r", Key: parts},
		} {
			token, err := s.acquire(key, first)
			if err != nil {
				return err
			}
			if seen[token] {
				return fmt.Errorf("Begin(%s) answers a token that another key has", key)
			}
			seen[token] = true
			if err := s.Renew(s.ctx, key, token, lease); err != nil {
				return fmt.Errorf("Renew(%s): %w", key, err)
			}
		}
	}
	longest := idempotency.Key{Tenant: strings.Repeat("t", idempotency.MaxTenant), Route: strings.Repeat("r", idempotency.MaxRoute), Key: strings.Repeat("k", idempotency.MaxKey)}
	if _, err := s.acquire(longest, first); err != nil {
		return fmt.Errorf("the longest key: %w", err)
	}
	return nil
}

func testInvalidKey(s *script) error {
	for _, key := range []idempotency.Key{
		{}, {Tenant: "t", Route: "r"}, {Tenant: "t", Key: "k"}, {Route: "r", Key: "k"},
		{Tenant: "t", Route: "r", Key: strings.Repeat("k", idempotency.MaxKey+1)},
		{Tenant: "t\x00", Route: "r", Key: "k"}, {Tenant: "\xff", Route: "r", Key: "k"},
	} {
		claim, err := s.Begin(s.ctx, key, first, lease)
		if _, ok := errors.AsType[*idempotency.KeyError](err); !ok {
			return fmt.Errorf("Begin(%#v) answers %q, error %v, want a *KeyError", key, claim.State, err)
		}
	}
	return nil
}

func testCancelled(s *script) error {
	cancelled, cancel := context.WithCancel(s.ctx)
	cancel()
	if _, err := s.Begin(cancelled, keyA, second, lease); !errors.Is(err, context.Canceled) {
		return fmt.Errorf("Begin answers error %v, want context.Canceled", err)
	}
	token, err := s.acquire(keyA, first)
	if err != nil {
		return fmt.Errorf("after a cancelled Begin: %w", err)
	}
	s.clock.advance(lease / 2)
	_, expireErr := s.Expire(cancelled, 1, nil)
	for _, call := range []struct {
		name string
		err  error
	}{
		{"Renew", s.Renew(cancelled, keyA, token, lease)},
		{"Complete", s.Complete(cancelled, keyA, token, completion("done", ""))},
		{"Release", s.Release(cancelled, keyA, token)},
		{"Expire", expireErr},
	} {
		if !errors.Is(call.err, context.Canceled) {
			return fmt.Errorf("%s answers error %v, want context.Canceled", call.name, call.err)
		}
	}
	claim, err := s.expect(idempotency.InFlight, keyA, first)
	if err == nil && claim.RetryAfter != lease/2 {
		err = fmt.Errorf("a cancelled Renew changed the lease: %v are left, want %v", claim.RetryAfter, lease/2)
	}
	return err
}
