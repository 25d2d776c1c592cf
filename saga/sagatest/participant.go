package sagatest

import (
	"context"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/sagamill/sagamill/saga"
	"github.com/sagamill/sagamill/saga/internal/stepped"
)

// NewParticipant makes a participant on an inbox of yours, for a run: it gets the commands of the topics that its handlers are
// registered for, with [saga.Handle]. An inbox in memory keeps runs fast.
//
//	hotel := sagatest.NewParticipant(r, memory.NewInbox())
//	saga.Handle(hotel, BookRoom, func(ctx context.Context, tx *memory.Tx, b Booking) (Booked, error) { ... })
//
// The handlers' faults happen inside of the inbox's transaction, or around its commit.
func NewParticipant[T any](r *Run, inbox saga.Inbox[T]) *saga.Participant[T] {
	p, err := saga.NewParticipant(&faultyInbox[T]{inbox, r}, saga.ParticipantConfig{
		Name: "participant", Transport: saga.Transport{Publisher: publisher{r, nil}, Subscriber: noSubscriber},
		Observer: saga.ObserverFunc(func(_ context.Context, o saga.Observation) {
			r.handled = r.handled || o.What == saga.ObserveCommand && o.Outcome != "ignored"
		}),
	}, nil)
	if err != nil {
		r.violated("the participant cannot be made: %v", err)
		return nil
	}
	r.participants = append(r.participants, &lateParticipant{p: p})
	return p
}

// lateParticipant is opened when the first message comes: until then handlers are registered.
type lateParticipant struct {
	p      any
	opened stepped.Participant
}

func (l *lateParticipant) open() stepped.Participant {
	if l.opened == nil {
		var err error
		if l.opened, err = stepped.Receiver(l.p); err != nil {
			panic(err)
		}
	}
	return l.opened
}

func (l *lateParticipant) Topics() []string { return l.open().Topics() }

func (l *lateParticipant) Receive(ctx context.Context, topic string, msg *message.Message) {
	l.open().Receive(ctx, topic, msg)
}

// faultyInbox is an inbox in which things go wrong.
type faultyInbox[T any] struct {
	inbox saga.Inbox[T]
	run   *Run
}

// Handle implements saga.Inbox.
func (x *faultyInbox[T]) Handle(ctx context.Context, effect saga.Effect, handle func(context.Context, T) ([]byte, error)) (saga.Reply, error) {
	r, info := x.run, saga.Info(ctx)
	what := effectName(info)
	lost := r.fault(what, info, ReplyLost) != ""
	reply, err := x.inbox.Handle(ctx, effect, func(ctx context.Context, tx T) ([]byte, error) {
		offered := []Fault{HandlerFails, HandlerFailsAfterEffect, ParticipantCrashesBefore}
		if s := r.explorer.steps[info.Step]; !info.Undo && s.Rejectable && !r.touched[info.ActionKey] {
			offered = append(offered, HandlerRejects)
		}
		fault := r.fault(what, info, offered...)
		switch fault {
		case HandlerFails:
			return nil, errInjected
		case HandlerRejects:
			return nil, saga.Reject("sagatest says no")
		}
		r.touched[info.ActionKey] = true // what it asked of systems outside is not rolled back
		result, err := handle(ctx, tx)
		r.note("participant: %s of %s returns %s", what, info.Key, returned(result, err))
		switch fault {
		case HandlerFailsAfterEffect:
			return nil, errInjected
		case ParticipantCrashesBefore:
			r.crashed = true
			return nil, errInjected
		}
		return result, err
	})
	r.crashed = r.crashed || lost
	return reply, err
}
