package saga_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/sagamill/sagamill/adapters/memory"
	"github.com/sagamill/sagamill/saga"
)

// simProcess is an orchestrator's process. It is killed by a panic, and a new one comes in its place.
type simProcess struct {
	sim        *sim
	name       string
	stepped    *saga.Stepped
	dead       bool
	busy       bool // paused in the middle of something
	sweeps     bool
	pausedTill time.Time
	sweepsFrom time.Time // its own clock is slow: it does not ask the store before
	starts     int
	inflight   []*simMessage // delivered, and not acknowledged
}

func (p *simProcess) paused() bool { return p.busy || time.Now().Before(p.pausedTill) }

// do lets the process do something, which may kill it.
func (p *simProcess) do(f func()) {
	if p.stepped == nil {
		p.begin()
	}
	life := p.stepped
	defer func() {
		r := recover()
		if _, killed := r.(simKilled); r != nil && !killed {
			panic(r)
		}
		if p.stepped != life { // it was killed by something else that it did meanwhile
			return
		}
		p.dead = p.dead || r != nil
		if !p.dead && slices.ContainsFunc(p.inflight, (*simMessage).acked) && p.sim.does(crashBeforeAck) {
			p.dead = true
		}
		if p.dead {
			p.bury()
		} else {
			p.acknowledged()
		}
	}()
	f()
}

// begin starts the next process.
func (p *simProcess) begin() {
	p.starts++
	p.dead = false
	rng := rand.New(rand.NewPCG(p.sim.plan.seed, uint64(p.starts)))
	n := 0
	stepped, err := saga.NewStepped(p.sim.ctx, &simStore{p.sim.store, p, p.starts}, saga.OrchestratorConfig{
		Name: "sagamill", Definitions: []saga.AnyDefinition{p.sim.trip, p.sim.order}, Transport: saga.Transport{Publisher: simPublisher{p.sim, p}, Subscriber: noSubscriber},
		Lanes: 2, CacheSize: 4, MaxBatch: 4, Lease: time.Second, Random: rng.Float64, MaxWaiting: 16,
		NewID: func() string { n++; return fmt.Sprintf("%s-%d-%d", p.name, p.starts, n) },
	})
	if err != nil {
		panic(err)
	}
	p.stepped = stepped
}

// bury ends a process: what it held in memory is gone, what it had not acknowledged comes again.
func (p *simProcess) bury() {
	p.sim.note("%s is killed", p.name)
	p.stepped, p.pausedTill, p.sweepsFrom, p.busy = nil, time.Time{}, time.Time{}, false
	p.sweeps = false
	for _, m := range p.inflight {
		p.sim.broker.again(m)
	}
	p.inflight = nil
	for _, in := range p.sim.clients {
		in.lost(p)
	}
}

func (p *simProcess) acknowledged() {
	p.inflight = slices.DeleteFunc(p.inflight, func(m *simMessage) bool {
		if m.acked() && p.sim.does(ackLost) {
			p.sim.broker.again(m)
		}
		return m.acked()
	})
}

// act does one thing that the process may do.
func (p *simProcess) act() {
	s := p.sim
	switch {
	case p.paused():
	case s.does(processPaused):
		p.pausedTill = time.Now().Add(time.Duration(s.amount(20_000)) * time.Millisecond)
	case s.does(crashBetween):
		p.do(func() { panic(simKilled{}) })
	case !s.chance(100):
		p.work()
	case s.does(sweepsLate):
		p.sweepsFrom = time.Now().Add(time.Duration(s.amount(20_000)) * time.Millisecond)
	case !time.Now().Before(p.sweepsFrom) && !p.sweeps:
		p.do(func() {
			p.sweeps = true
			p.stepped.Sweep(s.ctx)
			p.sweeps = false
		})
	}
}

// work does one thing of what waits to be done in the process: decide, run, publish. It answers false if nothing waits.
func (p *simProcess) work() bool {
	s, worked := p.sim, false
	p.do(func() {
		var choices []func()
		for _, k := range p.stepped.Busy() {
			choices = append(choices, func() { p.stepped.Lane(s.ctx, k) })
		}
		if n := p.stepped.Tasks(); n > 0 {
			choices = append(choices, func() { s.running = p; p.stepped.Task(s.rng.IntN(n)) })
		}
		if p.stepped.Outbound() > 0 {
			choices = append(choices, func() { p.stepped.Publish(s.ctx) })
		}
		if len(choices) > 0 {
			worked = true
			choices[s.rng.IntN(len(choices))]()
		}
	})
	return worked
}

// simStore is the store as one process sees it.
type simStore struct {
	*memory.Store
	p    *simProcess
	life int // which of those that have borne its name
}

// wait is how long the process, or only what has asked the store, waits for it.
func (x *simStore) wait() {
	s := x.p.sim
	if s.does(pausedInStore) {
		s.meanwhile(x.p.name, &x.p.busy, 8)
	}
	if s.does(storeSlow) {
		s.meanwhile("a part of "+x.p.name, new(bool), 8)
	}
	if x.p.dead || x.p.starts != x.life { // what it did meanwhile has killed it
		panic(simKilled{})
	}
}

// before is what may happen before the store is asked. An error: the store is not.
func (x *simStore) before(crashes, fails simFault) error {
	s := x.p.sim
	if x.p.dead || s.does(crashes) {
		panic(simKilled{})
	}
	x.wait()
	if s.does(fails) {
		return errSimulated
	}
	return nil
}

// after is what may happen after it has answered.
func (x *simStore) after(crashes simFault) {
	s := x.p.sim
	if s.does(crashes) {
		panic(simKilled{})
	}
	x.wait()
}

func (x *simStore) Commit(ctx context.Context, transitions []saga.Transition) ([]saga.Verdict, error) {
	s := x.p.sim
	if err := x.before(crashBeforeCommit, commitFails); err != nil {
		return nil, err
	}
	busy := -1
	if s.does(storeBusy) {
		busy = s.amount(len(transitions))
	}
	var free []saga.Transition
	for k := range transitions {
		if k != busy {
			free = append(free, transitions[k])
		}
	}
	verdicts, err := x.Store.Commit(ctx, free)
	for k, v := range verdicts {
		s.committed(x.p, &free[k], v)
	}
	if busy >= 0 && err == nil {
		verdicts = slices.Insert(verdicts, busy, saga.Verdict{Outcome: saga.Busy})
	}
	x.after(crashAfterCommit)
	if s.does(commitAnswerLost) {
		return nil, errSimulated
	}
	return verdicts, err
}

func (x *simStore) Load(ctx context.Context, ids ...string) ([]saga.Record, error) {
	if err := x.before(crashBeforeLoad, loadFails); err != nil {
		return nil, err
	}
	records, err := x.Store.Load(ctx, ids...)
	x.after(crashAfterLoad)
	return records, err
}

func (x *simStore) History(ctx context.Context, id string, after uint64, limit int) ([]saga.HistoryRecord, error) {
	if err := x.before(crashBeforeLoad, loadFails); err != nil {
		return nil, err
	}
	records, err := x.Store.History(ctx, id, after, limit)
	x.after(crashAfterLoad)
	return records, err
}

func (x *simStore) Claim(ctx context.Context, claim saga.Claim) ([]saga.Record, time.Duration, error) {
	if err := x.before(crashBeforeClaim, claimFails); err != nil {
		return nil, 0, err
	}
	records, next, err := x.Store.Claim(ctx, claim)
	x.after(crashAfterClaim)
	return records, next, err
}

func (x *simStore) Touch(ctx context.Context, touches []saga.Touch) error {
	if err := x.before(crashBeforeTouch, touchFails); err != nil {
		return err
	}
	slices.SortFunc(touches, func(a, b saga.Touch) int { return strings.Compare(a.ID, b.ID) })
	err := x.Store.Touch(ctx, touches)
	x.after(crashAfterTouch)
	return err
}
