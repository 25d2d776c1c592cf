// Package inboxtest is the conformance suite of [saga.Inbox], in the manner of testing/slogtest. In a test of your inbox:
//
//	func TestInbox(t *testing.T) {
//		inboxtest.Run(t, func(t testing.TB) inboxtest.Harness[*sql.Tx] {
//			db := open(t)
//			return inboxtest.Harness[*sql.Tx]{
//				Inbox: myinbox.New(db),
//				Write: func(ctx context.Context, tx *sql.Tx, name string) error { ... INSERT INTO writes (name) ... },
//				Count: func(ctx context.Context, name string) (int, error) { ... SELECT count(*) ... },
//			}
//		})
//	}
//
// Each rule is a sub-test, and a failure says which one was broken and how it was seen. The package's own tests break a good
// inbox in one way after another, and see that the suite notices.
package inboxtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/sagamill/sagamill/saga"
)

// Harness is an inbox to test, and a way to see what handlers leave behind.
type Harness[T any] struct {
	// Inbox has no records when it is given.
	Inbox saga.Inbox[T]
	// Write writes something in tx that can be counted by the name. Several handlers may write under one name.
	Write func(ctx context.Context, tx T, name string) error
	// Count returns how many writes under the name are committed.
	Count func(ctx context.Context, name string) (int, error)
	// Reopen gives up Inbox, as a process that dies does, and returns one that a new process would have. Nil: the inbox
	// does not outlive its process.
	Reopen func() saga.Inbox[T]
}

// Run checks the inboxes which open returns, a new one for each sub-test. The sub-tests run in parallel; what an inbox needs
// to be closed goes into tb.Cleanup.
func Run[T any](t *testing.T, open func(tb testing.TB) Harness[T]) {
	t.Helper()
	for _, c := range checks[T]() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if err := c.run(t.Context(), open(t)); err != nil {
				t.Errorf("the inbox breaks a rule:\n\t%s\nwhat was seen:\n\t%v", c.rule, err)
			}
		})
	}
}

// check is one rule.
type check[T any] struct {
	name string
	rule string
	test func(s *script[T]) error
}

// run judges an inbox that has no records yet.
func (c check[T]) run(ctx context.Context, h Harness[T]) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("the inbox panicked: %v", v)
		}
	}()
	return c.test(&script[T]{Harness: h, ctx: ctx})
}

func checks[T any]() []check[T] {
	var all []check[T]
	for _, some := range [][]check[T]{
		replyChecks[T](), undoChecks[T](), orphanChecks[T](), rollbackChecks[T](), identityChecks[T](), concurrencyChecks[T](),
	} {
		all = append(all, some...)
	}
	return all
}

// script is an inbox in the hands of a check.
type script[T any] struct {
	Harness[T]
	ctx context.Context
}

var (
	action = saga.Effect{ID: "trip-1/hotel/1"}
	undo   = saga.Effect{ID: "trip-1/hotel/1", Undo: true}

	errHandler = errors.New("the handler failed")
)

// handler is what a handler of the suite does: it writes under a name, and then answers.
type handler struct {
	writes string
	result []byte
	err    error
	panics bool
}

func succeeds(name string) handler { return handler{writes: name, result: []byte("reply of " + name)} }

func rejects(name string) handler { return handler{writes: name, err: saga.Reject("no %s", name)} }

func fails(name string) handler { return handler{writes: name, err: errHandler} }

// handle gives a command to the inbox and tells whether its handler ran.
func (s *script[T]) handle(e saga.Effect, h handler) (reply saga.Reply, ran bool, err error) {
	reply, err = s.Inbox.Handle(s.ctx, e, func(ctx context.Context, tx T) ([]byte, error) {
		ran = true
		if err := s.Write(ctx, tx, h.writes); err != nil {
			return nil, err
		}
		if h.panics {
			panic(errHandler)
		}
		return h.result, h.err
	})
	return reply, ran, err
}

// survive is handle for a handler that panics: the inbox may let the panic pass, or make an error of it.
func (s *script[T]) survive(e saga.Effect, h handler) (err error) {
	defer func() {
		if recover() != nil {
			err = errHandler
		}
	}()
	_, _, err = s.handle(e, h)
	return err
}

// run answers an error unless the handler runs and the reply is this one.
func (s *script[T]) run(e saga.Effect, h handler, want saga.Reply) error {
	return s.expect(e, h, true, want)
}

// stored answers an error unless the reply is this one, without the handler having run.
func (s *script[T]) stored(e saga.Effect, want saga.Reply) error {
	return s.expect(e, handler{writes: "a handler that must not run"}, false, want)
}

func (s *script[T]) expect(e saga.Effect, h handler, run bool, want saga.Reply) error {
	reply, ran, err := s.handle(e, h)
	switch {
	case err != nil:
		return fmt.Errorf("%s: error %w", name(e), err)
	case ran != run:
		return fmt.Errorf("%s: the handler ran is %t, want %t", name(e), ran, run)
	case !same(reply, want):
		return fmt.Errorf("%s: the reply is %s, want %s", name(e), show(reply), show(want))
	}
	return nil
}

// fail answers an error unless Handle returns the handler's error.
func (s *script[T]) fail(e saga.Effect, h handler) error {
	reply, _, err := s.handle(e, h)
	if !errors.Is(err, h.err) {
		return fmt.Errorf("%s: the handler answered %q, but Handle %s and error %v", name(e), h.err, show(reply), err)
	}
	return nil
}

// counts answers an error unless so many writes under the name are committed.
func (s *script[T]) counts(name string, want int) error {
	n, err := s.Count(s.ctx, name)
	if err != nil {
		return fmt.Errorf("count %q: %w", name, err)
	}
	if n != want {
		return fmt.Errorf("%d writes of %q are committed, want %d", n, name, want)
	}
	return nil
}

func succeeded(payload string) saga.Reply {
	return saga.Reply{Outcome: saga.ReplySucceeded, Payload: []byte(payload)}
}

func rejected(reason string) saga.Reply {
	return saga.Reply{Outcome: saga.ReplyRejected, Reason: reason}
}

func same(a, b saga.Reply) bool {
	return a.Outcome == b.Outcome && a.Reason == b.Reason && bytes.Equal(a.Payload, b.Payload)
}

func show(r saga.Reply) string {
	return fmt.Sprintf("%s (reason %q, payload %q)", r.Outcome, r.Reason, r.Payload)
}

func name(e saga.Effect) string {
	if e.Undo {
		return fmt.Sprintf("compensation of %q", e.ID)
	}
	return fmt.Sprintf("action %q", e.ID)
}

// inOrder runs steps until one fails.
func inOrder(steps ...func() error) error {
	for i, step := range steps {
		if err := step(); err != nil {
			return fmt.Errorf("step %d: %w", i+1, err)
		}
	}
	return nil
}
