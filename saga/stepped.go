package saga

import (
	"context"
	"hash/fnv"
	"slices"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/sagamill/sagamill/compensation"
	"github.com/sagamill/sagamill/saga/internal/stepped"
)

// The door for test kits: an orchestrator without goroutines, of which each loop is run one turn at a time.

func init() {
	stepped.Begin = func(ctx context.Context, o any, around stepped.Around) (stepped.Orchestrator, error) {
		return stepByStep(ctx, o.(*Orchestrator), around)
	}
	stepped.Receiver = func(p any) (stepped.Participant, error) {
		return p.(interface {
			stepByStep() (stepped.Participant, error)
		}).stepByStep()
	}
	stepped.Describe = func(d any) stepped.Definition { return d.(AnyDefinition).compiled().describe() }
	stepped.Leftover = func(r any) string { return leftover(r.(Record)) }
	stepped.Buffered = func(r any) []string { return buffered(r.(Record)) }
}

// steppedOrchestrator decides at a time the inputs of a share of the instances, so that those of different shares are committed in
// any order. Another lane may do so while one waits for the store.
type steppedOrchestrator struct {
	o    *Orchestrator
	idle []*lane
}

func stepByStep(ctx context.Context, o *Orchestrator, around stepped.Around) (*steppedOrchestrator, error) {
	o.config.Workers = 0 // every local step waits until it is told to run
	o.runner.ctx, o.runner.around = ctx, around
	o.errand = func(f func()) { f() }
	s := &steppedOrchestrator{o: o}
	for range o.config.Lanes {
		s.idle = append(s.idle, &lane{o: o})
	}
	o.inline = func(ctx context.Context, id string) {
		for k := s.share(id); slices.Contains(s.Busy(), k); {
			s.Lane(ctx, k)
		}
	}
	if err := o.register(ctx); err != nil {
		return nil, err
	}
	close(o.running)
	return s, nil
}

// share tells which of as many shares as there could be lanes an instance belongs to.
func (s *steppedOrchestrator) share(id string) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(id))
	return int(h.Sum32() % uint32(s.o.config.Lanes))
}

// Busy lists the shares that have inputs, unless no lane is idle.
func (s *steppedOrchestrator) Busy() (shares []int) {
	if len(s.idle) == 0 {
		return nil
	}
	for _, j := range s.o.intake.queue {
		shares = append(shares, s.share(j.id))
	}
	slices.Sort(shares)
	return slices.Compact(shares)
}

// Lane decides and commits one batch of a share.
func (s *steppedOrchestrator) Lane(ctx context.Context, k int) {
	last := len(s.idle) - 1
	l := s.idle[last]
	s.idle = s.idle[:last]
	s.o.intake.mu.Lock()
	groups := s.o.intake.take(l, func(id string) bool { return s.share(id) == k })
	s.o.intake.mu.Unlock()
	if len(groups) > 0 {
		l.process(ctx, groups)
	}
	s.idle = append(s.idle, l)
}

// Tasks names the attempts of local steps that wait.
func (s *steppedOrchestrator) Tasks() []string {
	waiting := s.o.runner.queue.all()
	names := make([]string, len(waiting))
	for k, t := range waiting {
		names[k] = effectName(t.step, t.undo, t.effect.attempt)
	}
	return names
}

// Task makes one of them.
func (s *steppedOrchestrator) Task(k int) (deliver func()) {
	r := s.o.runner
	t := r.queue.all()[k]
	r.queue.remove(t)
	j := r.attempt(t)
	return func() {
		r.mu.Lock()
		r.leave(t)
		r.mu.Unlock()
		if j != nil {
			heard := *j // it may be heard more than once
			s.o.intake.add(&heard)
		}
	}
}

// Outbound is the number of messages that wait to be published.
func (s *steppedOrchestrator) Outbound() int { return len(s.o.publisher.queue) }

// Publish publishes those of one topic.
func (s *steppedOrchestrator) Publish(ctx context.Context) {
	if topic, batch, _ := s.o.publisher.take(); len(batch) > 0 {
		s.o.publisher.publish(ctx, topic, batch)
		s.o.publisher.leave(topic)
	}
}

// Sweep looks for what is due.
func (s *steppedOrchestrator) Sweep(ctx context.Context) time.Duration { return s.o.sweeper.once(ctx) }

// Renew renews the leases of steps.
func (s *steppedOrchestrator) Renew(ctx context.Context) { s.o.runner.renewOnce(ctx) }

// Replies lists the topics of replies.
func (s *steppedOrchestrator) Replies() (topics []string) {
	for _, p := range s.o.plans {
		for topic := range p.replies(s.o.replyTopic()) {
			topics = append(topics, topic)
		}
	}
	slices.Sort(topics)
	return slices.Compact(topics)
}

// Reply takes a reply from a topic.
func (s *steppedOrchestrator) Reply(ctx context.Context, topic string, msg *message.Message) {
	s.o.handleReply(ctx, topic, msg)
}

type steppedParticipant struct {
	topics  []string
	receive func(ctx context.Context, topic string, msg *message.Message)
}

func (p *steppedParticipant) Topics() []string { return p.topics }

func (p *steppedParticipant) Receive(ctx context.Context, topic string, msg *message.Message) {
	p.receive(ctx, topic, msg)
}

// stepByStep is a participant whose messages are handed to it.
func (p *Participant[T]) stepByStep() (stepped.Participant, error) {
	topics, err := p.begin()
	return &steppedParticipant{topics, p.receive}, err
}

// leftover tells what a settled instance still holds; empty: nothing.
func leftover(r Record) string {
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

// buffered lists the events that an instance keeps because they do not fit the state that it is in.
func buffered(r Record) (events []string) {
	i, err := fromRecord(r)
	if err != nil || !i.idle() {
		return nil // while a row runs it may be another state that they did not fit
	}
	for _, ev := range i.Waiting {
		if ev.Buffered {
			events = append(events, ev.Event)
		}
	}
	return events
}

// describe lists what a definition consists of.
func (p *plan) describe() stepped.Definition {
	d := stepped.Definition{States: p.machine.States(), Ends: map[string]bool{}}
	for _, s := range d.States {
		if p.machine.IsFinal(s) {
			d.Ends[s] = p.failed[s]
		}
	}
	seen := map[string]bool{}
	for i := range p.rows {
		r := &p.rows[i]
		row := stepped.Row{Name: r.name, On: r.on, In: p.machine.Where(r.index)}
		if r.policy != 0 {
			row.Policy = r.policy.String()
		}
		d.Rows = append(d.Rows, row)
		for _, g := range r.groups {
			for _, s := range g {
				if !seen[s.name] {
					seen[s.name], d.Steps = true, append(d.Steps, s.describe())
				}
			}
		}
	}
	return d
}

func (s *stepPlan) describe() stepped.Step {
	return stepped.Step{
		Name: s.name, Local: s.action.local != nil, Oneway: s.action.oneway, Undo: s.undo.exists(), LocalUndo: s.undo.local != nil,
		Rejectable: s.rejectable(), Pivot: s.class == compensation.Pivot, Timeout: timeoutOf(s),
	}
}
