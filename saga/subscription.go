package saga

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// resubscribeAfter is how long a subscriber that ended by itself is left alone.
const resubscribeAfter = time.Second

// subscription is one subscriber, whose messages are handed on one after the other. Some of Watermill's end by themselves, on a
// message that they cannot read, say; such a one is replaced, for nobody would hear the topic any more.
type subscription struct {
	construct SubscriberConstructor
	params    SubscriberParams
	report    func(ctx context.Context, err error) // of one that ended, or that cannot be opened again

	mu         sync.Mutex
	subscriber message.Subscriber // nil: none is open
	messages   <-chan *message.Message
}

// open opens a subscriber. Its subscription ends with ctx.
func (s *subscription) open(ctx context.Context) error {
	subscriber, err := s.construct(s.params)
	if err != nil {
		return fmt.Errorf("saga: open a subscriber of %s: %w", s.params.Topic, err)
	}
	messages, err := subscriber.Subscribe(ctx, s.params.Topic)
	if err != nil {
		return errors.Join(fmt.Errorf("saga: subscribe to %s: %w", s.params.Topic, err), subscriber.Close())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subscriber, s.messages = subscriber, messages
	return nil
}

func (s *subscription) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.subscriber == nil {
		return nil
	}
	err := s.subscriber.Close()
	s.subscriber = nil
	if err != nil {
		return fmt.Errorf("saga: close a subscriber of %s: %w", s.params.Topic, err)
	}
	return nil
}

// run hands messages on until ctx is done or closing is closed (nil never is). What has been taken by then and is not handed
// on is left to the broker, which delivers it again.
func (s *subscription) run(ctx context.Context, closing <-chan struct{}, handle func(context.Context, *message.Message)) {
	for {
		s.consume(ctx, closing, handle)
		if over(ctx, closing) {
			return
		}
		err := errors.Join(fmt.Errorf("saga: a subscriber of %s ended by itself", s.params.Topic), s.close())
		for err != nil {
			s.report(ctx, err)
			select {
			case <-time.After(resubscribeAfter):
			case <-ctx.Done():
				return
			case <-closing:
				return
			}
			err = s.open(ctx)
		}
	}
}

// consume hands messages on until the subscriber ends, too.
func (s *subscription) consume(ctx context.Context, closing <-chan struct{}, handle func(context.Context, *message.Message)) {
	for !over(ctx, closing) {
		select {
		case msg, ok := <-s.messages:
			if !ok {
				return
			}
			if !closed(closing) {
				handle(ctx, msg)
			}
		case <-ctx.Done():
			return
		case <-closing:
			return
		}
	}
}

// over tells whether ctx is done or closing is closed.
func over(ctx context.Context, closing <-chan struct{}) bool {
	return ctx.Err() != nil || closed(closing)
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// subscribeAll opens subscribers of topics, a number of each, or none.
func subscribeAll(ctx context.Context, construct SubscriberConstructor, group string, topics []string, number int, report func(context.Context, error)) ([]*subscription, error) {
	var all []*subscription
	for _, topic := range topics {
		for n := range number {
			s := &subscription{construct: construct, params: SubscriberParams{Topic: topic, Group: group, Number: n}, report: report}
			if err := s.open(ctx); err != nil {
				for _, s := range all {
					err = errors.Join(err, s.close())
				}
				return nil, err
			}
			all = append(all, s)
		}
	}
	return all, nil
}
