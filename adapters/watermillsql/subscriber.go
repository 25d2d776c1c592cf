package watermillsql

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/ThreeDotsLabs/watermill-sql/v4/pkg/sql"
	"github.com/ThreeDotsLabs/watermill/message"
)

// subscriber is Watermill's, whose Close waits for a query that hangs; this one ends it.
type subscriber struct {
	broker *Broker
	group  string
	inner  *sql.Subscriber

	mu     sync.Mutex
	closed bool
	ends   []context.CancelFunc
}

// Subscriber makes a subscriber in a group. Closing it leaves the Broker open.
func (b *Broker) Subscriber(group string) (message.Subscriber, error) {
	if err := validGroup(group); err != nil {
		return nil, err
	}
	inner, err := b.newSubscriber(group)
	if err != nil {
		return nil, fmt.Errorf("watermillsql: subscriber: %w", err)
	}
	return &subscriber{broker: b, group: group, inner: inner}, nil
}

func (b *Broker) newSubscriber(group string) (*sql.Subscriber, error) {
	return sql.NewSubscriber(b.db, sql.SubscriberConfig{
		ConsumerGroup: group, AckDeadline: &b.config.RedeliverAfter,
		PollInterval: b.config.PollInterval, ResendInterval: retryInterval, RetryInterval: retryInterval,
		SchemaAdapter: b.dialect.schema, OffsetsAdapter: b.dialect.offsets, InitializeSchema: true,
	}, quiet{b.logger})
}

// Subscribe implements message.Subscriber.
func (s *subscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	if err := validTopic(topic); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errors.New("watermillsql: subscriber is closed")
	}
	ctx, end := context.WithCancel(ctx)
	messages, err := s.subscribe(ctx, topic)
	if err != nil {
		end()
		return nil, fmt.Errorf("watermillsql: subscribe to %s: %w", topic, err)
	}
	s.ends = append(s.ends, end)
	s.broker.trimmer.add(topic)
	return messages, nil
}

func (s *subscriber) subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	if join := s.broker.dialect.join; join != nil {
		err := s.inner.SubscribeInitialize(topic)
		if err == nil {
			err = join(ctx, s.broker.db, topic, s.group)
		}
		if err != nil {
			return nil, err
		}
	}
	return s.inner.Subscribe(ctx, topic)
}

// Close implements message.Subscriber. A message that is not acknowledged by now comes to another one of the group.
func (s *subscriber) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, end := range s.ends {
		end()
	}
	return s.inner.Close()
}
