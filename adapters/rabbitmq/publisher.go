package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"
	amqp "github.com/rabbitmq/amqp091-go"
)

// publisher has a connection, made when it is needed, and channels on it that are lent to one Publish at a time.
type publisher struct {
	broker  *Broker
	places  chan struct{} // bounds the calls of Publish
	connect chan struct{} // has the place of the one who may connect
	end     context.CancelFunc
	life    context.Context // of the publisher: it ends with close, and nothing else

	mu     sync.Mutex // is not held while RabbitMQ is waited for
	closed bool
	conn   *connection
	idle   []*lent // of conn
	active sync.WaitGroup
}

// lent is a channel in confirm mode.
type lent struct {
	*amqp.Channel
	conn   *connection
	topics map[string]bool // whose exchanges were declared on this channel
}

var errNotConfirmed = errors.New("RabbitMQ does not confirm that it has taken the message")

func newPublisher(b *Broker) *publisher {
	p := &publisher{broker: b, places: make(chan struct{}, b.config.Channels), connect: make(chan struct{}, 1)}
	p.life, p.end = context.WithCancel(context.Background())
	return p
}

func (p *publisher) publish(topic string, messages []*message.Message) error {
	if !p.enter() {
		return ErrClosed
	}
	defer p.active.Done()
	ctx, cancel := p.broker.bound(p.life)
	defer cancel()
	select {
	case p.places <- struct{}{}:
		defer func() { <-p.places }()
	case <-ctx.Done():
		return fmt.Errorf("%d others publish, and are not done: %w", cap(p.places), ctx.Err())
	}
	conn, err := p.connection(ctx)
	if err != nil {
		return err
	}
	defer conn.dropAfter(ctx)()
	if err = p.publishOn(ctx, conn, topic, messages); err != nil && ctx.Err() != nil {
		conn.drop() // at once, so that nobody takes it up
		if !errors.Is(err, ctx.Err()) {
			err = fmt.Errorf("%w: %w", ctx.Err(), err)
		}
	}
	return err
}

// publishOn waits for RabbitMQ until the connection is dropped.
func (p *publisher) publishOn(ctx context.Context, conn *connection, topic string, messages []*message.Message) error {
	ch, err := p.take(conn)
	if err != nil {
		return err
	}
	if err := ch.publish(ctx, topic, messages); err != nil {
		return errors.Join(err, ch.discard())
	}
	p.giveBack(ch)
	return nil
}

// publish publishes all messages, and waits for all confirmations then.
func (ch *lent) publish(ctx context.Context, topic string, messages []*message.Message) error {
	if !ch.topics[topic] {
		if err := declareExchange(ch.Channel, topic); err != nil {
			return err
		}
		ch.topics[topic] = true
	}
	confirmations := make([]*amqp.DeferredConfirmation, len(messages))
	var err error
	for i, msg := range messages {
		if confirmations[i], err = ch.PublishWithDeferredConfirmWithContext(ctx, topic, "", false, false, publishingOf(msg)); err != nil {
			return err
		}
	}
	for _, c := range confirmations {
		confirmed, err := c.WaitContext(ctx)
		if err != nil {
			return fmt.Errorf("%w: %w", errNotConfirmed, err)
		}
		if !confirmed {
			return errNotConfirmed
		}
	}
	return nil
}

// discard closes a channel of which nobody knows what state it is in.
func (ch *lent) discard() error {
	if err := ch.Close(); err != nil && !errors.Is(err, amqp.ErrClosed) {
		return err
	}
	return nil
}

func (p *publisher) enter() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.active.Add(1)
	}
	return !p.closed
}

// connection returns the connection. It connects if it must, one caller at a time.
func (p *publisher) connection(ctx context.Context) (*connection, error) {
	select {
	case p.connect <- struct{}{}:
		defer func() { <-p.connect }()
	case <-ctx.Done():
		return nil, fmt.Errorf("another one connects, and is not done: %w", ctx.Err())
	}
	p.mu.Lock()
	conn := p.conn
	p.mu.Unlock()
	if conn.usable() {
		return conn, nil
	}
	conn, err := p.broker.dial(ctx)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	p.conn, p.idle = conn, nil // the channels died with their connection
	p.mu.Unlock()
	return conn, nil
}

// take lends a channel of the connection.
func (p *publisher) take(conn *connection) (*lent, error) {
	if ch := p.takeIdle(conn); ch != nil {
		return ch, nil
	}
	ch, err := conn.Channel()
	if err != nil {
		return nil, err
	}
	l := &lent{Channel: ch, conn: conn, topics: map[string]bool{}}
	if err := ch.Confirm(false); err != nil {
		return nil, errors.Join(err, l.discard())
	}
	return l, nil
}

// takeIdle returns nil if there is no idle channel of the connection.
func (p *publisher) takeIdle(conn *connection) *lent {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn == p.conn && len(p.idle) > 0 {
		ch := p.idle[len(p.idle)-1]
		p.idle = p.idle[:len(p.idle)-1]
		if !ch.IsClosed() {
			return ch
		}
	}
	return nil
}

func (p *publisher) giveBack(ch *lent) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if ch.conn == p.conn && !ch.IsClosed() {
		p.idle = append(p.idle, ch)
	}
}

// close waits for those who publish; they give up at once.
func (p *publisher) close() error {
	p.mu.Lock()
	first := !p.closed
	p.closed = true
	p.mu.Unlock()
	p.end()
	p.active.Wait()
	if !first {
		return nil
	}
	ctx, cancel := p.broker.bound(context.Background())
	defer cancel()
	return p.conn.close(ctx)
}
