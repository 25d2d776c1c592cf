package nats

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	pullFor    = time.Second            // an unanswered request ends; Close waits for it, so that no message is sent to nobody
	retryAfter = 250 * time.Millisecond // a request that failed
	nackPause  = 100 * time.Millisecond // a negative acknowledgement shall not spin
)

// subscriber asks a group's consumer for one message after the other.
type subscriber struct {
	broker *Broker
	group  string
	active sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	closing chan struct{}
}

// Subscriber makes a subscriber in a group. It uses the Broker's connection.
func (b *Broker) Subscriber(group string) (message.Subscriber, error) {
	if err := validName("group", group); err != nil {
		return nil, err
	}
	return &subscriber{broker: b, group: group, closing: make(chan struct{})}, nil
}

// Subscribe implements message.Subscriber. The group's consumer is there when it returns.
func (s *subscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errors.New("nats: subscriber is closed")
	}
	request, cancel := context.WithTimeout(ctx, s.broker.config.RequestTimeout)
	defer cancel()
	consumer, err := s.broker.consumer(request, topic, s.group)
	if err != nil {
		return nil, fmt.Errorf("nats: subscribe to %s: %w", topic, err)
	}
	out := make(chan *message.Message)
	s.active.Go(func() {
		defer close(out)
		s.handOn(ctx, consumer, out)
	})
	return out, nil
}

// handOn hands messages on until the subscriber or ctx ends, or what it asks is gone.
func (s *subscriber) handOn(ctx context.Context, consumer jetstream.Consumer, out chan<- *message.Message) {
	for ctx.Err() == nil && !s.isClosing() {
		begun := time.Now()
		m, err := consumer.Next(jetstream.FetchMaxWait(pullFor))
		if errors.Is(err, nats.ErrTimeout) && time.Since(begun) > pullFor+pullFor/2 { // not even the end of the request was answered
			err = s.missing(ctx, consumer)
		}
		switch {
		case err == nil && m != nil:
			if !s.deliver(ctx, m, out) {
				return
			}
		case errors.Is(err, nats.ErrTimeout), m == nil && err == nil:
		case gone(err): // whoever opens the next subscription makes it again
			s.broker.logger.Error("Subscription ends", err, watermill.LogFields{"consumer": consumer.CachedInfo().Name})
			return
		default:
			s.pause(ctx)
		}
	}
}

// missing asks whether the consumer is there, and answers an error if it cannot be asked or is not.
func (s *subscriber) missing(ctx context.Context, consumer jetstream.Consumer) error {
	ctx, cancel := context.WithTimeout(ctx, s.broker.config.RequestTimeout)
	defer cancel()
	_, err := consumer.Info(ctx)
	return err
}

// gone tells of errors that do not pass.
func gone(err error) bool {
	for _, e := range []error{
		nats.ErrConnectionClosed, nats.ErrNoResponders, jetstream.ErrConsumerDeleted, jetstream.ErrConsumerNotFound, jetstream.ErrStreamNotFound,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func (s *subscriber) isClosing() bool {
	select {
	case <-s.closing:
		return true
	default:
		return false
	}
}

func (s *subscriber) pause(ctx context.Context) {
	select {
	case <-time.After(retryAfter):
	case <-s.closing:
	case <-ctx.Done():
	}
}

// deliver hands out a message, and tells JetStream what becomes of it. It answers false when the subscription ends.
func (s *subscriber) deliver(ctx context.Context, m jetstream.Msg, out chan<- *message.Message) bool {
	life, end := context.WithCancel(ctx)
	defer end()
	msg := messageOf(m.Headers(), m.Data())
	msg.SetContext(life)
	alive := time.NewTicker(s.broker.config.RedeliverAfter / 3)
	defer alive.Stop()
	var answer error
	for offer := out; ; {
		select {
		case offer <- msg:
			offer = nil
			continue
		case <-alive.C:
			answer = m.InProgress()
		case <-msg.Acked():
			request, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.broker.config.RequestTimeout)
			s.tell("Acknowledgement is lost", msg, m.DoubleAck(request))
			cancel()
			return true
		case <-msg.Nacked():
			s.tell("Negative acknowledgement is lost", msg, m.NakWithDelay(nackPause))
			return true
		case <-s.closing:
			s.tell("Message is not given back yet", msg, m.Nak())
			return false
		case <-ctx.Done():
			s.tell("Message is not given back yet", msg, m.Nak())
			return false
		}
		s.tell("A message that is being handled may be given to another subscriber", msg, answer)
	}
}

// tell logs what JetStream was not told: the message comes again.
func (s *subscriber) tell(what string, msg *message.Message, err error) {
	if err != nil {
		s.broker.logger.Info(what, watermill.LogFields{"message_uuid": msg.UUID, "err": err.Error()})
	}
}

// Close implements message.Subscriber. A message that is not acknowledged by now comes to another one of the group.
func (s *subscriber) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed = true
		close(s.closing)
	}
	s.active.Wait()
	return nil
}
