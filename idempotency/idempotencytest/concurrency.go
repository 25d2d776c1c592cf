package idempotencytest

import (
	"errors"
	"fmt"
	"sync"

	"github.com/sagamill/sagamill/idempotency"
)

var concurrencyChecks = []check{
	{"of many at once one is acquired", "Of any number of Begins at once exactly one claims a free key; the others are InFlight.", testRaceToClaim},
	{"of many at once one takes over", "Of any number of Begins at once exactly one takes over a claim whose lease is over.", testRaceToTakeOver},
	{"of many at once one ends the claim", "Of Completes and Releases at once, the one that comes first counts; the others are fenced.", testRaceToEnd},
	{"tokens are never given twice", "Of any number of claims of different keys at once, each has a token of its own.", testRaceForTokens},
}

const crowd = 64

// atOnce runs n calls at the same time and answers their errors.
func atOnce(n int, call func(i int) error) error {
	errs := make([]error, n)
	start := make(chan struct{})
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			<-start
			errs[i] = call(i)
		})
	}
	close(start)
	all.Wait()
	return errors.Join(errs...)
}

// race answers the token of the only one of a crowd that claims the key.
func (s *script) race(key idempotency.Key) (idempotency.Token, error) {
	claims := make([]idempotency.Claim, crowd)
	err := atOnce(crowd, func(i int) (err error) {
		claims[i], err = s.Begin(s.ctx, key, first, lease)
		return err
	})
	if err != nil {
		return 0, err
	}
	count := map[idempotency.State]int{}
	var token idempotency.Token
	for _, c := range claims {
		count[c.State]++
		if c.State == idempotency.Acquired {
			token = c.Token
		}
	}
	if count[idempotency.Acquired] != 1 || count[idempotency.InFlight] != crowd-1 {
		return 0, fmt.Errorf("of %d Begins at once %d are acquired and %d in flight, want 1 and %d",
			crowd, count[idempotency.Acquired], count[idempotency.InFlight], crowd-1)
	}
	return token, nil
}

func testRaceToClaim(s *script) error {
	for i := range 3 {
		token, err := s.race(nth(i))
		if err != nil {
			return err
		}
		if err := s.Renew(s.ctx, nth(i), token, lease); err != nil {
			return fmt.Errorf("Renew of the one: %w", err)
		}
	}
	return nil
}

func testRaceToTakeOver(s *script) error {
	old, err := s.acquire(keyA, first)
	if err != nil {
		return err
	}
	s.clock.advance(lease)
	token, err := s.race(keyA)
	if err != nil {
		return err
	}
	if token <= old {
		return fmt.Errorf("the takeover has token %d, the claim before it %d", token, old)
	}
	return s.expectFenced(keyA, old)
}

func testRaceToEnd(s *script) error {
	token, err := s.acquire(keyA, first)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	completed, released := 0, 0
	err = atOnce(crowd, func(i int) error {
		var err error
		count := &completed
		if i%2 == 0 {
			err = s.Complete(s.ctx, keyA, token, completion("done", ""))
		} else {
			err = s.Release(s.ctx, keyA, token)
			count = &released
		}
		if errors.Is(err, idempotency.ErrFenced) {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		*count++
		return err
	})
	if err != nil {
		return err
	}
	switch {
	case completed == crowd/2 && released == 0:
		return s.expectBody(keyA, "done")
	case completed == 0 && released == 1:
		_, err := s.acquire(keyA, second)
		return err
	}
	return fmt.Errorf("%d Completes and %d Releases of one claim succeed, want all Completes and no Release, or one Release and no Complete", completed, released)
}

func testRaceForTokens(s *script) error {
	tokens := make([]idempotency.Token, crowd)
	err := atOnce(crowd, func(i int) (err error) {
		tokens[i], err = s.acquire(nth(i), first)
		return err
	})
	if err != nil {
		return err
	}
	seen := map[idempotency.Token]bool{}
	for _, t := range tokens {
		if seen[t] {
			return fmt.Errorf("two claims have token %d", t)
		}
		seen[t] = true
	}
	return nil
}
