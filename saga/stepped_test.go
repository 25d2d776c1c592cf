package saga

import (
	"context"

	"github.com/ThreeDotsLabs/watermill/message"
)

// Stepped is an orchestrator without goroutines: whoever holds it says what it does next. It is the very code that Run runs, one
// turn of a loop at a time; the simulation is made of it.
type Stepped struct{ o *Orchestrator }

// NewStepped makes one that takes inputs.
func NewStepped(ctx context.Context, store Store, config OrchestratorConfig) (*Stepped, error) {
	o, err := NewOrchestrator(store, config, nil)
	if err != nil {
		return nil, err
	}
	o.config.Workers = 0 // every local step waits until it is told to run
	o.runner.ctx = ctx
	o.errand = func(f func()) { f() }
	if err := o.register(ctx); err != nil {
		return nil, err
	}
	close(o.running)
	return &Stepped{o}, nil
}

// Busy lists the lanes that have inputs.
func (s *Stepped) Busy() (lanes []int) {
	for k, l := range s.o.lanes {
		if l.length() > 0 {
			lanes = append(lanes, k)
		}
	}
	return lanes
}

// Lane lets a lane decide and commit one batch.
func (s *Stepped) Lane(ctx context.Context, k int) {
	if batch := s.o.lanes[k].take(); len(batch) > 0 {
		s.o.lanes[k].process(ctx, batch)
	}
}

// Tasks is the number of attempts of local steps that wait.
func (s *Stepped) Tasks() int { return len(s.o.runner.queue) }

// Task makes one of them.
func (s *Stepped) Task(k int) {
	r := s.o.runner
	t := r.queue[k]
	r.queue = append(r.queue[:k:k], r.queue[k+1:]...)
	r.attempt(t)
	r.leave(t)
}

// Outbound is the number of messages that wait to be published.
func (s *Stepped) Outbound() int { return len(s.o.publisher.queue) }

// Publish publishes those of one topic.
func (s *Stepped) Publish(ctx context.Context) {
	if topic, batch, _ := s.o.publisher.take(); len(batch) > 0 {
		s.o.publisher.publish(ctx, topic, batch)
		s.o.publisher.leave(topic)
	}
}

// Sweep looks for what is due.
func (s *Stepped) Sweep(ctx context.Context) { s.o.sweeper.once(ctx) }

// Renew renews the leases of steps.
func (s *Stepped) Renew(ctx context.Context) { s.o.runner.renewOnce(ctx) }

// Reply takes a reply from a topic.
func (s *Stepped) Reply(ctx context.Context, topic string, msg *message.Message) {
	s.o.handleReply(ctx, topic, msg)
}

// Event gives an event to an instance; done is told what became of it.
func (s *Stepped) Event(ctx context.Context, id, event, source, inputID string, payload []byte, done func(Disposition, error)) error {
	j := &job{
		id: id, input: inputIdentity(source, inputID), in: input{event: &waiting{Event: event, Source: source, ID: inputID, Payload: payload}},
		done: func(d jobDone) { done(d.answer, d.err) },
	}
	return s.o.lane(id).submit(ctx, j)
}

// Operate does to an instance what an operator asks; done is told what became of it.
func (s *Stepped) Operate(ctx context.Context, id string, verb Verb, step string, done func(Disposition, error)) error {
	j := &job{
		id: id, in: input{operator: &operation{verb: verb, who: "ann", why: "test", step: step}},
		done: func(d jobDone) { done(d.answer, d.err) },
	}
	return s.o.lane(id).submit(ctx, j)
}

// StartStepped starts a saga; done is told when it is durable, or that it was before.
func StartStepped[S, E ~string, D any](ctx context.Context, s *Stepped, d *Definition[S, E, D], params StartParams[D], done func(existing bool, err error)) error {
	j, _, err := d.startJob(ctx, s.o, params)
	if err != nil {
		return err
	}
	j.done = func(d jobDone) { done(d.existing != nil, d.err) }
	return s.o.lane(j.id).submit(ctx, j)
}

// CommandStepped gives a participant a command from a topic.
func CommandStepped[T any](ctx context.Context, p *Participant[T], topic string, msg *message.Message) {
	p.receive(ctx, topic, msg)
}

// ReadInstance makes what readers see of a record.
func ReadInstance(r Record) (Instance, error) { return viewOf(r) }

// Leftover tells what a settled instance still holds; empty: nothing.
func Leftover(r Record) string {
	i, err := fromRecord(r)
	switch {
	case err != nil:
		return err.Error()
	case i.Row != nil:
		return "a row: " + i.Row.Name
	case i.Raised != nil:
		return "an event that was not raised: " + i.Raised.Event
	case len(i.Outbox) > 0:
		return "a message: " + i.Outbox[0].ID
	case len(i.Timers) > 0:
		return "a timer: " + i.Timers[0].name()
	case len(i.Waiting) > 0:
		return "an event that waits: " + i.Waiting[0].Event
	case len(i.Undecided) > 0:
		return "an undecided input"
	case i.Ledger.Open():
		return "an open ledger"
	}
	return ""
}

// DecodeEntry reads a line of a history.
func DecodeEntry(h HistoryRecord) (Entry, error) { return decodeEntry(h) }
