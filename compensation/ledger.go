package compensation

import "slices"

// Class says what may become of a step's effect.
type Class string

const (
	Compensatable Class = ""          // its effect can be undone; the zero value
	Pivot         Class = "pivot"     // it decides: once it succeeded the saga goes forward only
	Retriable     Class = "retriable" // it is retried until it succeeds
)

// Status is what is known of a step's effect.
type Status string

const (
	Never     Status = ""          // not started: such a step has no entry
	Sent      Status = "sent"      // started; the effect may or may not exist
	Succeeded Status = "succeeded" // the effect exists
	Rejected  Status = "rejected"  // refused for good: no effect
	Unknown   Status = "unknown"   // given up without an answer: the effect may exist
	Undoing   Status = "undoing"   // the compensation was started
	Undone    Status = "undone"    // the compensation succeeded
	Skipped   Status = "skipped"   // an operator said not to wait for it
)

// Entry is the record of one step in one run of its row.
type Entry struct {
	Step  string `json:"step"`
	Run   int    `json:"run"` // counts the step's entries from 1: a loop runs a step again; an attempt does not
	Class Class  `json:"class,omitempty"`

	Order    int  `json:"order"`              // rank of start; steps that run in parallel share it, and are undone in parallel
	Undoable bool `json:"undoable,omitempty"` // it has a compensation

	Status    Status `json:"status"`
	Condemned bool   `json:"condemned,omitempty"` // its effect must not stay
	Stuck     bool   `json:"stuck,omitempty"`     // tried more often than the alert threshold, or failing by a fault of the definition, and tried on
	Attempts  int    `json:"attempts,omitempty"`  // of the action
	Faults    int    `json:"faults,omitempty"`    // those of them that failed by a fault of the definition, and cost nothing of the budget
	Undos     int    `json:"undos,omitempty"`     // attempts of the compensation
	Key       string `json:"key,omitempty"`       // the step's own key, if it names one
	Reason    string `json:"reason,omitempty"`    // the last failure, rejection, or why it was skipped
}

// Succeed records that the action took effect. It answers late if the saga no longer waits for that: the entry was given
// up, undone, skipped or rejected before. A late success is condemned, for the saga went on without it; one that the
// compensation has dealt with already, or deals with now, changes nothing (a participant's barrier refuses the action
// after its undo). A pivot's late success cannot be undone: it stays condemned, for a person to see, unless the pivot was skipped.
func (e *Entry) Succeed() (late bool) {
	switch e.Status {
	case Sent:
		e.Status, e.Stuck, e.Reason = Succeeded, false, ""
		return false
	case Unknown, Rejected, Skipped:
		// A pivot that was skipped counts as passed: its success is what the saga went on with.
		e.Condemned = e.Class != Pivot || e.Status != Skipped
		e.Status, e.Stuck = Succeeded, false
		return true
	case Succeeded:
		return true // the same answer again
	}
	return true // undoing or undone
}

// Reject records that the step was refused and has no effect. It answers whether that was news.
func (e *Entry) Reject(reason string) bool {
	if e.Status != Sent && e.Status != Unknown {
		return false
	}
	e.Status, e.Stuck, e.Condemned, e.Reason = Rejected, false, false, reason
	return true
}

// Doubt records that the action is waited for no longer: its effect may exist, and must not stay.
func (e *Entry) Doubt() {
	if e.Status == Sent {
		e.Status, e.Stuck, e.Condemned = Unknown, false, true
	}
}

// BeginUndo records that the compensation was started.
func (e *Entry) BeginUndo() { e.Status, e.Undos, e.Stuck = Undoing, 1, false }

// Undo records that the compensation succeeded. It answers whether that was news.
func (e *Entry) Undo() bool {
	if e.Status != Undoing {
		return false
	}
	e.Status, e.Stuck = Undone, false
	return true
}

// Skip records that an operator decided to go on without the action, or without its compensation.
func (e *Entry) Skip(reason string) bool {
	if e.Status != Sent && e.Status != Undoing && e.Status != Unknown {
		return false
	}
	e.Status, e.Stuck, e.Condemned, e.Reason = Skipped, false, false, reason
	return true
}

// InFlight tells whether an attempt of the action or of its compensation is waited for.
func (e *Entry) InFlight() bool { return e.Status == Sent || e.Status == Undoing }

// MayExist tells whether the step's effect may exist and is not dealt with yet.
func (e *Entry) MayExist() bool {
	return e.Status == Sent || e.Status == Succeeded || e.Status == Unknown || e.Status == Undoing
}

// mustUndo tells whether a compensation is still to be started.
func (e *Entry) mustUndo() bool {
	return e.Condemned && e.Undoable && (e.Status == Succeeded || e.Status == Unknown)
}

// Ledger is the record of an instance's steps, in the order of their start.
type Ledger []Entry

// Begin appends the entry of a step that is started: its status is Sent, its run the next one of the step, its first attempt
// under way. The pointer is good until the next Begin.
func (l *Ledger) Begin(e Entry) *Entry {
	e.Status, e.Attempts, e.Run = Sent, 1, 1
	for i := range *l {
		if (*l)[i].Step == e.Step {
			e.Run++
		}
	}
	*l = append(*l, e)
	return &(*l)[len(*l)-1]
}

// Find returns the entry of a step's run, or nil. The pointer is good until the next Begin.
func (l Ledger) Find(step string, run int) *Entry {
	for i := len(l) - 1; i >= 0; i-- {
		if l[i].Step == step && l[i].Run == run {
			return &l[i]
		}
	}
	return nil
}

// Latest returns the entry of a step's latest run, or nil. The pointer is good until the next Begin.
func (l Ledger) Latest(step string) *Entry {
	for i := len(l) - 1; i >= 0; i-- {
		if l[i].Step == step {
			return &l[i]
		}
	}
	return nil
}

// NextOrder returns the rank for the next step, or group of parallel steps.
func (l Ledger) NextOrder() int {
	if len(l) == 0 {
		return 1
	}
	return l[len(l)-1].Order + 1
}

// PivotPassed tells whether a pivot has succeeded, or an operator has skipped it: from then on nothing is undone, only finished.
func (l Ledger) PivotPassed() bool {
	return slices.ContainsFunc(l, func(e Entry) bool {
		return e.Class == Pivot && (e.Status == Succeeded && !e.Condemned || e.Status == Skipped)
	})
}

// Condemn decides that no effect may stay: every step whose effect may exist is to be undone, if it can be.
func (l Ledger) Condemn() {
	for i := range l {
		if l[i].MayExist() && l[i].Class != Pivot {
			l[i].Condemned = true
		}
	}
}

// Compensating tells whether a condemned effect is still there.
func (l Ledger) Compensating() bool {
	return slices.ContainsFunc(l, func(e Entry) bool { return e.Status == Undoing || e.mustUndo() })
}

// Next returns the condemned entries whose compensation is to be started now: those of the highest order, as long as none of
// a higher or the same order is still being undone or in flight. So steps are undone in reverse order of their start, and
// parallel ones in parallel. The pointers are good until the next Begin.
func (l Ledger) Next() []*Entry {
	top := 0
	for i := range l {
		if e := &l[i]; e.mustUndo() || e.Status == Undoing || e.Condemned && e.Status == Sent {
			top = max(top, e.Order)
		}
	}
	var next []*Entry
	for i := range l {
		if e := &l[i]; e.Order == top && e.mustUndo() {
			next = append(next, e)
		}
	}
	return next
}

// Open tells whether anything is left to do: an attempt waited for, or an effect to be undone.
func (l Ledger) Open() bool {
	return slices.ContainsFunc(l, func(e Entry) bool { return e.InFlight() || e.mustUndo() })
}

// WouldUndo returns what Condemn would have undone, in the order in which it would be: names of steps, those that are undone
// in parallel together. After the pivot that is nothing.
func (l Ledger) WouldUndo() [][]string {
	if l.PivotPassed() {
		return nil
	}
	byOrder := map[int][]string{}
	var orders []int
	for _, e := range l {
		if !e.MayExist() || !e.Undoable || e.Class == Pivot {
			continue
		}
		if byOrder[e.Order] == nil {
			orders = append(orders, e.Order)
		}
		byOrder[e.Order] = append(byOrder[e.Order], e.Step)
	}
	slices.Sort(orders)
	slices.Reverse(orders)
	undo := make([][]string, 0, len(orders))
	for _, o := range orders {
		undo = append(undo, byOrder[o])
	}
	return undo
}
