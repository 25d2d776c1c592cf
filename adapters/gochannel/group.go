package gochannel

import (
	"context"

	"github.com/ThreeDotsLabs/watermill/message"
)

// group is the queue that the subscribers of one group share for a topic. Its pump owns it.
type group struct {
	members int // subscriptions; guarded by topic.mu
	end     context.CancelFunc

	ready chan struct{} // the group takes messages
	ended chan struct{} // it is over, and what waited is lost
	err   error         // why it never was ready; read it after ended

	out  chan *message.Message // to whichever subscriber is free
	back chan *message.Message // from subscribers: delivered, but not acknowledged
}

// join makes a subscription a member of the group, which begins with its first one. It holds no lock while it waits: the
// subscription to a topic waits for a Publish, which may wait for somebody to leave.
func (b *Broker) join(ctx context.Context, t *topic, name string, closing <-chan struct{}) (*group, error) {
	t.mu.Lock()
	g := t.groups[name]
	if g == nil {
		g = &group{
			ready: make(chan struct{}), ended: make(chan struct{}),
			out: make(chan *message.Message), back: make(chan *message.Message),
		}
		t.groups[name] = g
		life, end := context.WithCancel(context.Background())
		g.end = end
		b.active.Go(func() { g.run(life, t, b.buffer, b.closing) })
	}
	g.members++
	t.mu.Unlock()

	var err error
	select {
	case <-g.ready:
		return g, nil
	case <-g.ended:
		if err = g.err; err == nil {
			err = ErrClosed
		}
	case <-ctx.Done():
		err = ctx.Err()
	case <-closing:
		err = errSubscriberClosed
	case <-b.closing:
		err = ErrClosed
	}
	t.leave(name, g)
	return nil, err
}

// leave ends the group with its last member.
func (t *topic) leave(name string, g *group) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if g.members--; g.members == 0 {
		delete(t.groups, name)
		t.ended.Add(1)
		g.end()
	}
}

func (g *group) run(life context.Context, t *topic, room int, closing <-chan struct{}) {
	defer close(g.ended)
	defer g.end() // the channel's subscription
	in, err := t.channel.Subscribe(life, t.name)
	if err != nil {
		g.err = err
		return
	}
	close(g.ready)
	g.pump(life, in, room, t.confirmed, closing)
}

// pump takes messages in while there is room, and acknowledges each then, unless its topic is confirmed: that lets its Publish go
// on. What comes back has had its place before, so it is always taken: there is at most one for each subscription.
func (g *group) pump(life context.Context, in <-chan *message.Message, room int, confirmed bool, closing <-chan struct{}) {
	var queue []*message.Message
	for {
		var (
			next <-chan *message.Message
			out  chan<- *message.Message
			head *message.Message
		)
		if len(queue) < room {
			next = in
		}
		if len(queue) > 0 {
			out, head = g.out, queue[0]
		}
		select {
		case msg, ok := <-next:
			if !ok {
				return
			}
			queue = append(queue, msg)
			if !confirmed {
				msg.Ack()
			}
		case msg := <-g.back:
			queue = append(queue, msg)
		case out <- head:
			queue[0] = nil // for the garbage collector
			queue = queue[1:]
		case <-life.Done():
			return
		case <-closing:
			return
		}
	}
}
