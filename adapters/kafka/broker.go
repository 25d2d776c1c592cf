// Package kafka is the transport over Kafka: Watermill's Kafka Pub/Sub with settings that lose nothing.
//
//	broker, err := kafka.New([]string{"localhost:9092"}, kafka.Config{}, logger)
//	defer broker.Close()
//	transport := broker.Transport() // for the orchestrator and participants
//
// What it guarantees:
//
//   - all replicas in sync have a message when Publish returns nil (acks=all; give topics min.insync.replicas of 2 to make
//     something of it), and it reaches each group of its topic at least once, unless it is older than the topic's retention.
//     A topic is one of Kafka's, a group is a consumer group; both are made by whoever comes first, and a group begins
//     with the oldest message that the topic has;
//   - a message that is not acknowledged comes again: when its subscriber closes, and Config.RedeliverAfter after its process died.
//     With it come those after it in its partition that were acknowledged less than half a second before, as offsets are committed now
//     and then;
//   - a subscriber has one message of each of its partitions in flight. Subscribers of a group share the partitions, so there is no use
//     in more of them than Config.Partitions. Whenever one comes or goes Kafka deals the partitions anew, which takes seconds;
//   - a message that is never acknowledged holds up its partition until its subscriber is closed; the engine and participants
//     acknowledge all. Any record is a message, so nothing is malformed; what is none of Watermill's has no UUID.
//
// Messages are dealt to partitions at random. Those of one partition come in order.
//
// It is tested against kfake, franz-go's model of Kafka, and not against Kafka itself.
package kafka

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/sagamill/sagamill/saga"
)

// Config configures a Broker. Zero fields have the documented defaults.
type Config struct {
	// Partitions is what topics get that are made, and so how many of a topic's messages a group has in flight. Default 8.
	Partitions int
	// Replicas is how many brokers keep a topic that is made. Default: what the brokers are set to.
	Replicas int
	// RedeliverAfter is how long a process may be silent before its partitions are given to others: Kafka's session time-out.
	// Kafka takes 6s to 5m unless it is set otherwise. Handlers should take less than twice as long, or else their partitions
	// are given to others when Kafka deals them anew. Default 10s.
	RedeliverAfter time.Duration
	// Sarama may change the client's configuration: TLS, SASL, time-outs, version. What it does to acks, the initial offset
	// and the returning of errors and successes is undone.
	Sarama func(*sarama.Config)
}

func (c Config) withDefaults() Config {
	if c.Partitions == 0 {
		c.Partitions = 8
	}
	if c.Replicas == 0 {
		c.Replicas = -1
	}
	if c.RedeliverAfter == 0 {
		c.RedeliverAfter = 10 * time.Second
	}
	return c
}

// Validate says what is wrong with the configuration.
func (c Config) Validate() error {
	var faults []error
	fault := func(is bool, format string, args ...any) {
		if is {
			faults = append(faults, fmt.Errorf("kafka: Config: "+format, args...))
		}
	}
	fault(c.Partitions < 0, "Partitions is %d: it must not be negative", c.Partitions)
	fault(c.Replicas < 0 || c.Replicas > 100, "Replicas is %d: it takes 1 to 100, or 0 for the brokers' default", c.Replicas)
	fault(c.RedeliverAfter != 0 && c.RedeliverAfter < time.Second, "RedeliverAfter is %s: it takes 1s at least", c.RedeliverAfter)
	return errors.Join(append(faults, c.withDefaults().sarama().Validate())...)
}

const (
	commitEvery = 500 * time.Millisecond // offsets
	retryPause  = 250 * time.Millisecond
	nackPause   = 100 * time.Millisecond // a negative acknowledgement shall not spin
	bytes       = 1 << 20                // of a message, at most; what Kafka takes by default
)

// sarama makes the client's configuration.
func (c Config) sarama() *sarama.Config {
	s := sarama.NewConfig()
	s.ClientID = "sagamill"
	s.Version = sarama.V2_6_0_0
	s.Metadata.AllowAutoTopicCreation = false // they are made with Partitions
	s.Metadata.Retry.Max, s.Metadata.Retry.Backoff = 20, retryPause
	s.Producer.Retry.Max, s.Producer.Retry.Backoff = 20, retryPause
	s.Producer.MaxMessageBytes = bytes
	s.Consumer.Retry.Backoff = retryPause
	s.Consumer.Offsets.AutoCommit.Interval = commitEvery
	s.Consumer.Group.Session.Timeout = c.RedeliverAfter
	s.Consumer.Group.Heartbeat.Interval = c.RedeliverAfter / 4
	s.Consumer.Group.Rebalance.Timeout = 2 * c.RedeliverAfter // those who are gone are waited for, and so are handlers
	if c.Sarama != nil {
		c.Sarama(s)
	}
	s.Producer.RequiredAcks = sarama.WaitForAll
	s.Producer.Return.Successes, s.Producer.Return.Errors = true, true
	s.Consumer.Return.Errors = true
	s.Consumer.Offsets.Initial = sarama.OffsetOldest
	s.Consumer.Offsets.AutoCommit.Enable = true
	return s
}

// ErrClosed is what a closed Broker answers.
var ErrClosed = errors.New("kafka: broker is closed")

// Broker carries messages over Kafka. It is safe for concurrent use.
type Broker struct {
	addresses []string
	config    Config
	logger    watermill.LoggerAdapter
	known     sync.Map // topics that are there

	mu        sync.RWMutex // Close waits for Publish
	closed    bool
	connect   sync.Mutex
	publisher *kafka.Publisher // nil: not connected yet
}

// New makes a Broker for a cluster, of which some brokers' addresses are given. It connects when it is used. A nil logger means no
// logging.
func New(addresses []string, config Config, logger watermill.LoggerAdapter) (*Broker, error) {
	err := config.Validate()
	if len(addresses) == 0 {
		err = errors.Join(errors.New("kafka: no address of a broker is given"), err)
	}
	if err != nil {
		return nil, err
	}
	if logger == nil {
		logger = watermill.NopLogger{}
	}
	return &Broker{addresses: append([]string(nil), addresses...), config: config.withDefaults(), logger: logger}, nil
}

// Transport is what orchestrators and participants are given.
func (b *Broker) Transport() saga.Transport {
	return saga.Transport{
		Publisher: b,
		Subscriber: func(params saga.SubscriberParams) (message.Subscriber, error) {
			return b.Subscriber(params.Group)
		},
	}
}

// Publish implements message.Publisher: it returns when Kafka has all messages. If it fails, Kafka may have some.
func (b *Broker) Publish(topic string, messages ...*message.Message) error {
	if err := validName("topic", topic); err != nil {
		return err
	}
	if len(messages) == 0 {
		return nil
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.closed {
		return ErrClosed
	}
	p, err := b.connected()
	if err == nil {
		err = b.create(topic)
	}
	if err != nil {
		return fmt.Errorf("kafka: publish to %s: %w", topic, err)
	}
	return b.publish(p, topic, messages)
}

// publish publishes messages side by side, so that they travel together.
func (b *Broker) publish(p *kafka.Publisher, topic string, messages []*message.Message) error {
	faults := make([]error, len(messages))
	var all sync.WaitGroup
	places := make(chan struct{}, 64)
	for i, msg := range messages {
		places <- struct{}{}
		all.Go(func() {
			faults[i] = p.Publish(topic, msg)
			<-places
		})
	}
	all.Wait()
	if err := errors.Join(faults...); err != nil {
		b.known.Delete(topic) // perhaps it is gone
		return fmt.Errorf("kafka: publish to %s: %w", topic, err)
	}
	return nil
}

func (b *Broker) connected() (*kafka.Publisher, error) {
	b.connect.Lock()
	defer b.connect.Unlock()
	if b.publisher == nil {
		p, err := kafka.NewPublisher(kafka.PublisherConfig{
			Brokers: b.addresses, Marshaler: kafka.DefaultMarshaler{}, OverwriteSaramaConfig: b.config.sarama(),
		}, b.logger)
		if err != nil {
			return nil, err
		}
		b.publisher = p
	}
	return b.publisher, nil
}

// create makes a topic, unless it is there.
func (b *Broker) create(topic string) error {
	if _, ok := b.known.Load(topic); ok {
		return nil
	}
	s, err := b.newSubscriber("")
	if err != nil {
		return err
	}
	if err := errors.Join(s.SubscribeInitialize(topic), s.Close()); err != nil {
		return err
	}
	b.known.Store(topic, true)
	return nil
}

// Close ends publishing. Subscribers are closed by whoever opened them. It may be called any number of times.
func (b *Broker) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || b.publisher == nil {
		b.closed = true
		return nil
	}
	b.closed = true
	if err := b.publisher.Close(); err != nil {
		return fmt.Errorf("kafka: close the publisher: %w", err)
	}
	return nil
}
