package saga

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// outbound is a message to be published.
type outbound struct {
	topic    string
	msg      *message.Message
	instance string
	id       string
	oneway   bool
}

// publisher publishes messages, those that gathered for a topic together. A topic takes half of the workers at most: one that
// hangs, because nobody acknowledges its events, say, does not hold up the others.
type publisher struct {
	o       *Orchestrator
	mu      sync.Mutex
	queue   []outbound
	busy    map[string]int // workers at a topic
	wake    chan struct{}
	closed  bool
	workers sync.WaitGroup
}

func newPublisher(o *Orchestrator) *publisher {
	return &publisher{o: o, busy: map[string]int{}, wake: make(chan struct{}, 1)}
}

func (p *publisher) begin(ctx context.Context) {
	for range p.o.config.Publishers {
		p.workers.Go(func() { p.run(ctx) })
	}
}

// add queues a message. The queue holds no more than one message of each effect in flight; when it is longer than StepQueue
// the message is left to be sent again by its timer, so that a broker that is away costs no memory.
func (p *publisher) add(m outbound) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.queue) < p.o.config.StepQueue {
		p.queue = append(p.queue, m)
	}
	p.signal()
}

func (p *publisher) signal() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// take removes the messages of the first topic that may have another worker, up to a hundred. leave has to be called then.
func (p *publisher) take() (topic string, batch []outbound, closed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.queue) == 0 {
		if p.closed {
			p.signal() // the next worker shall see it, too
		}
		return "", nil, p.closed
	}
	first := slices.IndexFunc(p.queue, func(m outbound) bool { return p.busy[m.topic] < max(p.o.config.Publishers/2, 1) })
	if first < 0 {
		return "", nil, false // whoever leaves a topic looks again
	}
	topic = p.queue[first].topic
	p.busy[topic]++
	rest := p.queue[:0:0]
	for _, m := range p.queue {
		if m.topic == topic && len(batch) < 100 {
			batch = append(batch, m)
		} else {
			rest = append(rest, m)
		}
	}
	if p.queue = rest; len(rest) > 0 {
		p.signal()
	}
	return topic, batch, false
}

func (p *publisher) leave(topic string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.busy[topic]--; p.busy[topic] == 0 {
		delete(p.busy, topic)
	}
	p.signal()
}

func (p *publisher) run(ctx context.Context) {
	for range p.wake {
		for {
			topic, batch, closed := p.take()
			if closed {
				return
			}
			if len(batch) == 0 {
				break
			}
			p.publish(ctx, topic, batch)
			p.leave(topic)
		}
	}
}

// publish publishes a batch. If that fails the messages' timers will see to it; if it worked, one-way messages are recorded
// as published, which nobody else would do.
func (p *publisher) publish(ctx context.Context, topic string, batch []outbound) {
	msgs := make([]*message.Message, len(batch))
	for k, m := range batch {
		msgs[k] = m.msg
	}
	if err := p.send(topic, msgs); err != nil {
		p.o.away(ctx, "publish to "+topic, err)
		return
	}
	p.o.works("publish to " + topic)
	for _, m := range batch {
		if m.oneway {
			p.o.intake.add(&job{id: m.instance, in: input{published: []string{m.id}}})
		}
	}
}

func (p *publisher) send(topic string, msgs []*message.Message) (err error) {
	defer recoverTo(&err, "Publish")
	return p.o.config.Transport.Publisher.Publish(topic, msgs...)
}

// close waits until what is in the queue is published, or until ctx is done: the rest is sent by whoever comes next.
func (p *publisher) close(ctx context.Context) error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.signal()
	done := make(chan struct{})
	go func() {
		p.workers.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	p.queue = nil
	p.mu.Unlock()
	select {
	case <-done:
		return nil
	case <-time.After(drainGrace):
		return errors.New("saga: the transport's Publish did not return, and is left behind")
	}
}
