// Package listen takes events from a topic and gives them to a service, each at least once.
package listen

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/sagamill/sagamill/saga"
)

// Event is an event of the lifecycle of an order.
type Event struct {
	Name     string
	Order    string // the saga instance's ID, which is the order's
	Revision uint64 // of the saga: an event with a lower one is older
}

// again is how long an event waits that could not be recorded.
const again = 200 * time.Millisecond

// To subscribes to a topic in a service's group. The returned function gives the service its events until ctx is done; a
// subscription that ends by itself is opened again. An event is acknowledged when the service has recorded it, which it
// should do quickly: until then it is given to it again, for to refuse it would block the topic, or spin.
func To(ctx context.Context, transport saga.Transport, topic, group string, record func(context.Context, Event) error, report func(error)) (run func(), err error) {
	tell := func(err error) {
		if ctx.Err() == nil {
			report(fmt.Errorf("%s: %w", group, err))
		}
	}
	messages, subscriber, err := open(ctx, transport, topic, group)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", group, err)
	}
	return func() {
		for {
			for msg := range messages {
				take(ctx, msg, record, tell)
			}
			err := subscriber.Close()
			if ctx.Err() != nil {
				return
			}
			tell(errors.Join(fmt.Errorf("the subscription to %s ended by itself", topic), err))
			for messages, subscriber, err = open(ctx, transport, topic, group); err != nil; messages, subscriber, err = open(ctx, transport, topic, group) {
				tell(err)
				select {
				case <-time.After(again):
				case <-ctx.Done():
					return
				}
			}
		}
	}, nil
}

func open(ctx context.Context, transport saga.Transport, topic, group string) (<-chan *message.Message, message.Subscriber, error) {
	subscriber, err := transport.Subscriber(saga.SubscriberParams{Topic: topic, Group: group})
	if err != nil {
		return nil, nil, fmt.Errorf("subscribe to %s: %w", topic, err)
	}
	messages, err := subscriber.Subscribe(ctx, topic)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("subscribe to %s: %w", topic, err), subscriber.Close())
	}
	return messages, subscriber, nil
}

func take(ctx context.Context, msg *message.Message, record func(context.Context, Event) error, report func(error)) {
	e := Event{Name: msg.Metadata.Get(saga.MetaEvent), Order: msg.Metadata.Get(saga.MetaInstance)}
	revision, err := strconv.ParseUint(msg.Metadata.Get(saga.MetaRevision), 10, 64)
	if err != nil || e.Name == "" || e.Order == "" {
		report(fmt.Errorf("message %s is no event of an order, and dropped", msg.UUID))
		msg.Ack()
		return
	}
	e.Revision = revision
	for {
		err := record(ctx, e)
		if err == nil {
			msg.Ack()
			return
		}
		if ctx.Err() != nil {
			return // it comes again, to whoever is next
		}
		report(fmt.Errorf("%s of order %s: %w", e.Name, e.Order, err))
		select {
		case <-time.After(again):
		case <-ctx.Done():
			return
		}
	}
}
