// Package redisstream is the transport over Redis Streams: Watermill's subscriber with settings that lose nothing and wait for nobody.
//
//	broker, err := redisstream.New(&redis.UniversalOptions{Addrs: []string{"localhost:6379"}}, redisstream.Config{}, logger)
//	defer broker.Close()
//	transport := broker.Transport() // for the orchestrator and participants
//
// What it guarantees, as long as Redis keeps what it has:
//
//   - a message is in Redis when Publish returns nil, and reaches each group of its topic at least once. A topic is a stream, a
//     group is one of its consumer groups; both are made by whoever comes first, and a group begins with what the stream holds;
//   - a message that is not acknowledged comes to another subscriber of the group: soon after its own was closed, and
//     Config.RedeliverAfter after its process died. While a subscriber lives nobody takes from it what its handler is at,
//     however long that takes;
//   - a message that is never acknowledged, and an entry that is no message of Watermill's, hold up nobody. Such an entry is handed
//     on with what can be read of it, under its entry's ID, so that the engine can record it as a dead letter;
//   - what all groups have acknowledged is trimmed, every Config.TrimInterval. So a group that is new to a topic gets what
//     somebody has still to handle, or what came after the last trimming.
//
// Messages come about in order of publication, but one that comes again, and those handled side by side, do not.
//
// What Redis itself must be set to: maxmemory-policy noeviction, as any other throws away streams when memory is short; and
// appendonly yes, with appendfsync always if nothing at all may be lost when the machine fails (everysec loses a second).
// A failover to a replica loses what had not reached it. Commands and replies are sent again by the engine; events
// ([saga.Emit]) are not, once Redis has taken them.
//
// Each subscriber takes two messages ahead from Redis. They wait for its handler, and go to another subscriber when they
// have waited for RedeliverAfter: if handlers are slow, some messages are handled twice.
package redisstream

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-redisstream/pkg/redisstream"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/redis/go-redis/v9"

	"github.com/sagamill/sagamill/saga"
)

// Config configures a Broker. Zero fields have the documented defaults.
type Config struct {
	// RedeliverAfter is how long a process may be silent before its messages are given to others. Default 30s.
	RedeliverAfter time.Duration
	// TrimInterval is how often the streams that this process subscribes to are trimmed of what all of their groups have
	// acknowledged. Default 1m. Negative: never; then whoever owns the streams must trim them.
	TrimInterval time.Duration
}

func (c Config) withDefaults() Config {
	if c.RedeliverAfter == 0 {
		c.RedeliverAfter = 30 * time.Second
	}
	if c.TrimInterval == 0 {
		c.TrimInterval = time.Minute
	}
	return c
}

// Validate says what is wrong with the configuration.
func (c Config) Validate() error {
	if c.RedeliverAfter != 0 && c.RedeliverAfter < 100*time.Millisecond {
		return fmt.Errorf("redisstream: Config: RedeliverAfter is %s: less than 100ms cannot be told from a slow network", c.RedeliverAfter)
	}
	return nil
}

// ErrClosed is what a closed Broker answers.
var ErrClosed = errors.New("redisstream: broker is closed")

// Broker carries messages over Redis Streams. It is safe for concurrent use.
type Broker struct {
	options *redis.UniversalOptions
	config  Config
	logger  watermill.LoggerAdapter
	client  redis.UniversalClient // for all but reading
	end     context.CancelFunc    // of the trimming
	trimmer sync.WaitGroup

	mu     sync.Mutex
	closed bool
	topics map[string]bool // subscribed to
}

// New makes a Broker. It connects as the options say when it is used: with a client of its own for each subscriber, as
// Watermill's close theirs. A nil logger means no logging.
func New(options *redis.UniversalOptions, config Config, logger watermill.LoggerAdapter) (*Broker, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	if options == nil {
		return nil, errors.New("redisstream: the options are nil")
	}
	if logger == nil {
		logger = watermill.NopLogger{}
	}
	own := *options
	b := &Broker{options: &own, config: config.withDefaults(), logger: logger, client: redis.NewUniversalClient(&own), topics: map[string]bool{}}
	var ctx context.Context
	ctx, b.end = context.WithCancel(context.Background())
	if b.config.TrimInterval > 0 {
		b.trimmer.Go(func() { b.trimEver(ctx) })
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

// Publish implements message.Publisher: it returns when Redis has all messages. If it fails, Redis may have some.
func (b *Broker) Publish(topic string, messages ...*message.Message) error {
	if err := validName("topic", topic); err != nil {
		return err
	}
	if len(messages) == 0 {
		return nil
	}
	b.mu.Lock()
	closed := b.closed
	b.mu.Unlock()
	if closed {
		return ErrClosed
	}
	ctx := messages[0].Context()
	_, err := b.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for _, msg := range messages {
			values, err := redisstream.DefaultMarshallerUnmarshaller{}.Marshal(topic, msg)
			if err != nil {
				return err
			}
			pipe.XAdd(ctx, &redis.XAddArgs{Stream: topic, Values: values})
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("redisstream: publish to %s: %w", topic, err)
	}
	return nil
}

// Close ends what the Broker opened for itself; subscribers are closed by whoever opened them. It may be called any number
// of times.
func (b *Broker) Close() error {
	b.end()
	b.trimmer.Wait() // without the lock, which it takes
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil
	}
	b.closed = true
	if err := b.client.Close(); err != nil {
		return fmt.Errorf("redisstream: close the client: %w", err)
	}
	return nil
}

// validName refuses names that would be hard to handle in redis-cli, or too long for a subscriber's log.
func validName(what, name string) error {
	if name == "" || len(name) > 255 {
		return fmt.Errorf("redisstream: the %s %.40q has %d bytes: it takes 1 to 255", what, name, len(name))
	}
	for _, r := range name {
		if r <= ' ' || r == 0x7f {
			return fmt.Errorf("redisstream: the %s %q has spaces or control characters", what, name)
		}
	}
	return nil
}
