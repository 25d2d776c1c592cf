package saga

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/sagamill/sagamill/compensation"
)

// What an operator may do by hand. Each verb is an input like others: decided, committed, and kept in the history with who
// did it and why. A verb that makes no sense is refused, and changes nothing.

func (t *turn) operate(op operation) {
	t.entry = Entry{Kind: "operator", Verb: op.verb, Who: op.who, Reason: op.why, Step: op.step}
	var refusal error
	switch op.verb {
	case RetryNow:
		refusal = t.retryNow(op)
	case SkipStep, MarkDone, MarkRejected:
		refusal = t.byHand(op)
	case EditData:
		refusal = t.editData(op)
	case MoveTimer:
		refusal = t.moveTimer(op)
	case DropEvent:
		refusal = t.dropEvent(op)
	case ForceCompensate:
		refusal = t.forceCompensate(op)
	default:
		refusal = fmt.Errorf("there is no verb %q; there are %q", op.verb, verbs)
	}
	if refusal != nil {
		t.answer, t.reason, t.nothing = Refused, refusal.Error(), true
		return
	}
	t.proceed()
}

func (t *turn) editData(op operation) (err error) {
	defer recoverTo(&err, "the codec")
	if ok, want := t.plan.isData(op.value); op.value != nil && !ok {
		return fmt.Errorf("the data are a %T, but the definition's are %s", op.value, want)
	}
	if len(op.data) > t.lim.data {
		return fmt.Errorf("the data has %d bytes, more than the %d allowed", len(op.data), t.lim.data)
	}
	if err = t.plan.readable(t.codec, op.data); err != nil {
		return err
	}
	// A member that is misspelt would be left out, and what it was to set be empty. But if the present data have what would be left
	// out, too, so may the new ones.
	if left := t.plan.readsAll(t.codec, op.data); left != nil && op.value == nil && t.plan.readsAll(t.codec, t.inst.data.bytes) == nil {
		return left
	}
	t.entry.Before, t.inst.data = t.inst.data.bytes, documentOf(op.data)
	return nil
}

// operated finds the step's entry that an operator means: the latest one.
func (t *turn) operated(op operation) (s *stepPlan, e *compensation.Entry, undo bool, err error) {
	s, e = t.plan.steps[op.step], t.inst.Ledger.Latest(op.step)
	switch {
	case s == nil:
		return nil, nil, false, fmt.Errorf("the definition has no step %q; it has %q", op.step, slices.Sorted(maps.Keys(t.plan.steps)))
	case e == nil:
		return nil, nil, false, fmt.Errorf("step %s was not started", op.step)
	}
	undo = e.Status == compensation.Undoing
	t.entry.Run, t.entry.Undo = e.Run, undo
	return s, e, undo, nil
}

func (t *turn) retryNow(op operation) error {
	s, e, undo, err := t.operated(op)
	if err != nil {
		return err
	}
	tm := t.inst.timerOf(e, undo)
	switch {
	case !e.InFlight() || tm == nil:
		return fmt.Errorf("step %s is %s: there is nothing to try again", op.step, e.Status)
	case tm.Kind == attemptTimer:
		return fmt.Errorf("step %s has an attempt under way", op.step)
	}
	e.Stuck = false
	t.again(s, e, undo)
	return nil
}

// byHand settles a step, or its compensation, by an operator's word.
func (t *turn) byHand(op operation) error {
	s, e, undo, err := t.operated(op)
	if err != nil {
		return err
	}
	if e.Condemned && e.Class == compensation.Pivot && e.Status == compensation.Succeeded && op.verb == MarkDone {
		e.Status, e.Condemned = compensation.Undone, false // a pivot that succeeded late, and was undone by hand
		t.entry.Undo = true
		return nil
	}
	if e.Status != compensation.Sent && e.Status != compensation.Undoing {
		return fmt.Errorf("step %s is %s: there is nothing to wait for", op.step, e.Status)
	}
	if tm := t.inst.timerOf(e, undo); tm != nil && tm.Kind == attemptTimer {
		return fmt.Errorf("step %s has an attempt under way; it ends within %s", op.step, timeoutOf(s))
	}
	switch {
	case op.verb == SkipStep:
		e.Skip(op.why)
	case op.verb == MarkRejected && undo:
		return fmt.Errorf("step %s is being undone: a compensation is not rejected", op.step)
	case op.verb == MarkRejected && !s.rejectable():
		return fmt.Errorf("step %s is retriable: no row says what follows if it is rejected", op.step)
	case op.verb == MarkRejected:
		e.Reject(op.why)
		t.rejected(e.Step, fmt.Sprintf("%s: %s: %s", MarkRejected, op.who, op.why))
	case undo:
		e.Undo()
	default:
		if len(op.data) > 0 { // without a result there is nothing to fold
			if s.readsAll != nil && op.value == nil { // what is misspelt would be left out
				if err := s.readsAll(t.codec, op.data); err != nil {
					return err
				}
			}
			data, err := t.tryFold(s, op.data)
			if err != nil {
				return err
			}
			before := t.inst.data.bytes
			t.succeeded(s, op.data, data)
			if t.entry.Given = op.data; !bytes.Equal(before, t.inst.data.bytes) {
				t.entry.Before = before
			}
		}
		e.Succeed()
	}
	t.inst.dropEffectTimers(e, undo)
	t.inst.dropPending(e, undo)
	return nil
}

func (t *turn) moveTimer(op operation) error {
	for k := range t.inst.Timers {
		if tm := t.inst.Timers[k]; tm.name() == op.timer {
			if tm.Kind == orphanTimer || tm.Kind == attemptTimer {
				return fmt.Errorf("timer %s guards an attempt that may be under way", op.timer)
			}
			t.inst.dropTimers(func(o timer) bool { return o == tm })
			t.entry.Timer, t.entry.In = op.timer, op.in
			tm.In, tm.Due, tm.Ripe = op.in, time.Time{}, false
			t.timer(tm)
			return nil
		}
	}
	names := make([]string, len(t.inst.Timers))
	for k := range t.inst.Timers {
		names[k] = t.inst.Timers[k].name()
	}
	return fmt.Errorf("there is no timer %q; there are %q", op.timer, names)
}

func (t *turn) dropEvent(op operation) error {
	for k, ev := range t.inst.Waiting {
		if ev.Source == op.source && ev.ID == op.inputID {
			t.inst.Waiting = slices.Delete(t.inst.Waiting, k, k+1)
			t.note(ev, Refused, op.why)
			t.entry.Given = ev.Payload
			return nil
		}
	}
	return fmt.Errorf("no event with Source %q and ID %q waits", op.source, op.inputID)
}

// name is how an operator names a timer.
func (t *timer) name() string {
	if t.Kind == stateTimer {
		return t.Row
	}
	n := string(t.Kind)
	if t.Step != "" {
		n += ":" + effectName(t.Step, t.Undo, 1)
	}
	return n
}

func (t *turn) forceCompensate(op operation) error {
	switch {
	case t.inst.settled:
		return fmt.Errorf("the saga is settled in %s", t.inst.state)
	case !t.plan.failed[op.toState]:
		return fmt.Errorf("%q is not one of the definition's failed states", op.toState)
	case t.inst.Ledger.PivotPassed():
		return fmt.Errorf("the saga has passed its pivot: what it did cannot be undone by the engine")
	case t.plan.machine.IsFinal(t.inst.state):
		return fmt.Errorf("the saga is in its final state %s", t.inst.state)
	case t.compensates():
		return fmt.Errorf("the saga undoes everything already, and will end in %s", t.inst.Row.To)
	}
	for k := range t.inst.Ledger {
		if e := &t.inst.Ledger[k]; e.Status == compensation.Sent {
			if e.Class == compensation.Pivot {
				return fmt.Errorf("pivot %s is in doubt: wait for it, or look whether it happened, and use %s or %s", e.Step, MarkDone, MarkRejected)
			}
			if tm := t.inst.timerOf(e, false); tm != nil && tm.Kind == attemptTimer {
				return fmt.Errorf("step %s has an attempt under way: wait for it", e.Step)
			}
			t.doubt(e)
		}
	}
	if t.inst.Row != nil {
		t.foldAll()
	}
	t.inst.noInterrupt()
	t.inst.Raised = nil
	t.entry.To = op.toState
	t.inst.Cause = fmt.Sprintf("%s: %s: %s", ForceCompensate, op.who, op.why)
	t.inst.Row = &running{Event: string(ForceCompensate), To: op.toState, Compensate: true, Base: -1}
	t.inst.Ledger.Condemn()
	return nil
}

// compensates tells whether a row undoes everything, and can be ended.
func (t *turn) compensates() bool {
	r := t.inst.Row
	return r != nil && r.Compensate && (r.Name == "" || t.plan.byName[r.Name] != nil)
}
