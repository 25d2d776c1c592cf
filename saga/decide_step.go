package saga

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/sagamill/sagamill/compensation"
)

// How one step's action, or its compensation, is attempted, and what its outcomes mean.

// attempt starts an attempt of a step's action or compensation. The ledger says already that it is under way.
func (t *turn) attempt(s *stepPlan, e *compensation.Entry, undo bool) {
	first := t.inst.firstSent(e, undo)
	t.inst.dropEffectTimers(e, undo)
	n := attemptsOf(e, undo)
	t.entry.Began = append(t.entry.Began, effectName(s.name, undo, n))
	f := s.effect(undo)
	if err := t.nameEffect(s, e, undo); err != nil {
		t.fault(err)
		t.faulty(s, e, undo, err.Error())
		return
	}
	if f.local != nil {
		t.lease = true
		t.timer(timer{Kind: attemptTimer, Step: e.Step, Run: e.Run, Undo: undo, In: timeoutOf(s), With: !undo && t.inst.orphaned(e)})
		t.effects = append(t.effects, effect{
			kind: runLocal, step: e.Step, run: e.Run, undo: undo, attempt: n, id: effectID(t.inst, e), data: t.inst.data,
		})
		return
	}
	m, err := t.message(f, e, undo)
	if err != nil {
		t.fault(err)
		t.faulty(s, e, undo, err.Error())
		return
	}
	sent := *m
	t.effects = append(t.effects, effect{kind: publish, step: e.Step, run: e.Run, undo: undo, attempt: n, message: &sent})
	if f.oneway {
		e.Succeed()
		t.outboxTimer(1)
		return
	}
	t.timer(timer{Kind: replyTimer, Step: e.Step, Run: e.Run, Undo: undo, In: t.sendAgain(f, n), Sent: first})
}

// sendAgain is when a command is sent again: as its policy says, which begins no earlier than when a reply may be expected.
func (t *turn) sendAgain(f *effectPlan, attempt int) time.Duration {
	r := retryOf(f)
	if wait := t.in.patience[f.command.kind]; wait > r.First {
		sure := 1 - max(r.Jitter, 0) // the part that is not left to chance
		r.First = r.Max
		if float64(wait) < sure*float64(r.Max) {
			r.First = time.Duration(float64(wait) / sure)
		}
	}
	return r.Delay(attempt, t.in.random)
}

// nameEffect gives the effect the step's own key, if it names one. Without it the action is not tried: under another identity
// it could take effect twice.
func (t *turn) nameEffect(s *stepPlan, e *compensation.Entry, undo bool) (err error) {
	if s.key == nil || e.Key != "" || undo {
		return nil
	}
	defer recoverTo(&err, "key of step", s.name)
	if e.Key, err = s.key(t.codec, t.inst.data); err == nil && e.Key == "" {
		err = fmt.Errorf("the key of step %s is empty", s.name)
	}
	return err
}

// message returns the effect's pending message, made now if this is the first attempt. It does not change any more.
func (t *turn) message(f *effectPlan, e *compensation.Entry, undo bool) (m *outgoing, err error) {
	defer recoverTo(&err, "request of step", e.Step)
	if m = t.inst.pending(e, undo); m != nil {
		return m, nil
	}
	payload, err := f.command.request(t.codec, t.inst.data)
	if err != nil {
		return nil, err
	}
	id := effectID(t.inst, e)
	t.inst.Outbox = append(t.inst.Outbox, outgoing{
		ID: id, Step: e.Step, Run: e.Run, Undo: undo, Oneway: f.oneway, Retriable: !undo && e.Class == compensation.Retriable,
		Name: f.command.name, Topic: f.command.topic, Replies: f.command.replies, Payload: payload,
	})
	m = &t.inst.Outbox[len(t.inst.Outbox)-1]
	if f.oneway {
		m.Version = t.inst.revision + 1
	}
	return m, nil
}

// outboxTimer lets the events that wait to be published be published again, unless a commit records them before.
func (t *turn) outboxTimer(try int) {
	t.inst.dropTimers(func(tm timer) bool { return tm.Kind == outboxTimer })
	t.timer(timer{Kind: outboxTimer, Try: try, In: delivery.Delay(try, t.in.random)})
}

// failed notes an attempt that did not succeed, or that nothing was heard of, and arranges for the next one. A compensatable
// step whose attempts are spent is in doubt: its rejection event is raised, and it is undone. If its row is interrupted it is
// in doubt anyway, and the interrupting event says what follows.
func (t *turn) failed(s *stepPlan, e *compensation.Entry, undo bool, reason string) {
	with := !undo && t.inst.beganWithAnother(e)
	first := t.inst.firstSent(e, undo)
	t.inst.dropEffectTimers(e, undo)
	e.Reason = reason
	n, retry := attemptsOf(e, undo), retryOf(s.effect(undo))
	if !undo && s.rejectable() && retry.Spent(e.Class, n-e.Faults) && t.inst.interrupt() == nil {
		t.spent(e)
		return
	}
	e.Stuck = retry.Alarming(n)
	t.timer(timer{Kind: retryTimer, Step: e.Step, Run: e.Run, Undo: undo, In: retry.Delay(n, t.in.random), With: with, Sent: first})
}

// faulty notes an attempt that failed by a fault of the definition: one of its functions panicked, or could not read the data or the
// result. That says nothing of the step, so it costs nothing of the budget; a person is to see it at once, and the definition to be mended.
func (t *turn) faulty(s *stepPlan, e *compensation.Entry, undo bool, reason string) {
	if !undo {
		e.Faults++
	}
	t.failed(s, e, undo, reason)
	e.Stuck = e.InFlight() // it may have been spent before, by an operator
}

// spent gives a step up after its last attempt.
func (t *turn) spent(e *compensation.Entry) {
	t.doubt(e)
	t.entry.Outcome = "unknown"
	if t.entry.Reason == "" {
		t.entry.Reason = fmt.Sprintf("%s is given up after %d attempts: %s", e.Step, e.Attempts, e.Reason)
	}
	t.rejected(e.Step, "given up after "+strconv.Itoa(e.Attempts)+" attempts: "+e.Reason)
}

// rejected notes that the row ends by a step's rejection. Of several, the first in declared order names it.
func (t *turn) rejected(step, why string) {
	run := t.inst.Row
	if run.Rejected == "" {
		t.inst.Cause = step + ": " + why
	}
	groups, _ := t.groups(run)
	for _, g := range groups {
		for _, s := range g {
			if s.name == step || s.name == run.Rejected {
				run.Rejected = s.name
				return
			}
		}
	}
}

// again makes the next attempt of an effect that is under way.
func (t *turn) again(s *stepPlan, e *compensation.Entry, undo bool) {
	if undo {
		e.Undos++
	} else {
		e.Attempts++
	}
	t.attempt(s, e, undo)
}

// settle writes an attempt's outcome into the ledger.
func (t *turn) settle(o outcome) {
	t.entry = Entry{Kind: "outcome", Step: o.Step, Run: o.Run, Undo: o.Undo, Outcome: string(o.Kind), Reason: o.Reason}
	e, s := t.inst.Ledger.Find(o.Step, o.Run), t.plan.steps[o.Step]
	if e == nil || s == nil {
		t.nothing = true
		return
	}
	reported := t.orphanReported(e, o)
	if tm, c := t.inst.timerOf(e, o.Undo), s.effect(o.Undo).command; tm != nil && tm.Kind == replyTimer && c != nil && o.Attempt == 1 {
		t.replied = replied{c.kind, tm.Sent}
	}
	switch {
	case o.Undo:
		t.settleUndo(s, e, o)
	case o.Kind == outcomeSucceeded:
		t.settleSuccess(s, e, o)
	case o.Kind == outcomeRejected && s.rejectable():
		t.settleRejection(s, e, o)
	case e.Status == compensation.Sent && o.Attempt == e.Attempts && t.inst.attemptInFlight(e):
		t.notDone(s, e, o)
	default:
		t.nothing = true
	}
	if t.nothing = t.nothing && !reported; !t.nothing {
		t.proceed()
	}
}

// notDone is for an attempt that failed.
func (t *turn) notDone(s *stepPlan, e *compensation.Entry, o outcome) {
	if o.Fault {
		t.faulty(s, e, o.Undo, o.Reason)
	} else {
		t.failed(s, e, o.Undo, o.Reason)
	}
}

// orphanReported forgets the orphan that reports: it is at work no longer.
func (t *turn) orphanReported(e *compensation.Entry, o outcome) bool {
	orphans := len(t.inst.Timers)
	t.inst.dropTimers(func(tm timer) bool { return !o.Undo && tm.orphanOf(e) && tm.Try == o.Attempt })
	return len(t.inst.Timers) < orphans
}

// known ends the waiting for an effect by the report of one attempt. If that was an earlier one, the present one may still be
// at work: an undo of the step waits for it.
func (t *turn) known(e *compensation.Entry, undo bool, attempt int) {
	tm := t.inst.timerOf(e, undo)
	if tm != nil && tm.Kind == attemptTimer && !undo && attempt != e.Attempts {
		orphan := *tm
		orphan.Kind, orphan.Try = orphanTimer, e.Attempts
		t.inst.setTimer(orphan)
	}
	t.inst.dropEffectTimers(e, undo)
	t.inst.dropPending(e, undo)
}

func (t *turn) settleUndo(s *stepPlan, e *compensation.Entry, o outcome) {
	switch {
	case o.Kind == outcomeSucceeded && e.Undo():
		t.known(e, true, o.Attempt)
	case o.Kind != outcomeSucceeded && e.Status == compensation.Undoing && o.Attempt == e.Undos && t.inst.attemptInFlight(e):
		t.notDone(s, e, o) // also a rejected one: an undo does not run out
	default:
		t.nothing = true
	}
}

func (t *turn) settleSuccess(s *stepPlan, e *compensation.Entry, o outcome) {
	if e.Status != compensation.Sent {
		before := *e
		e.Succeed()
		t.entry.Outcome = "late"
		// No barrier refuses a local step that comes after its compensation: at least the history tells of it.
		t.nothing = *e == before && (s.action.local == nil || e.Status == compensation.Succeeded)
		return
	}
	data, err := t.tryFold(s, o.Result)
	if err != nil {
		t.fault(err)
		t.entry.Outcome, t.entry.Reason = string(outcomeFailed), err.Error()
		_, tooMuch := errors.AsType[*tooMuchError](err)
		o.Fault, o.Reason = !tooMuch, err.Error()
		// To a command each attempt brings the same reply.
		if (o.Attempt == e.Attempts || s.action.command != nil) && t.inst.attemptInFlight(e) {
			t.notDone(s, e, o)
		} else {
			t.nothing = true
		}
		return
	}
	t.known(e, false, o.Attempt)
	e.Succeed()
	t.succeeded(s, o.Result, data)
}

// tryFold folds the result, with those of its siblings that are known, and answers what the data would be. A result that cannot be folded is
// a failed attempt.
func (t *turn) tryFold(s *stepPlan, result []byte) (after document, err error) {
	data := t.inst.data
	defer func() { t.inst.data = data }()
	for _, sibling := range t.groupOf(s) {
		r, known := t.inst.Row.Results[sibling.name]
		if sibling == s {
			r, known = result, true
		}
		if !known {
			continue
		}
		if err := t.fold(sibling, r); err != nil {
			return data, err
		}
	}
	return t.inst.data, nil
}

func (t *turn) settleRejection(s *stepPlan, e *compensation.Entry, o outcome) {
	waited := e.Status == compensation.Sent
	if s.action.local != nil && e.Attempts > 1 {
		t.settleLocalRejection(s, e, o, waited)
		return
	}
	if !e.Reject(o.Reason) {
		t.nothing = true
		return
	}
	t.known(e, false, o.Attempt)
	if waited {
		t.rejected(e.Step, o.Reason)
	}
}

// settleLocalRejection is for a local step that was attempted before. No barrier stands behind it: another attempt may have taken
// effect, whatever this one says. What can be undone is. What cannot, a pivot, is asked until its last attempt says no, if that
// began when no earlier one could be at work any more: what one of those did meanwhile, this one may not have seen.
func (t *turn) settleLocalRejection(s *stepPlan, e *compensation.Entry, o outcome, waited bool) {
	switch {
	case !waited:
		t.nothing = true // it is in doubt already, or settled
	case e.Undoable:
		t.known(e, false, o.Attempt)
		e.Doubt()
		e.Reason = o.Reason
		t.rejected(e.Step, o.Reason)
	case o.Attempt != e.Attempts:
		t.nothing = true
	case t.inst.beganWithAnother(e):
		t.entry.Outcome = string(outcomeFailed)
		t.failed(s, e, false, o.Reason)
	default:
		t.known(e, false, o.Attempt)
		e.Reject(o.Reason)
		t.rejected(e.Step, o.Reason)
	}
}

// beginUndos starts the compensations whose turn it is. That of a step which an orphaned attempt may still work on waits.
func (t *turn) beginUndos() {
	for _, e := range t.inst.Ledger.Next() {
		s := t.plan.steps[e.Step]
		if s == nil || !s.undo.exists() || t.inst.orphaned(e) {
			continue
		}
		e.BeginUndo()
		t.attempt(s, e, true)
	}
}

func attemptsOf(e *compensation.Entry, undo bool) int {
	if undo {
		return e.Undos
	}
	return e.Attempts
}

func effectName(step string, undo bool, attempt int) string {
	if undo {
		step += "/undo"
	}
	if attempt > 1 {
		step += fmt.Sprintf(" (attempt %d)", attempt)
	}
	return step
}

func timeoutOf(s *stepPlan) time.Duration {
	if s.timeout > 0 {
		return s.timeout
	}
	return defaultTimeout
}

func retryOf(f *effectPlan) compensation.Retry {
	r := f.retry
	if r.First == 0 && f.command != nil {
		r.First = resendFirst
	}
	return r.WithDefaults()
}
