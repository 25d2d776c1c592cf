package kafka

import (
	"context"
	"fmt"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill/message"
)

// subscriber is Watermill's, for topics that need not be there.
type subscriber struct {
	broker *Broker
	inner  *kafka.Subscriber
}

// Subscriber makes a subscriber in a group. Closing the Broker leaves it open.
func (b *Broker) Subscriber(group string) (message.Subscriber, error) {
	if err := validName("group", group); err != nil {
		return nil, err
	}
	inner, err := b.newSubscriber(group)
	if err != nil {
		return nil, fmt.Errorf("kafka: subscriber: %w", err)
	}
	return &subscriber{b, inner}, nil
}

func (b *Broker) newSubscriber(group string) (*kafka.Subscriber, error) {
	return kafka.NewSubscriber(kafka.SubscriberConfig{
		Brokers: b.addresses, Unmarshaler: kafka.DefaultMarshaler{}, OverwriteSaramaConfig: b.config.sarama(), ConsumerGroup: group,
		NackResendSleep: nackPause, ReconnectRetrySleep: retryPause,
		InitializeTopicDetails: &sarama.TopicDetail{
			NumPartitions: int32(b.config.Partitions), ReplicationFactor: int16(b.config.Replicas),
		},
	}, b.logger)
}

// Subscribe implements message.Subscriber.
func (s *subscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	if err := validName("topic", topic); err != nil {
		return nil, err
	}
	err := s.broker.create(topic)
	if err != nil {
		return nil, fmt.Errorf("kafka: subscribe to %s: %w", topic, err)
	}
	messages, err := s.inner.Subscribe(ctx, topic)
	if err != nil {
		return nil, fmt.Errorf("kafka: subscribe to %s: %w", topic, err)
	}
	return messages, nil
}

// Close implements message.Subscriber. A message that is not acknowledged by now comes to another one of the group.
func (s *subscriber) Close() error { return s.inner.Close() }

// validName refuses what Kafka does not take as a topic; groups have to be as simple.
func validName(what, name string) error {
	if name == "" || len(name) > 249 || name == "." || name == ".." {
		return fmt.Errorf("kafka: the %s %.40q has %d bytes: it takes 1 to 249, and not only dots", what, name, len(name))
	}
	for _, r := range name {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '_', r == '.':
		default:
			return fmt.Errorf("kafka: the %s %q takes letters, digits and -_.", what, name)
		}
	}
	return nil
}
