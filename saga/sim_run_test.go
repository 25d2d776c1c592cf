package saga_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/sagamill/sagamill/adapters/memory"
	"github.com/sagamill/sagamill/saga"
)

// sim is one run.
type sim struct {
	plan     simPlan
	ctx      context.Context
	source   *rand.PCG // begun anew with each action
	rng      *rand.Rand
	rest     uint64             // of what was drawn for the last fault
	nth      [kindsOfFaults]int // occasions for faults in this action
	healed   bool               // from here on nothing goes wrong any more
	happened [kindsOfFaults]int
	faults   []occurrence

	offset  time.Duration // of the store's clock
	leapt   time.Time     // when it was last put forward
	store   *memory.Store
	inbox   *memory.Inbox
	locked  bool // a handler is at work in the inbox
	procs   []*simProcess
	parts   []*simParticipant
	broker  *simBroker
	world   *simWorld
	books   *simBooks
	commits *simCommits
	clients []*simInput
	trip    *saga.LinearDefinition[simData]
	order   *saga.Definition[simState, simEvent, simData]

	running    *simProcess // whose local step runs
	actions    int         // the present one
	done       int         // how many were not left out
	violations []string
	trace      []string
	tracing    bool
}

func newSim(ctx context.Context, plan simPlan) *sim {
	s := &sim{plan: plan, ctx: ctx, source: rand.NewPCG(0, 0)}
	s.rng = rand.New(s.source)
	s.next(0)
	s.offset = time.Duration(s.rng.IntN(7200)-3600) * time.Second
	clock := memory.WithClock(func() time.Time { return time.Now().Add(s.offset) })
	s.store, s.inbox = memory.NewStore(clock), memory.NewInbox(clock)
	s.trip, s.order = s.defineTrip(), s.defineOrder()
	s.world, s.books, s.commits = newSimWorld(s), newSimBooks(s), newSimCommits(s.trip, s.order)
	s.broker = &simBroker{sim: s}
	for k := range 2 {
		s.procs = append(s.procs, &simProcess{sim: s, name: fmt.Sprint("orchestrator-", k)})
		s.parts = append(s.parts, newSimParticipant(s, fmt.Sprint("participant-", k)))
	}
	s.addInputs()
	return s
}

// next begins an action, whose draws depend on nothing that was drawn before.
func (s *sim) next(action int) {
	s.actions, s.nth = action, [kindsOfFaults]int{}
	s.source.Seed(s.drawn(uint64(action), 1<<62), s.drawn(uint64(action), 1<<63))
}

func (s *sim) chance(perMille int) bool { return s.rng.IntN(1000) < perMille }

func (s *sim) note(format string, args ...any) {
	if s.tracing {
		s.trace = append(s.trace, fmt.Sprintf("%4d %9s  ", s.actions, time.Since(simEpoch).Round(time.Millisecond))+fmt.Sprintf(format, args...))
	}
}

// violated notes that an invariant of the design, or one of the order saga's own, does not hold.
func (s *sim) violated(invariant, format string, args ...any) {
	text := invariant + ": " + fmt.Sprintf(format, args...)
	s.violations = append(s.violations, text)
	s.note("VIOLATION of %s", text)
}

var simEpoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) // when a synctest bubble begins

// run plays until everything is settled, with faults and then without, and checks what is left.
func (s *sim) run() {
	for n := 1; n <= 400 && len(s.violations) == 0 && !(n > 60 && n%16 == 0 && s.settled()); n++ {
		s.next(n)
		if s.plan.acts == nil || s.plan.acts[n] {
			s.done++
			s.act()
		}
	}
	s.healed = true
	s.note("healed")
	for round := 0; len(s.violations) == 0 && !(s.settled() && len(s.broker.waiting) == 0); round++ {
		if round == 2000 {
			s.violated("I3", "not settled: %s", s.unsettled())
			return
		}
		s.heal()
	}
	if len(s.violations) == 0 {
		s.check()
	}
	if s.plan.wrong != nil && s.plan.wrong(s) {
		s.violated("plan", "it is as the plan says that it must not be")
	}
}

// act does one thing, whichever.
func (s *sim) act() {
	switch n := s.rng.IntN(100); {
	case n < 8:
		s.input()
	case n < 9:
		s.operate()
	case n < 31:
		s.broker.deliver()
	case n < 35:
		s.sleep(time.Duration(s.rng.IntN(100)) * time.Millisecond)
	case n < 39:
		s.sleep(time.Duration(s.rng.IntN(4000)) * time.Millisecond)
	default:
		s.procs[s.rng.IntN(len(s.procs))].act()
	}
	if s.does(clockLeaps) {
		s.leap(time.Duration(s.amount(60_000)-30_000) * time.Millisecond)
	}
}

// leap puts the store's clock forward or back.
func (s *sim) leap(by time.Duration) {
	s.note("by %s", by)
	s.offset += by
	if by > 0 {
		s.leapt = time.Now()
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

// meanwhile lets the others go on while somebody is paused in the middle of what he does.
func (s *sim) meanwhile(who string, busy *bool, most int) {
	*busy = true
	s.sleep(time.Duration(s.amount(3000)) * time.Millisecond)
	for range 2 + s.rng.IntN(most) {
		s.act()
	}
	*busy = false
	s.note("%s goes on", who)
}

// heal lets everything be done that can be.
func (s *sim) heal() {
	for _, p := range s.procs {
		p.pausedTill, p.sweepsFrom = time.Time{}, time.Time{}
	}
	for _, in := range s.clients {
		in.send(s)
	}
	s.exhaust(s.broker.deliver)
	for _, p := range s.procs {
		s.exhaust(p.work)
		p.do(func() { p.stepped.Sweep(s.ctx) })
		s.exhaust(p.work)
	}
	time.Sleep(500 * time.Millisecond)
}

// exhaust does what is to be done until nothing is.
func (s *sim) exhaust(do func() bool) {
	for n := 0; len(s.violations) == 0 && do(); n++ {
		if n == 10_000 {
			s.violated("I3", "there is no end of work: %s", s.unsettled())
		}
	}
}
