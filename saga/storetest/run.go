package storetest

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sagamill/sagamill/saga"
)

// run is one check of one rule.
type run struct {
	tb     testing.TB
	rule   Rule
	h      Harness
	store  saga.Store
	prefix string        // of all names, since other tests may use the same database
	tick   time.Duration // the unit of time: small against it is no time at all
	slack  time.Duration // how exactly times can be compared
}

func newRun(tb testing.TB, rule Rule, h Harness) *run {
	x := &run{tb: tb, rule: rule, h: h, store: h.Store, tick: time.Minute, slack: time.Microsecond}
	if h.Advance == nil {
		x.tick = cmp.Or(h.Tick, 400*time.Millisecond)
		x.slack = x.tick / 2
	}
	x.prefix = fmt.Sprintf("t%016x-", rand.Uint64())
	return x
}

// fail explains what was seen, and which rule it breaks.
func (x *run) fail(format string, args ...any) {
	x.tb.Helper()
	x.tb.Fatalf("%s\nThe rule: %s", fmt.Sprintf(format, args...), x.rule.Text)
}

func (x *run) ok(what string, err error) {
	x.tb.Helper()
	if err != nil {
		x.fail("%s: unexpected error: %v", what, err)
	}
}

func (x *run) ctx() context.Context { return x.tb.Context() }

// id returns an identifier that no other test uses; those of one run sort like their names.
func (x *run) id(name string) string { return x.prefix + name }

// pass lets n ticks go by in the store's time.
func (x *run) pass(n float64) {
	d := time.Duration(n * float64(x.tick))
	if x.h.Advance != nil {
		x.h.Advance(d)
		return
	}
	time.Sleep(d)
}

// ticks is n units of time.
func (x *run) ticks(n float64) time.Duration { return time.Duration(n * float64(x.tick)) }

// definition is the definition of all instances that a test does not give another one.
func (x *run) definition() string { return x.id("definition") }

// create returns the first transition of a new instance, without inputs or a wake-up time.
func (x *run) create(name string, change ...func(*saga.Transition)) saga.Transition {
	t := saga.Transition{
		ID: x.id(name), State: "new", Engine: []byte(`{"engine":"` + name + `"}`), Data: []byte("data of " + name), Wake: -1,
		Start: &saga.Start{Definition: x.definition(), Version: 1, Key: x.id("key-" + name), Fingerprint: []byte("print of " + name)},
	}
	return x.finish(t, change)
}

// next returns a transition of an existing instance that brings no data and no wake-up time.
func (x *run) next(name string, expect uint64, change ...func(*saga.Transition)) saga.Transition {
	t := saga.Transition{
		ID: x.id(name), Expect: expect, State: fmt.Sprintf("state %d", expect+1), Wake: -1,
		Engine: fmt.Appendf(nil, `{"engine":"%s %d"}`, name, expect+1),
	}
	return x.finish(t, change)
}

func (x *run) finish(t saga.Transition, change []func(*saga.Transition)) saga.Transition {
	for _, c := range change {
		c(&t)
	}
	if t.History == nil {
		inputs()(&t)
	}
	return t
}

// inputs gives a transition a history record for each input, or one without an input.
func inputs(ids ...string) func(*saga.Transition) {
	if len(ids) == 0 {
		ids = []string{""}
	}
	return func(t *saga.Transition) {
		t.History = nil
		for i, id := range ids {
			revision := t.Expect + uint64(i) + 1
			t.History = append(t.History, saga.HistoryRecord{
				Revision: revision, Input: id, Entry: entry(t.ID, revision),
			})
		}
	}
}

func entry(id string, revision uint64) []byte {
	return fmt.Appendf(nil, "entry %d of %s", revision, id)
}

func wake(d time.Duration) func(*saga.Transition)  { return func(t *saga.Transition) { t.Wake = d } }
func lease(d time.Duration) func(*saga.Transition) { return func(t *saga.Transition) { t.Lease = d } }
func settled(t *saga.Transition)                   { t.Settled = true }
func data(b []byte) func(*saga.Transition)         { return func(t *saga.Transition) { t.Data = b } }
func state(s string) func(*saga.Transition)        { return func(t *saga.Transition) { t.State = s } }
func attention(s string) func(*saga.Transition)    { return func(t *saga.Transition) { t.Attention = s } }
func key(k string) func(*saga.Transition)          { return func(t *saga.Transition) { t.Start.Key = k } }
func version(v int) func(*saga.Transition)         { return func(t *saga.Transition) { t.Start.Version = v } }
func of(definition string) func(*saga.Transition) {
	return func(t *saga.Transition) { t.Start.Definition = definition }
}

// commit commits a batch, sorted as the contract wants it, and returns its verdicts.
func (x *run) commit(transitions ...saga.Transition) []saga.Verdict {
	x.tb.Helper()
	if !slices.IsSortedFunc(transitions, func(a, b saga.Transition) int { return cmp.Compare(a.ID, b.ID) }) {
		x.tb.Fatal("storetest: the batch is not sorted")
	}
	verdicts, err := x.store.Commit(x.ctx(), transitions)
	x.ok("Commit", err)
	if len(verdicts) != len(transitions) {
		x.fail("Commit of %d transitions answers %d verdicts", len(transitions), len(verdicts))
	}
	return verdicts
}

// mustCommit commits transitions that nothing stands against, and returns the time.
func (x *run) mustCommit(transitions ...saga.Transition) time.Time {
	x.tb.Helper()
	verdicts := x.commit(transitions...)
	for i, v := range verdicts {
		x.want(v, saga.Committed, "transition of %s from revision %d", transitions[i].ID, transitions[i].Expect)
	}
	return verdicts[len(verdicts)-1].At
}

func (x *run) want(v saga.Verdict, outcome saga.Outcome, what string, args ...any) {
	x.tb.Helper()
	if v.Outcome != outcome {
		x.fail("%s: the verdict is %v (error: %v), want %v", fmt.Sprintf(what, args...), v.Outcome, v.Err, outcome)
	}
}

// load returns the record of an instance that has to exist.
func (x *run) load(name string) saga.Record {
	x.tb.Helper()
	records, err := x.store.Load(x.ctx(), x.id(name))
	x.ok("Load", err)
	if len(records) != 1 || records[0].ID != x.id(name) {
		x.fail("Load of %s answers %d records", x.id(name), len(records))
	}
	return records[0]
}

func (x *run) missing(name string) {
	x.tb.Helper()
	records, err := x.store.Load(x.ctx(), x.id(name))
	x.ok("Load", err)
	if len(records) != 0 {
		x.fail("%s should not exist, Load answers %+v", x.id(name), records[0])
	}
	if h := x.history(name); len(h) != 0 {
		x.fail("%s should not exist, but has %d history records", x.id(name), len(h))
	}
}

func (x *run) history(name string) []saga.HistoryRecord {
	x.tb.Helper()
	records, err := x.store.History(x.ctx(), x.id(name), 0, 10_000)
	x.ok("History", err)
	return records
}

// unchanged checks that an instance is what it was before, history included.
func (x *run) unchanged(name string, before saga.Record, history []saga.HistoryRecord, why string) {
	x.tb.Helper()
	x.same(x.load(name), before, why+" changed the instance")
	if diff := gocmp.Diff(history, x.history(name), equal...); diff != "" {
		x.fail("%s changed the history (-before +after):\n%s", why, diff)
	}
}

var equal = []gocmp.Option{cmpopts.EquateEmpty(), cmpopts.EquateApproxTime(0)}

// same compares records, but not the time at which they were read.
func (x *run) same(got, want saga.Record, what string) {
	x.tb.Helper()
	got.ReadAt, want.ReadAt = time.Time{}, time.Time{}
	if diff := gocmp.Diff(want, got, equal...); diff != "" {
		x.fail("%s (-want +got):\n%s", what, diff)
	}
}

// at checks that a time is (nearly, if the store's clock cannot be stopped) the given one; both in store time.
func (x *run) at(what string, got, want time.Time) {
	x.tb.Helper()
	if want.IsZero() != got.IsZero() || got.Sub(want).Abs() > x.slack {
		x.fail("%s is %v, want %v", what, got, want)
	}
}

// claim claims up to limit instances of the test's definition.
func (x *run) claim(limit int, hold time.Duration, versions ...saga.DefinitionVersion) ([]string, time.Duration) {
	x.tb.Helper()
	if len(versions) == 0 {
		versions = []saga.DefinitionVersion{{Name: x.definition(), Version: 1}}
	}
	records, next, err := x.store.Claim(x.ctx(), saga.Claim{Definitions: versions, Limit: limit, Hold: hold})
	x.ok("Claim", err)
	return x.names(records), next
}

// names returns the names that the test gave to the records' instances.
func (x *run) names(records []saga.Record) []string {
	names := []string{}
	for _, r := range records {
		names = append(names, r.ID[min(len(x.prefix), len(r.ID)):])
	}
	return names
}

func (x *run) equal(what string, got, want any) {
	x.tb.Helper()
	if diff := gocmp.Diff(want, got, equal...); diff != "" {
		x.fail("%s (-want +got):\n%s", what, diff)
	}
}

func (x *run) skipUnless(condition bool, why string) {
	x.tb.Helper()
	if !condition {
		x.tb.Skip(why)
	}
}
