package idempotencytest

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/sagamill/sagamill/adapters/memory"
	"github.com/sagamill/sagamill/idempotency"
	"github.com/sagamill/sagamill/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func memoryStore(_ *testing.T, now func() time.Time) idempotency.Store {
	return memory.NewIdempotencyStore(memory.WithClock(now))
}

func TestGoodStorePasses(t *testing.T) {
	t.Parallel()
	Run(t, memoryStore)
}

// faulty is a good store but for the methods that are set.
type faulty struct {
	idempotency.Store
	begin    func(context.Context, idempotency.Key, idempotency.Fingerprint, time.Duration) (idempotency.Claim, error)
	renew    func(context.Context, idempotency.Key, idempotency.Token, time.Duration) error
	complete func(context.Context, idempotency.Key, idempotency.Token, idempotency.Completion) error
	release  func(context.Context, idempotency.Key, idempotency.Token) error
	expire   func(context.Context, int, idempotency.Live) (int, error)
}

func (f *faulty) Begin(ctx context.Context, k idempotency.Key, fp idempotency.Fingerprint, lease time.Duration) (idempotency.Claim, error) {
	if f.begin != nil {
		return f.begin(ctx, k, fp, lease)
	}
	return f.Store.Begin(ctx, k, fp, lease)
}

func (f *faulty) Renew(ctx context.Context, k idempotency.Key, t idempotency.Token, lease time.Duration) error {
	if f.renew != nil {
		return f.renew(ctx, k, t, lease)
	}
	return f.Store.Renew(ctx, k, t, lease)
}

func (f *faulty) Complete(ctx context.Context, k idempotency.Key, t idempotency.Token, c idempotency.Completion) error {
	if f.complete != nil {
		return f.complete(ctx, k, t, c)
	}
	return f.Store.Complete(ctx, k, t, c)
}

func (f *faulty) Release(ctx context.Context, k idempotency.Key, t idempotency.Token) error {
	if f.release != nil {
		return f.release(ctx, k, t)
	}
	return f.Store.Release(ctx, k, t)
}

func (f *faulty) Expire(ctx context.Context, limit int, live idempotency.Live) (int, error) {
	if f.expire != nil {
		return f.expire(ctx, limit, live)
	}
	return f.Store.Expire(ctx, limit, live)
}

// current remembers the last token of each key, for faults that ignore the one they are given.
type current struct {
	mu     sync.Mutex
	tokens map[idempotency.Key]idempotency.Token
}

func (c *current) of(k idempotency.Key) idempotency.Token {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tokens[k]
}

func remember(good idempotency.Store, f *faulty) *current {
	c := &current{tokens: map[idempotency.Key]idempotency.Token{}}
	f.begin = func(ctx context.Context, k idempotency.Key, fp idempotency.Fingerprint, lease time.Duration) (idempotency.Claim, error) {
		claim, err := good.Begin(ctx, k, fp, lease)
		if err == nil && claim.State == idempotency.Acquired {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.tokens[k] = claim.Token
		}
		return claim, err
	}
	return c
}

// plantTokenReset gives each key tokens of its own that start at 1, and again at 1 when its record was released.
func plantTokenReset(good idempotency.Store, f *faulty) {
	type key = idempotency.Key
	var mu sync.Mutex
	last := map[key]idempotency.Token{}
	inner := map[key]map[idempotency.Token]idempotency.Token{}
	real := func(k key, t idempotency.Token) idempotency.Token {
		mu.Lock()
		defer mu.Unlock()
		return inner[k][t]
	}
	f.begin = func(ctx context.Context, k key, fp idempotency.Fingerprint, lease time.Duration) (idempotency.Claim, error) {
		claim, err := good.Begin(ctx, k, fp, lease)
		if claim.State != idempotency.Acquired {
			return claim, err
		}
		mu.Lock()
		defer mu.Unlock()
		last[k]++
		if inner[k] == nil {
			inner[k] = map[idempotency.Token]idempotency.Token{}
		}
		inner[k][last[k]] = claim.Token
		claim.Token = last[k]
		return claim, err
	}
	f.renew = func(ctx context.Context, k key, t idempotency.Token, lease time.Duration) error {
		return good.Renew(ctx, k, real(k, t), lease)
	}
	f.complete = func(ctx context.Context, k key, t idempotency.Token, c idempotency.Completion) error {
		return good.Complete(ctx, k, real(k, t), c)
	}
	f.release = func(ctx context.Context, k key, t idempotency.Token) error {
		err := good.Release(ctx, k, real(k, t))
		if err == nil {
			mu.Lock()
			defer mu.Unlock()
			delete(last, k)
			delete(inner, k)
		}
		return err
	}
}

// plantSharedResponses answers the very response that was given to Complete.
func plantSharedResponses(good idempotency.Store, f *faulty) {
	var mu sync.Mutex
	given := map[idempotency.Key]idempotency.Response{}
	f.begin = func(ctx context.Context, k idempotency.Key, fp idempotency.Fingerprint, lease time.Duration) (idempotency.Claim, error) {
		claim, err := good.Begin(ctx, k, fp, lease)
		mu.Lock()
		defer mu.Unlock()
		if claim.State == idempotency.Completed {
			claim.Response = given[k]
		}
		return claim, err
	}
	f.complete = func(ctx context.Context, k idempotency.Key, t idempotency.Token, c idempotency.Completion) error {
		mu.Lock()
		defer mu.Unlock()
		given[k] = c.Response
		return good.Complete(ctx, k, t, c)
	}
}
