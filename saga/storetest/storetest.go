// Package storetest is the conformance suite of [saga.Store]. A store that passes it keeps the promises that the engine is
// built upon:
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, func(t testing.TB) storetest.Harness {
//			clock := storetest.NewClock()
//			return storetest.Harness{Store: mystore.New(clock.Now), Advance: clock.Advance}
//		})
//	}
//
// Each sub-test checks one rule, and says which when it fails.
package storetest

import (
	"sync"
	"testing"
	"time"

	"github.com/sagamill/sagamill/saga"
)

// Harness is a store to test, and what the suite may do to it.
type Harness struct {
	// Store need not be empty: the suite uses names of its own, so that all tests may share one database.
	Store saga.Store

	// Advance moves the store's clock forward; nobody else does. If it is nil, the store has a clock of its own, which runs:
	// then the suite uses short times, and waits for them.
	Advance func(time.Duration)

	// Tick is the unit of these times, in which the store has to have done a handful of things. Zero: 400 ms. Stores whose
	// clock is moved need none.
	Tick time.Duration

	// Reject makes t one that the database refuses, for example by a value that is too large. Nil: such tests are skipped.
	Reject func(t *saga.Transition)

	// Reopen gives up Store, as a process that dies does, and returns one that a new process would have. Nil: the store
	// does not outlive its process.
	Reopen func() saga.Store
}

// Run checks that the stores which open returns, a new one for each sub-test, follow the rules of [saga.Store]. The
// sub-tests run in parallel; what a store needs to be closed goes into tb.Cleanup.
func Run(t *testing.T, open func(tb testing.TB) Harness) {
	for _, rule := range Rules() {
		t.Run(rule.Name, func(t *testing.T) {
			t.Parallel()
			rule.Check(t, open(t))
		})
	}
}

// A Rule is one thing that a store has to do.
type Rule struct {
	Name string // the name of the sub-test: group/case
	Text string // what the rule demands

	check func(x *run)
}

// Rules returns all rules, for those who want to run them one by one.
func Rules() []Rule {
	var all []Rule
	for _, group := range []struct {
		name  string
		rules []Rule
	}{
		{"commit", commitRules},
		{"compare-and-set", conflictRules},
		{"inputs", inputRules},
		{"batch", batchRules},
		{"business key", keyRules},
		{"start key", startKeyRules},
		{"wake-up", wakeRules},
		{"claim", claimRules},
		{"touch", touchRules},
		{"read", readRules},
		{"delete", deleteRules},
		{"shapes", shapeRules},
		{"dead letters", letterRules},
		{"concurrency", concurrencyRules},
		{"bytes", bytesRules},
	} {
		for _, rule := range group.rules {
			rule.Name = group.name + "/" + rule.Name
			all = append(all, rule)
		}
	}
	return all
}

// Check reports to tb where the harness's store breaks the rule.
func (r Rule) Check(tb testing.TB, h Harness) {
	r.check(newRun(tb, r, h))
}

// Clock is a clock that stands still until it is moved, for stores whose time can be given from outside.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// NewClock returns a clock that shows some time in 2030.
func NewClock() *Clock {
	return &Clock{now: time.Date(2030, 3, 4, 5, 6, 7, 123456789, time.UTC)}
}

// Now returns what the clock shows.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Advance moves the clock forward.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}
