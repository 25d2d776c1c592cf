package saga

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/sagamill/sagamill/compensation"
	"github.com/sagamill/sagamill/statemachine"
)

// limits bound what an instance may hold.
type limits struct {
	waiting int // events
	data    int // bytes of data
}

// decide is the heart: it answers what an instance becomes by an input, and which effects follow. It is pure: no context, no
// I/O, no clock, no randomness, no goroutine; it does not change before. The shell commits the decision, and only then does
// what the effects say. Whatever crashes in between is found in the committed instance, and decided again.
//
// Panics of users' guards and reducers are answers, too: the event is kept for a definition that has been mended, the step's attempt
// has failed.
func decide(p *plan, before *instance, in input, codec Codec, lim limits) decision {
	t := &turn{plan: p, inst: before.clone(), in: in, codec: codec, lim: lim, answer: Applied, wake: NoWake}
	delivered := t.published(in.published)
	switch {
	case in.start != nil:
		t.start(*in.start)
	case in.event != nil:
		t.receive(*in.event)
	case in.outcome != nil:
		t.settle(*in.outcome)
	case in.wake != nil:
		t.entry.Kind = "timer"
		t.awake(*in.wake)
	case in.operator != nil:
		t.operate(*in.operator)
	default:
		t.entry.Kind, t.nothing = "delivery", true
	}
	t.nothing = t.nothing && !delivered
	t.finish()
	return decision{
		next: t.inst, entry: t.entry, effects: t.effects, answer: t.answer, reason: t.reason,
		wake: t.wake, lease: t.lease, nothing: t.nothing, faults: t.faults, replied: t.replied,
	}
}

// turn is one call of decide: the instance it works on, and what it has gathered so far.
type turn struct {
	plan  *plan
	inst  *instance // a copy
	in    input
	codec Codec
	lim   limits

	entry   Entry
	effects []effect
	answer  Disposition
	reason  string
	wake    time.Duration
	lease   bool
	nothing bool
	faults  []error
	replied replied
	came    string // the event that comes with this input: it is not judged twice
	moved   bool   // an event that waited has come to interrupt
}

// start enters the initial state and raises the start event.
func (t *turn) start(in startInput) {
	t.entry.Kind = "start"
	t.inst.data, t.inst.Trace = documentOf(in.data), t.in.trace
	t.enter(t.plan.machine.Initial())
	if t.plan.start != "" {
		t.raise(t.plan.start)
	}
	t.proceed()
}

// receive records an event from outside, and judges it if the instance is idle.
func (t *turn) receive(ev waiting) {
	ev.Trace = t.in.trace
	t.came = ev.Source + "\x00" + ev.ID
	t.entry = Entry{Kind: "event", Event: ev.Event, Source: ev.Source, InputID: ev.ID, Digest: digest(ev.Payload)}
	switch {
	case t.plan.events[ev.Event] == nil: // the engine's own events do not come from outside
		t.answer, t.reason = Refused, fmt.Sprintf("%s declares no event %s", t.plan.name, ev.Event)
	case t.inst.idle():
		t.answer, t.reason = t.judge(ev)
	case t.inst.waits(false) <= t.lim.waiting && t.mayInterrupt(&ev):
		ev.Interrupts = true // one more than the limit: a cancel is not refused for others that wait
		t.inst.Waiting = append(t.inst.Waiting, ev)
		t.answer = Interrupts
	case t.tooLate(ev):
		t.answer, t.reason = Refused, passedPivot
	default:
		t.answer, t.reason = t.keep(ev, false)
	}
	t.entry.Result, t.entry.Reason = t.answer, t.reason
	t.proceed()
}

// digest tells one payload from another, for events that are sent twice.
func digest(payload []byte) string {
	if len(payload) == 0 {
		return ""
	}
	sum := sha256.Sum256(payload)
	return hex.EncodeToString(sum[:8])
}

// judge decides what an event does to the instance in its present state. A transition starts its row. An event whose payload is
// no good is refused. If it is the definition that fails the event is kept, for a definition that has been mended.
func (t *turn) judge(ev waiting) (Disposition, string) {
	row, data, kind, err := t.find(ev.Event, ev.Payload)
	switch {
	case ofPayload(err):
		return Refused, err.Error()
	case err != nil && t.plan.machine.IsFinal(t.inst.state):
		t.fault(err)
		return Refused, err.Error()
	case err != nil:
		t.unjudged(&ev, err)
		return t.keep(ev, false)
	}
	ev.Why = ""
	switch kind {
	case statemachine.Transition:
		if row.compensate && t.inst.Ledger.PivotPassed() {
			return Refused, passedPivot
		}
		t.inst.data = data
		if len(ev.Trace) > 0 {
			t.inst.Trace = ev.Trace
		}
		t.begin(row, ev.Event)
		return Applied, ""
	case statemachine.Ignored:
		return Ignored, ""
	case statemachine.Buffered:
		if t.plan.machine.IsFinal(t.inst.state) {
			return Refused, fmt.Sprintf("the saga has ended in %s, so %s will not fit any more", t.inst.state, ev.Event)
		}
		return t.keep(ev, true)
	}
	return Refused, fmt.Sprintf("state %s does not take %s", t.inst.state, ev.Event)
}

// judgeAgain is how often an event is judged that could not be, because a function of the definition's failed.
const judgeAgain = 30 * time.Second

func (t *turn) judgeAgain() {
	if t.wake < 0 || t.wake > judgeAgain {
		t.wake = judgeAgain
	}
}

// unjudged notes that an event could not be judged. The first reason stays: the next may differ by an address only.
func (t *turn) unjudged(ev *waiting, err error) {
	t.fault(err)
	if ev.Why == "" {
		ev.Why = shorten(err.Error())
	}
	t.judgeAgain()
}

// fault notes that a function of the definition's failed, or could not read the data, for the log.
func (t *turn) fault(err error) { t.faults = append(t.faults, err) }

const passedPivot = "the saga has passed its pivot and goes forward only"

// find asks the table. The event is folded into the data first, so that guards see what it says; the data come back, and are
// kept only if a row is taken.
func (t *turn) find(event string, payload []byte) (row *rowPlan, data document, kind statemachine.Kind, err error) {
	defer recoverTo(&err, "event", event)
	data = t.inst.data
	if e := t.plan.events[event]; e != nil && e.fold != nil {
		after, err := e.fold(t.codec, data, payload)
		if err != nil {
			return nil, data, 0, err
		}
		if len(after) > t.lim.data {
			return nil, data, 0, &payloadError{&tooMuchError{len(after), t.lim.data}}
		}
		data = data.becomes(after)
	}
	a := t.plan.machine.Find(t.inst.state, event, folded{t.codec, data})
	if a.Kind == statemachine.Transition {
		row = &t.plan.rows[a.Row]
	}
	return row, data, a.Kind, nil
}

// keep stores an event that cannot be judged now, or that fits no state yet.
func (t *turn) keep(ev waiting, buffered bool) (Disposition, string) {
	if n := t.inst.waits(ev.Why != ""); n >= t.lim.waiting && ev.Why != "" {
		return Refused, fmt.Sprintf("%d events that could not be judged wait already, and it is another: %s", n, ev.Why)
	} else if n >= t.lim.waiting {
		return Refused, fmt.Sprintf("%d events wait already", n)
	}
	ev.Buffered = buffered
	t.inst.Waiting = append(t.inst.Waiting, ev)
	if buffered {
		return Buffered, ""
	}
	return Waits, ""
}

// judgeWaiting judges the events that were kept, in order of arrival, until one of them takes a row or none is left.
func (t *turn) judgeWaiting() (took bool) {
	events := t.inst.Waiting
	t.inst.Waiting = nil
	for k, ev := range events {
		if ev.Why != "" && t.triedNow(ev) {
			t.inst.Waiting = append(t.inst.Waiting, ev)
			continue
		}
		if t.judged(ev) == Applied {
			t.inst.Waiting = append(t.inst.Waiting, events[k+1:]...)
			return true
		}
	}
	return false
}

// triedNow tells whether an event could not be judged just now, by the same instance.
func (t *turn) triedNow(ev waiting) bool {
	return ev.Source+"\x00"+ev.ID == t.came && len(t.entry.Moves) == 0
}

// judged judges an event that had been waiting, and notes what became of it, unless it is still kept.
func (t *turn) judged(ev waiting) Disposition {
	answer, reason := t.judge(ev)
	if answer != Buffered && answer != Waits {
		t.note(ev, answer, reason)
	}
	return answer
}

func (t *turn) note(ev waiting, answer Disposition, reason string) {
	t.entry.Judged = append(t.entry.Judged, Judgement{Event: ev.Event, Source: ev.Source, InputID: ev.ID, Result: answer, Reason: reason})
}

// raise applies an event of the engine's own, which the table answers with a transition: Build has checked that it does. If
// it fails all the same (a guard panics, or the definition was changed under the instance), the event is kept.
func (t *turn) raise(event string) bool {
	row, _, kind, err := t.find(event, nil)
	if err == nil && kind != statemachine.Transition {
		err = fmt.Errorf("state %s has no row for it", t.inst.state)
	}
	if err != nil {
		t.fault(err)
		if r := t.inst.Raised; r == nil || r.Event != event {
			t.inst.Raised = &raised{Event: event, Why: shorten(err.Error())}
		}
		t.judgeAgain()
		return false
	}
	t.inst.Raised = nil
	t.begin(row, event)
	return true
}

// enter makes a state the instance's own: the timers of the one before die, its own are set.
func (t *turn) enter(state string) {
	t.inst.dropTimers(func(tm timer) bool { return tm.Kind == stateTimer })
	t.inst.state = state
	for _, to := range t.plan.machine.Timeouts(state) {
		t.timer(timer{Kind: stateTimer, Row: t.plan.rows[to.Row].name, In: to.After})
	}
}

// timer sets a timer, which the next wake-up must not miss.
func (t *turn) timer(tm timer) {
	t.inst.setTimer(tm)
	if t.wake < 0 || tm.In < t.wake {
		t.wake = tm.In
	}
}

// published records that one-way messages have reached the broker. It answers whether that was news.
func (t *turn) published(ids []string) (news bool) {
	for _, id := range ids {
		for k := range t.inst.Outbox {
			if m := t.inst.Outbox[k]; m.ID == id && m.Oneway {
				t.inst.Outbox = slices.Delete(t.inst.Outbox, k, k+1)
				news = true
				break
			}
		}
	}
	if news && !slices.ContainsFunc(t.inst.Outbox, func(m outgoing) bool { return m.Oneway }) {
		t.inst.dropTimers(func(tm timer) bool { return tm.Kind == outboxTimer })
	}
	return news
}

// finish draws the conclusions: is the instance settled, must a person look at it.
func (t *turn) finish() {
	i := t.inst
	i.settled = t.plan.machine.IsFinal(i.state) && i.idle() && !i.Ledger.Open() && len(i.Outbox) == 0
	if i.settled {
		i.Timers = nil // what still waits for an old attempt waits for nothing
	}
	if !t.nothing {
		i.attention = t.attention()
	}
}

// attention says why a person should look at the instance; empty if there is no need.
func (t *turn) attention() string { return shorten(t.reasons()) }

func (t *turn) reasons() string {
	var reasons []string
	for k := range t.inst.Ledger {
		if why := t.attentionTo(&t.inst.Ledger[k]); why != "" {
			reasons = append(reasons, why)
		}
	}
	if len(reasons) > 0 {
		return strings.Join(reasons, "; ")
	}
	if r := t.inst.Row; r != nil && r.Name != "" && t.plan.byName[r.Name] == nil {
		return fmt.Sprintf("definition %s version %d has no row %s, which this instance is in", t.plan.name, t.plan.version, r.Name)
	}
	if t.inst.Row != nil && t.disordered() {
		return fmt.Sprintf("definition %s version %d runs the steps of row %s in another order than this instance has begun them",
			t.plan.name, t.plan.version, t.inst.Row.Name)
	}
	if r := t.inst.Raised; r != nil {
		return fmt.Sprintf("%s could not be raised: %s", r.Event, r.Why)
	}
	for _, ev := range t.inst.Waiting {
		if ev.Why != "" {
			return fmt.Sprintf("event %s could not be judged: %s", ev.Event, ev.Why)
		}
	}
	for _, tm := range t.inst.Timers {
		switch {
		case tm.Why != "":
			return fmt.Sprintf("the time-out %s could not be judged: %s", tm.Row, tm.Why)
		case tm.Kind == outboxTimer && delivery.Alarming(tm.Try-1):
			return fmt.Sprintf("events could not be published in %d attempts", tm.Try-1)
		}
	}
	return ""
}

// attentionTo says why a person should look at a step.
func (t *turn) attentionTo(e *compensation.Entry) string {
	if e.InFlight() || e.Condemned && e.MayExist() {
		switch s := t.plan.steps[e.Step]; {
		case s == nil:
			return fmt.Sprintf("definition %s version %d has no step %s, which this instance needs", t.plan.name, t.plan.version, e.Step)
		case e.Condemned && e.Undoable && !s.undo.exists():
			return fmt.Sprintf("definition %s version %d has no compensation of %s, which this instance needs", t.plan.name, t.plan.version, e.Step)
		}
	}
	switch {
	case e.Stuck && e.Status == compensation.Undoing:
		return fmt.Sprintf("the compensation of %s%s is stuck after %d attempts: %s", e.Step, t.asks(e, true), e.Undos, e.Reason)
	case e.Stuck:
		return fmt.Sprintf("step %s%s is stuck after %d attempts: %s", e.Step, t.asks(e, false), e.Attempts, e.Reason)
	case e.Class == compensation.Pivot && e.Condemned && e.Status == compensation.Succeeded:
		return fmt.Sprintf("pivot %s succeeded after the saga had gone on without it: undo it by hand, then mark it as done", e.Step)
	}
	return ""
}

// asks says which command an effect is, and where it goes: who does not answer can be found by that.
func (t *turn) asks(e *compensation.Entry, undo bool) string {
	if m := t.inst.pending(e, undo); m != nil {
		return fmt.Sprintf(" (command %s to %s)", m.Name, m.Topic)
	}
	return ""
}

// recoverTo turns a panic of users' code into an error. What it was in is said in words.
func recoverTo(err *error, words ...string) {
	if r := recover(); r != nil {
		*err = &PanicError{In: strings.Join(words, " "), Value: r, Stack: debug.Stack()}
	}
}
