package sagatest

import (
	"slices"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/sagamill/sagamill/saga"
)

// broker keeps messages until they are delivered: at least once, unless it loses what is asked for again.
type broker struct {
	run     *Run
	waiting []*envelope
	events  []*message.Message // of sagas, that were delivered
}

// envelope is a message on its way.
type envelope struct {
	topic string
	msg   *message.Message
	sent  *message.Message // the copy that was delivered
	due   time.Time
}

// publisher is the transport of a process, or of a participant.
type publisher struct {
	run *Run
	p   *process // nil: a participant's
}

// Publish implements message.Publisher.
func (x publisher) Publish(topic string, msgs ...*message.Message) error {
	r := x.run
	if x.p == nil && r.crashed {
		return nil // it is dead
	}
	fault := r.choose("to "+topic, PublishFails, PublishAnswerLost)
	if fault == PublishFails {
		return errInjected
	}
	for _, m := range msgs {
		r.note("published to %s: %s", topic, describe(m))
		r.broker.waiting = append(r.broker.waiting, &envelope{topic: topic, msg: m, due: time.Now()})
	}
	if fault == PublishAnswerLost {
		return errInjected
	}
	return nil
}

// Close implements message.Publisher.
func (publisher) Close() error { return nil }

// due finds the first message that may be delivered; -1: none.
func (b *broker) due() int {
	return slices.IndexFunc(b.waiting, func(e *envelope) bool { return !e.due.After(time.Now()) })
}

// deliver delivers a message. It answers false if none is due.
func (b *broker) deliver() bool {
	k := b.due()
	if k < 0 {
		return false
	}
	r := b.run
	to := b.receiver(b.waiting[k])
	offered := []Fault{MessageDuplicated, MessageDelayed}
	if to != nil {
		offered = append(offered, MessageLost)
	}
	if len(b.waiting) > k+1 {
		offered = append(offered, Reordered)
	}
	fault := r.choose(describe(b.waiting[k].msg), offered...)
	if fault == Reordered {
		k = len(b.waiting) - 1
		to = b.receiver(b.waiting[k])
	}
	e := b.waiting[k]
	switch fault {
	case MessageDelayed:
		e.due = time.Now().Add(r.explorer.patience)
		return true
	case MessageDuplicated:
		b.waiting = append(b.waiting, &envelope{topic: e.topic, msg: e.msg, due: e.due})
	}
	b.waiting = slices.Delete(b.waiting, k, k+1)
	if fault == MessageLost {
		return true
	}
	e.sent = e.msg.Copy()
	if to == nil {
		b.events = append(b.events, e.sent)
		return true
	}
	to(e)
	return true
}

// receiver finds who takes a message; nil: it is an event for whoever listens.
func (b *broker) receiver(e *envelope) func(*envelope) {
	r := b.run
	if e.msg.Metadata.Get(saga.MetaOutcome) != "" {
		return r.takeReply
	}
	if e.msg.Metadata.Get(saga.MetaCommand) != "" {
		return r.takeCommand
	}
	return nil
}

// takeReply gives a reply to a process.
func (r *Run) takeReply(e *envelope) {
	p := r.awake()
	if p == nil {
		e.due = time.Now().Add(lease)
		r.broker.waiting = append(r.broker.waiting, e)
		return
	}
	p.inflight = append(p.inflight, e)
	p.do(func() { p.orchestrator.Reply(r.ctx, e.topic, e.sent) })
}

// takeCommand gives a command to the participant that listens to its topic.
func (r *Run) takeCommand(e *envelope) {
	r.handled = false
	for _, p := range r.participants {
		if slices.Contains(p.Topics(), e.topic) {
			p.Receive(r.ctx, e.topic, e.sent.Copy())
		}
	}
	if !r.handled {
		r.violated("nobody takes command %q from topic %q: the script needs sagatest.NewParticipant, and saga.Handle for it",
			e.msg.Metadata.Get(saga.MetaCommand), e.topic)
	}
	if r.crashed {
		r.crashed = false
		r.note("the participant is killed")
		r.broker.waiting = append(r.broker.waiting, e)
	}
}

func describe(m *message.Message) string {
	what := m.Metadata.Get(saga.MetaCommand) + m.Metadata.Get(saga.MetaEvent)
	if m.Metadata.Get(saga.MetaUndo) == "true" {
		what += " (undo)"
	}
	if outcome := m.Metadata.Get(saga.MetaOutcome); outcome != "" {
		return "reply to " + what + ": " + outcome
	}
	return what
}

func acked(m *message.Message) bool {
	select {
	case <-m.Acked():
		return true
	default:
		return false
	}
}
