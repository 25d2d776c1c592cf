package saga_test

import (
	"math"
	"slices"
	"strings"
	"testing"
)

// shrinkRuns bounds how often a run that fails is tried with less.
const shrinkRuns = 400

// shrinker looks for the least with which a seed still fails as it did.
type shrinker struct {
	run   func(simPlan) *sim
	plan  simPlan
	best  *sim   // the last run that failed
	fails string // the invariant that is broken
	runs  int
}

// shrink finds fewer actions, and fewer faults, with which a plan still breaks the same invariant: delta debugging (A. Zeller,
// R. Hildebrandt: Simplifying and Isolating Failure-Inducing Input, 2002), by leaving out ever smaller parts.
func shrink(plan simPlan, run func(simPlan) *sim) (least simPlan, runs int) {
	x := &shrinker{run: run, plan: plan, best: run(plan), runs: 1}
	if x.fails = x.best.broken(); x.fails == "" {
		return plan, x.runs
	}
	acts := make([]int, x.best.actions)
	for k := range acts {
		acts[k] = k + 1
	}
	cut, _ := slices.BinarySearchFunc(acts, true, func(n int, _ bool) int { // as if what fails after n actions failed after more
		if x.still(simPlan{acts: setOf(acts[:n])}) {
			return 0
		}
		return -1
	})
	acts = acts[:min(cut+1, len(acts))]
	for size := math.MaxInt; len(acts)+len(x.best.faults) < size; {
		size = len(acts) + len(x.best.faults)
		faults := minimal(x.best.faults, func(some []occurrence) bool { return x.still(simPlan{acts: setOf(acts), only: setOf(some)}) })
		acts = minimal(acts, func(some []int) bool { return x.still(simPlan{acts: setOf(some), only: setOf(faults)}) })
	}
	return x.plan, x.runs
}

// still tells whether a part of the plan fails in the same way, and makes it the plan if so.
func (x *shrinker) still(part simPlan) bool {
	if x.runs == shrinkRuns {
		return false
	}
	x.runs++
	part.seed, part.wrong = x.plan.seed, x.plan.wrong
	s := x.run(part)
	if s.broken() != x.fails {
		return false
	}
	x.plan, x.best = part, s
	return true
}

// broken names the invariant that a run breaks first; empty: none.
func (s *sim) broken() string {
	if len(s.violations) == 0 {
		return ""
	}
	invariant, _, _ := strings.Cut(s.violations[0], ":")
	return invariant
}

// minimal leaves out whatever can be: nothing more of what remains can be left out alone.
func minimal[T any](items []T, fails func([]T) bool) []T {
	for size := len(items); size > 0; size /= 2 {
		for from := 0; from < len(items); {
			if less := slices.Delete(slices.Clone(items), from, min(from+size, len(items))); fails(less) {
				items = less
			} else {
				from += size
			}
		}
	}
	return items
}

func setOf[T comparable](items []T) map[T]bool {
	set := make(map[T]bool, len(items))
	for _, x := range items {
		set[x] = true
	}
	return set
}

// What makes a seed fail is found among all that went wrong.
func TestShrinkFindsTheFewestFaults(t *testing.T) {
	tried := 0
	for seed := uint64(1); tried < 2; seed++ {
		plan := simPlan{seed: seed, wrong: func(s *sim) bool { return s.happened[crashAfterCommit] > 0 && s.happened[messageLost] > 1 }}
		whole := simulate(t, plan, false)
		if whole.broken() != "plan" {
			continue
		}
		tried++
		least, runs := shrink(plan, func(p simPlan) *sim { return simulate(t, p, false) })
		s := simulate(t, least, true)
		if len(s.faults) < 3 || len(s.faults) > len(whole.faults)/3 || s.broken() != "plan" || runs > shrinkRuns {
			t.Fatalf("seed %d: %v in %d actions after %d runs: %s", seed, s.faults, s.done, runs, s.violations)
		}
		t.Logf("seed %d: %d of %d faults in %d actions, after %d runs", seed, len(s.faults), len(whole.faults), s.done, runs)
	}
}
