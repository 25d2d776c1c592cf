package gochannel

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"
)

var errSubscriberClosed = errors.New("subscriber is closed")

// subscriber is a message.Subscriber in a group.
type subscriber struct {
	broker *Broker
	group  string

	mu      sync.Mutex
	closed  bool
	closing chan struct{}
	active  sync.WaitGroup // deliveries
}

// Subscribe implements message.Subscriber. When it returns, messages that are published reach the group.
func (s *subscriber) Subscribe(ctx context.Context, name string) (<-chan *message.Message, error) {
	t, leaveBroker, err := s.broker.enter(name)
	if err != nil {
		return nil, err
	}
	if !s.enter() {
		leaveBroker()
		return nil, fmt.Errorf("gochannel: subscribe to %s: %w", name, errSubscriberClosed)
	}
	g, err := s.broker.join(ctx, t, s.group, s.closing)
	if err != nil {
		s.active.Done()
		leaveBroker()
		return nil, fmt.Errorf("gochannel: subscribe to %s: %w", name, err)
	}
	d := &delivery{group: g, out: make(chan *message.Message), closing: s.closing}
	go func() {
		defer leaveBroker()
		defer s.active.Done()
		defer t.leave(s.group, g)
		defer close(d.out)
		d.run(ctx)
	}()
	return d.out, nil
}

// enter counts a subscription, unless the subscriber is closed.
func (s *subscriber) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.active.Add(1)
	}
	return !s.closed
}

// Close implements message.Subscriber: it ends the subscriptions. A message in flight that is not acknowledged by now goes to
// another member of the group.
func (s *subscriber) Close() error {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.closing)
	}
	s.mu.Unlock()
	s.active.Wait()
	return nil
}

// delivery is one subscription: it has one message in flight.
type delivery struct {
	group   *group
	out     chan *message.Message
	closing <-chan struct{} // of the subscriber
}

func (d *delivery) run(ctx context.Context) {
	for {
		select {
		case msg := <-d.group.out:
			if !d.deliver(ctx, msg) {
				return
			}
		case <-d.group.ended:
			return
		case <-d.closing:
			return
		case <-ctx.Done():
			return
		}
	}
}

// deliver hands out a copy, so that an acknowledgement holds for this delivery only. It answers false when the subscription ends.
func (d *delivery) deliver(ctx context.Context, msg *message.Message) bool {
	sent := msg.Copy()
	life, end := context.WithCancel(ctx)
	defer end()
	sent.SetContext(life)
	select {
	case d.out <- sent:
	case <-d.group.ended:
		return false
	case <-d.closing:
		return d.giveBack(msg)
	case <-ctx.Done():
		return d.giveBack(msg)
	}
	select {
	case <-sent.Acked():
		msg.Ack() // for a Publish that waits for it
		return true
	case <-sent.Nacked():
		d.giveBack(msg)
		return true
	case <-d.group.ended:
		return false
	case <-d.closing:
	case <-ctx.Done():
	}
	select {
	case <-sent.Acked(): // at the same time
		msg.Ack()
	default:
		d.giveBack(msg)
	}
	return false
}

// giveBack puts a message back at the end of the group's queue.
func (d *delivery) giveBack(msg *message.Message) bool {
	select {
	case d.group.back <- msg:
	case <-d.group.ended:
	}
	return false
}
