package inboxtest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sagamill/sagamill/saga"
)

const (
	callers = 32
	// patience is how long a caller that is refused, because another one is at work, tries again.
	patience = 30 * time.Second
)

func concurrencyChecks[T any]() []check[T] {
	return []check[T]{
		{"duplicates at once", "Of many commands for one effect at the same time, one takes effect, and all get its reply.", func(s *script[T]) error {
			replies := make([]saga.Reply, callers)
			err := each(callers, func(i int) (err error) {
				replies[i], err = s.insist(action, handler{writes: "a", result: fmt.Appendf(nil, "reply of %d", i)})
				return err
			})
			if err != nil {
				return err
			}
			for _, r := range replies {
				if !same(r, replies[0]) {
					return fmt.Errorf("two replies to one effect: %s and %s", show(r), show(replies[0]))
				}
			}
			return s.counts("a", 1)
		}},
		{"rejections at once", "Of many commands for one effect at the same time, one decides, also if it decides against.", func(s *script[T]) error {
			err := each(callers, func(int) error {
				_, err := s.insist(action, handler{writes: "a", err: saga.Reject("no")})
				return err
			})
			if err != nil {
				return err
			}
			return inOrder(
				func() error { return s.counts("a", 0) },
				func() error { return s.stored(action, rejected("no")) },
			)
		}},
		{"different effects at once", "Effects that are handled at the same time do not disturb each other.", func(s *script[T]) error {
			err := each(callers, func(i int) error {
				e := saga.Effect{ID: fmt.Sprint("effect-", i)}
				h := []handler{succeeds("good"), rejects("bad"), fails("worse")}[i%3]
				reply, err := s.insist(e, h)
				switch {
				case i%3 == 2 && errors.Is(err, errHandler):
					return nil
				case i%3 == 0 && reply.Outcome != saga.ReplySucceeded, i%3 == 1 && reply.Outcome != saga.ReplyRejected, i%3 == 2:
					return fmt.Errorf("%s: %s and error %w", name(e), show(reply), err)
				}
				return err
			})
			if err != nil {
				return err
			}
			return inOrder(
				func() error { return s.counts("good", (callers+2)/3) },
				func() error { return s.counts("bad", 0) },
				func() error { return s.counts("worse", 0) },
			)
		}},
		{"action and undo at once", "An action and its compensation at the same time: both take effect, or neither.", raceCheck[T]},
	}
}

func raceCheck[T any](s *script[T]) error {
	err := each(callers, func(i int) error {
		pair := i / 2
		e := saga.Effect{ID: fmt.Sprint("pair-", pair), Undo: i%2 == 1}
		h := succeeds(fmt.Sprint("action-", pair))
		if e.Undo {
			h = succeeds(fmt.Sprint("undo-", pair))
		}
		reply, err := s.insist(e, h)
		if err == nil && e.Undo && reply.Outcome != saga.ReplySucceeded {
			err = fmt.Errorf("%s: %s", name(e), show(reply))
		}
		return err
	})
	if err != nil {
		return err
	}
	for pair := range callers / 2 {
		done, err := s.Count(s.ctx, fmt.Sprint("action-", pair))
		if err != nil {
			return err
		}
		if err := s.counts(fmt.Sprint("undo-", pair), done); err != nil {
			return fmt.Errorf("the action of pair %d has been applied %d times: %w", pair, done, err)
		}
	}
	return nil
}

// insist handles a command until the inbox does not refuse it because another one is at work.
func (s *script[T]) insist(e saga.Effect, h handler) (saga.Reply, error) {
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	mine := &script[T]{Harness: s.Harness, ctx: ctx}
	for {
		reply, _, err := mine.handle(e, h)
		if err == nil || errors.Is(err, errHandler) || ctx.Err() != nil {
			return reply, err
		}
		time.Sleep(time.Millisecond)
	}
}

// each calls f from n goroutines that begin together.
func each(n int, f func(i int) error) error {
	var begin, end sync.WaitGroup
	begin.Add(n)
	errs := make([]error, n)
	for i := range n {
		end.Go(func() {
			begin.Done()
			begin.Wait()
			errs[i] = f(i)
		})
	}
	end.Wait()
	return errors.Join(errs...)
}
