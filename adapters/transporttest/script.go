package transporttest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/sagamill/sagamill/saga"
)

const (
	pollEvery     = 10 * time.Millisecond
	settleFor     = 500 * time.Millisecond // for what should not come
	reopenAfter   = time.Second            // as the engine does with a subscription that ended by itself
	againAfter    = 50 * time.Millisecond  // for what is tried until it works
	closeMayTake  = 30 * time.Second
	burstsFor     = 3 * time.Second
	defaultNumber = 50
)

// script is a transport in the hands of a check.
type script struct {
	Harness
	tb  testing.TB
	ctx context.Context // of the check
	run string          // begins the names of its topics

	mu        sync.Mutex
	topics    map[string]bool
	processes []Process
	released  map[Broker]bool
	listeners []*listener
}

// topic names a topic of this check's own.
func (s *script) topic(name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	topic := s.run + "." + name
	s.topics[topic] = true
	return topic
}

// open opens another process, or gives the only one there can be.
func (s *script) open() Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.processes) > 0 && s.NotPromised[Processes] != "" {
		return s.processes[0]
	}
	p := s.Open(s.tb)
	s.processes = append(s.processes, p)
	return p
}

// end closes everything, whatever state it is in.
func (s *script) end() {
	for _, p := range s.processes {
		if p.Restore != nil {
			p.Restore()
		}
	}
	for _, l := range s.listeners {
		_ = l.close()
	}
	for _, p := range s.processes {
		_ = s.quit(p)
	}
}

// quit closes a process's broker, and ends what was made for it.
func (s *script) quit(p Process) error {
	err := within(closeMayTake, p.Close)
	s.mu.Lock()
	released := s.released[p.Broker]
	s.released[p.Broker] = true
	s.mu.Unlock()
	if p.Release != nil && !released {
		p.Release()
	}
	return err
}

// until waits until lacking answers "", and otherwise tells what it answered last.
func (s *script) until(lacking func() string) error {
	for begun := time.Now(); ; time.Sleep(pollEvery) {
		what := lacking()
		if what == "" {
			return nil
		}
		if waited := time.Since(begun); waited > s.Patience {
			return fmt.Errorf("after %s: %s", waited.Round(time.Second), what)
		}
	}
}

// within calls f, and does not wait longer for it.
func within(d time.Duration, f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-time.After(d):
		return fmt.Errorf("it did not return within %s", d)
	}
}

// newMessages makes messages that tell themselves apart by their UUIDs.
func newMessages(n int) []*message.Message {
	all := make([]*message.Message, n)
	for i := range all {
		all[i] = message.NewMessage(watermill.NewUUID(), fmt.Appendf(nil, "message %d", i))
		all[i].Metadata.Set("number", fmt.Sprint(i))
	}
	return all
}

func uuidsOf(msgs []*message.Message) []string {
	ids := make([]string, len(msgs))
	for i, m := range msgs {
		ids[i] = m.UUID
	}
	return ids
}

// publish publishes one message after the other.
func (s *script) publish(p Process, topic string, msgs ...*message.Message) error {
	for i, m := range msgs {
		if err := within(s.Patience, func() error { return p.Transport().Publisher.Publish(topic, m) }); err != nil {
			return fmt.Errorf("Publish of message %d: %w", i, err)
		}
	}
	return nil
}

// publishAgain publishes a message until that works.
func (s *script) publishAgain(p Process, topic string, m *message.Message) error {
	for begun := time.Now(); ; time.Sleep(againAfter) {
		err := within(s.Patience, func() error { return p.Transport().Publisher.Publish(topic, m.Copy()) })
		if err == nil {
			return nil
		}
		if time.Since(begun) > s.Patience {
			return fmt.Errorf("Publish fails for %s: %w", s.Patience, err)
		}
	}
}

// listener is one subscriber, used in the way of the engine: one message after the other, and opened again if it ends by itself.
type listener struct {
	s      *script
	params saga.SubscriberParams
	open   saga.SubscriberConstructor
	handle func(*message.Message)

	end     context.CancelFunc // of the subscription
	closing chan struct{}
	once    sync.Once
	idle    chan struct{} // closed when no message is taken any more

	mu         sync.Mutex
	subscriber message.Subscriber
	messages   <-chan *message.Message
}

// listen opens a subscriber. handle gets its messages, and acknowledges them or does not.
func (s *script) listen(p Process, topic, group string, number int, handle func(*message.Message)) (*listener, error) {
	ctx, end := context.WithCancel(s.ctx)
	l := &listener{
		s: s, params: saga.SubscriberParams{Topic: topic, Group: group, Number: number}, open: p.Transport().Subscriber, handle: handle,
		end: end, closing: make(chan struct{}), idle: make(chan struct{}),
	}
	if err := within(s.Patience, func() error { return l.subscribe(ctx) }); err != nil {
		end()
		return nil, err
	}
	s.mu.Lock()
	s.listeners = append(s.listeners, l)
	s.mu.Unlock()
	go l.run(ctx)
	return l, nil
}

func (l *listener) subscribe(ctx context.Context) error {
	subscriber, err := l.open(l.params)
	if err != nil {
		return fmt.Errorf("open a subscriber: %w", err)
	}
	messages, err := subscriber.Subscribe(ctx, l.params.Topic)
	if err != nil {
		return errors.Join(fmt.Errorf("Subscribe: %w", err), subscriber.Close())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.subscriber, l.messages = subscriber, messages
	return nil
}

func (l *listener) run(ctx context.Context) {
	defer close(l.idle)
	for {
		select {
		case msg, ok := <-l.messages:
			if ok {
				l.handle(msg)
				continue
			}
		case <-l.closing:
			return
		}
		_ = l.subscriber.Close()
		for {
			select {
			case <-time.After(reopenAfter):
			case <-l.closing:
				return
			}
			if l.subscribe(ctx) == nil {
				break
			}
		}
	}
}

// stop takes no more messages, and waits for the handler.
func (l *listener) stop() {
	l.once.Do(func() { close(l.closing) })
	<-l.idle
}

// close stops, and closes the subscriber then. What was taken and is not acknowledged goes back.
func (l *listener) close() error {
	l.stop()
	defer l.end()
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := within(closeMayTake, l.subscriber.Close); err != nil {
		return fmt.Errorf("Close of a subscriber: %w", err)
	}
	return nil
}

// ledger counts what comes.
type ledger struct {
	mu    sync.Mutex
	seen  map[string]int
	acked map[string]int
}

func newLedger() *ledger { return &ledger{seen: map[string]int{}, acked: map[string]int{}} }

// take notes a message and acknowledges it.
func (l *ledger) take(m *message.Message) {
	l.see(m)
	l.ack(m)
}

func (l *ledger) see(m *message.Message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen[m.UUID]++
}

// ack notes that a message is handled, and acknowledges it then.
func (l *ledger) ack(m *message.Message) {
	l.mu.Lock()
	l.acked[m.UUID]++
	l.mu.Unlock()
	m.Ack()
}

// lacks tells which of the messages were never handled, or "".
func (l *ledger) lacks(msgs []*message.Message) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var missing []string
	for i, m := range msgs {
		if l.acked[m.UUID] == 0 {
			missing = append(missing, fmt.Sprint(i))
		}
	}
	if len(missing) == 0 {
		return ""
	}
	return fmt.Sprintf("%d of %d messages have not been handled: number %v", len(missing), len(msgs), missing[:min(len(missing), 10)])
}

// total is how many deliveries there were of the messages, and foreign how many of others.
func (l *ledger) total(msgs []*message.Message) (total, foreign int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ids := uuidsOf(msgs)
	slices.Sort(ids)
	for id, n := range l.seen {
		if _, ours := slices.BinarySearch(ids, id); ours {
			total += n
		} else {
			foreign += n
		}
	}
	return total, foreign
}
