package saga_test

import (
	"flag"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// The simulation of a whole system: two orchestrators that both believe they own everything, two processes of a participant
// behind one inbox, a store, a broker, a client, an operator. One goroutine decides by a seed what happens next, and what goes
// wrong. What runs is the code that ships: lanes, runner, publisher, sweeper, decide, ledger, participant, inbox. Time is
// virtual (the simulation lives in a synctest bubble), and the store's clock is up to an hour off, and leaps.
//
//	sim_run_test.go          a run: what is done in which order
//	sim_fault_test.go        what goes wrong, how often, and how one occurrence is told from another
//	sim_process_test.go      orchestrators, and the store as each of them sees it
//	sim_participant_test.go  participants and their inbox
//	sim_broker_test.go       messages
//	sim_client_test.go       inputs from outside, and an operator
//	sim_trip_test.go         a linear saga of local steps and commands
//	sim_order_test.go        the order saga, with stock and money that add up
//	sim_world_test.go        effects, and what must hold whenever there is one
//	sim_check_test.go        what must hold with each commit, and in the end
//	sim_shrink_test.go       the fewest faults with which a seed fails

var (
	simSeeds = flag.Int("sim.seeds", 1000, "how many seeds TestSimulation runs")
	simFrom  = flag.Uint64("sim.from", 1, "the first of them")
	simSeed  = flag.Uint64("sim.seed", 0, "the one seed that TestSimulation runs, with its trace")
)

// simulate runs a seed in a bubble of its own.
func simulate(t *testing.T, plan simPlan, tracing bool) (s *sim) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		defer func() {
			if r := recover(); r != nil {
				panic(fmt.Sprintf("seed %d: %v", plan.seed, r))
			}
		}()
		s = newSim(t.Context(), plan)
		s.tracing = tracing
		s.run()
	})
	return s
}

// TestSimulation runs whole systems, each by a seed. A seed that fails is printed with the fewest faults that make it fail:
//
//	go test ./saga -run TestSimulation -sim.seed 42
//	go test ./saga -run TestSimulation -sim.seeds 1000000
func TestSimulation(t *testing.T) {
	if *simSeed != 0 {
		if s := simulate(t, simPlan{seed: *simSeed}, true); len(s.violations) > 0 {
			t.Fatal(explain(t, *simSeed))
		} else {
			t.Logf("\n%s", strings.Join(s.trace, "\n"))
		}
		return
	}
	defer debug.SetGCPercent(debug.SetGCPercent(1000)) // the heap is small, and collecting it would take half of the time
	all := &seeds{began: time.Now(), told: time.Now()}
	t.Run("all", func(t *testing.T) {
		for n := range runtime.GOMAXPROCS(0) {
			t.Run(fmt.Sprint("core-", n+1), func(t *testing.T) {
				t.Parallel()
				for seed, more := all.next(t); more; seed, more = all.next(t) {
					all.add(seed, simulate(t, simPlan{seed: seed}, false))
				}
			})
		}
	})
	if all.failed {
		t.Fatal(explain(t, all.failing))
	}
	t.Logf("%d seeds, %d actions, %.0f seeds/s", all.ended, all.actions, all.perSecond())
	for f, n := range all.happened {
		t.Logf("%6d  %s", n, simFault(f))
		if n == 0 && *simSeeds >= 1000 {
			t.Errorf("I7: the fault %q never happened", simFault(f))
		}
	}
}

// seeds are those of a TestSimulation, which runs them in order, some at one time.
type seeds struct {
	began time.Time

	mu       sync.Mutex
	taken    int
	ended    int
	told     time.Time // when it was last said how far they are
	failed   bool
	failing  uint64 // the first one that does
	actions  int
	happened [kindsOfFaults]int
}

// next takes a seed. Once one has failed there are no more: those before it have been taken.
func (s *seeds) next(t *testing.T) (seed uint64, more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed || s.taken >= *simSeeds {
		return 0, false
	}
	if time.Since(s.told) > time.Minute {
		s.told = time.Now()
		t.Logf("%d of %d seeds, %.0f seeds/s", s.ended, *simSeeds, s.perSecond())
	}
	s.taken++
	return *simFrom + uint64(s.taken-1), true
}

func (s *seeds) add(seed uint64, run *sim) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended++
	s.actions += run.actions
	for f, n := range run.happened {
		s.happened[f] += n
	}
	if len(run.violations) > 0 && (!s.failed || seed < s.failing) {
		s.failed, s.failing = true, seed
	}
}

func (s *seeds) perSecond() float64 { return float64(s.ended) / time.Since(s.began).Seconds() }

// explain tells why a seed fails: by how little of what went wrong, and how.
func explain(t *testing.T, seed uint64) string {
	t.Helper()
	plan, runs := shrink(simPlan{seed: seed}, func(p simPlan) *sim { return simulate(t, p, false) })
	s := simulate(t, plan, true)
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d does not hold under %d faults in %d actions, the fewest found in %d runs (I7):\n", seed, len(s.faults), s.done, runs)
	for _, o := range s.faults {
		fmt.Fprintf(&b, "  action %3d: %s\n", o.action, o.fault)
	}
	for _, v := range s.violations {
		fmt.Fprintf(&b, "%s\n", v)
	}
	trace := s.trace[max(0, len(s.trace)-300):]
	fmt.Fprintf(&b, "\naction    time\n%s", strings.Join(trace, "\n"))
	return b.String()
}

// A seed says everything: the same one gives the same run.
func TestSimulationIsDeterministic(t *testing.T) {
	for seed := uint64(1); seed <= 20; seed++ {
		a, b := simulate(t, simPlan{seed: seed}, true), simulate(t, simPlan{seed: seed}, true)
		if x, y := strings.Join(a.trace, "\n"), strings.Join(b.trace, "\n"); x != y {
			t.Fatalf("seed %d gives two runs", seed)
		}
	}
}
