package redisstream

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-redisstream/pkg/redisstream"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/redis/go-redis/v9"
)

const (
	nackPause = 100 * time.Millisecond // a negative acknowledgement shall not spin
	goodbye   = 2 * time.Second        // what Close may take to give back messages
)

// subscriber is Watermill's, and besides: it tells Redis that what its handler is at is being worked on, and gives back what
// it holds when it closes.
type subscriber struct {
	broker   *Broker
	group    string
	consumer string
	inner    *redisstream.Subscriber
	closing  chan struct{}
	active   sync.WaitGroup
	calls    *calls // see identify

	mu     sync.Mutex
	closed bool
	topics []string
	ends   []context.CancelFunc // of subscriptions
	err    error                // of Close
}

// Subscriber makes a subscriber in a group. It outlives the Broker, but should be closed before.
func (b *Broker) Subscriber(group string) (message.Subscriber, error) {
	if err := validName("group", group); err != nil {
		return nil, err
	}
	client := redis.NewUniversalClient(b.options)
	s := &subscriber{broker: b, group: group, consumer: watermill.NewShortUUID(), closing: make(chan struct{}), calls: newCalls()}
	client.AddHook(identify{s.calls})
	idle := b.config.RedeliverAfter
	var err error
	s.inner, err = redisstream.NewSubscriber(redisstream.SubscriberConfig{
		Client: client, Unmarshaller: tolerant{}, Consumer: s.consumer, ConsumerGroup: group, OldestId: "0",
		NackResendSleep: nackPause, MaxIdleTime: idle, ClaimInterval: min(idle/4, 2*time.Second),
		// It would wait for its first message for ever, whatever becomes of its context.
		DisableIndefiniteInitialBlock: true,
		// It would read for ever from a group that is gone with its stream. Whoever opens the next subscriber makes it again.
		ShouldStopOnReadErrors: func(err error) bool { return strings.HasPrefix(err.Error(), "NOGROUP") },
	}, b.logger)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("redisstream: subscriber: %w", err), client.Close())
	}
	return s, nil
}

// Subscribe implements message.Subscriber.
func (s *subscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	if err := validName("topic", topic); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errors.New("redisstream: subscriber is closed")
	}
	ctx, end := context.WithCancel(ctx)
	in, err := s.inner.Subscribe(ctx, topic)
	if err != nil {
		end()
		return nil, fmt.Errorf("redisstream: subscribe to %s: %w", topic, err)
	}
	s.topics, s.ends = append(s.topics, topic), append(s.ends, end)
	s.broker.subscribed(topic)
	out := make(chan *message.Message)
	s.active.Go(func() {
		defer close(out)
		s.handOn(ctx, topic, in, out)
	})
	return out, nil
}

// handOn hands messages on, and keeps the one in flight from being claimed by others.
func (s *subscriber) handOn(ctx context.Context, topic string, in <-chan *message.Message, out chan<- *message.Message) {
	var entry string // a message that comes again after a negative acknowledgement does not tell
	for {
		select {
		case msg, ok := <-in:
			if !ok {
				return
			}
			if id := msg.Metadata.Get(entryKey); id != "" {
				entry = id
				delete(msg.Metadata, entryKey)
			}
			select {
			case out <- msg:
			case <-ctx.Done():
				return
			case <-s.closing:
				return
			}
			if !s.keep(ctx, topic, entry, msg) {
				return
			}
		case <-ctx.Done():
			return
		case <-s.closing:
			return
		}
	}
}

// keep waits until a message is acknowledged, one way or the other. It answers false when the subscription ends.
func (s *subscriber) keep(ctx context.Context, topic, entry string, msg *message.Message) bool {
	tick := time.NewTicker(s.broker.config.RedeliverAfter / 4)
	defer tick.Stop()
	for {
		select {
		case <-msg.Acked():
			return true
		case <-msg.Nacked():
			return true
		case <-ctx.Done():
			return false
		case <-s.closing:
			return false
		case <-tick.C:
			// To claim what one has sets its idle time to zero. It does not bring back what is acknowledged.
			err := s.broker.client.XClaimJustID(ctx, &redis.XClaimArgs{
				Stream: topic, Group: s.group, Consumer: s.consumer, Messages: []string{entry},
			}).Err()
			if err != nil && ctx.Err() == nil {
				s.broker.logger.Error("A message that is being handled may be given to another subscriber", err, watermill.LogFields{
					"topic": topic, "consumer_group": s.group, "xid": entry,
				})
			}
		}
	}
}

// Close implements message.Subscriber. What is not acknowledged by now goes to others of the group.
func (s *subscriber) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return s.err
	}
	s.closed = true
	close(s.closing)
	s.active.Wait()
	for _, end := range s.ends {
		end()
	}
	s.calls.wait() // Watermill's leaves a goroutine behind for a while if the client closes while it reads
	if err := s.inner.Close(); err != nil {
		s.err = fmt.Errorf("redisstream: close a subscriber: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), goodbye)
	defer cancel()
	for _, topic := range s.topics {
		if err := s.giveBack(ctx, topic); err != nil { // no harm done: it takes RedeliverAfter then
			s.broker.logger.Info("Messages of a closed subscriber are not given back yet", watermill.LogFields{"topic": topic, "err": err.Error()})
		}
	}
	return s.err
}

// giveBack makes what the consumer holds look abandoned, so that others claim it at once.
func (s *subscriber) giveBack(ctx context.Context, topic string) error {
	held, err := s.broker.client.XPendingExt(ctx, &redis.XPendingExtArgs{
		Stream: topic, Group: s.group, Start: "-", End: "+", Count: 10, Consumer: s.consumer,
	}).Result()
	if err != nil {
		return err
	}
	idle := 2 * s.broker.config.RedeliverAfter.Milliseconds()
	for _, entry := range held {
		err = errors.Join(err, s.broker.client.Do(ctx,
			"XCLAIM", topic, s.group, s.consumer, 0, entry.ID, "IDLE", idle, "JUSTID").Err())
	}
	return err
}
