package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	amqp "github.com/rabbitmq/amqp091-go"
)

// subscriber has a connection, and a channel for each subscription. When it loses them its subscriptions end.
type subscriber struct {
	broker *Broker
	group  string
	active sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	closing chan struct{}
	conn    *connection
	err     error // of Close
}

// Subscriber makes a subscriber in a group. Closing the Broker leaves it open.
func (b *Broker) Subscriber(group string) (message.Subscriber, error) {
	if err := validName("group", group); err != nil {
		return nil, err
	}
	return &subscriber{broker: b, group: group, closing: make(chan struct{})}, nil
}

// Subscribe implements message.Subscriber. The group's queue is bound when it returns.
func (s *subscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errors.New("rabbitmq: subscriber is closed")
	}
	ch, deliveries, err := s.consume(ctx, topic)
	if err != nil {
		return nil, fmt.Errorf("rabbitmq: subscribe to %s: %w", topic, err)
	}
	out := make(chan *message.Message)
	s.active.Go(func() {
		defer close(out)
		s.handOn(ctx, deliveries, out)
		// RabbitMQ gives what is not acknowledged to others.
		if err := ch.Close(); err != nil && !errors.Is(err, amqp.ErrClosed) {
			s.broker.logger.Info("Channel is not closed properly", watermill.LogFields{"topic": topic, "err": err.Error()})
		}
	})
	return out, nil
}

// consume begins to take messages from the group's queue, one at a time.
func (s *subscriber) consume(ctx context.Context, topic string) (*amqp.Channel, <-chan amqp.Delivery, error) {
	ctx, cancel := s.broker.bound(ctx)
	defer cancel()
	if !s.conn.usable() {
		conn, err := s.broker.dial(ctx)
		if err != nil {
			return nil, nil, err
		}
		s.conn = conn
	}
	defer s.conn.dropAfter(ctx)()
	ch, err := s.conn.Channel()
	if err != nil {
		return nil, nil, err
	}
	if err = s.broker.declare(ch, topic, s.group); err == nil {
		err = ch.Qos(1, 0, false)
	}
	var deliveries <-chan amqp.Delivery
	if err == nil {
		deliveries, err = ch.Consume(queueOf(topic, s.group), "", false, false, false, false, nil)
	}
	if err != nil {
		return nil, nil, errors.Join(err, (&lent{Channel: ch}).discard())
	}
	return ch, deliveries, nil
}

// handOn hands messages on until the channel, the subscriber or ctx ends.
func (s *subscriber) handOn(ctx context.Context, deliveries <-chan amqp.Delivery, out chan<- *message.Message) {
	for {
		select {
		case d, ok := <-deliveries:
			if !ok || !s.deliver(ctx, d, out) {
				return
			}
		case <-s.closing:
			return
		case <-ctx.Done():
			return
		}
	}
}

// deliver answers false when the subscription ends. It does not give messages back: the end of the channel does.
func (s *subscriber) deliver(ctx context.Context, d amqp.Delivery, out chan<- *message.Message) bool {
	life, end := context.WithCancel(ctx)
	defer end()
	msg := messageOf(d)
	msg.SetContext(life)
	select {
	case out <- msg:
	case <-s.closing:
		return false
	case <-ctx.Done():
		return false
	}
	var err error
	select {
	case <-msg.Acked():
		err = d.Ack(false)
	case <-msg.Nacked():
		err = d.Nack(false, true)
	case <-s.closing:
		return false
	case <-ctx.Done():
		return false
	}
	if err != nil { // the channel is gone, and the message comes again
		s.broker.logger.Info("Acknowledgement is lost", watermill.LogFields{"message_uuid": msg.UUID, "err": err.Error()})
	}
	return err == nil
}

// Close implements message.Subscriber. A message that is not acknowledged by now comes to another one of the group.
func (s *subscriber) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return s.err
	}
	s.closed = true
	close(s.closing)
	if s.conn == nil {
		return nil
	}
	ctx, cancel := s.broker.bound(context.Background())
	defer cancel()
	release := s.conn.dropAfter(ctx)
	s.active.Wait() // they close their channels
	release()
	s.err = s.conn.close(ctx)
	return s.err
}
