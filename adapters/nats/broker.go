// Package nats is the transport over NATS JetStream, with durable consumers that are asked for one message at a time.
//
//	broker, err := nats.New("nats://localhost:4222", nats.Config{}, logger)
//	defer broker.Close()
//	transport := broker.Transport() // for the orchestrator and participants
//
// What it guarantees:
//
//   - a message is stored by JetStream when Publish returns nil, and reaches each group of its topic at least once. A topic is a
//     subject and a stream of its own, a group is a durable pull consumer; both are made by whoever comes first;
//   - streams are of the interest kind: a message is kept until all groups have acknowledged it, and then deleted. A group
//     gets what is published after its consumer was made: by its first subscriber ever, or by [Broker.Bind]. What is published
//     before any group is there is dropped, and Publish returns nil: an event may have no listeners. The engine sends commands
//     again until they are answered. Bind the groups whose events must not be missed when you deploy. A group that is gone for
//     good has to be deleted, as messages are kept for it. Config.Stream can make streams of another kind;
//   - a message that is not acknowledged comes again: at once when its subscriber closes, and Config.RedeliverAfter after its process
//     died. While a subscriber lives nobody gets what its handler is at, however long that takes;
//   - a message that is never acknowledged, and one that is none of Watermill's, hold up nobody;
//   - connections that are lost are made again, for ever.
//
// Messages come in order of publication to a group with one subscriber that acknowledges all; otherwise about so.
//
// JetStream writes to disk before it answers, but lets the disk take its time (sync_interval, two minutes by default). What
// must survive the loss of a machine takes replicas (Config.Stream), or sync_interval: always.
//
// Names: topics and groups are letters, digits and -_. ; a stream or a consumer has "=" where the topic or the group has a dot, since
// JetStream takes no dots there. Messages are those of watermill-nats (a header for each metadata), but for values that headers
// would damage: those with line breaks, or spaces around them, are encoded in the manner of RFC 2047. Its subscribers are not used
// here: they do not ask for messages but are sent them, so that those which gather behind a slow handler time out though others
// are idle.
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

	"github.com/sagamill/sagamill/saga"
)

// Config configures a Broker. Zero fields have the documented defaults.
type Config struct {
	// RedeliverAfter is how long a process may be silent before its messages are given to others. It is the AckWait of
	// consumers that are made. Default 30s.
	RedeliverAfter time.Duration
	// RequestTimeout bounds how long JetStream may take to answer. Default 5s.
	RequestTimeout time.Duration
	// Stream may change how a stream is made: replicas, limits, retention. What exists is left as it is. Default: files, one replica.
	Stream func(*jetstream.StreamConfig)
	// Options are added to those of the connection: credentials, TLS. The broker reconnects for ever unless they say otherwise.
	Options []nats.Option
}

func (c Config) withDefaults() Config {
	if c.RedeliverAfter == 0 {
		c.RedeliverAfter = 30 * time.Second
	}
	if c.RequestTimeout == 0 {
		c.RequestTimeout = 5 * time.Second
	}
	return c
}

// Validate says what is wrong with the configuration.
func (c Config) Validate() error {
	var faults []error
	if c.RedeliverAfter != 0 && c.RedeliverAfter < 100*time.Millisecond {
		faults = append(faults, fmt.Errorf("nats: Config: RedeliverAfter is %s: less than 100ms cannot be told from a slow network", c.RedeliverAfter))
	}
	if c.RequestTimeout < 0 {
		faults = append(faults, fmt.Errorf("nats: Config: RequestTimeout is %s: it must not be negative", c.RequestTimeout))
	}
	return errors.Join(faults...)
}

// ErrClosed is what a closed Broker answers.
var ErrClosed = errors.New("nats: broker is closed")

const reconnectAfter = 250 * time.Millisecond

// Broker carries messages over JetStream. It is safe for concurrent use.
type Broker struct {
	config Config
	logger watermill.LoggerAdapter
	conn   *nats.Conn
	js     jetstream.JetStream
	known  sync.Map // topics whose streams are there
}

// New makes a Broker for the servers of the URL. It connects, and goes on trying if no server is there yet. All that the Broker
// does goes over one connection. A nil logger means no logging.
func New(url string, config Config, logger watermill.LoggerAdapter) (*Broker, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	if logger == nil {
		logger = watermill.NopLogger{}
	}
	b := &Broker{config: config.withDefaults(), logger: logger}
	options := append([]nats.Option{
		nats.Name("sagamill"), nats.MaxReconnects(-1), nats.RetryOnFailedConnect(true), nats.ReconnectWait(reconnectAfter),
		nats.ReconnectBufSize(-1), // what is published without a connection is an error, not a message that may be lost
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				logger.Error("Connection to NATS is lost", err, nil)
			}
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { logger.Error("NATS reports an error", err, nil) }),
	}, config.Options...)
	var err error
	if b.conn, err = nats.Connect(url, options...); err != nil {
		return nil, fmt.Errorf("nats: connect: %w", err)
	}
	if b.js, err = jetstream.New(b.conn); err != nil {
		b.conn.Close()
		return nil, fmt.Errorf("nats: JetStream: %w", err)
	}
	return b, nil
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

// Publish implements message.Publisher: it returns when JetStream has all messages. If it fails, JetStream may have some.
func (b *Broker) Publish(topic string, messages ...*message.Message) error {
	if err := validName("topic", topic); err != nil {
		return err
	}
	if len(messages) == 0 {
		return nil
	}
	if b.conn.IsClosed() {
		return ErrClosed
	}
	ctx, cancel := context.WithTimeout(messages[0].Context(), b.config.RequestTimeout)
	defer cancel()
	if err := b.publish(ctx, topic, messages); err != nil {
		b.known.Delete(topic) // perhaps it is gone
		return fmt.Errorf("nats: publish to %s: %w", topic, err)
	}
	return nil
}

func (b *Broker) publish(ctx context.Context, topic string, messages []*message.Message) error {
	if _, ok := b.known.Load(topic); !ok {
		if _, err := b.stream(ctx, topic); err != nil {
			return err
		}
		b.known.Store(topic, true)
	}
	futures := make([]jetstream.PubAckFuture, len(messages))
	for i, msg := range messages {
		m, err := natsMessage(topic, msg)
		if err != nil {
			return err
		}
		if len(messages) == 1 {
			_, err = b.js.PublishMsg(ctx, m)
			return err
		}
		if futures[i], err = b.js.PublishMsgAsync(m); err != nil {
			return err
		}
	}
	for _, f := range futures {
		select {
		case <-f.Ok():
		case err := <-f.Err():
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// Bind makes the consumers of groups, so that they get what is published from now on, though they have no subscriber yet.
func (b *Broker) Bind(ctx context.Context, topic string, groups ...string) error {
	ctx, cancel := context.WithTimeout(ctx, b.config.RequestTimeout)
	defer cancel()
	for _, group := range groups {
		if _, err := b.consumer(ctx, topic, group); err != nil {
			return fmt.Errorf("nats: bind %s to %s: %w", group, topic, err)
		}
	}
	return nil
}

// Close closes the connection, and so ends subscriptions; subscribers should be closed before. It may be called any number of
// times.
func (b *Broker) Close() error {
	b.conn.Close()
	return nil
}

// stream finds the topic's stream, or makes it.
func (b *Broker) stream(ctx context.Context, topic string) (jetstream.Stream, error) {
	name := storedName(topic)
	s, err := b.js.Stream(ctx, name)
	if !errors.Is(err, jetstream.ErrStreamNotFound) {
		return s, err
	}
	config := jetstream.StreamConfig{Name: name, Subjects: []string{topic}, Retention: jetstream.InterestPolicy}
	if b.config.Stream != nil {
		b.config.Stream(&config)
	}
	s, err = b.js.CreateStream(ctx, config)
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // somebody else was first
		return b.js.Stream(ctx, name)
	}
	return s, err
}

// consumer finds the group's consumer, or makes it, and the stream with it.
func (b *Broker) consumer(ctx context.Context, topic, group string) (jetstream.Consumer, error) {
	if err := errors.Join(validName("topic", topic), validName("group", group)); err != nil {
		return nil, err
	}
	s, err := b.stream(ctx, topic)
	if err != nil {
		return nil, err
	}
	name := storedName(group)
	c, err := s.Consumer(ctx, name)
	if !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return c, err
	}
	return s.CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{
		Durable: name, AckPolicy: jetstream.AckExplicitPolicy, DeliverPolicy: jetstream.DeliverAllPolicy,
		AckWait: b.config.RedeliverAfter, MaxDeliver: -1, MaxAckPending: -1,
	})
}
