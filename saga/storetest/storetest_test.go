package storetest_test

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/memory"
	"github.com/sagamill/sagamill/internal/leaktest"
	"github.com/sagamill/sagamill/saga"
	"github.com/sagamill/sagamill/saga/storetest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

const maxBytes = 2 << 20

// harness gives the suite a memory store, seen through wrap.
func harness(wrap func(*memory.Store, *storetest.Clock) saga.Store) storetest.Harness {
	clock := storetest.NewClock()
	return storetest.Harness{
		Store:   wrap(memory.NewStore(memory.WithClock(clock.Now), memory.WithMaxBytes(maxBytes)), clock),
		Advance: clock.Advance,
		Reject:  func(t *saga.Transition) { t.Engine = bytes.Repeat([]byte("x"), maxBytes+1) },
	}
}

// recorder stands in for the test, and keeps what a check reports.
type recorder struct {
	testing.TB
	failure string
}

func (r *recorder) Helper() {}

func (r *recorder) Fatalf(format string, args ...any) {
	r.failure = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func (r *recorder) Fatal(args ...any) { r.Fatalf("%s", fmt.Sprint(args...)) }
func (r *recorder) Skip(...any)       { runtime.Goexit() }

// broken runs all rules against a store and returns the failures by the rule's name.
func broken(t *testing.T, open func() storetest.Harness) map[string]string {
	failures := map[string]string{}
	for _, rule := range storetest.Rules() {
		tb := &recorder{TB: t}
		var done sync.WaitGroup
		done.Go(func() { rule.Check(tb, open()) })
		done.Wait()
		if tb.failure != "" {
			require.Contains(t, tb.failure, rule.Text, "a failure explains the rule")
			failures[rule.Name] = tb.failure
		}
	}
	return failures
}

// Each fault, planted in a store that is right otherwise, has to be caught by the rules that it breaks.
func TestSuiteCatchesFaults(t *testing.T) {
	t.Parallel()
	for _, fault := range faults {
		t.Run(fault.name, func(t *testing.T) {
			t.Parallel()
			failures := broken(t, func() storetest.Harness {
				return harness(func(s *memory.Store, clock *storetest.Clock) saga.Store { return fault.plant(s, clock) })
			})
			for _, name := range fault.breaks {
				require.Contains(t, failures, name)
			}
		})
	}
}

func TestSuitePassesWithoutFault(t *testing.T) {
	t.Parallel()
	failures := broken(t, func() storetest.Harness {
		return harness(func(s *memory.Store, _ *storetest.Clock) saga.Store { return s })
	})
	require.Empty(t, failures)
}

func TestRuleNames(t *testing.T) {
	t.Parallel()
	var names []string
	for _, rule := range storetest.Rules() {
		require.NotEmpty(t, rule.Text, rule.Name)
		require.Equal(t, 1, strings.Count(rule.Name, "/"), rule.Name)
		names = append(names, rule.Name)
	}
	slices.Sort(names)
	require.Equal(t, names, slices.Compact(slices.Clone(names)), "names are unique")
}

var faults = []struct {
	name   string
	plant  func(*memory.Store, *storetest.Clock) saga.Store
	breaks []string
}{
	{"compare-and-set lost", beforeCommit(func(s *memory.Store, t *saga.Transition) {
		if r, ok := load(s, t.ID); ok {
			rebase(t, r.Revision)
		}
	}), []string{"compare-and-set/stale", "compare-and-set/ahead", "compare-and-set/existing instance", "concurrency/one instance"}},

	{"duplicate check dropped", beforeCommit(func(_ *memory.Store, t *saga.Transition) {
		for i := range t.History {
			t.History[i].Input = ""
		}
	}), []string{"inputs/once", "inputs/one among several", "inputs/at start", "inputs/ever", "inputs/twice in one transition", "concurrency/one input"}},

	{"consumed inputs dropped from the transition", beforeCommit(func(s *memory.Store, t *saga.Transition) {
		history, _ := s.History(context.Background(), t.ID, 0, 1000)
		for i := range t.History {
			same := func(h saga.HistoryRecord) bool { return h.Input != "" && h.Input == t.History[i].Input }
			if slices.ContainsFunc(history, same) {
				t.History[i].Input = ""
			}
		}
	}), []string{"inputs/once", "inputs/one among several", "batch/neighbours"}},

	{"gap in the history", func(s *memory.Store, _ *storetest.Clock) saga.Store { return gappy{s} },
		[]string{"commit/history", "batch/many", "read/history pages", "concurrency/one instance"}},

	{"wake-up moved later", func(s *memory.Store, _ *storetest.Clock) saga.Store { return wakeMover{s} },
		[]string{"wake-up/never moved later"}},

	{"negative wake clears", func(s *memory.Store, _ *storetest.Clock) saga.Store { return wakeClearer{s} },
		[]string{"wake-up/no change"}},

	{"claim without hold", func(s *memory.Store, _ *storetest.Clock) saga.Store { return holdless{s} },
		[]string{"claim/hold", "claim/next due", "claim/order and limit", "concurrency/claims"}},

	{"claim of all versions", func(s *memory.Store, _ *storetest.Clock) saga.Store { return anyVersion{s} },
		[]string{"claim/definitions"}},

	{"verdicts in the wrong order", func(s *memory.Store, _ *storetest.Clock) saga.Store { return reversed{s} },
		[]string{"batch/order of verdicts", "batch/neighbours"}},

	{"one conflict fails the batch", func(s *memory.Store, _ *storetest.Clock) saga.Store { return allOrNothing{s} },
		[]string{"batch/order of verdicts", "batch/neighbours"}},

	{"a rejected row is an error", func(s *memory.Store, _ *storetest.Clock) saga.Store { return rejecting{s} },
		[]string{"batch/rejected", "batch/only rejected"}},

	{"start key freed by time alone", func(s *memory.Store, clock *storetest.Clock) saga.Store {
		return &timedKeys{Store: s, clock: clock, till: map[string]time.Time{}}
	}, []string{"start key/kept while unsettled"}},

	{"start key forgotten", beforeCommit(func(_ *memory.Store, t *saga.Transition) {
		if t.Start != nil {
			t.Start.StartKey = nil
		}
	}), []string{"start key/unique", "start key/in one batch", "start key/freed", "concurrency/one start key"}},

	{"business key forgotten", beforeCommit(func(_ *memory.Store, t *saga.Transition) {
		if t.Start != nil {
			t.Start.Key = t.ID
		}
	}), []string{"business key/unique", "business key/in one batch", "business key/lookup", "concurrency/one business key"}},

	{"empty data ignored", beforeCommit(func(_ *memory.Store, t *saga.Transition) {
		if len(t.Data) == 0 {
			t.Data = nil
		}
	}), []string{"commit/empty data"}},

	{"nil data stored", beforeCommit(func(_ *memory.Store, t *saga.Transition) {
		if t.Data == nil {
			t.Data = []byte{}
		}
	}), []string{"commit/nil data"}},

	{"touch at any revision", func(s *memory.Store, _ *storetest.Clock) saga.Store { return toucher{s} },
		[]string{"touch/revision"}},

	{"bytes given out that are kept", func(s *memory.Store, _ *storetest.Clock) saga.Store { return &aliasing{Store: s} },
		[]string{"bytes/out"}},

	{"bytes kept that were given", func(s *memory.Store, _ *storetest.Clock) saga.Store { return &hoarding{Store: s} },
		[]string{"bytes/in"}},

	{"dead letters removed whatever their IDs", unburying(func(u *saga.Unburial) { u.IDs = nil }), []string{"dead letters/removed"}},
	{"dead letters removed whatever their age", unburying(func(u *saga.Unburial) { u.OlderThan = 0 }), []string{"dead letters/removed by age"}},
	{"dead letters removed whatever their topic", unburying(func(u *saga.Unburial) { u.Topic = "" }), []string{"dead letters/removed by age"}},
	{"dead letters removed without limit", unburying(func(u *saga.Unburial) { u.Limit = 0 }), []string{"dead letters/removed by age"}},
}
