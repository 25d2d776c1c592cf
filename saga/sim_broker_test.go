package saga_test

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/sagamill/sagamill/saga"
)

const (
	simCommands = "sim.commands"
	simReplies  = "sim.replies"
	simNews     = "sim.news"
)

// simMessage is a message on its way.
type simMessage struct {
	topic string
	msg   *message.Message
	sent  *message.Message // the copy that was delivered
	due   time.Time
}

func (m *simMessage) acked() bool {
	select {
	case <-m.sent.Acked():
		return true
	default:
		return false
	}
}

// simBroker delivers at least once and in any order, loses what comes back when it is asked for again, and nothing else.
type simBroker struct {
	sim      *sim
	waiting  []*simMessage
	awayTill time.Time // until then it loses commands and replies
}

func noSubscriber(saga.SubscriberParams) (message.Subscriber, error) {
	return nil, errors.New("nobody subscribes in the simulation")
}

// simPublisher is an orchestrator's, or a participant's.
type simPublisher struct {
	sim *sim
	by  interface {
		publishes(m *message.Message)
		kill()
		gone() bool
	}
}

func (x simPublisher) Publish(topic string, msgs ...*message.Message) error {
	s := x.sim
	if x.by.gone() || s.does(publishFails) {
		return errSimulated
	}
	breaksOff := len(msgs) > 1 && s.does(publishBreaksOff)
	if breaksOff {
		msgs = msgs[:s.amount(len(msgs))]
	}
	for _, m := range msgs {
		s.note("published %s: %s", topic, describe(m))
		x.by.publishes(m)
		s.broker.waiting = append(s.broker.waiting, &simMessage{topic: topic, msg: m})
	}
	if s.does(crashAfterPublish) {
		x.by.kill() // Publish's panics are caught; what is done from now on is not
		return errSimulated
	}
	if breaksOff || s.does(publishAnswerLost) {
		return errSimulated
	}
	return nil
}

func (simPublisher) Close() error { return nil }

func (p *simProcess) gone() bool { return p.dead }
func (p *simProcess) kill()      { p.dead = true }

// publishes checks that a commit has asked for the message.
func (p *simProcess) publishes(m *message.Message) {
	if _, why := p.sim.world.uncommitted(m.Metadata.Get(saga.MetaInstance), m.Metadata.Get(saga.MetaEffect), m.Metadata.Get(saga.MetaUndo) == "true"); why != "" {
		p.sim.violated("I1", "%s is published, but %s", describe(m), why)
	}
}

func describe(m *message.Message) string {
	return fmt.Sprintf("%s %s%s %s", m.Metadata.Get(saga.MetaEffect), m.Metadata.Get(saga.MetaCommand)+m.Metadata.Get(saga.MetaEvent), map[bool]string{true: " (undo)"}[m.Metadata.Get(saga.MetaUndo) == "true"], m.Metadata.Get(saga.MetaOutcome))
}

// again delivers a message once more, some time.
func (b *simBroker) again(m *simMessage) {
	b.waiting = append(b.waiting, &simMessage{topic: m.topic, msg: m.msg})
}

// deliver delivers one of the messages that are due, the first one unless another overtakes it. It answers false if there
// is none.
func (b *simBroker) deliver() bool {
	s := b.sim
	var due []int
	for k, m := range b.waiting {
		if !m.due.After(time.Now()) || s.healed {
			due = append(due, k)
		}
	}
	if len(due) == 0 {
		return false
	}
	k := due[0]
	if len(due) > 1 && s.does(messageReordered) {
		k = due[1+s.amount(len(due)-1)]
	}
	m := b.waiting[k]
	if s.does(messageDelayed) {
		m.due = time.Now().Add(time.Duration(s.amount(10_000)) * time.Millisecond)
		return true
	}
	b.waiting = slices.Delete(b.waiting, k, k+1)
	if s.does(messageDuplicated) {
		b.again(m)
	}
	if s.does(brokerAway) {
		b.awayTill = time.Now().Add(time.Duration(s.amount(20_000)) * time.Millisecond)
	}
	away := time.Now().Before(b.awayTill) && !s.healed
	if m.topic != simNews && (s.does(messageLost) || away) {
		return true
	}
	b.give(&simMessage{topic: m.topic, msg: m.msg, sent: m.msg.Copy()})
	return true
}

func (b *simBroker) give(m *simMessage) {
	s, to := b.sim, b.sim.rng.IntN(2)
	switch m.topic {
	case simCommands:
		s.parts[to].take(m)
	case simNews:
		s.world.heard[m.msg.Metadata.Get(saga.MetaInputID)]++
	default:
		p := s.procs[to]
		if p.paused() {
			b.again(m)
			return
		}
		p.inflight = append(p.inflight, m)
		p.do(func() { p.stepped.Reply(s.ctx, m.topic, m.sent) })
	}
}
