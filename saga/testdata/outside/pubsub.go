package main

import (
	"context"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"
)

// pubSub is about the least that Watermill asks of a Pub/Sub: a queue for each topic, and one message at a time for each
// subscriber, which comes again if it is not acknowledged.
type pubSub struct {
	mu     sync.Mutex
	topics map[string]chan *message.Message
}

func newPubSub() *pubSub { return &pubSub{topics: map[string]chan *message.Message{}} }

func (p *pubSub) topic(name string) chan *message.Message {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.topics[name] == nil {
		p.topics[name] = make(chan *message.Message, 100)
	}
	return p.topics[name]
}

// Publish implements message.Publisher.
func (p *pubSub) Publish(topic string, messages ...*message.Message) error {
	for _, m := range messages {
		p.topic(topic) <- m
	}
	return nil
}

// Subscribe implements message.Subscriber.
func (p *pubSub) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	in, out := p.topic(topic), make(chan *message.Message)
	go func() {
		defer close(out)
		for {
			select {
			case m := <-in:
				for !deliver(ctx, m.Copy(), out) {
					if ctx.Err() != nil {
						in <- m
						return
					}
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return out, nil
}

func deliver(ctx context.Context, m *message.Message, out chan<- *message.Message) (acked bool) {
	select {
	case out <- m:
	case <-ctx.Done():
		return false
	}
	select {
	case <-m.Acked():
		return true
	case <-m.Nacked():
	case <-ctx.Done():
	}
	return false
}

// Close implements message.Publisher and message.Subscriber.
func (p *pubSub) Close() error { return nil }
