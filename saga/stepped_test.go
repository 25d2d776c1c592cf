package saga

import (
	"context"

	"github.com/ThreeDotsLabs/watermill/message"
)

// Stepped is an orchestrator without goroutines, as test kits have it. To it the simulation adds calls that do not wait for
// their answers.
type Stepped struct{ *steppedOrchestrator }

// NewStepped makes one that takes inputs.
func NewStepped(ctx context.Context, store Store, config OrchestratorConfig) (*Stepped, error) {
	o, err := NewOrchestrator(store, config, nil)
	if err != nil {
		return nil, err
	}
	s, err := stepByStep(ctx, o, nil)
	return &Stepped{s}, err
}

// Tasks is the number of attempts of local steps that wait.
func (s *Stepped) Tasks() int { return s.o.runner.queue.n }

// Told is the revision of an instance that those who wait for it are told of.
func (s *Stepped) Told(id string) uint64 {
	if x := s.o.memory.byID[id]; x != nil && x.latest.instance != nil {
		return x.latest.revision
	}
	return 0
}

// Task makes an attempt of a local step, and hands its outcome over.
func (s *Stepped) Task(k int) { s.steppedOrchestrator.Task(k)() }

// TaskTwice makes an attempt, whose outcome is heard twice.
func (s *Stepped) TaskTwice(k int) {
	deliver := s.steppedOrchestrator.Task(k)
	deliver()
	deliver()
}

// Event gives an event to an instance; done is told what became of it.
func (s *Stepped) Event(ctx context.Context, id, event, source, inputID string, payload []byte, done func(Disposition, error)) error {
	j := &job{
		id: id, input: inputIdentity(source, inputID), in: input{event: &waiting{Event: event, Source: source, ID: inputID, Payload: payload}},
		done: func(d jobDone) { done(d.answer, d.err) },
	}
	return s.o.submit(ctx, j)
}

// Operate does to an instance what an operator asks; done is told what became of it.
func (s *Stepped) Operate(ctx context.Context, id string, verb Verb, step string, done func(Disposition, error)) error {
	j := &job{
		id: id, in: input{operator: &operation{verb: verb, who: "ann", why: "test", step: step}},
		done: func(d jobDone) { done(d.answer, d.err) },
	}
	return s.o.submit(ctx, j)
}

// StartStepped starts a saga; done is told when it is durable, or that it was before.
func StartStepped[S, E ~string, D any](ctx context.Context, s *Stepped, d *Definition[S, E, D], params StartParams[D], done func(existing bool, err error)) error {
	j, _, err := d.startJob(ctx, s.o, params)
	if err != nil {
		return err
	}
	j.done = func(d jobDone) { done(d.existing != nil, d.err) }
	return s.o.submit(ctx, j)
}

// CommandStepped gives a participant a command from a topic.
func CommandStepped[T any](ctx context.Context, p *Participant[T], topic string, msg *message.Message) {
	p.receive(ctx, topic, msg)
}

// ReadInstance makes what readers see of a record.
func ReadInstance(r Record) (Instance, error) { return viewOf(fromRecord(r)) }

// Leftover tells what a settled instance still holds; empty: nothing.
func Leftover(r Record) string { return leftover(r) }

// DecodeEntry reads a line of a history.
func DecodeEntry(h HistoryRecord) (Entry, error) { return decodeEntry(h) }
