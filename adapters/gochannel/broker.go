// Package gochannel is the transport for sagas whose participants live in the same process: Watermill's gochannel with
// consumer groups and bounds.
//
//	broker := gochannel.New(gochannel.Config{}, logger)
//	defer broker.Close()
//	transport := broker.Transport() // for the orchestrator and all participants
//
// What it does:
//
//   - each message of a topic goes to one subscriber of each group, and to another one if it is not acknowledged: after a
//     negative acknowledgement, or when its subscriber closes. So a message may come twice;
//   - a group keeps up to Config.Buffer messages of a topic waiting; then Publish blocks until there is room, or the Broker
//     is closed. Neither messages nor goroutines gather without bound;
//   - a subscriber has one message in flight;
//   - Publish to a topic of Config.Confirmed waits until the message is acknowledged, and fails if a group loses its last
//     subscriber before. So an event that the engine has recorded as published has reached everyone who listened, and is safe
//     from a crash if they record what they acknowledge.
//
// What it does not: it keeps nothing. Messages to a topic that has no subscribers are dropped, and those that wait are lost
// with the last subscriber of their group, and with the process. The engine needs no more: it sends again what no reply proves, and
// events whose Publish failed. A group that has no subscriber by then does not get them.
package gochannel

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"

	"github.com/sagamill/sagamill/saga"
)

// DefaultBuffer is the Buffer of the zero Config.
const DefaultBuffer = 1024

// Config configures a Broker. Zero fields have the documented defaults.
type Config struct {
	// Buffer bounds the messages of a topic that wait in a group. Default, also for negative values: DefaultBuffer.
	Buffer int
	// Confirmed are topics whose Publish returns nil only when a subscriber of each group has acknowledged the messages. It is for
	// events ([saga.Emit]): nobody asks for them again, so they count as published when those who listen have recorded them.
	// A group that ends meanwhile makes Publish fail, though it may have acknowledged.
	Confirmed []string
}

// ErrClosed is what a closed Broker answers. A message whose Publish is interrupted by Close is lost.
var ErrClosed = errors.New("gochannel: broker is closed")

var errUnconfirmed = errors.New("a group has ended, perhaps before it had acknowledged")

// Broker carries messages within the process. It is safe for concurrent use.
type Broker struct {
	buffer  int
	confirm []string
	logger  watermill.LoggerAdapter
	closing chan struct{}
	active  sync.WaitGroup // pumps and deliveries

	mu     sync.Mutex
	closed bool
	topics map[string]*topic
}

// topic has a GoChannel of its own: while a Publish waits, GoChannel lets nobody subscribe, and then nobody else publish.
type topic struct {
	name      string
	channel   *gochannel.GoChannel
	confirmed bool // Publish waits for the acknowledgement

	mu     sync.Mutex // of who comes and who leaves
	groups map[string]*group
	ended  atomic.Int64 // groups; a Publish sees it before it sees that the group does not answer any more
}

// New makes a Broker. A nil logger means no logging.
func New(config Config, logger watermill.LoggerAdapter) *Broker {
	if config.Buffer <= 0 {
		config.Buffer = DefaultBuffer
	}
	if logger == nil {
		logger = watermill.NopLogger{}
	}
	return &Broker{buffer: config.Buffer, confirm: slices.Clone(config.Confirmed), logger: logger, closing: make(chan struct{}), topics: map[string]*topic{}}
}

// Transport is what orchestrators and participants are given. To share it is the point.
func (b *Broker) Transport() saga.Transport {
	return saga.Transport{
		Publisher: b,
		Subscriber: func(params saga.SubscriberParams) (message.Subscriber, error) {
			return b.Subscriber(params.Group)
		},
	}
}

// Publish implements message.Publisher. It returns when each group of the topic has taken the messages into its queue; if the
// topic is one of Config.Confirmed, when each has acknowledged them. If it fails, some groups may have them.
func (b *Broker) Publish(name string, messages ...*message.Message) error {
	t, err := b.topic(name)
	if err != nil {
		return err
	}
	ended := t.ended.Load()
	err = t.channel.Publish(name, messages...)
	select {
	case <-b.closing: // it answers nil to what it gave up
		return ErrClosed
	default:
	}
	if err == nil && t.confirmed && t.ended.Load() != ended { // it answers nil for them as well
		err = errUnconfirmed
	}
	if err != nil {
		return fmt.Errorf("gochannel: publish to %s: %w", name, err)
	}
	return nil
}

// Subscriber makes a subscriber in a group. Closing it leaves the Broker open.
func (b *Broker) Subscriber(group string) (message.Subscriber, error) {
	if group == "" {
		return nil, errors.New("gochannel: a subscriber needs a group")
	}
	return &subscriber{broker: b, group: group, closing: make(chan struct{})}, nil
}

// Close ends all subscriptions and whatever waits in Publish. It may be called any number of times.
func (b *Broker) Close() error {
	b.mu.Lock()
	first := !b.closed
	b.closed = true
	if first {
		close(b.closing)
	}
	b.mu.Unlock()
	// From here on nobody adds a topic, or enters.
	b.active.Wait()
	var faults []error
	for _, t := range b.topics {
		faults = append(faults, t.channel.Close())
	}
	return errors.Join(faults...)
}

// topic returns the topic of that name, which it makes if there is none.
func (b *Broker) topic(name string) (*topic, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.topicLocked(name)
}

func (b *Broker) topicLocked(name string) (*topic, error) {
	if b.closed {
		return nil, ErrClosed
	}
	t := b.topics[name]
	if t == nil {
		channel := gochannel.NewGoChannel(gochannel.Config{BlockPublishUntilSubscriberAck: true}, b.logger)
		t = &topic{name: name, channel: channel, confirmed: slices.Contains(b.confirm, name), groups: map[string]*group{}}
		b.topics[name] = t
	}
	return t, nil
}

// enter begins a subscription, which Close waits for until leave is called.
func (b *Broker) enter(name string) (t *topic, leave func(), err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if t, err = b.topicLocked(name); err != nil {
		return nil, nil, err
	}
	b.active.Add(1)
	return t, b.active.Done, nil
}
