package transporttest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"go.uber.org/goleak"

	"github.com/sagamill/sagamill/saga"
)

func leakChecks() []check {
	return []check{{
		name: "goroutines", test: leavesNoGoroutines, alone: true,
		rule: "a broker that is closed has left no goroutines behind",
	}}
}

func closeChecks() []check {
	return []check{
		{
			name: "close under load", test: closeUnderLoad, needs: []Promise{Processes},
			rule: "when a process closes gracefully, others of its group handle what it has not handled; nothing is lost",
		}, {
			name: "close", test: closeTwice,
			rule: "Close ends subscriptions and returns, also with a message in flight; it may be called again; nothing is published then",
		}, {
			name: "context", test: endsWithContext,
			rule: "a subscription ends with its context",
		},
	}
}

// proxies end with the test, not with the broker.
const proxies = "github.com/sagamill/sagamill/adapters/transporttest.(*Proxy).accept"

// leavesNoGoroutines counts from after a first broker: libraries may start some that stay.
func leavesNoGoroutines(s *script) error {
	if err := useOnce(s, s.open()); err != nil {
		return err
	}
	if s.NotPromised[Processes] != "" {
		return nil // the harness's only broker is in use; whoever tests it looks for leaks in the end
	}
	before := goleak.IgnoreCurrent()
	if err := useOnce(s, s.open()); err != nil {
		return err
	}
	return s.until(func() string {
		if err := goleak.Find(before, goleak.IgnoreAnyFunction(proxies)); err != nil {
			return err.Error()
		}
		return ""
	})
}

// useOnce lets a process send itself messages, leaves one unacknowledged, and closes all.
func useOnce(s *script, p Process) error {
	topic, got, msgs := s.topic("commands"), newLedger(), newMessages(5)
	var all []*listener
	for n := range 2 {
		l, err := s.listen(p, topic, "group", n, got.take)
		if err != nil {
			return err
		}
		all = append(all, l)
	}
	if err := s.publish(p, topic, msgs...); err != nil {
		return err
	}
	if err := s.until(func() string { return got.lacks(msgs) }); err != nil {
		return err
	}
	for _, l := range all {
		if err := l.close(); err != nil {
			return err
		}
	}
	held, err := s.hold(p, topic, newMessages(1))
	if err != nil {
		return err
	}
	if err := held.close(); err != nil {
		return err
	}
	if s.NotPromised[Processes] != "" {
		return nil
	}
	return s.quit(p)
}

// closeUnderLoad closes half of the processes while messages come, as a rolling restart does.
func closeUnderLoad(s *script) error {
	topic, got, msgs := s.topic("commands"), newLedger(), newMessages(6*defaultNumber)
	handle := func(m *message.Message) {
		time.Sleep(time.Millisecond)
		got.take(m)
	}
	publisher, stays := s.open(), s.open()
	if _, err := s.listen(stays, topic, "group", 0, handle); err != nil {
		return err
	}
	published := make(chan error, 1)
	go func() { published <- s.publish(publisher, topic, msgs...) }()
	for range 3 {
		p := s.open()
		var all []*listener
		for n := range 2 {
			l, err := s.listen(p, topic, "group", n, handle)
			if err != nil {
				return err
			}
			all = append(all, l)
		}
		time.Sleep(10 * pollEvery)
		for _, l := range all {
			if err := l.close(); err != nil {
				return err
			}
		}
		if err := s.quit(p); err != nil {
			return fmt.Errorf("Close of a broker: %w", err)
		}
	}
	if err := <-published; err != nil {
		return err
	}
	return s.until(func() string { return got.lacks(msgs) })
}

func closeTwice(s *script) error {
	p, topic := s.open(), s.topic("commands")
	subscriber, err := p.Transport().Subscriber(saga.SubscriberParams{Topic: topic, Group: "group"})
	if err != nil {
		return err
	}
	defer func() { _ = within(closeMayTake, subscriber.Close) }()
	messages, err := subscriber.Subscribe(s.ctx, topic)
	if err != nil {
		return err
	}
	if err := s.publish(p, topic, newMessages(2)...); err != nil {
		return err
	}
	select {
	case <-messages: // in flight, and left so
	case <-time.After(s.Patience):
		return fmt.Errorf("no message came within %s", s.Patience)
	}
	for n := range 2 {
		if err := within(closeMayTake, subscriber.Close); err != nil {
			return fmt.Errorf("Close number %d of a subscriber: %w", n+1, err)
		}
	}
	if err := ends(messages); err != nil {
		return fmt.Errorf("after Close of the subscriber: %w", err)
	}
	var closers sync.WaitGroup
	faults := make([]error, 3)
	for n := range faults {
		closers.Go(func() { faults[n] = within(closeMayTake, p.Close) })
	}
	closers.Wait()
	if err := errors.Join(append(faults, within(closeMayTake, p.Close))...); err != nil {
		return fmt.Errorf("Close of the broker: %w", err)
	}
	if err := s.publish(p, topic, newMessages(1)...); err == nil {
		return errors.New("a closed broker published a message, or said so")
	}
	return nil
}

func endsWithContext(s *script) error {
	p, topic := s.open(), s.topic("commands")
	subscriber, err := p.Transport().Subscriber(saga.SubscriberParams{Topic: topic, Group: "group"})
	if err != nil {
		return err
	}
	defer func() { _ = within(closeMayTake, subscriber.Close) }()
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	messages, err := subscriber.Subscribe(ctx, topic)
	if err != nil {
		return err
	}
	cancel()
	if err := ends(messages); err != nil {
		return fmt.Errorf("after the end of the context: %w", err)
	}
	return within(closeMayTake, subscriber.Close)
}

// ends waits until a channel of messages is closed.
func ends(messages <-chan *message.Message) error {
	timeout := time.After(closeMayTake)
	for {
		select {
		case _, open := <-messages:
			if !open {
				return nil
			}
		case <-timeout:
			return fmt.Errorf("the channel of messages is open for another %s", closeMayTake)
		}
	}
}
