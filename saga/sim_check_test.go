package saga_test

import (
	"flag"
	"fmt"
	"math/bits"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sagamill/sagamill/compensation"
	"github.com/sagamill/sagamill/saga"
)

// What must hold: continuously, and in the end.

var (
	simSeeds = flag.Int("sim.seeds", 1000, "how many seeds TestSimulation runs")
	simFrom  = flag.Uint64("sim.from", 1, "the first of them")
	simSeed  = flag.Uint64("sim.seed", 0, "the one seed that TestSimulation runs, with its trace")
)

// committed checks each transition: revisions go up by one for each record, a history is a path.
func (s *sim) committed(p *simProcess, t *saga.Transition, v saga.Verdict) {
	if v.Outcome != saga.Committed {
		s.note("%s: %s of %s from %d", p.name, v.Outcome, t.ID, t.Expect)
		return
	}
	for k, h := range t.History {
		if h.Revision != t.Expect+uint64(k)+1 {
			s.violated("I6: %s goes from revision %d to %d", t.ID, t.Expect, h.Revision)
		}
		if e, err := saga.DecodeEntry(h); err == nil {
			s.note("%s: %s @%d %s %s %s %s %v", p.name, t.ID, h.Revision, e.Kind, e.Event+e.Step, e.Outcome, e.Result, e.Moves)
		}
	}
}

// settled tells whether every input is recorded and every saga has come to an end.
func (s *sim) settled() bool {
	for _, in := range s.clients {
		if !in.recorded {
			return false
		}
	}
	open, err := s.store.List(s.ctx, saga.Query{Unsettled: true, Limit: 1})
	return err == nil && len(open) == 0
}

// unsettled says why not.
func (s *sim) unsettled() string {
	for _, in := range s.clients {
		if !in.recorded {
			return fmt.Sprintf("%s of %s is not recorded", in.event, in.key)
		}
	}
	for _, r := range s.records() {
		if i, _ := saga.ReadInstance(r); !r.Settled {
			return fmt.Sprintf("%s is %s: %v, timers %v, waiting %v, %s", r.ID, r.State, statuses(i), i.Timers, i.Waiting, r.Attention)
		}
	}
	return fmt.Sprintf("%d messages are on their way", len(s.broker.waiting))
}

func (s *sim) records() []saga.Record {
	records, err := s.store.List(s.ctx, saga.Query{Limit: 1000})
	if err != nil {
		panic(err)
	}
	return records
}

// check looks at what is left when all is settled.
func (s *sim) check() {
	keys := map[string]bool{}
	for _, r := range s.records() {
		i, err := saga.ReadInstance(r)
		if err != nil {
			s.violated("%s cannot be read: %v", r.ID, err)
			continue
		}
		if left := saga.Leftover(r); left != "" {
			s.violated("I6: %s is settled in %s and holds %s", r.ID, r.State, left)
		}
		s.checkHistory(i)
		failed := i.State == "failed" || i.State == "cancelled" || i.State == "FAILED" || i.State == "CANCELLED"
		for _, e := range i.Steps {
			key := fmt.Sprintf("%s/%s/%d", i.ID, e.Step, e.Run)
			if e.Key != "" {
				key = i.Definition + "/" + e.Step + "/" + e.Key
			}
			keys[key] = true
			s.checkEffect(i, e, key, failed)
		}
		s.checkOrder(i)
	}
	for key := range s.world.applied {
		if !keys[key] {
			s.violated("I1: the effect %s is in no ledger", key)
		}
	}
	letters, err := s.store.DeadLetters(s.ctx, "", 10)
	if err != nil || len(letters) > 0 {
		s.violated("I3: dead letters %v, error %v", letters, err)
	}
}

// checkEffect compares the ledger with the world.
func (s *sim) checkEffect(i saga.Instance, e compensation.Entry, key string, failed bool) {
	applied, undone := s.world.applied[key], s.world.undone[key]
	if applied > 1 || undone > 1 {
		s.violated("I5: %s was applied %d and undone %d times", key, applied, undone)
	}
	if strings.HasPrefix(e.Step, "tell") {
		if s.world.heard[key] == 0 {
			s.violated("I2: nobody heard of %s", key)
		}
		return
	}
	switch e.Status {
	case compensation.Succeeded:
		if applied != 1 || undone != 0 {
			s.violated("I2: %s succeeded; it was applied %d and undone %d times", key, applied, undone)
		}
		told := e.Class == compensation.Pivot && e.Condemned && i.Attention != "" // a person is asked to undo it
		if failed && (e.Undoable || e.Class == compensation.Pivot) && !told {
			s.violated("I4: %s ended in %s, but %s stays", i.ID, i.State, key)
		}
	case compensation.Undone:
		if applied == 1 && undone != 1 {
			s.violated("I4: %s is said to be undone; it was applied %d and undone %d times", key, applied, undone)
		}
	case compensation.Rejected:
		if applied != 0 {
			s.violated("I5: %s was rejected, and applied", key)
		}
	case compensation.Skipped:
		if undone > applied { // what became of it nobody need have heard: the operator took that upon himself
			s.violated("I4: %s was skipped; it was applied %d and undone %d times", key, applied, undone)
		}
	default:
		s.violated("I6: %s is settled, and %s is %s", i.ID, key, e.Status)
	}
}

// checkOrder: what is undone is undone in reverse order of start.
func (s *sim) checkOrder(i saga.Instance) {
	at := map[string]int{}
	for k, key := range s.world.undos {
		at[key] = k + 1
	}
	for _, e := range i.Steps {
		for _, later := range i.Steps {
			x, y := at[fmt.Sprintf("%s/%s/%d", i.ID, e.Step, e.Run)], at[fmt.Sprintf("%s/%s/%d", i.ID, later.Step, later.Run)]
			if x > 0 && y > 0 && e.Order < later.Order && x < y && s.happened[stepSkipped] == 0 {
				s.violated("I4: %s undoes %s before %s, which was started after it", i.ID, e.Step, later.Step)
			}
		}
	}
}

// checkHistory: no gap, a path from state to state, each input once and with an end.
func (s *sim) checkHistory(i saga.Instance) {
	records, err := s.store.History(s.ctx, i.ID, 0, 100_000)
	if err != nil || uint64(len(records)) != i.Revision {
		s.violated("I6: %s is at revision %d and has %d records (%v)", i.ID, i.Revision, len(records), err)
		return
	}
	at, inputs, ended := "", map[string]int{}, map[string]bool{}
	for k, h := range records {
		e, err := saga.DecodeEntry(h)
		if err != nil || h.Revision != uint64(k)+1 {
			s.violated("I6: %s has record %d of revision %d (%v)", i.ID, k+1, h.Revision, err)
			return
		}
		for _, m := range e.Moves {
			if at != "" && m.From != at {
				s.violated("I6: %s moves from %s, but was in %s", i.ID, m.From, at)
			}
			at = m.To
		}
		if e.Kind == "event" {
			inputs[e.InputID]++
			ended[e.InputID] = e.Result != saga.Waits && e.Result != saga.Interrupts && e.Result != saga.Buffered
		}
		for _, j := range e.Judged {
			ended[j.InputID] = true
		}
	}
	if at != "" && at != i.State {
		s.violated("I6: %s is in %s, but its history leads to %s", i.ID, i.State, at)
	}
	for _, in := range s.clients {
		if in.start || in.key != i.Key {
			continue
		}
		if inputs[in.id] != 1 || !ended[in.id] {
			s.violated("I3: %s of %s is recorded %d times, and has come to an end: %t", in.event, in.key, inputs[in.id], ended[in.id])
		}
	}
}

var simEpoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) // when a synctest bubble begins

const allFaults = uint64(1)<<kindsOfFaults - 1

// simulate runs a seed in a bubble of its own.
func simulate(t *testing.T, seed, allowed uint64, tracing bool) (s *sim) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s = newSim(t.Context(), seed, allowed)
		s.tracing = tracing
		s.run()
	})
	return s
}

// shrink looks for the fewest kinds of faults with which the seed still fails.
func shrink(t *testing.T, seed uint64) uint64 {
	allowed := allFaults
	for f := range kindsOfFaults {
		if without := allowed &^ (1 << f); len(simulate(t, seed, without, false).violations) > 0 {
			allowed = without
		}
	}
	return allowed
}

// TestSimulation runs whole systems, each by a seed. A seed that fails is printed with the fewest faults that make it fail:
//
//	go test ./saga -run TestSimulation -sim.seed 42
//	go test ./saga -run TestSimulation -sim.seeds 1000000
func TestSimulation(t *testing.T) {
	if *simSeed != 0 {
		s := simulate(t, *simSeed, shrink(t, *simSeed), true)
		t.Logf("\n%s", strings.Join(s.trace, "\n"))
		for _, v := range s.violations {
			t.Error(v)
		}
		return
	}
	var happened [kindsOfFaults]int
	actions := 0
	began := time.Now()
	for seed := *simFrom; seed < *simFrom+uint64(*simSeeds); seed++ {
		s := simulate(t, seed, allFaults, false)
		actions += s.actions
		for f, n := range s.happened {
			happened[f] += n
		}
		if len(s.violations) > 0 {
			allowed := shrink(t, seed)
			again := simulate(t, seed, allowed, true)
			tail := again.trace[max(0, len(again.trace)-60):]
			t.Fatalf("seed %d, with %d kinds of faults: %s\n%s", seed, bits.OnesCount64(allowed), strings.Join(again.violations, "\n"), strings.Join(tail, "\n"))
		}
	}
	took := time.Since(began)
	t.Logf("%d seeds, %d actions, %.0f seeds/s", *simSeeds, actions, float64(*simSeeds)/took.Seconds())
	for f, n := range happened {
		t.Logf("%6d  %s", n, faultNames[f])
		if n == 0 && *simSeeds >= 1000 {
			t.Errorf("the fault %q never happened", faultNames[f])
		}
	}
}

// A seed says everything: the same one gives the same run.
func TestSimulationIsDeterministic(t *testing.T) {
	for seed := uint64(1); seed <= 20; seed++ {
		a, b := simulate(t, seed, allFaults, true), simulate(t, seed, allFaults, true)
		if x, y := strings.Join(a.trace, "\n"), strings.Join(b.trace, "\n"); x != y {
			t.Fatalf("seed %d gives two runs", seed)
		}
	}
}
