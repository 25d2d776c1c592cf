package saga

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/sagamill/sagamill/compensation"
)

// instance is one run of a definition, as decide sees it: a value without a clock. What the store searches by lies in fields
// of its own; engine is stored as JSON, so that people can read it in the database.
type instance struct {
	id          string
	definition  string
	version     int
	key         string
	fingerprint []byte
	revision    uint64
	state       string
	settled     bool
	attention   string
	data        document
	created     time.Time
	updated     time.Time
	leaseTill   time.Time

	engine
}

type engine struct {
	Row     *running            `json:"row,omitempty"`    // the row that runs
	Raised  *raised             `json:"raised,omitempty"` // an event of the engine's own that no row answers so far
	Ledger  compensation.Ledger `json:"ledger,omitempty"`
	Waiting []waiting           `json:"waiting,omitempty"` // events that wait for the row's end or for a state that they fit, as they came
	Outbox  []outgoing          `json:"outbox,omitempty"`  // messages that no reply and no commit has proved delivered
	Timers  []timer             `json:"timers,omitempty"`
	Cause   string              `json:"cause,omitempty"` // why it left its path: the last rejection, or what it was compensated for
	Trace   map[string]string   `json:"trace,omitempty"` // trace context of what moved it last: the start, or the event that was applied

	// Process began the local steps in flight. Two processes may commit the same outcome of the same input; only one of them
	// may run what follows.
	Process string `json:"process,omitempty"`

	// Undecided are inputs that were received by a process which does not know the instance's version. One that does
	// decides them first, in order of arrival.
	Undecided []undecided `json:"undecided,omitempty"`
}

// raised is an event of the engine's own that could not be raised, because a guard panics, say. It is tried again with each
// input; until it succeeds no other row starts.
type raised struct {
	Event string `json:"event"`
	Why   string `json:"why"`
}

// undecided is an event or an outcome: one of the two is set.
type undecided struct {
	Event   *waiting `json:"event,omitempty"`
	Outcome *outcome `json:"outcome,omitempty"`
}

// running is a row in progress. The instance's state is still the row's from-state.
type running struct {
	Name       string            `json:"name"` // empty: an operator's forced compensation
	Event      string            `json:"event"`
	To         string            `json:"to"`
	Compensate bool              `json:"compensate,omitempty"`
	Base       int               `json:"base"`               // the ledger's entries from here on are this row's; -1: its steps have not begun
	Rejected   string            `json:"rejected,omitempty"` // the step whose rejection ends the row, once its siblings are known
	Results    map[string][]byte `json:"results,omitempty"`  // of parallel steps, folded when all are known
}

// waiting is an event that was received, and is not judged yet.
type waiting struct {
	Event      string            `json:"event"`
	Source     string            `json:"source"`
	ID         string            `json:"id"`
	Payload    []byte            `json:"payload,omitempty"`
	Buffered   bool              `json:"buffered,omitempty"`   // judged, and kept for a state that it fits
	Trace      map[string]string `json:"trace,omitempty"`      // trace context of the request or message that brought it
	Interrupts bool              `json:"interrupts,omitempty"` // it abandons the row that runs, once the step in flight is known
	Why        string            `json:"why,omitempty"`        // why it could not be judged: a function of the definition's failed
}

// outgoing is a message that is published after the commit that wrote it, and again until it is proved delivered: a command
// by its reply, an event by a later commit that records it as published.
type outgoing struct {
	ID        string `json:"id"` // identity of the effect, the same however often it is sent
	Step      string `json:"step"`
	Run       int    `json:"run"`
	Undo      bool   `json:"undo,omitempty"`
	Oneway    bool   `json:"oneway,omitempty"`
	Retriable bool   `json:"retriable,omitempty"` // a participant's "no" is a failure
	Name      string `json:"name"`
	Topic     string `json:"topic"`
	Replies   string `json:"replies,omitempty"` // topic; empty: the orchestrator's own
	Payload   []byte `json:"payload,omitempty"`
	Version   uint64 `json:"version,omitempty"` // of an event: the instance's revision when it happened
}

type timerKind string

const (
	stateTimer   timerKind = "state"    // the state has lasted so long: take a row
	attemptTimer timerKind = "attempt"  // a local attempt's time is over
	replyTimer   timerKind = "reply"    // no reply came: send the command again
	retryTimer   timerKind = "retry"    // the wait after a failed local attempt is over
	outboxTimer  timerKind = "delivery" // an event's publication was not recorded: publish it again
	orphanTimer  timerKind = "orphan"   // an earlier attempt of a local action may still be at work
)

// timer is something that becomes due. It is set as a duration from the commit that sets it; what it means in the store's
// time is known once that commit is.
type timer struct {
	Kind timerKind     `json:"kind"`
	Row  string        `json:"row,omitempty"`
	Step string        `json:"step,omitempty"`
	Run  int           `json:"run,omitempty"`
	Undo bool          `json:"undo,omitempty"`
	Try  int           `json:"try,omitempty"`  // of an orphan: the attempt; of a delivery: how often it was tried
	Why  string        `json:"why,omitempty"`  // of a state: why its row could not be judged when it was due
	Ripe bool          `json:"ripe,omitempty"` // of a state: it became due while a row ran
	With bool          `json:"with,omitempty"` // of a local attempt: an earlier one might be at work when it began
	In   time.Duration `json:"in,omitempty"`   // from the commit of the revision that holds it
	Due  time.Time     `json:"due,omitzero"`   // in the store's time; zero until the commit is known
	Sent time.Time     `json:"sent,omitzero"`  // of a command: when it was sent for the first time; zero until the commit is known
}

func fromRecord(r Record) (*instance, error) {
	i := &instance{
		id: r.ID, definition: r.Definition, version: r.Version, key: r.Key, fingerprint: r.Fingerprint, revision: r.Revision,
		state: r.State, settled: r.Settled, attention: r.Attention, data: documentOf(r.Data),
		created: r.CreatedAt, updated: r.UpdatedAt, leaseTill: r.LeaseTill,
	}
	if len(r.Engine) > 0 {
		if err := json.Unmarshal(r.Engine, &i.engine); err != nil {
			return nil, fmt.Errorf("saga: instance %s: stored state cannot be read: %w", r.ID, err)
		}
	}
	i.fixTimers(r.UpdatedAt)
	return i, nil
}

// committed notes the store's time of the commit that wrote the instance as it is now.
func (i *instance) committed(at time.Time) {
	if i.created.IsZero() {
		i.created = at
	}
	i.updated = at
	i.fixTimers(at)
}

// fixTimers gives the timers that the last commit set their time.
func (i *instance) fixTimers(at time.Time) {
	for k := range i.Timers {
		t := &i.Timers[k]
		if !t.Due.IsZero() {
			continue
		}
		t.Due, t.In = at.Add(t.In), 0
		if t.Kind != replyTimer || !t.Sent.IsZero() {
			continue
		}
		if e := i.Ledger.Find(t.Step, t.Run); e != nil && attemptsOf(e, t.Undo) == 1 {
			t.Sent = at
		}
	}
}

// clone makes a copy that decide may change. Byte slices are shared: nobody changes them.
func (i *instance) clone() *instance {
	c := *i
	if i.Ledger != nil {
		c.Ledger = append(make(compensation.Ledger, 0, len(i.Ledger)+1), i.Ledger...) // the next step is likely to be added
	}
	c.Waiting = slices.Clone(i.Waiting)
	c.Outbox = slices.Clone(i.Outbox)
	c.Timers = slices.Clone(i.Timers)
	c.Undecided = slices.Clone(i.Undecided)
	if i.Row != nil {
		row := *i.Row
		if row.Results != nil {
			row.Results = make(map[string][]byte, len(i.Row.Results))
			for k, v := range i.Row.Results {
				row.Results[k] = v
			}
		}
		c.Row = &row
	}
	return &c
}

// compensatingTo names the state that will be entered when the undos are done; empty when nothing is being undone.
func (i *instance) compensatingTo() string {
	switch {
	case !i.Ledger.Compensating():
		return ""
	case i.Row != nil && i.Row.Compensate:
		return i.Row.To
	}
	return i.state // the effect of a late success is undone, and the state stays
}

// idle tells whether an event can be judged now.
func (i *instance) idle() bool { return i.Row == nil && i.Raised == nil && !i.Ledger.Compensating() }

// waits counts the events that could not be judged, or those that wait for anything else.
func (i *instance) waits(unjudged bool) (n int) {
	for k := range i.Waiting {
		if (i.Waiting[k].Why != "") == unjudged {
			n++
		}
	}
	return n
}

// interrupt returns the event that is to abandon the row that runs, or nil.
func (i *instance) interrupt() *waiting {
	for k := range i.Waiting {
		if i.Waiting[k].Interrupts {
			return &i.Waiting[k]
		}
	}
	return nil
}

// noInterrupt makes the interrupting event one that waits like others.
func (i *instance) noInterrupt() {
	if ev := i.interrupt(); ev != nil {
		ev.Interrupts = false
	}
}

// begun returns the entries of the row that runs, none if its steps have not begun.
func (i *instance) begun() compensation.Ledger {
	if i.Row.Base < 0 {
		return nil
	}
	return i.Ledger[i.Row.Base:]
}

// effectID is the identity of an effect: instance / step / run, or the step's own key; never the attempt. It names the command,
// the barrier's record, and the key that systems outside are given.
func effectID(i *instance, e *compensation.Entry) string {
	if e.Key != "" {
		return i.definition + "/" + e.Step + "/" + e.Key
	}
	return i.id + "/" + e.Step + "/" + strconv.Itoa(e.Run)
}

func (i *instance) setTimer(t timer) { i.Timers = append(i.Timers, t) }

func (i *instance) dropTimers(match func(timer) bool) { i.Timers = slices.DeleteFunc(i.Timers, match) }

func (i *instance) dropEffectTimers(e *compensation.Entry, undo bool) {
	i.dropTimers(func(t timer) bool { return t.of(e, undo) })
}

// timerOf returns the timer of an effect, or nil.
func (i *instance) timerOf(e *compensation.Entry, undo bool) *timer {
	for k := range i.Timers {
		if t := &i.Timers[k]; t.of(e, undo) {
			return t
		}
	}
	return nil
}

// firstSent is when an effect's command was sent for the first time; zero if it was not, or nobody knows.
func (i *instance) firstSent(e *compensation.Entry, undo bool) time.Time {
	if t := i.timerOf(e, undo); t != nil {
		return t.Sent
	}
	return time.Time{}
}

// of tells whether the timer is that of an effect's present attempt.
func (t *timer) of(e *compensation.Entry, undo bool) bool {
	return t.Kind != orphanTimer && t.Step == e.Step && t.Run == e.Run && t.Undo == undo
}

// orphaned tells whether an attempt of the step's action that is not waited for may still be at work.
func (i *instance) orphaned(e *compensation.Entry) bool {
	return slices.ContainsFunc(i.Timers, func(t timer) bool { return t.orphanOf(e) })
}

// beganWithAnother tells whether an earlier attempt of the step's action might be at work when the present one began.
func (i *instance) beganWithAnother(e *compensation.Entry) bool {
	tm := i.timerOf(e, false)
	return tm != nil && tm.With
}

func (t *timer) orphanOf(e *compensation.Entry) bool {
	return t.Kind == orphanTimer && t.Step == e.Step && t.Run == e.Run
}

// closedTo tells whether an outcome cannot mean anything to the instance any more, which the ledger alone can say: it is
// settled, and the outcome is no late success of a step that was given up.
func (i *instance) closedTo(o *outcome) bool {
	if !i.settled {
		return false
	}
	e := i.Ledger.Find(o.Step, o.Run)
	if e == nil || o.Undo || o.Kind != outcomeSucceeded {
		return true
	}
	return e.Status == compensation.Succeeded || e.Status == compensation.Undone
}

// nextWake answers how long after now the instance has something to do; NoWake if nothing will become due. A local step whose
// lease is over, and that is not taken over for all that, is looked at again a lease later.
func (i *instance) nextWake(now time.Time, lease time.Duration) time.Duration {
	next := NoWake
	at := func(due time.Time) {
		if in := max(due.Sub(now), 0); next < 0 || in < next {
			next = in
		}
	}
	for k := range i.Timers {
		t := &i.Timers[k]
		if t.Ripe {
			continue // taken when the row ends
		}
		if t.Due.IsZero() { // set by the transition that asks
			at(now.Add(t.In))
		} else {
			at(t.Due)
		}
		if t.Kind == attemptTimer && i.leaseTill.After(now) {
			at(i.leaseTill)
		} else if t.Kind == attemptTimer && !i.leaseTill.IsZero() {
			at(now.Add(lease))
		}
	}
	if i.Raised != nil {
		at(now.Add(judgeAgain))
	}
	if len(i.Undecided) > 0 {
		at(now)
	}
	for k := range i.Waiting {
		switch w := &i.Waiting[k]; {
		case w.Why != "":
			at(now.Add(judgeAgain))
		case i.idle() && !w.Buffered:
			at(now)
		}
	}
	return next
}

// pending returns the outgoing message of an effect, or nil.
func (i *instance) pending(e *compensation.Entry, undo bool) *outgoing {
	for k := range i.Outbox {
		if m := &i.Outbox[k]; m.Step == e.Step && m.Run == e.Run && m.Undo == undo && !m.Oneway {
			return m
		}
	}
	return nil
}

func (i *instance) dropPending(e *compensation.Entry, undo bool) {
	i.Outbox = slices.DeleteFunc(i.Outbox, func(m outgoing) bool {
		return m.Step == e.Step && m.Run == e.Run && m.Undo == undo && !m.Oneway
	})
}

// attemptInFlight tells whether somebody works on the effect now, as opposed to waiting for its next attempt.
func (i *instance) attemptInFlight(e *compensation.Entry) bool {
	if !e.InFlight() {
		return false
	}
	t := i.timerOf(e, e.Status == compensation.Undoing)
	return t == nil || t.Kind != retryTimer
}
