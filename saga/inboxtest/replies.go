package inboxtest

import (
	"bytes"
	"context"
	"fmt"

	"github.com/sagamill/sagamill/saga"
)

func replyChecks[T any]() []check[T] {
	return []check[T]{
		{"duplicate", "A duplicate is answered with the stored reply, and the handler does not run.", func(s *script[T]) error {
			return inOrder(
				func() error { return s.run(action, succeeds("a"), succeeded("reply of a")) },
				func() error { return s.stored(action, succeeded("reply of a")) },
				func() error { return s.stored(action, succeeded("reply of a")) },
				func() error { return s.counts("a", 1) },
			)
		}},
		{"duplicate of a rejection", "A rejection is stored and answered like a success.", func(s *script[T]) error {
			return inOrder(
				func() error { return s.run(action, rejects("a"), rejected("no a")) },
				func() error { return s.stored(action, rejected("no a")) },
				func() error { return s.counts("a", 0) },
			)
		}},
		{"after a restart", "Records and what the handlers wrote survive the process.", func(s *script[T]) error {
			if s.Reopen == nil {
				return nil
			}
			other := saga.Effect{ID: "rejected"}
			return inOrder(
				func() error { return s.run(action, succeeds("a"), succeeded("reply of a")) },
				func() error { return s.run(other, rejects("b"), rejected("no b")) },
				func() error { s.Inbox = s.Reopen(); return nil },
				func() error { return s.stored(action, succeeded("reply of a")) },
				func() error { return s.stored(other, rejected("no b")) },
				func() error { return s.counts("a", 1) },
			)
		}},
		{"replies byte by byte", "A stored reply is what the handler answered, byte by byte.", bytesCheck[T]},
		{"replies belong to the caller", "To change a reply that was returned, or a result, does not change what is stored.", aliasCheck[T]},
		{"context", "The handler's context is made from the caller's.", contextCheck[T]},
		{"cancelled", "With a context that is over, nothing is done, and the command may come again.", func(s *script[T]) error {
			ctx := s.ctx
			over, cancel := context.WithCancel(ctx)
			cancel()
			s.ctx = over
			if _, ran, err := s.handle(action, succeeds("a")); err == nil || ran {
				return fmt.Errorf("the handler ran is %t, and the error %v", ran, err)
			}
			s.ctx = ctx
			return inOrder(
				func() error { return s.run(action, succeeds("a"), succeeded("reply of a")) },
				func() error { return s.counts("a", 1) },
			)
		}},
		{"cancelled in the handler", "A context that ends in the handler leaves all or nothing: the reply and the writes, or an error.", cancelledInside[T]},
	}
}

func bytesCheck[T any](s *script[T]) error {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	for i, payload := range [][]byte{nil, {}, all, []byte("\x00"), []byte(`{"a": 1,  "b":2}`), bytes.Repeat([]byte("x"), 200<<10)} {
		e := saga.Effect{ID: fmt.Sprintf("bytes-%d", i)}
		want := saga.Reply{Outcome: saga.ReplySucceeded, Payload: payload}
		err := inOrder(
			func() error { return s.run(e, handler{writes: "a", result: payload}, want) },
			func() error { return s.stored(e, want) },
		)
		if err != nil {
			return err
		}
	}
	for i, reason := range []string{"", "Zimmer übervoll – 部屋がない", "two\nlines", "100%'s \"quoted\""} {
		e := saga.Effect{ID: fmt.Sprintf("reason-%d", i)}
		err := inOrder(
			func() error {
				return s.run(e, handler{writes: "b", err: &saga.Rejection{Reason: reason}}, rejected(reason))
			},
			func() error { return s.stored(e, rejected(reason)) },
		)
		if err != nil {
			return err
		}
	}
	return nil
}

func aliasCheck[T any](s *script[T]) error {
	scribble := func(b []byte) {
		for i := range b {
			b[i] = '#'
		}
	}
	result := []byte("reply")
	reply, _, err := s.handle(action, handler{writes: "a", result: result})
	if err != nil {
		return err
	}
	scribble(result)
	scribble(reply.Payload)
	reply, _, err = s.handle(action, succeeds("b"))
	if err != nil {
		return err
	}
	if !same(reply, succeeded("reply")) {
		return fmt.Errorf("the reply is %s", show(reply))
	}
	scribble(reply.Payload)
	return s.stored(action, succeeded("reply"))
}

func cancelledInside[T any](s *script[T]) error {
	ctx := s.ctx
	over, cancel := context.WithCancel(ctx)
	defer cancel()
	_, err := s.Inbox.Handle(over, action, func(_ context.Context, tx T) ([]byte, error) {
		if err := s.Write(ctx, tx, "a"); err != nil {
			return nil, err
		}
		cancel()
		return []byte("reply of a"), nil
	})
	if err != nil {
		if err := s.counts("a", 0); err != nil {
			return err
		}
		return s.run(action, succeeds("b"), succeeded("reply of b"))
	}
	return inOrder(
		func() error { return s.counts("a", 1) },
		func() error { return s.stored(action, succeeded("reply of a")) },
	)
}

func contextCheck[T any](s *script[T]) error {
	var got string
	ctx := saga.WithInfo(s.ctx, saga.StepInfo{Instance: "trip-1"})
	_, err := s.Inbox.Handle(ctx, action, func(ctx context.Context, _ T) ([]byte, error) {
		got = saga.Info(ctx).Instance
		return nil, nil
	})
	if err == nil && got != "trip-1" {
		err = fmt.Errorf("saga.Info in the handler is of instance %q, want trip-1", got)
	}
	return err
}
