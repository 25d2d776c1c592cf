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
	broker *Broker
	places chan struct{} // bounds the calls of Publish
	end    context.CancelFunc
	life   context.Context // of the publisher: it ends with close, and nothing else

	mu     sync.Mutex
	closed bool
	conn   *amqp.Connection
	idle   []*lent
	active sync.WaitGroup
}

// lent is a channel in confirm mode.
type lent struct {
	*amqp.Channel
	conn   *amqp.Connection
	topics map[string]bool // whose exchanges were declared on this channel
}

var errNotConfirmed = errors.New("RabbitMQ does not confirm that it has taken the message")

func newPublisher(b *Broker) *publisher {
	p := &publisher{broker: b, places: make(chan struct{}, b.config.Channels)}
	p.life, p.end = context.WithCancel(context.Background())
	return p
}

func (p *publisher) publish(topic string, messages []*message.Message) error {
	if !p.enter() {
		return ErrClosed
	}
	defer p.active.Done()
	ctx, cancel := context.WithTimeout(p.life, p.broker.config.ConfirmTimeout)
	defer cancel()
	select {
	case p.places <- struct{}{}:
		defer func() { <-p.places }()
	case <-ctx.Done():
		return fmt.Errorf("%d others publish, and are not done: %w", cap(p.places), ctx.Err())
	}
	ch, err := p.take(ctx)
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

// take lends a channel. It connects if it must, one caller at a time.
func (p *publisher) take(ctx context.Context) (*lent, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conn == nil || p.conn.IsClosed() {
		p.idle = nil // they died with it
		conn, err := p.broker.dial(ctx)
		if err != nil {
			return nil, err
		}
		p.conn = conn
	}
	for len(p.idle) > 0 {
		ch := p.idle[len(p.idle)-1]
		p.idle = p.idle[:len(p.idle)-1]
		if !ch.IsClosed() {
			return ch, nil
		}
	}
	ch, err := p.conn.Channel()
	if err != nil {
		return nil, err
	}
	l := &lent{Channel: ch, conn: p.conn, topics: map[string]bool{}}
	if err := ch.Confirm(false); err != nil {
		return nil, errors.Join(err, l.discard())
	}
	return l, nil
}

func (p *publisher) giveBack(ch *lent) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if ch.conn == p.conn && !ch.IsClosed() {
		p.idle = append(p.idle, ch)
	}
}

// close waits for those who publish; they give up soon.
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
	return closeConnection(p.conn)
}

// closeConnection closes a connection, if there is one that is not closed.
func closeConnection(conn *amqp.Connection) error {
	if conn == nil {
		return nil
	}
	if err := conn.Close(); err != nil && !errors.Is(err, amqp.ErrClosed) {
		return fmt.Errorf("rabbitmq: close a connection: %w", err)
	}
	return nil
}
