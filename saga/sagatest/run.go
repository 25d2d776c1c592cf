package sagatest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/sagamill/sagamill/adapters/memory"
	"github.com/sagamill/sagamill/saga"
	"github.com/sagamill/sagamill/saga/internal/stepped"
)

// Run is one run: a store, a broker, two processes of an orchestrator, and whoever the script brings. One goroutine does one
// thing after the other, in an order that is always the same; a fault is all that makes a run another one.
type Run struct {
	explorer *explorer
	ctx      context.Context
	chooser  chooser
	removed  map[Fault]bool
	epoch    time.Time

	store        *memory.Store
	broker       broker
	processes    []*process
	participants []stepped.Participant
	inputs       []*sending
	touched      map[string]bool    // effects that may have happened
	scripted     map[string][]Fault // what happens to the attempts of a step
	read         *saga.Orchestrator // one that only reads
	crashed      bool               // the participant that works now has been killed
	handled      bool               // the command that is delivered now has a handler
	ids          int                // of instances

	moments    []moment
	happened   plan
	turns      int
	violations []string
	tracing    bool
	trace      []string
}

// moment is one at which something could have gone wrong.
type moment struct {
	what    string
	offered []Fault
}

const (
	maxTurns = 20_000
	forever  = 10 * 365 * 24 * time.Hour
	lease    = 5 * time.Second
)

func newRun(ctx context.Context, x *explorer, c chooser, tracing bool) *Run {
	r := &Run{explorer: x, ctx: ctx, chooser: c, removed: x.without, epoch: time.Now(), tracing: tracing, touched: map[string]bool{}}
	r.store, r.scripted = memory.NewStore(), map[string][]Fault{}
	for step, faults := range x.scripted {
		r.scripted[step] = slices.Clone(faults)
	}
	r.broker.run = r
	r.processes = []*process{{run: r, name: "process A"}, {run: r, name: "process B"}}
	return r
}

// Context is the run's. It ends with it.
func (r *Run) Context() context.Context { return r.ctx }

// Sagas returns all instances, the oldest first.
func (r *Run) Sagas() []saga.Instance {
	var all []saga.Instance
	o, err := r.reader()
	if err == nil {
		all, _, err = o.List(r.ctx, saga.Query{Limit: 1000})
	}
	if err != nil {
		r.violated("the sagas cannot be read: %v", err)
	}
	slices.SortStableFunc(all, func(a, b saga.Instance) int { return strings.Compare(a.ID, b.ID) })
	return all
}

// Saga returns the instance with a business key; the zero Instance if there is none so far.
func (r *Run) Saga(key string) saga.Instance {
	for _, i := range r.Sagas() {
		if i.Key == key {
			return i
		}
	}
	return saga.Instance{}
}

// History returns the history of an instance.
func (r *Run) History(id string) []saga.Entry {
	var entries []saga.Entry
	o, err := r.reader()
	if err == nil {
		entries, err = o.History(r.ctx, id, 0, 100_000)
	}
	if err != nil && !errors.Is(err, saga.ErrNotFound) {
		r.violated("the history of %s cannot be read: %v", id, err)
	}
	return entries
}

// Published returns the events that sagas have emitted, each as often as it was delivered.
func (r *Run) Published() []*message.Message { return r.broker.events }

// reader is an orchestrator that only reads.
func (r *Run) reader() (o *saga.Orchestrator, err error) {
	if r.read == nil {
		r.read, err = saga.NewOrchestrator(r.store, r.config(&process{}), nil)
	}
	return r.read, err
}

func (r *Run) note(format string, args ...any) {
	if r.tracing {
		at := time.Since(r.epoch).Round(time.Millisecond)
		r.trace = append(r.trace, fmt.Sprintf("%9s  %s", at, fmt.Sprintf(format, args...)))
	}
}

func (r *Run) violated(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	r.note("VIOLATED: %s", text)
	if !slices.Contains(r.violations, text) {
		r.violations = append(r.violations, text)
	}
}

// choose is a moment at which one of some faults may happen. It answers which does; "" for none.
func (r *Run) choose(what string, offered ...Fault) Fault {
	offered = slices.DeleteFunc(offered, func(f Fault) bool { return r.removed[f] })
	if len(offered) == 0 {
		return ""
	}
	n := len(r.moments)
	r.moments = append(r.moments, moment{what, offered})
	f, happens := r.chooser.choose(n, what, offered)
	if !happens {
		return ""
	}
	r.happened = append(r.happened, planned{n, f})
	r.note("FAULT %d:%s  %s", n, f, what)
	return f
}

// play runs until nothing is left to do, and checks what is left.
func (r *Run) play() {
	for len(r.violations) == 0 {
		r.checkAlways()
		if r.turns++; r.turns > maxTurns {
			r.violated("it does not come to an end: after %d turns %s", maxTurns, r.unsettled())
		}
		if !r.turn() {
			break
		}
	}
	if len(r.violations) == 0 {
		r.checkFinally()
	}
}

// turn does one thing. It answers false if nothing is left to do.
func (r *Run) turn() bool {
	if r.send() {
		return true
	}
	if r.pending() && r.choose("before what could be done now", TimePasses) != "" {
		return r.pass() || true
	}
	if r.broker.deliver() {
		return true
	}
	for _, p := range r.processes {
		if !p.paused() && p.work() {
			return true
		}
	}
	return r.release(func(in *sending) bool { return r.record(in.key).Revision > in.seen }) || r.pass()
}

// pending tells whether anything could be done without waiting.
func (r *Run) pending() bool {
	return r.broker.due() >= 0 || slices.ContainsFunc(r.processes, func(p *process) bool { return !p.paused() && p.hasWork() })
}

// pass lets the time pass until something is due. It answers false if nothing ever will be.
func (r *Run) pass() bool {
	wait, busy := r.sweep()
	if busy {
		return true
	}
	for _, at := range r.appointments() {
		wait = min(wait, max(time.Until(at), 0))
	}
	if wait >= forever {
		return r.release(func(*sending) bool { return true })
	}
	r.sleep(wait)
	return true
}

// sweep lets a process look for what is due. It answers when something will be, or that the process has something to do.
func (r *Run) sweep() (wait time.Duration, busy bool) {
	p := r.awake()
	if p == nil {
		return forever, false
	}
	wait = forever
	p.do(func() { wait = p.orchestrator.Sweep(r.ctx) })
	return wait, p.hasWork() || p.readFailed()
}

// appointments are the times at which something happens that the store does not know of.
func (r *Run) appointments() (times []time.Time) {
	for _, m := range r.broker.waiting {
		times = append(times, m.due)
	}
	for _, in := range r.inputs {
		if at := r.epoch.Add(in.after); !in.recorded && time.Now().Before(at) {
			times = append(times, at)
		}
	}
	for _, p := range r.processes {
		if p.paused() {
			times = append(times, p.pausedTill)
			continue
		}
		for _, h := range p.hung {
			times = append(times, h.due)
		}
	}
	return times
}

// sleep lets time pass. Processes that have steps under way renew their leases meanwhile.
func (r *Run) sleep(d time.Duration) {
	for till := time.Now().Add(d); ; {
		hung := slices.ContainsFunc(r.processes, func(p *process) bool { return !p.paused() && len(p.hung) > 0 })
		left := time.Until(till)
		if !hung || left <= lease/3 {
			time.Sleep(left)
			return
		}
		time.Sleep(lease / 3)
		for _, p := range r.processes {
			if !p.paused() && len(p.hung) > 0 {
				p.do(func() { p.orchestrator.Renew(r.ctx) })
			}
		}
	}
}

// release lets one of the inputs go that were held back.
func (r *Run) release(which func(*sending) bool) bool {
	for _, in := range r.inputs {
		if in.held && which(in) && in.due() {
			in.held = false
			return true
		}
	}
	return false
}

// awake returns the first process that is not paused, or nil.
func (r *Run) awake() *process {
	for _, p := range r.processes {
		if !p.paused() {
			return p
		}
	}
	return nil
}

// fault is a moment in an attempt of a step: what a Case says happens to it, or what the chooser says.
func (r *Run) fault(what string, info saga.StepInfo, offered ...Fault) Fault {
	name := info.Step
	if info.Undo {
		name += "/undo"
	}
	if scripted := r.scripted[name]; len(scripted) > 0 && slices.Contains(offered, scripted[0]) {
		r.scripted[name] = scripted[1:]
		r.note("FAULT %s  %s", scripted[0], what)
		return scripted[0]
	}
	return r.choose(what, offered...)
}
