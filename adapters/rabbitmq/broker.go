// Package rabbitmq is the transport over RabbitMQ, with durable queues and confirmed publishing.
//
//	broker, err := rabbitmq.New("amqp://guest:guest@localhost:5672/", rabbitmq.Config{}, logger)
//	defer broker.Close()
//	transport := broker.Transport() // for the orchestrator and participants
//
// What it guarantees:
//
//   - a message is on RabbitMQ's disk when Publish returns nil (persistent, to durable queues, confirmed), and reaches each
//     group of its topic at least once. A topic is a durable fan-out exchange, a group is a durable queue bound to it,
//     named TOPIC_GROUP; both are made by whoever comes first;
//   - a group gets what is published after its queue was bound: by its first subscriber ever, or by [Broker.Bind]. What
//     is published to a topic without queues is dropped by RabbitMQ, and Publish returns nil: an event may have no
//     listeners. The engine sends commands again until they are answered. Bind the groups whose events must not be missed
//     when you deploy;
//   - a message that is not acknowledged comes again as soon as its subscriber or its connection is gone. While they are
//     there RabbitMQ waits for its consumer_timeout (30 minutes by default), and then closes the channel;
//   - a message that is never acknowledged, and one that is none of Watermill's, hold up nobody. Headers that are not texts are
//     handed on as Go prints them;
//   - connections that are lost, or dropped because RabbitMQ does not answer in time, are made again: by the next Publish, and,
//     as the subscription ends, by whoever opens it again (the engine does, after a second).
//
// Messages come in order of publication to a group with one subscriber that acknowledges all; otherwise about so. What comes again
// has the metadata [RedeliveredKey].
//
// The messages are those of watermill-amqp (a text header for each metadata, the UUID in one of its own), and so are the
// names of exchanges and queues in its durable Pub/Sub configuration. It is not used here: version 3.0.2 has a data race
// between Publish and a lost connection, leaves connections behind when it is closed while it has none, and gives back a
// message whose headers it cannot read, again and again without a pause.
package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/sagamill/sagamill/saga"
)

// Config configures a Broker. Zero fields have the documented defaults.
type Config struct {
	// Channels bounds the calls of Publish at one time; each has a channel of its own. More of them wait. Default 8.
	Channels int
	// ConfirmTimeout bounds how long Publish waits for RabbitMQ: for a connection, for what it needs on it, and for the
	// confirmation. A RabbitMQ that is short of memory or disk lets publishers wait. When the time is over the connection, on which
	// others may wait as well, is dropped. It bounds Bind, and how subscribers subscribe and close, in the same way. Default 10s.
	ConfirmTimeout time.Duration
	// QueueArguments are given to queues that are declared, {"x-queue-type": "quorum"} say. All who declare a queue must
	// give the same ones. Default: none.
	QueueArguments amqp.Table
	// AMQP is how to connect: TLS, heartbeat and so on. Default: as the URL says.
	AMQP amqp.Config
}

func (c Config) withDefaults() Config {
	if c.Channels == 0 {
		c.Channels = 8
	}
	if c.ConfirmTimeout == 0 {
		c.ConfirmTimeout = 10 * time.Second
	}
	return c
}

// Validate says what is wrong with the configuration.
func (c Config) Validate() error {
	var faults []error
	if c.Channels < 0 {
		faults = append(faults, fmt.Errorf("rabbitmq: Config: Channels is %d: it must not be negative", c.Channels))
	}
	if c.ConfirmTimeout < 0 {
		faults = append(faults, fmt.Errorf("rabbitmq: Config: ConfirmTimeout is %s: it must not be negative", c.ConfirmTimeout))
	}
	if c.AMQP.Recovery != nil {
		faults = append(faults, errors.New("rabbitmq: Config: AMQP.Recovery is set: connections are made again here"))
	}
	return errors.Join(faults...)
}

// ErrClosed is what a closed Broker answers.
var ErrClosed = errors.New("rabbitmq: broker is closed")

// Broker carries messages over RabbitMQ. It is safe for concurrent use.
type Broker struct {
	url       string
	config    Config
	logger    watermill.LoggerAdapter
	publisher *publisher
}

// New makes a Broker for the server of the URL. It connects when it is used: Publish shares one connection, each
// subscriber has one of its own. A nil logger means no logging.
func New(url string, config Config, logger watermill.LoggerAdapter) (*Broker, error) {
	err := config.Validate()
	if _, fault := amqp.ParseURI(url); fault != nil {
		err = errors.Join(err, fmt.Errorf("rabbitmq: the URL: %w", fault))
	}
	if err != nil {
		return nil, err
	}
	if logger == nil {
		logger = watermill.NopLogger{}
	}
	b := &Broker{url: url, config: config.withDefaults(), logger: logger}
	b.publisher = newPublisher(b)
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

// Publish implements message.Publisher: it returns when RabbitMQ has confirmed all messages. If it fails, RabbitMQ may have some.
func (b *Broker) Publish(topic string, messages ...*message.Message) error {
	if err := validName("topic", topic); err != nil {
		return err
	}
	if len(messages) == 0 {
		return nil
	}
	if err := b.publisher.publish(topic, messages); err != nil {
		return fmt.Errorf("rabbitmq: publish to %s: %w", topic, err)
	}
	return nil
}

// Bind makes the queues of groups, so that they get what is published from now on, though they have no subscriber yet.
func (b *Broker) Bind(ctx context.Context, topic string, groups ...string) (err error) {
	ctx, cancel := b.bound(ctx)
	defer cancel()
	conn, err := b.dial(ctx)
	if err != nil {
		return fmt.Errorf("rabbitmq: bind: %w", err)
	}
	defer func() { err = errors.Join(err, conn.close(ctx)) }()
	defer conn.dropAfter(ctx)()
	ch, err := conn.Channel()
	if err != nil {
		return fmt.Errorf("rabbitmq: bind: %w", err)
	}
	for _, group := range groups {
		if err := b.declare(ch, topic, group); err != nil {
			return err
		}
	}
	return nil
}

// Close ends publishing: a Publish that waits gives up. It takes no longer than the ConfirmTimeout. Subscribers are closed by
// whoever opened them. It may be called any number of times.
func (b *Broker) Close() error { return b.publisher.close() }

// declare makes the topic's exchange and the group's queue, and binds them.
func (b *Broker) declare(ch *amqp.Channel, topic, group string) error {
	if err := errors.Join(validName("topic", topic), validName("group", group)); err != nil {
		return err
	}
	if err := declareExchange(ch, topic); err != nil {
		return err
	}
	queue := queueOf(topic, group)
	if _, err := ch.QueueDeclare(queue, true, false, false, false, b.config.QueueArguments); err != nil {
		return fmt.Errorf("rabbitmq: declare the queue %s: %w", queue, err)
	}
	if err := ch.QueueBind(queue, "", topic, false, nil); err != nil {
		return fmt.Errorf("rabbitmq: bind the queue %s: %w", queue, err)
	}
	return nil
}

func declareExchange(ch *amqp.Channel, topic string) error {
	if err := ch.ExchangeDeclare(topic, amqp.ExchangeFanout, true, false, false, false, nil); err != nil {
		return fmt.Errorf("rabbitmq: declare the exchange %s: %w", topic, err)
	}
	return nil
}

func queueOf(topic, group string) string { return topic + "_" + group }

// validName refuses what RabbitMQ does not take as a name, or keeps for itself. Topic and group together make a queue's name.
func validName(what, name string) error {
	if name == "" || len(name) > 120 {
		return fmt.Errorf("rabbitmq: the %s %.40q has %d bytes: it takes 1 to 120", what, name, len(name))
	}
	for _, r := range name {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '_', r == '.', r == ':':
		default:
			return fmt.Errorf("rabbitmq: the %s %q takes letters, digits and -_.:", what, name)
		}
	}
	if len(name) >= 4 && name[:4] == "amq." {
		return fmt.Errorf("rabbitmq: the %s %q begins with amq., which is RabbitMQ's own", what, name)
	}
	return nil
}
