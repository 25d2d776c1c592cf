package sagatest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/sagamill/sagamill/adapters/memory"
	"github.com/sagamill/sagamill/saga"
	"github.com/sagamill/sagamill/saga/internal/stepped"
)

// killed is what a process panics with when it is killed.
type killed struct{}

var errInjected = errors.New("sagatest: injected fault")

// process is one of the orchestrator's. It is killed by a panic, and the next one comes in its place.
type process struct {
	run          *Run
	name         string
	orchestrator stepped.Orchestrator // nil: it has not begun
	api          *saga.Orchestrator
	pausedTill   time.Time
	inflight     []*envelope // delivered, and not acknowledged
	hung         []hung      // attempts that do not return yet
	readFault    bool
	hangs        time.Duration // how long the attempt under way is to hang; 0: not
}

type hung struct {
	due     time.Time
	what    string
	deliver func()
}

func (p *process) paused() bool { return time.Now().Before(p.pausedTill) }

func (p *process) readFailed() bool {
	failed := p.readFault
	p.readFault = false
	return failed
}

// do lets the process do something, which may kill it. It answers whether it lives.
func (p *process) do(f func()) (lives bool) {
	defer func() {
		if v := recover(); v != nil {
			if _, was := v.(killed); !was {
				panic(v)
			}
			p.bury()
			lives = false
		}
	}()
	if p.orchestrator == nil {
		p.begin()
	}
	f()
	p.inflight = slices.DeleteFunc(p.inflight, func(e *envelope) bool { return acked(e.sent) })
	return true
}

func (r *Run) config(p *process) saga.OrchestratorConfig {
	return saga.OrchestratorConfig{
		Name:        "orchestrator",
		Definitions: []saga.AnyDefinition{r.explorer.definition},
		Transport:   saga.Transport{Publisher: publisher{r, p}, Subscriber: noSubscriber},
		Lanes:       1, Lease: lease, PollInterval: forever, Random: func() float64 { return 0.5 },
		NewID: func() string { r.ids++; return fmt.Sprintf("saga-%d", r.ids) },
	}
}

func (p *process) begin() {
	var err error
	if p.api, err = saga.NewOrchestrator(&store{p.run.store, p}, p.run.config(p), nil); err == nil {
		p.orchestrator, err = stepped.Begin(p.run.ctx, p.api, p.around)
	}
	if err != nil {
		panic(fmt.Errorf("sagatest: begin an orchestrator: %w", err))
	}
}

// bury ends the process: what it held in memory is gone, and what it had not acknowledged comes again.
func (p *process) bury() {
	p.run.note("%s is killed", p.name)
	p.orchestrator, p.api, p.hung, p.hangs = nil, nil, nil, 0
	p.run.broker.waiting = append(p.run.broker.waiting, p.inflight...)
	p.inflight = nil
}

func (p *process) hasWork() bool {
	o := p.orchestrator
	return o != nil && (len(o.Busy()) > 0 || len(o.Tasks()) > 0 || o.Outbound() > 0 || p.hungDue() >= 0)
}

func (p *process) hungDue() int {
	return slices.IndexFunc(p.hung, func(h hung) bool { return !h.due.After(time.Now()) })
}

// work does one thing of what waits in the process. It answers false if nothing does.
func (p *process) work() bool {
	if !p.hasWork() {
		return false
	}
	r, o := p.run, p.orchestrator
	var choices []choice
	for _, lane := range o.Busy() {
		choices = append(choices, choice{"decides", func() { o.Lane(r.ctx, lane) }})
	}
	if k := p.hungDue(); k >= 0 {
		choices = append(choices, choice{"goes on with " + p.hung[k].what, func() { p.returns(k) }})
	}
	for k, name := range o.Tasks() {
		choices = append(choices, choice{"begins " + name, func() { p.attempt(k) }})
	}
	if o.Outbound() > 0 {
		choices = append(choices, choice{"publishes", func() { o.Publish(r.ctx) }})
	}
	next := choices[0]
	offered := []Fault{ProcessPauses}
	if len(choices) > 1 {
		offered = append(offered, Reordered)
	}
	switch r.choose(p.name+" "+next.what, offered...) {
	case ProcessPauses:
		p.pausedTill = time.Now().Add(r.explorer.patience)
		return true
	case Reordered:
		next = choices[len(choices)-1]
	}
	p.do(next.do)
	return true
}

// choice is one of the things that a process could do next.
type choice struct {
	what string
	do   func()
}

// attempt makes an attempt of a local step.
func (p *process) attempt(k int) {
	name := p.orchestrator.Tasks()[k]
	deliver := p.orchestrator.Task(k)
	if p.hangs > 0 {
		p.hung = append(p.hung, hung{time.Now().Add(p.hangs), name, deliver})
		p.hangs = 0
		return
	}
	deliver()
}

// returns lets an attempt return that hung.
func (p *process) returns(k int) {
	h := p.hung[k]
	p.hung = slices.Delete(p.hung, k, k+1)
	p.run.note("%s: %s returns at last", p.name, h.what)
	h.deliver()
}

// around is called instead of an attempt of a local step.
func (p *process) around(ctx context.Context, attempt func() ([]byte, error)) ([]byte, error) {
	r, info := p.run, saga.Info(ctx)
	offered := []Fault{StepFails, StepFailsAfterEffect, StepHangs, CrashBeforeEffect, CrashAfterEffect}
	if s := r.explorer.steps[info.Step]; !info.Undo && s.Rejectable && !(s.Pivot && r.touched[info.ActionKey]) {
		offered = append(offered, StepRejects)
	}
	what := effectName(info)
	fault := r.fault(what, info, offered...)
	switch fault {
	case StepFails:
		return nil, errInjected
	case StepRejects:
		return nil, saga.Reject("sagatest says no")
	case CrashBeforeEffect:
		panic(killed{})
	}
	r.touched[info.ActionKey] = true
	result, err := attempt()
	r.note("%s: %s of %s returns %s", p.name, what, info.Key, returned(result, err))
	switch fault {
	case StepFailsAfterEffect:
		return nil, errInjected
	case CrashAfterEffect:
		panic(killed{})
	case StepHangs:
		p.hangs = r.explorer.steps[info.Step].Timeout + time.Millisecond
	}
	return result, err
}

func effectName(info saga.StepInfo) string {
	name := info.Step
	if info.Undo {
		name += "/undo"
	}
	return fmt.Sprintf("%s, attempt %d", name, info.Attempt)
}

func returned(result []byte, err error) string {
	switch {
	case err != nil:
		return "the error: " + err.Error()
	case len(result) == 0:
		return "nothing"
	}
	return string(result)
}

// store is the store as a process sees it.
type store struct {
	*memory.Store
	p *process
}

func (s *store) Commit(ctx context.Context, transitions []saga.Transition) ([]saga.Verdict, error) {
	r := s.p.run
	fault := r.choose(s.p.name+" commits", CommitFails, CommitAnswerLost, CrashBeforeCommit, CrashAfterCommit)
	switch fault {
	case CommitFails:
		return nil, errInjected
	case CrashBeforeCommit:
		panic(killed{})
	}
	verdicts, err := s.Store.Commit(ctx, transitions)
	r.noteCommit(s.p, transitions, verdicts)
	switch fault {
	case CommitAnswerLost:
		return nil, errInjected
	case CrashAfterCommit:
		panic(killed{})
	}
	return verdicts, err
}

func (s *store) Load(ctx context.Context, ids ...string) ([]saga.Record, error) {
	if s.p.run.choose(s.p.name+" loads an instance", ReadFails) != "" {
		return nil, errInjected
	}
	return s.Store.Load(ctx, ids...)
}

func (s *store) Claim(ctx context.Context, claim saga.Claim) ([]saga.Record, time.Duration, error) {
	if s.p.run.choose(s.p.name+" looks for what is due", ReadFails) != "" {
		s.p.readFault = true
		return nil, 0, errInjected
	}
	return s.Store.Claim(ctx, claim)
}

func noSubscriber(saga.SubscriberParams) (message.Subscriber, error) {
	return nil, errors.New("sagatest: messages are delivered by the run")
}
