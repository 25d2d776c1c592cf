package saga_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/sagamill/sagamill/adapters/memory"
	"github.com/sagamill/sagamill/saga"
)

// The simulation of a whole system: two orchestrators that both believe they own everything, two processes of a participant
// behind one inbox, a store, a broker, a client. One goroutine decides by a seed what happens next, and what goes wrong. What
// runs is the code that ships: lanes, runner, publisher, sweeper, decide, ledger, participant, inbox. Time is virtual (the
// simulation lives in a synctest bubble), and the store's clock is an hour off.

// A simFault is a kind of what goes wrong.
type simFault uint8

const (
	crashBeforeCommit simFault = iota
	crashAfterCommit
	commitFails
	commitAnswerLost
	readFails
	crashInStep
	crashAfterEffect
	stepFails
	stepFailsAfterEffect
	stepRejects
	handlerFails
	handlerRejects
	replyLost
	messageLost
	messageDuplicated
	messageDelayed
	publishFails
	publishAnswerLost
	crashAfterPublish
	crashBetween
	processPaused
	inputRepeated
	brokerAway
	stepSkipped
	pausedInStep
	kindsOfFaults
)

var faultNames = [kindsOfFaults]string{
	"crash before commit", "crash after commit", "commit fails", "commit's answer lost", "read fails", "crash in a step",
	"crash after the effect", "step fails", "step fails after the effect", "step rejects", "handler fails", "handler rejects",
	"reply lost", "message lost", "message duplicated", "message delayed", "publish fails", "publish's answer lost",
	"crash after publish", "crash between", "process paused", "input repeated",
	"broker away for a while", "step skipped by an operator", "process paused in a step",
}

// odds are how often each happens where it may, in thousands.
var odds = [kindsOfFaults]int{
	crashBeforeCommit: 20, crashAfterCommit: 30, commitFails: 20, commitAnswerLost: 40, readFails: 15, crashInStep: 20,
	crashAfterEffect: 40, stepFails: 80, stepFailsAfterEffect: 60, stepRejects: 80, handlerFails: 60, handlerRejects: 40,
	replyLost: 60, messageLost: 60, messageDuplicated: 80, messageDelayed: 150, publishFails: 40, publishAnswerLost: 30,
	crashAfterPublish: 20, crashBetween: 4, processPaused: 10, inputRepeated: 200,
	brokerAway: 4, stepSkipped: 300, pausedInStep: 150,
}

// simKilled is what a process panics with when it is killed.
type simKilled struct{}

var errSimulated = errors.New("simulated")

// sim is one run.
type sim struct {
	seed     uint64
	rng      *rand.Rand
	ctx      context.Context
	allowed  uint64 // faults, a bit each
	healed   bool   // from here on nothing goes wrong any more
	happened [kindsOfFaults]int

	store   *memory.Store
	inbox   *memory.Inbox
	procs   []*simProcess
	parts   []*simParticipant
	broker  *simBroker
	world   *simWorld
	clients []*simInput
	trip    *saga.LinearDefinition[simData]
	shop    *saga.Definition[simState, simEvent, simData]

	running    *simProcess // whose local step runs
	actions    int
	violations []string
	trace      []string
	tracing    bool
}

func newSim(ctx context.Context, seed, allowed uint64) *sim {
	s := &sim{seed: seed, rng: rand.New(rand.NewPCG(seed, 1)), ctx: ctx, allowed: allowed}
	skew := time.Duration(s.rng.IntN(7200)-3600) * time.Second
	clock := func() time.Time { return time.Now().Add(skew) }
	s.store, s.inbox = memory.NewStore(memory.WithClock(clock)), memory.NewInbox(memory.WithClock(clock))
	s.world = &simWorld{sim: s, applied: map[string]int{}, undone: map[string]int{}, heard: map[string]int{}}
	s.broker = &simBroker{sim: s}
	s.trip, s.shop = s.defineTrip(), s.defineShop()
	for k := range 2 {
		s.procs = append(s.procs, &simProcess{sim: s, name: fmt.Sprint("orchestrator-", k)})
		s.parts = append(s.parts, newSimParticipant(s, fmt.Sprint("participant-", k)))
	}
	s.addInputs()
	return s
}

func (s *sim) note(format string, args ...any) {
	if s.tracing {
		s.trace = append(s.trace, fmt.Sprintf("%4d %8s  ", s.actions, time.Since(simEpoch).Round(time.Millisecond))+fmt.Sprintf(format, args...))
	}
}

func (s *sim) violated(format string, args ...any) {
	s.violations = append(s.violations, fmt.Sprintf(format, args...))
	s.note("VIOLATION: "+format, args...)
}

// does tells whether a fault happens now.
func (s *sim) does(f simFault) bool {
	if s.healed || s.allowed&(1<<f) == 0 || s.rng.IntN(1000) >= odds[f] {
		return false
	}
	s.happened[f]++
	s.note("fault: %s", faultNames[f])
	return true
}

func (s *sim) chance(perMille int) bool { return s.rng.IntN(1000) < perMille }

// run plays until everything is settled, with faults and then without, and checks what is left.
func (s *sim) run() {
	for s.actions < 400 && len(s.violations) == 0 && !(s.actions > 60 && s.actions%16 == 0 && s.settled()) {
		s.actions++
		s.act()
	}
	s.healed = true
	s.note("healed")
	for round := 0; len(s.violations) == 0 && !(s.settled() && len(s.broker.waiting) == 0); round++ {
		if round == 2000 {
			s.violated("not settled: %s", s.unsettled())
			return
		}
		s.heal()
	}
	if len(s.violations) == 0 {
		s.check()
	}
}

// act does one thing, whichever.
func (s *sim) act() {
	switch n := s.rng.IntN(100); {
	case n < 7:
		s.input()
	case n < 8:
		s.operate()
	case n < 30:
		s.broker.deliver()
	case n < 34:
		s.sleep(time.Duration(s.rng.IntN(100)) * time.Millisecond)
	case n < 38:
		s.sleep(time.Duration(s.rng.IntN(4000)) * time.Millisecond)
	default:
		s.procs[s.rng.IntN(len(s.procs))].act()
	}
}

func (s *sim) sleep(d time.Duration) {
	time.Sleep(d)
	for _, p := range s.procs {
		if !p.paused() {
			p.do(func() { p.stepped.Renew(s.ctx) })
		}
	}
}

// heal lets everything be done that can be.
func (s *sim) heal() {
	for _, p := range s.procs {
		p.pausedTill = time.Time{}
	}
	for _, in := range s.clients {
		in.send(s)
	}
	for s.broker.deliver() {
	}
	for _, p := range s.procs {
		for p.work() {
		}
		p.do(func() { p.stepped.Sweep(s.ctx) })
		for p.work() {
		}
	}
	time.Sleep(500 * time.Millisecond)
}

// simProcess is an orchestrator's process. It is killed by a panic, and a new one comes in its place.
type simProcess struct {
	sim        *sim
	name       string
	stepped    *saga.Stepped
	dead       bool
	pausedTill time.Time
	starts     int
	inflight   []*simMessage // delivered, and not acknowledged
}

func (p *simProcess) paused() bool { return time.Now().Before(p.pausedTill) }

// do lets the process do something, which may kill it.
func (p *simProcess) do(f func()) {
	if p.stepped == nil {
		p.begin()
	}
	defer func() {
		if r := recover(); r != nil {
			if _, killed := r.(simKilled); !killed {
				panic(r)
			}
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
	rng := rand.New(rand.NewPCG(p.sim.seed, uint64(p.starts)))
	n := 0
	stepped, err := saga.NewStepped(p.sim.ctx, &simStore{p.sim.store, p}, saga.OrchestratorConfig{
		Definitions: []saga.AnyDefinition{p.sim.trip, p.sim.shop}, Transport: saga.Transport{Publisher: simPublisher{p.sim, p}, Subscriber: noSubscriber},
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
	p.stepped, p.pausedTill = nil, time.Time{}
	p.sim.broker.waiting = append(p.sim.broker.waiting, p.inflight...)
	p.inflight = nil
	for _, in := range p.sim.clients {
		in.lost(p)
	}
}

func (p *simProcess) acknowledged() {
	p.inflight = slices.DeleteFunc(p.inflight, func(m *simMessage) bool { return acked(m.sent) })
}

// act does one thing that the process may do.
func (p *simProcess) act() {
	s := p.sim
	if p.paused() {
		return
	}
	if s.does(processPaused) {
		p.pausedTill = time.Now().Add(time.Duration(s.rng.IntN(20_000)) * time.Millisecond)
		return
	}
	if s.does(crashBetween) {
		p.do(func() { panic(simKilled{}) })
		return
	}
	if s.chance(100) {
		p.do(func() { p.stepped.Sweep(s.ctx) })
		return
	}
	p.work()
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
			choices = append(choices, func() {
				if s.running = p; s.does(pausedInStep) { // it has begun, and takes effect when the process goes on
					p.pausedTill = time.Now().Add(time.Duration(s.rng.IntN(4000)) * time.Millisecond)
					return
				}
				p.stepped.Task(s.rng.IntN(n))
			})
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
	p *simProcess
}

func (x *simStore) Commit(ctx context.Context, transitions []saga.Transition) ([]saga.Verdict, error) {
	s := x.p.sim
	x.living()
	if s.does(crashBeforeCommit) {
		panic(simKilled{})
	}
	if s.does(commitFails) {
		return nil, errSimulated
	}
	verdicts, err := x.Store.Commit(ctx, transitions)
	for k, v := range verdicts {
		s.committed(x.p, &transitions[k], v)
	}
	if s.does(crashAfterCommit) {
		panic(simKilled{})
	}
	if s.does(commitAnswerLost) {
		return nil, errSimulated
	}
	return verdicts, err
}

func (x *simStore) living() {
	if x.p.dead {
		panic(simKilled{})
	}
}

func (x *simStore) Load(ctx context.Context, ids ...string) ([]saga.Record, error) {
	x.living()
	if x.p.sim.does(readFails) {
		return nil, errSimulated
	}
	return x.Store.Load(ctx, ids...)
}

func (x *simStore) Claim(ctx context.Context, claim saga.Claim) ([]saga.Record, time.Duration, error) {
	x.living()
	if x.p.sim.does(readFails) {
		return nil, 0, errSimulated
	}
	slices.SortFunc(claim.Definitions, func(a, b saga.DefinitionVersion) int { return strings.Compare(a.Name, b.Name) })
	return x.Store.Claim(ctx, claim)
}

func (x *simStore) Touch(ctx context.Context, touches []saga.Touch) error {
	x.living()
	slices.SortFunc(touches, func(a, b saga.Touch) int { return strings.Compare(a.ID, b.ID) })
	return x.Store.Touch(ctx, touches)
}

// simMessage is a message on its way.
type simMessage struct {
	topic string
	msg   *message.Message
	sent  *message.Message // the copy that was delivered
	due   time.Time
}

// simBroker delivers at least once and in any order, loses what comes back when it is asked for again, and nothing else.
type simBroker struct {
	sim      *sim
	waiting  []*simMessage
	awayTill time.Time // until then it loses commands and replies
}

const (
	simCommands = "sim.commands"
	simReplies  = "sim.replies"
	simNews     = "sim.news"
)

func noSubscriber(saga.SubscriberParams) (message.Subscriber, error) {
	return nil, errors.New("nobody subscribes in the simulation")
}

type simPublisher struct {
	sim *sim
	p   *simProcess // nil: a participant's
}

func (x simPublisher) Publish(topic string, msgs ...*message.Message) error {
	s := x.sim
	if s.does(publishFails) {
		return errSimulated
	}
	for _, m := range msgs {
		s.broker.waiting = append(s.broker.waiting, &simMessage{topic: topic, msg: m})
		s.note("published %s: %s", topic, describe(m))
	}
	if x.p != nil && s.does(crashAfterPublish) {
		x.p.dead = true // Publish's panics are caught; what it does from now on is not
		return errSimulated
	}
	if s.does(publishAnswerLost) {
		return errSimulated
	}
	return nil
}

func (simPublisher) Close() error { return nil }

func describe(m *message.Message) string {
	return fmt.Sprintf("%s %s%s %s", m.Metadata.Get(saga.MetaEffect), m.Metadata.Get(saga.MetaCommand)+m.Metadata.Get(saga.MetaEvent), map[bool]string{true: " (undo)"}[m.Metadata.Get(saga.MetaUndo) == "true"], m.Metadata.Get(saga.MetaOutcome))
}

func acked(m *message.Message) bool {
	select {
	case <-m.Acked():
		return true
	default:
		return false
	}
}

// deliver delivers one of the messages that are due, whichever. It answers false if there is none.
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
	k := due[s.rng.IntN(len(due))]
	m := b.waiting[k]
	if s.does(messageDelayed) {
		m.due = time.Now().Add(time.Duration(s.rng.IntN(10_000)) * time.Millisecond)
		return true
	}
	if !s.does(messageDuplicated) {
		b.waiting = slices.Delete(b.waiting, k, k+1)
	}
	if s.does(brokerAway) {
		b.awayTill = time.Now().Add(time.Duration(s.rng.IntN(20_000)) * time.Millisecond)
	}
	if m.topic != simNews && !s.healed && (time.Now().Before(b.awayTill) || s.does(messageLost)) {
		return true
	}
	b.give(&simMessage{topic: m.topic, msg: m.msg})
	return true
}

func (b *simBroker) give(m *simMessage) {
	s := b.sim
	m.sent = m.msg.Copy()
	switch m.topic {
	case simCommands:
		s.parts[s.rng.IntN(len(s.parts))].take(m)
	case simNews:
		s.world.heard[m.msg.Metadata.Get(saga.MetaInputID)]++
	default:
		p := s.procs[s.rng.IntN(len(s.procs))]
		if p.paused() {
			b.waiting = append(b.waiting, m)
			return
		}
		p.inflight = append(p.inflight, m)
		p.do(func() { p.stepped.Reply(s.ctx, m.topic, m.sent) })
	}
}
