package app

import (
	"math/rand/v2"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// Trouble is what a broker may do to messages: some come twice, some late.
type Trouble struct {
	Twice  float64       // this part of the messages is published again
	Late   float64       // this part is kept back at first
	Within time.Duration // the second time, and the delay: up to so much later
}

// troubled is a publisher that makes trouble.
type troubled struct {
	message.Publisher
	Trouble

	closing chan struct{}
	mu      sync.Mutex
	closed  bool
	late    sync.WaitGroup
}

func (t Trouble) begin(p message.Publisher) *troubled {
	return &troubled{Publisher: p, Trouble: t, closing: make(chan struct{})}
}

// Publish implements message.Publisher.
func (t *troubled) Publish(topic string, messages ...*message.Message) error {
	if rand.Float64() < t.Late {
		t.wait()
	}
	if err := t.Publisher.Publish(topic, messages...); err != nil {
		return err
	}
	for _, m := range messages {
		if rand.Float64() < t.Twice {
			again := m.Copy()
			t.later(func() { _ = t.Publisher.Publish(topic, again) })
		}
	}
	return nil
}

// wait tells whether the time has passed; otherwise the publisher is closed.
func (t *troubled) wait() bool {
	timer := time.NewTimer(rand.N(t.Within))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-t.closing:
		return false
	}
}

func (t *troubled) later(do func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	t.late.Go(func() {
		if t.wait() {
			do()
		}
	})
}

// Close ends the trouble; the publisher is closed by whoever opened it.
func (t *troubled) Close() error {
	t.mu.Lock()
	t.closed = true
	close(t.closing)
	t.mu.Unlock()
	t.late.Wait()
	return nil
}
