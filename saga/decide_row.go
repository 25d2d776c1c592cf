package saga

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/sagamill/sagamill/compensation"
	"github.com/sagamill/sagamill/statemachine"
)

// How a row runs: first the undos, if it compensates; then its steps, group by group; then its state is entered.

// begin starts a row. Its steps begin in proceed.
func (t *turn) begin(row *rowPlan, event string) {
	t.inst.Row = &running{Name: row.name, Event: event, To: row.to, Compensate: row.compensate, Base: -1}
	if row.compensate {
		t.inst.Ledger.Condemn()
		if t.inst.Cause == "" {
			t.inst.Cause = event
		}
	}
}

// proceed does all that can be done now, until something has to be waited for.
func (t *turn) proceed() {
	t.reconsider()
	for more := true; more; {
		if t.abandoning() && t.abandon() {
			continue
		}
		t.beginUndos()
		switch {
		case t.inst.Ledger.Compensating(), t.abandoning():
			more = false // no row starts, and none goes on, while something is being undone
		case t.inst.Row != nil:
			more = t.advance()
		case t.inst.Raised != nil:
			more = t.raise(t.inst.Raised.Event)
		default:
			more = t.freshOrMoved() && t.judgeWaiting() || t.ripe()
		}
	}
}

// freshOrMoved tells whether judging the waiting events can have another result than before.
func (t *turn) freshOrMoved() bool {
	return len(t.entry.Moves) > 0 || t.entry.Verb == EditData ||
		slices.ContainsFunc(t.inst.Waiting, func(ev waiting) bool { return !ev.Buffered })
}

// advance starts the row's next group of steps, or ends the row. It answers whether there may be more to do.
func (t *turn) advance() bool {
	run := t.inst.Row
	groups, known := t.groups(run)
	if !known {
		return false // attention says why
	}
	if run.Base < 0 {
		run.Base = len(t.inst.Ledger)
	}
	for k, group := range groups {
		switch begun, done := t.progress(group); {
		case !begun && t.overtaken(groups[k:]):
			return false // attention says why
		case !begun:
			return t.beginGroup(group)
		case !done:
			return false
		}
		t.foldResults(group)
	}
	t.endRow()
	return true
}

// overtaken tells whether any step of the groups has begun, though not all of the first have: the definition was changed under
// the instance. What would be right is for a person to say.
func (t *turn) overtaken(groups [][]*stepPlan) bool {
	return slices.ContainsFunc(groups, func(group []*stepPlan) bool {
		return slices.ContainsFunc(group, func(s *stepPlan) bool { return t.entryOf(s.name) != nil })
	})
}

// disordered tells whether the row that runs was overtaken.
func (t *turn) disordered() bool {
	groups, _ := t.groups(t.inst.Row)
	for k, group := range groups {
		if begun, _ := t.progress(group); !begun {
			return t.overtaken(groups[k:])
		}
	}
	return false
}

// groups finds the steps of the row that runs.
func (t *turn) groups(run *running) (groups [][]*stepPlan, known bool) {
	if run.Name == "" {
		return nil, true
	}
	row := t.plan.byName[run.Name]
	if row == nil {
		return nil, false
	}
	return row.groups, true
}

// entryOf returns the ledger's entry of a step in the row that runs, or nil.
func (t *turn) entryOf(step string) *compensation.Entry { return t.inst.begun().Latest(step) }

func (t *turn) progress(group []*stepPlan) (begun, done bool) {
	done = true
	for _, s := range group {
		e := t.entryOf(s.name)
		if e == nil {
			return false, false
		}
		done = done && e.Status != compensation.Sent // succeeded, or skipped (and perhaps undone, if it succeeded late)
	}
	return true, done
}

// beginGroup starts the steps of a group. It answers true if none of them has to be waited for.
func (t *turn) beginGroup(group []*stepPlan) bool {
	order := t.inst.Ledger.NextOrder()
	waits := false
	for _, s := range group {
		e := t.inst.Ledger.Begin(compensation.Entry{Step: s.name, Class: s.class, Order: order, Undoable: s.undo.exists()})
		t.attempt(s, e, false)
		waits = waits || e.Status == compensation.Sent
	}
	return !waits
}

// endRow enters the row's state.
func (t *turn) endRow() {
	run := t.inst.Row
	t.entry.Moves = append(t.entry.Moves, Move{Event: run.Event, From: t.inst.state, To: run.To, Row: run.Name})
	t.inst.Row = nil
	if run.To != t.inst.state {
		t.enter(run.To)
	}
}

// mayInterrupt tells whether an event abandons the row that runs. Undos are not interrupted, and there is one interruption
// at a time.
func (t *turn) mayInterrupt(ev *waiting) bool {
	run := t.inst.Row
	return run != nil && !run.Compensate && !t.abandoning() && t.interrupts(ev)
}

// interrupts tells whether the table takes the event, in the state that the row is from, by a row that is marked so. What
// follows a pivot is not interrupted.
func (t *turn) interrupts(ev *waiting) bool {
	row, _, kind, err := t.find(ev.Event, ev.Payload)
	if err != nil && !ofPayload(err) {
		t.unjudged(ev, err)
	}
	return err == nil && kind == statemachine.Transition && row.interrupts && !t.inst.Ledger.PivotPassed()
}

// reconsider asks once more of the events that could not be judged whether one of them interrupts.
func (t *turn) reconsider() {
	for k := range t.inst.Waiting {
		if ev := &t.inst.Waiting[k]; ev.Why != "" && !t.triedNow(*ev) && t.mayInterrupt(ev) {
			ev.Interrupts, ev.Why, t.moved = true, "", true
			return
		}
	}
}

// tooLate tells whether an event would have interrupted the row that runs and undone all, had the pivot not succeeded. Nothing
// that comes later makes it fit, so it is refused at once.
func (t *turn) tooLate(ev waiting) bool {
	if t.inst.Row == nil || !t.inst.Ledger.PivotPassed() {
		return false
	}
	row, _, kind, err := t.find(ev.Event, ev.Payload)
	return err == nil && kind == statemachine.Transition && row.interrupts && row.compensate
}

// abandoning tells whether the row that runs is to end without its state being reached.
func (t *turn) abandoning() bool {
	return t.inst.Row != nil && (t.inst.Row.Rejected != "" || t.inst.interrupt() != nil)
}

// abandon ends such a row, once nothing is in flight any more: by a rejection, whose event is raised, or by an interrupting
// event. If both came the rejection ends the row, and the event is judged in the state that it leads to. An event that would
// compensate is refused if the pivot succeeded meanwhile; one that does not interrupt any more, by what a step answered, waits
// like others. The row goes on.
// It answers false if the row has to be waited for.
func (t *turn) abandon() bool {
	run := t.inst.Row
	row := t.plan.byName[run.Name]
	if row == nil || t.mustWait() {
		return false // attention says why if there is no such row
	}
	if run.Rejected != "" {
		t.leave()
		t.inst.noInterrupt()
		t.raise(row.rejection(run.Rejected))
		return true
	}
	ev, data, results := *t.inst.interrupt(), t.inst.data, maps.Clone(run.Results)
	if t.foldAll(); !t.interrupts(&ev) {
		if t.inst.data, run.Results = data, results; t.tooLate(ev) {
			t.dropInterrupt()
			t.note(ev, Refused, passedPivot)
		} else {
			t.inst.noInterrupt()
		}
		return true
	}
	t.leave()
	t.dropInterrupt()
	t.judged(ev)
	return true
}

func (t *turn) dropInterrupt() {
	t.inst.Waiting = slices.DeleteFunc(t.inst.Waiting, func(w waiting) bool { return w.Interrupts })
}

// mustWait tells whether a step of the row is still at work, or is a pivot in doubt: that one is only asked again.
func (t *turn) mustWait() bool {
	return slices.ContainsFunc(t.inst.begun(), func(e compensation.Entry) bool {
		return e.Status == compensation.Sent && (e.Class == compensation.Pivot || t.inst.attemptInFlight(&e))
	})
}

// leave ends the row that runs. What is in doubt then is undone.
func (t *turn) leave() {
	begun := t.inst.begun()
	for k := range begun {
		t.doubt(&begun[k])
	}
	t.foldAll()
	t.inst.Row = nil
}

// foldAll folds what is known of a row that does not go on.
func (t *turn) foldAll() {
	groups, _ := t.groups(t.inst.Row)
	for _, g := range groups {
		t.foldResults(g)
	}
}

// doubt gives up waiting for a step.
func (t *turn) doubt(e *compensation.Entry) {
	if e.Status != compensation.Sent {
		return
	}
	t.inst.dropEffectTimers(e, false)
	t.inst.dropPending(e, false)
	e.Doubt()
}

// tooMuchError says that data would grow too large. That is no fault of the definition's: it is the data.
type tooMuchError struct{ bytes, allowed int }

func (e *tooMuchError) Error() string {
	return fmt.Sprintf("the data would grow to %d bytes, more than the %d allowed", e.bytes, e.allowed)
}

// succeeded takes over the result of a step: folded into the data if it is alone, as tryFold has done; else it is kept, and folded in declared
// order with those of its siblings.
func (t *turn) succeeded(s *stepPlan, result []byte, after document) {
	if len(t.groupOf(s)) <= 1 {
		t.inst.data = after
		return
	}
	run := t.inst.Row
	if run.Results == nil {
		run.Results = map[string][]byte{}
	}
	run.Results[s.name] = result
}

// groupOf returns the step and its siblings in the row that runs.
func (t *turn) groupOf(s *stepPlan) []*stepPlan {
	groups, _ := t.groups(t.inst.Row)
	for _, g := range groups {
		for _, sibling := range g {
			if sibling == s {
				return g
			}
		}
	}
	return []*stepPlan{s} // the definition has its row no more
}

// foldResults folds the results of a group, in declared order. They were tried when they came; a reducer that fails all the
// same, because an operator has edited the data, costs its own result only, and the entry says so.
func (t *turn) foldResults(group []*stepPlan) {
	for _, s := range group {
		result, ok := t.inst.Row.Results[s.name]
		if !ok {
			continue
		}
		delete(t.inst.Row.Results, s.name)
		if err := t.fold(s, result); err != nil {
			t.fault(err)
			t.entry.Reason = err.Error()
		}
	}
}

func (t *turn) fold(s *stepPlan, result []byte) (err error) {
	if s.fold == nil {
		return nil
	}
	defer recoverTo(&err, "reducer of step", s.name)
	data, err := s.fold(t.codec, t.inst.data, result)
	if err != nil {
		return err
	}
	if len(data) > t.lim.data {
		return &tooMuchError{len(data), t.lim.data}
	}
	t.inst.data = t.inst.data.becomes(data)
	return nil
}

const (
	defaultTimeout = 30 * time.Second // of a local attempt
	resendFirst    = time.Second      // before a command is sent again
)

// delivery says when events are published again that no commit has recorded as published.
var delivery = compensation.Retry{First: resendFirst}
