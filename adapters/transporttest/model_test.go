package transporttest

import (
	"context"
	"errors"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/sagamill/sagamill/saga"
)

// hub is a broker in memory that keeps each promise, but for its fault. It polls: its time is that of a bubble.
type hub struct {
	fault fault

	mu         sync.Mutex
	topics     map[string]*modelTopic
	publishing int // how many do
}

type modelTopic struct {
	entries []*message.Message // nil: malformed
	groups  map[string]*modelGroup
}

type modelGroup struct {
	next    int // the first entry that nobody has had
	again   []int
	pending map[int]*modelSubscriber
	since   map[int]time.Time
}

const (
	modelPoll           = 5 * time.Millisecond
	modelRedeliverAfter = 2 * time.Second
)

func newHub(f fault) *hub { return &hub{fault: f, topics: map[string]*modelTopic{}} }

func (h *hub) is(f fault) bool { return h.fault == f }

func (h *hub) harness() Harness {
	return Harness{
		Open: func(testing.TB) Process {
			p := &modelBroker{hub: h}
			return Process{Broker: p, Cut: func() { p.setCut(true) }, Restore: func() { p.setCut(false) }}
		},
		Malform: func(topic string) error {
			h.mu.Lock()
			defer h.mu.Unlock()
			t := h.topic(topic)
			t.entries = append(t.entries, nil)
			return nil
		},
		RedeliverAfter: modelRedeliverAfter, Patience: 30 * time.Second,
	}
}

func (h *hub) topic(name string) *modelTopic {
	if h.is(prefixTopics) {
		name = strings.TrimSuffix(name, ".commands")
	}
	t := h.topics[name]
	if t == nil {
		t = &modelTopic{groups: map[string]*modelGroup{}}
		h.topics[name] = t
	}
	return t
}

func (t *modelTopic) group(name string) *modelGroup {
	g := t.groups[name]
	if g == nil {
		g = &modelGroup{pending: map[int]*modelSubscriber{}, since: map[int]time.Time{}}
		t.groups[name] = g
	}
	return g
}

// modelBroker is one process's side of the hub.
type modelBroker struct {
	hub       *hub
	mu        sync.Mutex
	cut, dead bool
	wasCut    bool
}

func (b *modelBroker) setCut(cut bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cut = cut
	b.wasCut = b.wasCut || cut
}

func (b *modelBroker) state() (cut, wasCut, closed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.cut, b.wasCut, b.dead
}

func (b *modelBroker) Transport() saga.Transport {
	return saga.Transport{Publisher: b, Subscriber: func(p saga.SubscriberParams) (message.Subscriber, error) {
		if p.Group == "" && !b.hub.is(groupOptional) {
			return nil, errors.New("a subscriber needs a group")
		}
		s := &modelSubscriber{broker: b, group: p.Group, closing: make(chan struct{})}
		switch {
		case b.hub.is(oneGroupForAll):
			s.group = ""
		case b.hub.is(everyoneGetsAll):
			s.group += watermill.NewUUID()
		}
		return s, nil
	}}
}

func (b *modelBroker) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.dead && b.hub.is(closesOnce) {
		return errors.New("it is closed already")
	}
	b.dead = true
	return nil
}

func (b *modelBroker) Publish(topic string, msgs ...*message.Message) error {
	h := b.hub
	cut, _, closed := b.state()
	switch {
	case closed && !h.is(publishesWhenClosed):
		return errors.New("closed")
	case cut && h.is(saysNilWhileCut):
		return nil
	case cut:
		return errors.New("no connection")
	}
	if h.is(firstOfBatch) {
		msgs = msgs[:1]
	}
	var known int
	if h.is(notThreadSafe) {
		h.mu.Lock()
		known = len(h.topic(topic).entries)
		h.mu.Unlock()
		time.Sleep(modelPoll)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.topic(topic)
	if h.is(notThreadSafe) {
		t.entries = t.entries[:known]
	}
	if h.is(dropsUnheard) && len(t.groups) == 0 {
		return nil
	}
	if h.is(passesLate) {
		h.publishLate(t, msgs)
		return nil
	}
	for _, m := range msgs {
		if h.is(refusesEmpty) && len(m.Payload) == 0 {
			return errors.New("no payload")
		}
		if h.loses(topic, len(t.entries), m) {
			t.entries = append(t.entries, &message.Message{UUID: "lost"})
			continue
		}
		t.entries = append(t.entries, h.damaged(m.Copy()))
	}
	return nil
}

// publishLate gives messages places, and puts them there: later, if others publish, too. h.mu is held.
func (h *hub) publishLate(t *modelTopic, msgs []*message.Message) {
	place := len(t.entries)
	for range msgs {
		t.entries = append(t.entries, nil)
	}
	late := time.Nanosecond // in which others may come
	if h.publishing++; h.publishing > 1 {
		late = 2 * modelPoll
	}
	h.mu.Unlock()
	time.Sleep(late)
	h.mu.Lock()
	for i, m := range msgs {
		t.entries[place+i] = m.Copy()
	}
	h.publishing--
}

func (h *hub) loses(topic string, position int, m *message.Message) bool {
	return h.is(losesSome) && position%5 == 4 || h.is(needsMetadata) && len(m.Metadata) == 0 ||
		h.is(losesReplies) && strings.HasSuffix(topic, ".replies")
}

// damaged is what becomes of a message on its way.
func (h *hub) damaged(m *message.Message) *message.Message {
	meta := maps.Clone(m.Metadata)
	switch h.fault {
	case dropsMetadata:
		m.Metadata = message.Metadata{}
	case canonicalKeys:
		m.Metadata = message.Metadata{}
		for k, v := range meta {
			m.Metadata[strings.ToUpper(k[:1])+k[1:]] = v
		}
	case trimsValues:
		for k, v := range meta {
			m.Metadata[k] = strings.TrimSpace(v)
		}
	case oneLineValues:
		for k, v := range meta {
			m.Metadata[k] = strings.ReplaceAll(v, "\n", " ")
		}
	case addsMetadata:
		m.Metadata["broker"] = "model"
	case newUUID:
		m.UUID = watermill.NewUUID()
	case textPayload:
		m.Payload = []byte(strings.ToValidUTF8(string(m.Payload), "?"))
	case truncates:
		m.Payload = m.Payload[:min(len(m.Payload), 1<<16)]
	}
	return m
}

// modelSubscriber is one subscriber of a group.
type modelSubscriber struct {
	broker  *modelBroker
	group   string
	closing chan struct{}
	once    sync.Once
	active  sync.WaitGroup
}

func (s *modelSubscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	h := s.broker.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := h.topics[topic]; !ok && h.is(needsTopic) {
		return nil, errors.New("no such topic")
	}
	t := h.topic(topic)
	if h.is(dropsUnheard) && t.groups[s.group] == nil {
		t.group(s.group).next = len(t.entries)
	}
	if h.is(forgetsAcks) {
		t.group(s.group).next = 0
	}
	if h.is(leaks) {
		go func() { time.Sleep(time.Hour) }()
	}
	out := make(chan *message.Message)
	g := t.group(s.group)
	s.active.Go(func() {
		defer close(out)
		s.run(ctx, t, g, out)
	})
	return out, nil
}

func (s *modelSubscriber) Close() error {
	again := true
	s.once.Do(func() { close(s.closing); again = false })
	if again && s.broker.hub.is(subscriberClosesOnce) {
		return errors.New("it is closed already")
	}
	s.active.Wait()
	return nil
}

func (s *modelSubscriber) over(ctx context.Context) bool {
	select {
	case <-s.closing:
		return true
	default:
		return ctx.Err() != nil && !s.broker.hub.is(deafToContext)
	}
}

func (s *modelSubscriber) run(ctx context.Context, t *modelTopic, g *modelGroup, out chan<- *message.Message) {
	h := s.broker.hub
	for !s.over(ctx) {
		cut, wasCut, _ := s.broker.state()
		if cut || wasCut && h.is(neverReconnects) {
			time.Sleep(modelPoll)
			continue
		}
		n, m, malformed := s.take(t, g)
		if malformed && h.is(endsOnMalformed) {
			return
		}
		if m == nil {
			time.Sleep(modelPoll)
			continue
		}
		if !s.deliver(ctx, g, n, m, out) {
			return
		}
	}
}

// take takes the next entry that is for this subscriber; nil: there is none.
func (s *modelSubscriber) take(t *modelTopic, g *modelGroup) (n int, m *message.Message, malformed bool) {
	h := s.broker.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	for n, since := range g.since {
		_, _, dead := g.pending[n].broker.state()
		cut, _, _ := g.pending[n].broker.state()
		if !h.is(deadKeep) && (time.Since(since) > modelRedeliverAfter || cut || dead) {
			g.release(n, true)
		}
	}
	if h.is(oneInFlight) && len(g.pending) > 0 {
		return 0, nil, false
	}
	switch {
	case len(g.again) > 0:
		n, g.again = g.again[0], g.again[1:]
	case g.next < len(t.entries):
		n = g.next
		g.next++
	default:
		return 0, nil, false
	}
	m = t.entries[n]
	if m == nil {
		if h.is(malformedBlocks) || h.is(endsOnMalformed) {
			g.next = n
		}
		return n, nil, true
	}
	if !h.is(acksBefore) {
		g.pending[n], g.since[n] = s, time.Now()
	}
	return n, m, false
}

// release ends the flight of an entry.
func (g *modelGroup) release(n int, again bool) {
	if _, ok := g.pending[n]; !ok {
		return
	}
	delete(g.pending, n)
	delete(g.since, n)
	if again {
		g.again = append(g.again, n)
	}
}

// deliver hands out a message, and waits for what becomes of it. It answers false when the subscription ends.
func (s *modelSubscriber) deliver(ctx context.Context, g *modelGroup, n int, m *message.Message, out chan<- *message.Message) bool {
	h := s.broker.hub
	sent := m.Copy()
	release := func(again bool) {
		h.mu.Lock()
		defer h.mu.Unlock()
		if g.pending[n] == s {
			g.release(n, again)
		}
	}
	select {
	case out <- sent:
	case <-s.closing:
		release(true)
		return false
	case <-ctx.Done():
		release(true)
		return false
	}
	timeout := time.After(modelRedeliverAfter)
	for {
		select {
		case <-sent.Acked():
			if cut, _, _ := s.broker.state(); !cut {
				release(false)
			}
			return true
		case <-sent.Nacked():
			release(!h.is(nackIsAck))
			return true
		case <-s.closing:
			if h.is(closeWaitsForAck) {
				time.Sleep(2 * closeMayTake)
			}
			release(!h.is(closeForgets))
			return false
		case <-timeout:
			if h.is(deafWhenSlow) {
				<-s.closing
				return false
			}
		case <-ctx.Done():
			if !h.is(deafToContext) {
				release(true)
				return false
			}
			<-s.closing
			return false
		}
	}
}
