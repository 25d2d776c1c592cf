package saga_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/sagamill/sagamill/adapters/memory"
	"github.com/sagamill/sagamill/saga"
)

// simRequest is what a participant is asked: the step says what for.
type simRequest struct {
	Step        string
	Order       string `json:",omitempty"` // the rest is of the order saga
	Pieces      int    `json:",omitempty"`
	Total       int    `json:",omitempty"`
	Transaction string `json:",omitempty"`
}

var (
	simDo   = saga.Command[simRequest, string]{Name: "do", Topic: simCommands, Replies: simReplies}
	simUndo = saga.Command[simRequest, string]{Name: "undo", Topic: simCommands, Replies: simReplies}
)

// simParticipant is a process of the participant. Both share the inbox.
type simParticipant struct {
	sim  *sim
	name string
	p    *saga.Participant[*memory.Tx]
	dead bool
	busy bool // paused in the middle of something
}

func newSimParticipant(s *sim, name string) *simParticipant {
	x := &simParticipant{sim: s, name: name}
	x.begin()
	return x
}

func (x *simParticipant) begin() {
	p, err := saga.NewParticipant(simInbox{x}, saga.ParticipantConfig{
		Name: x.name, Transport: saga.Transport{Publisher: simPublisher{x.sim, x}, Subscriber: noSubscriber},
	}, nil)
	err = errors.Join(err, saga.Handle(p, simDo, x.handle), saga.Handle(p, simUndo, x.handle))
	if err != nil {
		panic(err)
	}
	x.p, x.dead = p, false
}

func (x *simParticipant) gone() bool { return x.dead }
func (x *simParticipant) kill()      { x.dead = true }

// take handles a command. One that is not acknowledged, or whose acknowledgement is lost, comes again.
func (x *simParticipant) take(m *simMessage) {
	s := x.sim
	if x.busy {
		s.broker.again(m)
		return
	}
	x.pause()
	saga.CommandStepped(s.ctx, x.p, m.topic, m.sent)
	if !x.dead && s.does(crashBeforeAck) {
		x.dead = true
	}
	if x.dead {
		s.note("%s is killed", x.name)
		s.broker.again(m)
		x.begin()
	} else if s.does(ackLost) {
		s.broker.again(m)
	}
}

func (x *simParticipant) pause() {
	if x.sim.does(participantPaused) {
		x.sim.meanwhile(x.name, &x.busy, 8)
	}
}

// simInbox is the inbox as one process sees it.
type simInbox struct{ x *simParticipant }

func (b simInbox) Handle(ctx context.Context, effect saga.Effect, handle func(context.Context, *memory.Tx) ([]byte, error)) (saga.Reply, error) {
	x, s := b.x, b.x.sim
	if s.locked { // the other process is paused in its transaction: this one waits in vain
		return saga.Reply{}, errSimulated
	}
	s.locked = true
	reply, err := s.inbox.Handle(ctx, effect, func(ctx context.Context, tx *memory.Tx) ([]byte, error) {
		result, err := handle(ctx, tx)
		x.pause()
		if s.does(participantKilledBeforeCommit) {
			x.dead = true
			return nil, errSimulated
		}
		return result, err
	})
	s.locked = false
	if !x.dead && s.does(participantKilledAfterCommit) {
		x.dead = true
	}
	if !x.dead {
		x.pause()
	}
	return reply, err
}

// handle is the handler of every command: its effect is in the transaction.
func (x *simParticipant) handle(ctx context.Context, tx *memory.Tx, r simRequest) (string, error) {
	s, info := x.sim, saga.Info(ctx)
	tx.OnRollback(s.world.handled(info))
	if s.does(handlerFails) {
		return "", errSimulated
	}
	if !info.Undo && s.does(handlerRejects) {
		return "", saga.Reject("no")
	}
	if r.Order != "" {
		if err := s.books.handle(info, tx, r); err != nil {
			return "", err
		}
	}
	return fmt.Sprint(r.Step, map[bool]string{true: " undone"}[info.Undo]), nil
}

// publishes checks that a command is always given the same answer, once there is one.
func (x *simParticipant) publishes(m *message.Message) {
	if m.Metadata.Get(saga.MetaOutcome) == string(saga.ReplyFailed) {
		return
	}
	key := m.Metadata.Get(saga.MetaEffect) + m.Metadata.Get(saga.MetaUndo)
	answer := fmt.Sprintf("%s %s %s", m.Metadata.Get(saga.MetaOutcome), m.Metadata.Get(saga.MetaReason), m.Payload)
	if before, answered := x.sim.world.answers[key]; answered && before != answer {
		x.sim.violated("I5", "%s is answered %q, but was %q", describe(m), answer, before)
	}
	if m.Metadata.Get(saga.MetaUndo) == "true" && m.Metadata.Get(saga.MetaOutcome) != string(saga.ReplySucceeded) {
		x.sim.violated("I5", "a compensation is answered %q", answer)
	}
	x.sim.world.answers[key] = answer
}
