package saga

import (
	"errors"
	"fmt"
	"slices"

	"github.com/sagamill/sagamill/compensation"
)

// What becomes due. Only the store's clock is asked: the wake-up brings its time.

// awake handles every timer that is due, and the local steps that nobody is at any more.
func (t *turn) awake(w wake) {
	var due []timer
	for _, tm := range t.inst.Timers {
		if !tm.Ripe && !tm.Due.IsZero() && !tm.Due.After(w.now) {
			due = append(due, tm)
		}
	}
	slices.SortStableFunc(due, func(a, b timer) int {
		if first := a.Kind == orphanTimer; first != (b.Kind == orphanTimer) { // it is over before anything begins now
			if first {
				return -1
			}
			return 1
		}
		return a.Due.Compare(b.Due)
	})
	fired := false
	for _, tm := range due {
		if slices.Contains(t.inst.Timers, tm) { // not dropped by one before
			fired = t.fire(tm) || fired
		}
	}
	if w.leaseOver {
		fired = t.takeOver(w) || fired
	}
	waiting := len(t.inst.Waiting)
	t.proceed()
	t.nothing = !fired && !t.moved && len(t.effects) == 0 && len(t.entry.Moves) == 0 && waiting == len(t.inst.Waiting) && t.inst.attention == t.attention()
}

// fire handles one timer. It answers whether that changed the instance.
func (t *turn) fire(tm timer) bool {
	switch tm.Kind {
	case stateTimer:
		return t.fireState(tm)
	case outboxTimer:
		t.outboxTimer(tm.Try + 1)
		for _, m := range t.inst.Outbox {
			if m.Oneway {
				t.effects = append(t.effects, effect{kind: publish, step: m.Step, run: m.Run, message: &m})
			}
		}
		return true
	case orphanTimer:
		t.inst.dropTimers(func(o timer) bool { return o == tm })
		return true
	}
	e, s := t.inst.Ledger.Find(tm.Step, tm.Run), t.plan.steps[tm.Step]
	if e == nil || s == nil {
		return false // attention says why
	}
	t.entry.Step, t.entry.Run, t.entry.Undo = tm.Step, tm.Run, tm.Undo
	switch {
	case tm.Kind == attemptTimer:
		t.entry.Outcome = "unknown"
		t.failed(s, e, tm.Undo, fmt.Sprintf("no answer within %s", timeoutOf(s)))
	case !tm.Undo && t.abandoning() && e.Class != compensation.Pivot:
		t.entry.Outcome = "unknown"
		t.failed(s, e, false, "no reply")
	case tm.Kind == retryTimer:
		t.again(s, e, tm.Undo)
	default:
		t.unanswered(s, e, tm.Undo)
	}
	return true
}

// unanswered handles a command that no reply came to: it is sent again, under the same identity.
func (t *turn) unanswered(s *stepPlan, e *compensation.Entry, undo bool) {
	n, retry := attemptsOf(e, undo), retryOf(s.effect(undo))
	if e.Reason == "" {
		e.Reason = "no reply"
	}
	if !undo && retry.Spent(e.Class, n-e.Faults) {
		t.spent(e)
		return
	}
	e.Stuck = e.Stuck || retry.Alarming(n) // that nothing came is no news of a fault
	t.again(s, e, undo)
}

// fireState takes the row of a state's time-out. Timers never interrupt: one that comes due while a row runs is kept, and
// dies if the row leaves the state.
func (t *turn) fireState(tm timer) bool {
	if !t.inst.idle() {
		for k := range t.inst.Timers {
			if t.inst.Timers[k] == tm {
				t.inst.Timers[k].Ripe = true
			}
		}
		return true
	}
	t.timeOut(tm)
	return true
}

// timeOut takes the row of a time-out, if its guard holds. The others of the same duration are then not taken. What
// cannot be judged, because the guard panics, is tried again later: it may be the only way on.
func (t *turn) timeOut(tm timer) {
	t.inst.dropTimers(func(o timer) bool { return o == tm })
	t.entry.Event = tm.Row
	row := t.plan.byName[tm.Row]
	holds, err := t.holds(row)
	switch {
	case err != nil:
		t.fault(err)
		t.entry.Reason = err.Error()
		t.timer(timer{Kind: stateTimer, Row: tm.Row, Why: err.Error(), In: defaultTimeout})
	case !holds:
		t.entry.Reason = "guard " + t.plan.machine.Row(row.index).If.Name + " does not hold"
	case row.compensate && t.inst.Ledger.PivotPassed():
		t.entry.Reason = passedPivot
	default:
		t.inst.dropTimers(func(o timer) bool {
			other := t.plan.byName[o.Row]
			return o.Kind == stateTimer && other != nil && other.after == row.after
		})
		t.begin(row, "after "+row.after.String())
	}
}

// ripe takes the first time-out that became due while a row ran. It answers whether there was one.
func (t *turn) ripe() bool {
	for _, tm := range t.inst.Timers {
		if tm.Ripe {
			t.timeOut(tm)
			return true
		}
	}
	return false
}

func (t *turn) holds(row *rowPlan) (holds bool, err error) {
	if row == nil {
		return false, errors.New("the definition has no such row")
	}
	defer recoverTo(&err, "guard of row", row.name)
	return t.plan.machine.Holds(row.index, folded{t.codec, t.inst.data}), nil
}

// takeOver makes a new attempt of each local effect that is under way while the lease of whoever ran it is over. The old
// attempt may be a zombie: an undo waits until its time is over, too. The last attempt of a budget is not repeated, nor is one
// of a row that is to be abandoned: its time-out is waited for.
func (t *turn) takeOver(w wake) (fired bool) {
	for k := range t.inst.Ledger {
		e := &t.inst.Ledger[k]
		s, undo := t.plan.steps[e.Step], e.Status == compensation.Undoing
		if s == nil || !e.InFlight() || s.effect(undo).local == nil || w.runningHere(e.Step, e.Run, undo) {
			continue
		}
		tm := t.inst.timerOf(e, undo)
		if tm == nil || tm.Kind != attemptTimer || tm.Due.IsZero() {
			continue // waiting for its next attempt, or begun just now
		}
		if !undo {
			last := s.rejectable() && retryOf(&s.action).Spent(e.Class, e.Attempts-e.Faults)
			if last || t.abandoning() && e.Class != compensation.Pivot {
				continue
			}
			t.inst.setTimer(timer{Kind: orphanTimer, Step: e.Step, Run: e.Run, Try: e.Attempts, Due: tm.Due})
		}
		t.entry.Step, t.entry.Run, t.entry.Undo, t.entry.Outcome = e.Step, e.Run, undo, "recovered"
		t.again(s, e, undo)
		fired = true
	}
	return fired
}
