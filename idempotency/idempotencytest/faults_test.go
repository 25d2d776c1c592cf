package idempotencytest

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/idempotency"
)

func TestFaultsAreNoticed(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	red := map[string]bool{}
	t.Run("faults", func(t *testing.T) {
		for name, fault := range faults {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				var noticed []string
				synctest.Test(t, func(t *testing.T) {
					for _, c := range checks() {
						clock := newClock()
						f := &faulty{Store: memoryStore(t, clock.now)}
						fault.plant(f.Store, f)
						if err := c.run(t.Context(), f, clock); err != nil {
							noticed = append(noticed, c.name)
						}
					}
				})
				require.Subset(t, noticed, fault.noticed)
				mu.Lock()
				defer mu.Unlock()
				for _, n := range noticed {
					red[n] = true
				}
			})
		}
	})
	for _, c := range checks() {
		require.True(t, red[c.name], "no fault makes this check fail: %s", c.name)
	}
}

// faults are ways to break a good store, and a check that must notice each; more of them may.
var faults = map[string]struct {
	plant   func(good idempotency.Store, f *faulty)
	noticed []string
}{
	"no fence on Renew": {func(good idempotency.Store, f *faulty) {
		c := remember(good, f)
		f.renew = func(ctx context.Context, k idempotency.Key, _ idempotency.Token, lease time.Duration) error {
			return good.Renew(ctx, k, c.of(k), lease)
		}
	}, []string{"a takeover fences the one before", "a wrong token is fenced"}},
	"no fence on Complete": {func(good idempotency.Store, f *faulty) {
		c := remember(good, f)
		f.complete = func(ctx context.Context, k idempotency.Key, _ idempotency.Token, completion idempotency.Completion) error {
			return good.Complete(ctx, k, c.of(k), completion)
		}
	}, []string{"a takeover fences the one before", "a wrong token is fenced"}},
	"no fence on Release": {func(good idempotency.Store, f *faulty) {
		c := remember(good, f)
		f.release = func(ctx context.Context, k idempotency.Key, _ idempotency.Token) error {
			return good.Release(ctx, k, c.of(k))
		}
	}, []string{"a takeover fences the one before", "a wrong token is fenced"}},
	"Renew does nothing": {func(_ idempotency.Store, f *faulty) {
		f.renew = func(context.Context, idempotency.Key, idempotency.Token, time.Duration) error { return nil }
	}, []string{"renew makes the claim last from now", "a token without a claim is fenced", "leases must be positive", "release fences"}},
	"Renew fenced by time": {func(good idempotency.Store, f *faulty) {
		f.renew = func(ctx context.Context, k idempotency.Key, t idempotency.Token, lease time.Duration) error {
			if claim, _ := good.Begin(ctx, k, first, lease); claim.State == idempotency.Acquired {
				return idempotency.ErrFenced
			}
			return good.Renew(ctx, k, t, lease)
		}
	}, []string{"a lease that is over fences nobody by itself"}},
	"tokens of each key start again when its record is removed": {plantTokenReset, []string{"tokens grow"}},
	"tokens of each key are counted apart":                      {plantTokenReset, []string{"tokens are never given twice", "keys are compared byte by byte"}},
	"claims look before they write": {func(good idempotency.Store, f *faulty) {
		var mu sync.Mutex
		seen := map[idempotency.Key]bool{}
		look := func(k idempotency.Key) bool { mu.Lock(); defer mu.Unlock(); return seen[k] }
		write := func(k idempotency.Key) { mu.Lock(); defer mu.Unlock(); seen[k] = true }
		f.begin = func(ctx context.Context, k idempotency.Key, fp idempotency.Fingerprint, lease time.Duration) (idempotency.Claim, error) {
			free := !look(k)
			time.Sleep(time.Second) // in the bubble's time: until all others have looked, too
			write(k)
			claim, err := good.Begin(ctx, k, fp, lease)
			if free && claim.State == idempotency.InFlight {
				claim = idempotency.Claim{State: idempotency.Acquired, Token: 1}
			}
			return claim, err
		}
	}, []string{"of many at once one is acquired"}},
	"a fresh claim can be claimed again": {func(good idempotency.Store, f *faulty) {
		f.begin = func(ctx context.Context, k idempotency.Key, fp idempotency.Fingerprint, lease time.Duration) (idempotency.Claim, error) {
			claim, err := good.Begin(ctx, k, fp, lease)
			if claim.State == idempotency.InFlight && claim.RetryAfter == lease {
				claim = idempotency.Claim{State: idempotency.Acquired, Token: 1}
			}
			return claim, err
		}
	}, []string{"a free key is acquired, a claimed one is in flight", "of many at once one takes over"}},
	"claims never end": {func(good idempotency.Store, f *faulty) {
		f.begin = func(ctx context.Context, k idempotency.Key, fp idempotency.Fingerprint, lease time.Duration) (idempotency.Claim, error) {
			return good.Begin(ctx, k, fp, 1000*lease)
		}
	}, []string{"RetryAfter is what is left of the lease", "a lease that is over can be taken over"}},
	"no fingerprints": {func(good idempotency.Store, f *faulty) {
		f.begin = func(ctx context.Context, k idempotency.Key, _ idempotency.Fingerprint, lease time.Duration) (idempotency.Claim, error) {
			return good.Begin(ctx, k, none, lease)
		}
	}, []string{"another request is a mismatch", "an abandoned claim is not for another request", "a takeover keeps the fingerprint"}},
	"fingerprints always": {func(good idempotency.Store, f *faulty) {
		f.begin = func(ctx context.Context, k idempotency.Key, fp idempotency.Fingerprint, lease time.Duration) (idempotency.Claim, error) {
			return good.Begin(ctx, k, idempotency.FingerprintOf(fp[:]), lease)
		}
	}, []string{"no fingerprint matches any"}},
	"keys folded": {func(good idempotency.Store, f *faulty) {
		f.begin = func(ctx context.Context, k idempotency.Key, fp idempotency.Fingerprint, lease time.Duration) (idempotency.Claim, error) {
			k.Key = strings.TrimSpace(strings.ToLower(k.Key))
			return good.Begin(ctx, k, fp, lease)
		}
	}, []string{"keys are compared byte by byte"}},
	"keys joined": {func(good idempotency.Store, f *faulty) {
		f.begin = func(ctx context.Context, k idempotency.Key, fp idempotency.Fingerprint, lease time.Duration) (idempotency.Claim, error) {
			return good.Begin(ctx, idempotency.Key{Tenant: "-", Route: "-", Key: k.Tenant + "|" + k.Route + "|" + k.Key}, fp, lease)
		}
	}, []string{"a claim is of one key only"}},
	"any key will do": {func(good idempotency.Store, f *faulty) {
		f.begin = func(ctx context.Context, k idempotency.Key, fp idempotency.Fingerprint, lease time.Duration) (idempotency.Claim, error) {
			if k.Validate() != nil {
				k = keyA
			}
			return good.Begin(ctx, k, fp, lease)
		}
	}, []string{"an invalid key is refused"}},
	"contexts ignored": {func(good idempotency.Store, f *faulty) {
		f.complete = func(ctx context.Context, k idempotency.Key, t idempotency.Token, c idempotency.Completion) error {
			return good.Complete(context.WithoutCancel(ctx), k, t, c)
		}
	}, []string{"a cancelled call changes nothing"}},
	"one value for each header": {func(good idempotency.Store, f *faulty) {
		f.complete = func(ctx context.Context, k idempotency.Key, t idempotency.Token, c idempotency.Completion) error {
			h := http.Header{}
			for name := range c.Response.Header {
				h.Set(name, c.Response.Header.Get(name))
			}
			c.Response.Header = h
			return good.Complete(ctx, k, t, c)
		}
	}, []string{"the response comes back as it was stored"}},
	"bodies are text": {func(good idempotency.Store, f *faulty) {
		f.complete = func(ctx context.Context, k idempotency.Key, t idempotency.Token, c idempotency.Completion) error {
			c.Response.Body = []byte(strings.ToValidUTF8(string(c.Response.Body), "\uFFFD"))
			return good.Complete(ctx, k, t, c)
		}
	}, []string{"the response comes back as it was stored"}},
	"the response is not copied": {plantSharedResponses, []string{"the caller may reuse its memory"}},
	"a repeated Complete is fenced": {func(good idempotency.Store, f *faulty) {
		var mu sync.Mutex
		done := map[idempotency.Token]bool{}
		f.complete = func(ctx context.Context, k idempotency.Key, t idempotency.Token, c idempotency.Completion) error {
			mu.Lock()
			defer mu.Unlock()
			if done[t] {
				return idempotency.ErrFenced
			}
			err := good.Complete(ctx, k, t, c)
			done[t] = err == nil
			return err
		}
	}, []string{"what was stored first stands"}},
	"a completed key can be released": {func(good idempotency.Store, f *faulty) {
		f.release = func(ctx context.Context, k idempotency.Key, t idempotency.Token) error {
			if err := good.Release(ctx, k, t); !errors.Is(err, idempotency.ErrFenced) {
				return err
			}
			return nil
		}
	}, []string{"a completed key is not held", "of many at once one ends the claim"}},
	"Release keeps the record": {func(good idempotency.Store, f *faulty) {
		f.release = func(ctx context.Context, k idempotency.Key, t idempotency.Token) error {
			return good.Renew(ctx, k, t, time.Nanosecond)
		}
	}, []string{"release frees the key"}},
	"Complete takes any TTL": {func(good idempotency.Store, f *faulty) {
		f.complete = func(ctx context.Context, k idempotency.Key, t idempotency.Token, c idempotency.Completion) error {
			c.TTL = max(c.TTL, ttl)
			return good.Complete(ctx, k, t, c)
		}
	}, []string{"TTLs must be positive"}},
	"responses are for ever": {func(good idempotency.Store, f *faulty) {
		f.complete = func(ctx context.Context, k idempotency.Key, t idempotency.Token, c idempotency.Completion) error {
			c.TTL *= 1000
			return good.Complete(ctx, k, t, c)
		}
	}, []string{"a response lapses after its TTL", "expire removes what is over"}},
	"Holds is forgotten": {func(good idempotency.Store, f *faulty) {
		f.complete = func(ctx context.Context, k idempotency.Key, t idempotency.Token, c idempotency.Completion) error {
			c.Holds = ""
			return good.Complete(ctx, k, t, c)
		}
	}, []string{"what holds something does not lapse", "nobody to ask keeps what is held", "what is live is kept"}},
	"live is not asked": {func(good idempotency.Store, f *faulty) {
		f.expire = func(ctx context.Context, limit int, _ idempotency.Live) (int, error) {
			return good.Expire(ctx, limit, func(context.Context, []string) ([]string, error) { return nil, nil })
		}
	}, []string{"nobody to ask keeps what is held", "what is live is kept", "a failing live keeps what is held"}},
	"an error of live means settled": {func(good idempotency.Store, f *faulty) {
		f.expire = func(ctx context.Context, limit int, live idempotency.Live) (int, error) {
			if live == nil {
				return good.Expire(ctx, limit, nil)
			}
			return good.Expire(ctx, limit, func(ctx context.Context, holds []string) ([]string, error) {
				alive, _ := live(ctx, holds)
				return alive, nil
			})
		}
	}, []string{"a failing live keeps what is held"}},
	"Expire has no limit": {func(good idempotency.Store, f *faulty) {
		f.expire = func(ctx context.Context, _ int, live idempotency.Live) (int, error) {
			return good.Expire(ctx, 1<<20, live)
		}
	}, []string{"expire removes at most limit", "expire needs a limit"}},
	"Expire stops at the first page": {func(good idempotency.Store, f *faulty) {
		f.expire = func(ctx context.Context, limit int, live idempotency.Live) (int, error) {
			asked := false
			if live == nil {
				return good.Expire(ctx, limit, nil)
			}
			return good.Expire(ctx, limit, func(ctx context.Context, holds []string) ([]string, error) {
				if asked {
					return holds, nil
				}
				asked = true
				return live(ctx, holds)
			})
		}
	}, []string{"live records do not stand in the way"}},
	"Expire removes claims at the end of their lease": {func(good idempotency.Store, f *faulty) {
		c := remember(good, f)
		f.expire = func(ctx context.Context, limit int, live idempotency.Live) (int, error) {
			n, err := good.Expire(ctx, limit, live)
			if claim, _ := good.Begin(ctx, keyA, none, lease); claim.State == idempotency.Acquired {
				c.tokens[keyA] = claim.Token
				_ = good.Release(ctx, keyA, claim.Token)
				n++
			}
			return n, err
		}
	}, []string{"expire keeps claims that may be taken over"}},
	"Expire removes what was claimed meanwhile": {func(good idempotency.Store, f *faulty) {
		c := remember(good, f)
		f.expire = func(ctx context.Context, limit int, live idempotency.Live) (int, error) {
			n, err := good.Expire(ctx, limit, live)
			_ = good.Release(ctx, nth(0), c.of(nth(0)))
			return n, err
		}
	}, []string{"live may use the store"}},
}
