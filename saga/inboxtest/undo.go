package inboxtest

import (
	"fmt"

	"github.com/sagamill/sagamill/saga"
)

func undoChecks[T any]() []check[T] {
	return []check[T]{
		{"undo of a success", "The compensation of an action that succeeded runs, once.", func(s *script[T]) error {
			return inOrder(
				func() error { return s.run(action, succeeds("a"), succeeded("reply of a")) },
				func() error { return s.run(undo, succeeds("u"), succeeded("reply of u")) },
				func() error { return s.stored(undo, succeeded("reply of u")) },
				func() error { return s.stored(undo, succeeded("reply of u")) },
				func() error { return s.counts("a", 1) },
				func() error { return s.counts("u", 1) },
			)
		}},
		{"action again after its undo", "An action that succeeded and was undone is answered with its stored reply.", func(s *script[T]) error {
			return inOrder(
				func() error { return s.run(action, succeeds("a"), succeeded("reply of a")) },
				func() error { return s.run(undo, succeeds("u"), succeeded("reply of u")) },
				func() error { return s.stored(action, succeeded("reply of a")) },
				func() error { return s.stored(undo, succeeded("reply of u")) },
				func() error { return s.counts("a", 1) },
			)
		}},
		{"a compensation cannot say no", "A compensation that is rejected has failed: Handle returns the error, nothing is stored, and it may come again.", func(s *script[T]) error {
			return inOrder(
				func() error { return s.run(action, succeeds("a"), succeeded("reply of a")) },
				func() error { return s.fail(undo, rejects("u")) },
				func() error { return s.counts("u", 0) },
				func() error { return s.run(undo, succeeds("u"), succeeded("reply of u")) },
				func() error { return s.counts("u", 1) },
			)
		}},
		{"a compensation that fails", "A compensation that fails leaves nothing, and may come again; its action stays as it was.", func(s *script[T]) error {
			return inOrder(
				func() error { return s.run(action, succeeds("a"), succeeded("reply of a")) },
				func() error { return s.fail(undo, fails("u")) },
				func() error { return s.fail(undo, fails("u")) },
				func() error { return s.stored(action, succeeded("reply of a")) },
				func() error { return s.run(undo, succeeds("u"), succeeded("reply of u")) },
				func() error { return s.counts("u", 1) },
			)
		}},
	}
}

// orphanChecks are about compensations whose action never came, or did nothing.
func orphanChecks[T any]() []check[T] {
	return []check[T]{
		{"null compensation", "A compensation whose action never came succeeds, and its handler does not run; again and again.", func(s *script[T]) error {
			return inOrder(
				func() error { return s.stored(undo, succeeded("")) },
				func() error { return s.stored(undo, succeeded("")) },
			)
		}},
		{"hanging", "An action that comes after its compensation is rejected, and its handler does not run; again and again.", func(s *script[T]) error {
			var first saga.Reply
			return inOrder(
				func() error { return s.stored(undo, succeeded("")) },
				func() (err error) {
					var ran bool
					first, ran, err = s.handle(action, succeeds("a"))
					if err == nil && (ran || first.Outcome != saga.ReplyRejected || first.Reason == "") {
						err = fmt.Errorf("the handler ran is %t, and the reply %s; want a rejection with a reason", ran, show(first))
					}
					return err
				},
				func() error { return s.stored(action, first) },
				func() error { return s.stored(undo, succeeded("")) },
				func() error { return s.counts("a", 0) },
			)
		}},
		{"null compensation with a handler", "If the effect says Null, the compensation's handler runs though the action never came, once; the action that comes after it is rejected.", func(s *script[T]) error {
			null := saga.Effect{ID: undo.ID, Undo: true, Null: true}
			return inOrder(
				func() error { return s.fail(null, fails("u")) },
				func() error { return s.run(null, succeeds("u"), succeeded("reply of u")) },
				func() error { return s.stored(null, succeeded("reply of u")) },
				func() error {
					reply, ran, err := s.handle(action, succeeds("a"))
					if err != nil || ran || reply.Outcome != saga.ReplyRejected {
						return fmt.Errorf("the action after it: the handler ran %t, %s, error %v", ran, show(reply), err)
					}
					return nil
				},
				func() error { return s.counts("u", 1) },
				func() error { return s.counts("a", 0) },
			)
		}},
		{"null compensation that fails", "A compensation that runs though the action never came, and fails, leaves nothing: the action may come.", func(s *script[T]) error {
			return inOrder(
				func() error { return s.fail(saga.Effect{ID: undo.ID, Undo: true, Null: true}, fails("u")) },
				func() error { return s.run(action, succeeds("a"), succeeded("reply of a")) },
				func() error { return s.counts("u", 0) },
			)
		}},
		{"null compensation of a rejected action", "The compensation of a rejected action does not run, whatever the effect says.", func(s *script[T]) error {
			return inOrder(
				func() error { return s.run(action, rejects("a"), rejected("no a")) },
				func() error { return s.stored(saga.Effect{ID: undo.ID, Undo: true, Null: true}, succeeded("")) },
			)
		}},
		{"undo of a rejected action", "The compensation of an action that was rejected succeeds, and its handler does not run.", func(s *script[T]) error {
			return inOrder(
				func() error { return s.run(action, rejects("a"), rejected("no a")) },
				func() error { return s.stored(undo, succeeded("")) },
				func() error { return s.stored(undo, succeeded("")) },
				func() error { return s.stored(action, rejected("no a")) },
			)
		}},
		{"undo of a failed action", "An action that failed never came: its compensation has nothing to do, and it is refused afterwards.", func(s *script[T]) error {
			return inOrder(
				func() error { return s.fail(action, fails("a")) },
				func() error { return s.stored(undo, succeeded("")) },
				func() error {
					reply, ran, err := s.handle(action, succeeds("a"))
					if err == nil && (ran || reply.Outcome != saga.ReplyRejected) {
						err = fmt.Errorf("the handler ran is %t, and the reply %s; want a rejection", ran, show(reply))
					}
					return err
				},
				func() error { return s.counts("a", 0) },
			)
		}},
	}
}
