package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"

	amqp "github.com/rabbitmq/amqp091-go"
)

// connection is one that can be dropped. What the client does on a connection waits for RabbitMQ without a bound, and a RabbitMQ
// that is short of memory or disk reads nothing that publishers send, not even that they want to end a channel or a connection.
type connection struct {
	*amqp.Connection
	wire    net.Conn
	dropped atomic.Bool
}

// dial connects, until ctx is done.
func (b *Broker) dial(ctx context.Context) (*connection, error) {
	config, c := b.config.AMQP, &connection{}
	connect := config.Dial
	if connect == nil {
		connect = func(network, addr string) (net.Conn, error) { return (&net.Dialer{}).DialContext(ctx, network, addr) }
	}
	release := func() bool { return true }
	config.Dial = func(network, addr string) (wire net.Conn, err error) {
		if wire, err = connect(network, addr); err == nil {
			c.wire = wire
			release = c.dropAfter(ctx)
		}
		return wire, err
	}
	var err error
	c.Connection, err = amqp.DialConfig(b.url, config)
	switch {
	case !release():
		return nil, fmt.Errorf("connect: %w", ctx.Err())
	case err != nil && c.wire != nil:
		c.drop()
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

// bound ends ctx after the ConfirmTimeout.
func (b *Broker) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, b.config.ConfirmTimeout)
}

// usable is false for no connection, too.
func (c *connection) usable() bool { return c != nil && !c.dropped.Load() && !c.IsClosed() }

// drop ends the connection without a word. Whoever waits for RabbitMQ on it gets an error.
func (c *connection) drop() {
	c.dropped.Store(true)
	_ = c.wire.Close()
}

// dropAfter drops the connection when ctx is done, unless it is released before.
func (c *connection) dropAfter(ctx context.Context) (release func() bool) {
	return context.AfterFunc(ctx, c.drop)
}

// close closes the connection, if it is usable, and drops it when ctx is done.
func (c *connection) close(ctx context.Context) (err error) {
	if c.usable() {
		defer c.dropAfter(ctx)()
		if err = c.Connection.Close(); err == nil || errors.Is(err, amqp.ErrClosed) {
			return nil
		}
	}
	if ctx.Err() != nil { // err says no more than that it was dropped
		err = ctx.Err()
	}
	if err != nil {
		err = fmt.Errorf("rabbitmq: close a connection: %w", err)
	}
	return err
}
