package saga_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sagamill/sagamill/compensation"
	"github.com/sagamill/sagamill/saga"
	"github.com/sagamill/sagamill/saga/internal/stepped"
)

// What must hold. A violation names the invariant:
//
//	I1  a transition commits once: revisions follow one another, an input is consumed once (committed), a result is folded once
//	    (checkData); nothing is published or run before (publishes, begun), and nothing runs that no ledger has (check)
//	I2  what was committed happens: a step that succeeded took effect (checkEffect), events are heard (checkEffect)
//	I3  every saga comes to its end (run), every start has its instance (check), every input is recorded once and judged
//	    (checkHistory), there are no dead letters (check)
//	I4  what may exist is undone: nothing stays of a failed saga, nothing is undone that is said to stay (checkEffect); in reverse
//	    order (begun); no local effect after its compensation (local)
//	I5  the barrier: handled once, nothing to undo without an action, nothing done after its undo (handled, checkEffect),
//	    and always the same answer (publishes)
//	I6  a settled saga holds no row, timer, message (settledNow) or reservation (simBooks.settled); a history is a path of declared
//	    rows without gaps (committed, checkHistory)
//	I7  all of that under every kind of fault, each of which must have happened (TestSimulation)
//
// And the order saga's own: "stock" adds up and is never negative (simBooks.move), "capture" happens at most once for an order
// (simBooks.capture), "money" nets to zero or to the total, and a late payment is given back (simBooks.settled).

// simCommits is what was committed so far.
type simCommits struct {
	revisions map[string]uint64 // by instance
	inputs    map[string]bool   // by instance and identity
	skipped   map[string]bool   // instances of which an operator skipped a step
	rows      map[string][]string
}

func newSimCommits(definitions ...saga.AnyDefinition) *simCommits {
	c := &simCommits{revisions: map[string]uint64{}, inputs: map[string]bool{}, skipped: map[string]bool{}, rows: map[string][]string{}}
	for _, d := range definitions {
		for _, r := range stepped.Describe(d).Rows {
			c.rows[r.Name] = append(c.rows[r.Name], r.In...)
		}
	}
	return c
}

// committed checks each transition.
func (s *sim) committed(p *simProcess, t *saga.Transition, v saga.Verdict) {
	if v.Outcome != saga.Committed {
		s.note("%s: %s of %s from %d", p.name, v.Outcome, t.ID, t.Expect)
		return
	}
	c := s.commits
	if last := c.revisions[t.ID]; last != t.Expect {
		s.violated("I1", "%s goes on from revision %d, but was at %d", t.ID, t.Expect, last)
	}
	c.revisions[t.ID] = t.Revision()
	for k, h := range t.History {
		if h.Revision != t.Expect+uint64(k)+1 {
			s.violated("I6", "%s goes from revision %d to %d", t.ID, t.Expect, h.Revision)
		}
		if h.Input != "" && c.inputs[t.ID+" "+h.Input] {
			s.violated("I1", "%s consumes %s twice", t.ID, h.Input)
		}
		c.inputs[t.ID+" "+h.Input] = true
		e, err := saga.DecodeEntry(h)
		if err != nil {
			s.violated("I6", "%s has a record that cannot be read: %v", t.ID, err)
		}
		c.skipped[t.ID] = c.skipped[t.ID] || e.Verb == saga.SkipStep
		for _, m := range e.Moves {
			if !slices.Contains(c.rows[m.Row], m.From) {
				s.violated("I6", "%s takes row %q in %s", t.ID, m.Row, m.From)
			}
		}
		s.note("%s: %s @%d %s %s %s %s %v", p.name, t.ID, h.Revision, e.Kind, e.Event+e.Step, e.Outcome, e.Result, e.Moves)
	}
	if t.Settled {
		s.settledNow(t.ID)
	}
}

// settledNow checks what a saga holds that says it is settled.
func (s *sim) settledNow(id string) {
	records, err := s.store.Load(s.ctx, id)
	if err != nil || len(records) != 1 {
		panic(fmt.Sprint(records, err))
	}
	r := records[0]
	if left := saga.Leftover(r); left != "" || !r.WakeAt.IsZero() {
		s.violated("I6", "%s is settled in %s and holds %s, to wake at %s", r.ID, r.State, left, r.WakeAt)
		return
	}
	if i, err := saga.ReadInstance(r); err == nil && i.Definition == "order" {
		s.books.settled(i, false)
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
	keys, started := map[string]bool{}, map[string]int{}
	for _, r := range s.records() {
		s.settledNow(r.ID)
		i, err := saga.ReadInstance(r)
		if err != nil {
			s.violated("I6", "%s cannot be read: %v", r.ID, err)
			continue
		}
		started[i.Key]++
		s.checkHistory(i)
		failed := slices.Contains([]string{"failed", "cancelled"}, strings.ToLower(i.State))
		for _, e := range i.Steps {
			key := effectKey(i, e)
			keys[key] = true
			s.checkEffect(i, e, key, failed)
		}
		if i.Definition == "order" {
			s.books.settled(i, true)
		} else {
			s.checkData(i)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(s.world.applied)) {
		if !keys[key] {
			s.violated("I1", "the effect %s is in no ledger", key)
		}
	}
	for _, in := range s.clients {
		if started[in.key] != 1 {
			s.violated("I3", "%s was accepted, and has %d sagas", in.key, started[in.key])
		}
	}
	letters, err := s.store.DeadLetters(s.ctx, "", 10)
	if err != nil || len(letters) > 0 {
		s.violated("I3", "dead letters %v, error %v", letters, err)
	}
}

// checkEffect compares the ledger with the world.
func (s *sim) checkEffect(i saga.Instance, e compensation.Entry, key string, failed bool) {
	applied, undone := s.world.applied[key], s.world.undone[key]
	if strings.HasPrefix(e.Step, "tell") {
		if s.world.heard[key] == 0 {
			s.violated("I2", "nobody heard of %s", key)
		}
		return
	}
	switch e.Status {
	case compensation.Succeeded:
		if applied != 1 || undone != 0 {
			s.violated("I2", "%s succeeded; it was applied %d and undone %d times", key, applied, undone)
		}
		told := e.Class == compensation.Pivot && e.Condemned && i.Attention != "" // a person is asked to undo it
		if failed && (e.Undoable || e.Class == compensation.Pivot) && !told {
			s.violated("I4", "%s ended in %s, but %s stays", i.ID, i.State, key)
		}
	case compensation.Undone:
		if applied == 1 && undone != 1 {
			s.violated("I4", "%s is said to be undone; it was applied %d and undone %d times", key, applied, undone)
		}
	case compensation.Rejected:
		if applied != 0 {
			s.violated("I5", "%s was rejected, and applied", key)
		}
	case compensation.Skipped: // what became of it nobody need have heard: the operator took that upon himself
		if applied > 1 {
			s.violated("I4", "%s was skipped, and applied %d times", key, applied)
		}
	case compensation.Unknown: // given up, and needs no compensation
		if e.Undoable || e.Class == compensation.Pivot || applied > 1 {
			s.violated("I4", "%s is settled, and %s is unknown; it was applied %d times", i.ID, key, applied)
		}
	default:
		s.violated("I6", "%s is settled, and %s is %s", i.ID, key, e.Status)
	}
}

// checkData: the result of a step that succeeded is in the data once, whatever was decided again.
func (s *sim) checkData(i saga.Instance) {
	for _, e := range i.Steps {
		times := strings.Count(string(i.Data), `"`+e.Step+`"`)
		folds := !slices.Contains([]string{"tell", "pay", "mail"}, e.Step)
		if times > 1 || folds && times == 0 && e.Status == compensation.Succeeded && i.State == string(saga.Completed) {
			s.violated("I1", "the result of %s, which is %s, is %d times in %s", effectKey(i, e), e.Status, times, i.Data)
		}
	}
}

// checkHistory: no gap, a path from state to state, each input once and with an end.
func (s *sim) checkHistory(i saga.Instance) {
	records, err := s.store.History(s.ctx, i.ID, 0, 100_000)
	if err != nil || uint64(len(records)) != i.Revision {
		s.violated("I6", "%s is at revision %d and has %d records (%v)", i.ID, i.Revision, len(records), err)
		return
	}
	at, inputs, ended := "", map[string]int{}, map[string]bool{}
	for k, h := range records {
		e, err := saga.DecodeEntry(h)
		if err != nil || h.Revision != uint64(k)+1 {
			s.violated("I6", "%s has record %d of revision %d (%v)", i.ID, k+1, h.Revision, err)
			return
		}
		for _, m := range e.Moves {
			if at != "" && m.From != at {
				s.violated("I6", "%s moves from %s, but was in %s", i.ID, m.From, at)
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
		s.violated("I6", "%s is in %s, but its history leads to %s", i.ID, i.State, at)
	}
	for _, in := range s.clients {
		if in.start || in.key != i.Key {
			continue
		}
		if inputs[in.id] != 1 || !ended[in.id] {
			s.violated("I3", "%s of %s is recorded %d times, and has come to an end: %t", in.event, in.key, inputs[in.id], ended[in.id])
		}
	}
}
