package inboxtest

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/sagamill/sagamill/saga"
)

func rollbackChecks[T any]() []check[T] {
	return []check[T]{
		{"rejection", "A rejection takes back what the handler wrote, and is itself stored.", func(s *script[T]) error {
			return inOrder(
				func() error { return s.run(action, rejects("a"), rejected("no a")) },
				func() error { return s.counts("a", 0) },
				func() error { return s.stored(action, rejected("no a")) },
			)
		}},
		{"wrapped rejection", "A rejection is found through wrapping.", func(s *script[T]) error {
			wrapped := fmt.Errorf("book: %w", errors.Join(errHandler, saga.Reject("sold out")))
			return inOrder(
				func() error { return s.run(action, handler{writes: "a", err: wrapped}, rejected("sold out")) },
				func() error { return s.stored(action, rejected("sold out")) },
				func() error { return s.counts("a", 0) },
			)
		}},
		{"reason of any text", "A rejection is stored whatever its reason says, which may come from outside: what the database does not take is left out.", func(s *script[T]) error {
			first, _, err := s.handle(action, handler{writes: "a", err: saga.Reject("no such sku \x00\xff")})
			switch {
			case err != nil:
				return err
			case first.Outcome != saga.ReplyRejected || !strings.HasPrefix(first.Reason, "no such sku "):
				return fmt.Errorf("the reply is %s", show(first))
			}
			return s.stored(action, first)
		}},
		{"failure", "A failure takes back what the handler wrote, is not stored, and Handle returns the error.", func(s *script[T]) error {
			return inOrder(
				func() error { return s.fail(action, fails("a")) },
				func() error { return s.counts("a", 0) },
				func() error { return s.fail(action, fails("a")) },
				func() error { return s.run(action, succeeds("a"), succeeded("reply of a")) },
				func() error { return s.counts("a", 1) },
			)
		}},
		{"panic", "A panic takes back what the handler wrote, is not stored, and leaves the inbox at work.", func(s *script[T]) error {
			return inOrder(
				func() error {
					if s.survive(action, handler{writes: "a", panics: true}) == nil {
						return errors.New("the handler panicked, and Handle returned no error")
					}
					return nil
				},
				func() error { return s.counts("a", 0) },
				func() error { return s.run(action, succeeds("a"), succeeded("reply of a")) },
				func() error { return s.counts("a", 1) },
			)
		}},
		{"several writes", "All that a handler wrote is taken back, and with it what it wrote before it failed.", func(s *script[T]) error {
			for i, answer := range []error{saga.Reject("no"), errHandler} {
				e := saga.Effect{ID: fmt.Sprint("several-", i)}
				_, err := s.Inbox.Handle(s.ctx, e, func(ctx context.Context, tx T) ([]byte, error) {
					err := errors.Join(s.Write(ctx, tx, "x"), s.Write(ctx, tx, "y"), s.Write(ctx, tx, "x"))
					return nil, errors.Join(err, answer)
				})
				if err != nil && i == 0 {
					return err
				}
			}
			return inOrder(
				func() error { return s.counts("x", 0) },
				func() error { return s.counts("y", 0) },
			)
		}},
	}
}

func identityChecks[T any]() []check[T] {
	return []check[T]{
		{"effects are apart", "What becomes of one effect does not touch another.", func(s *script[T]) error {
			one, two, three := saga.Effect{ID: "one"}, saga.Effect{ID: "two"}, saga.Effect{ID: "three"}
			return inOrder(
				func() error { return s.run(one, succeeds("1"), succeeded("reply of 1")) },
				func() error { return s.run(two, rejects("2"), rejected("no 2")) },
				func() error { return s.fail(three, fails("3")) },
				func() error { return s.run(three, succeeds("3"), succeeded("reply of 3")) },
				func() error { return s.stored(one, succeeded("reply of 1")) },
				func() error { return s.stored(two, rejected("no 2")) },
				func() error { return s.counts("1", 1) },
				func() error { return s.counts("2", 0) },
				func() error { return s.counts("3", 1) },
			)
		}},
		{"identities byte by byte", "Effects are the same only if their identities are, byte by byte.", func(s *script[T]) error {
			for i, id := range []string{"x", "X", "x ", " x", "x/undo", "x/1", "x%", "x_", "é", "e\u0301", "'x'"} {
				h := succeeds(fmt.Sprint(i))
				if err := s.run(saga.Effect{ID: id}, h, succeeded(string(h.result))); err != nil {
					return err
				}
			}
			return inOrder(
				func() error { return s.run(saga.Effect{ID: "x", Undo: true}, succeeds("u"), succeeded("reply of u")) },
				func() error { return s.stored(saga.Effect{ID: "x/undo"}, succeeded("reply of 4")) },
				func() error { return s.stored(saga.Effect{ID: "X"}, succeeded("reply of 1")) },
			)
		}},
	}
}
