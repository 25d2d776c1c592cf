package saga

import (
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/sagamill/sagamill/statemachine"
)

// The policies for an event in a state where no row takes it; see [statemachine.Policy].
const (
	Ignore = statemachine.Ignore
	Buffer = statemachine.Buffer
	Refuse = statemachine.Refuse
)

// Any as a row's From is every state; as On (in rows with a policy) it is every event.
const Any = statemachine.Any

// Row is one line of a saga's transition table: from a state (or group of states), on an event, run these steps and end in
// that state. It reads as a literal:
//
//	{From: Created, On: CheckoutInitiated, To: Reserved, Run: saga.Run(reserveStock), Rejected: InventoryCheckFailed},
//	{From: Created, On: InventoryCheckFailed, To: Failed, Run: saga.Run(notifyOutOfStock)},
//	{From: Reserved, After: 15 * time.Minute, To: Cancelled, Compensate: true},
//	{From: PreShip, On: CancelRequested, To: Cancelled, Compensate: true, Interrupts: true},
//	{From: PreShip, On: CarrierScanned, Policy: saga.Buffer},
//
// While the row runs, the instance stays in the From state.
type Row[S, E ~string, D any] struct {
	From  S             // a state, the name of a group, or Any
	On    E             // the event
	After time.Duration // instead of On: the row is taken when the state has lasted so long
	If    Guard[D]      // looks at the data with the event folded in
	To    S             // the state reached; equal to From: the state is not left, and its time-outs go on

	Run      []Step[D] // in order
	Rejected E         // the event raised in From when a step is rejected; default: the step's name + ".rejected"

	// Compensate undoes every step whose effect may exist, in reverse order of start, before Run and before To is entered.
	Compensate bool
	// Interrupts lets the event abandon the rest of a row that runs, once its step in flight is known or timed out. That goes
	// for a retriable step, too: if it timed out it is not tried again. What it left undone is for the interrupting row to do.
	// Other events wait for the row's end.
	Interrupts bool

	Policy  statemachine.Policy // instead of To: what becomes of the event
	Because string              // why, for readers and diagrams
}

// Table is a saga's transition table.
type Table[S, E ~string, D any] []Row[S, E, D]

// Guard is a named condition on the data. It is pure.
type Guard[D any] = statemachine.Guard[D]

// When makes a Guard.
func When[D any](name string, holds func(data D) bool) Guard[D] {
	return Guard[D]{Name: name, Holds: holds}
}

// Event declares an event from outside: its name and what its payload does to the data. The zero fold is an event without
// payload.
type Event[E ~string, D any] struct {
	Name E
	plan eventPlan
}

// On declares an event with a payload of type P, which the pure function fold writes into the data when the event is
// applied. Events without payload are declared by their name alone: {Name: CancelRequested}.
func On[E ~string, D, P any](name E, fold func(data D, payload P) D) Event[E, D] {
	return Event[E, D]{Name: name, plan: eventPlan{
		fold: foldWith(fold),
		accepts: func(payload any) (bool, string) {
			_, ok := payload.(P)
			return ok, reflect.TypeFor[P]().String()
		},
		payload: []carried{carry[P]("the payload type")},
	}}
}

// Spec is what a table-driven definition is made of; see [Define].
type Spec[S, E ~string, D any] struct {
	Name    string // unique among definitions; stored with every instance
	Version int    // default 1; raise it with every change that stored instances would not understand
	Initial S      // the state of a new instance
	Start   E      // raised when an instance is started; empty: it waits in Initial for an event

	Succeeded []S // final states in which the work is done
	Failed    []S // final states in which it is not: whatever was done on the way must be undone

	Groups    map[S][]S     // names for sets of states, to be used as From
	Events    []Event[E, D] // the events from outside; those of rejections are not declared
	Table     Table[S, E, D]
	Otherwise statemachine.Policy // for every state and event that the table says nothing about
}

// Definition says what a saga does. It is immutable and safe for concurrent use. It is built once by [Linear] or [Define],
// which find every fault; they are kept until someone wants to use the definition: [Definition.Validate] and
// [NewOrchestrator] return them, so that an invalid definition cannot run and a package-level variable needs no panic.
type Definition[S, E ~string, D any] struct {
	plan *plan
	err  error
}

// AnyDefinition is a *Definition of whatever types.
type AnyDefinition interface {
	Name() string
	Version() int
	Validate() error
	compiled() *plan
}

// Define builds a table-driven definition.
func Define[S, E ~string, D any](spec Spec[S, E, D]) *Definition[S, E, D] {
	p, err := compile(spec)
	return &Definition[S, E, D]{plan: p, err: err}
}

// Name returns the definition's name.
func (d *Definition[S, E, D]) Name() string { return d.plan.name }

// Version returns the definition's version, from 1.
func (d *Definition[S, E, D]) Version() int { return d.plan.version }

// Validate returns a *DefinitionError with every fault of the definition, or nil.
func (d *Definition[S, E, D]) Validate() error { return d.err }

// WithVersion returns the same definition as another version: for linear ones, which have no Spec to say so. Versions count
// from 1.
func (d *Definition[S, E, D]) WithVersion(version int) *Definition[S, E, D] {
	p := *d.plan
	p.version = version
	c := &Definition[S, E, D]{plan: &p, err: d.err}
	if version < 1 {
		c.err = errors.Join(d.err, &DefinitionError{Definition: p.name, Faults: []string{fmt.Sprintf("version %d: versions count from 1", version)}})
	}
	return c
}

func (d *Definition[S, E, D]) compiled() *plan { return d.plan }

// LinearState is a state of a linear saga.
type LinearState string

// LinearEvent is an event of a linear saga.
type LinearEvent string

const (
	Running   LinearState = "running"
	Completed LinearState = "completed" // every step succeeded
	Failed    LinearState = "failed"    // a step was rejected, and what was done before is undone
	Cancelled LinearState = "cancelled" // it was cancelled, and what was done before is undone

	Begin  LinearEvent = "begin"
	Cancel LinearEvent = "cancel" // ends a linear saga that has not passed its pivot
)

// LinearDefinition is the definition of a linear saga.
type LinearDefinition[D any] = Definition[LinearState, LinearEvent, D]

// Linear builds the definition of a saga that runs steps one after the other. If one is rejected, those before it are undone
// in reverse order. It is a table with one row that runs all steps, a row for each rejection, and one for [Cancel].
func Linear[D any](name string, steps ...Step[D]) *LinearDefinition[D] {
	table := Table[LinearState, LinearEvent, D]{
		{From: Running, On: Begin, To: Completed, Run: steps},
		{From: Running, On: Cancel, To: Cancelled, Compensate: true, Interrupts: true},
	}
	answered := map[string]bool{} // of two steps of one name Define tells by itself
	var answer func(steps []Step[D])
	answer = func(steps []Step[D]) {
		for _, s := range steps {
			if answer(s.parallel); s.parallel == nil && s.plan.rejectable() && !answered[s.plan.name] {
				answered[s.plan.name] = true
				table = append(table, Row[LinearState, LinearEvent, D]{
					From: Running, On: LinearEvent(s.plan.name + ".rejected"), To: Failed, Compensate: true,
				})
			}
		}
	}
	answer(steps)
	if len(steps) == 0 {
		return &LinearDefinition[D]{
			plan: &plan{name: name, version: 1},
			err:  &DefinitionError{Definition: name, Faults: []string{"a linear saga needs a step"}},
		}
	}
	failed := []LinearState{Cancelled}
	if len(table) > 2 { // some step can be rejected
		failed = append(failed, Failed)
	}
	return Define(Spec[LinearState, LinearEvent, D]{
		Name: name, Initial: Running, Start: Begin,
		Succeeded: []LinearState{Completed}, Failed: failed,
		Events: []Event[LinearEvent, D]{{Name: Cancel}},
		Table:  table, Otherwise: Refuse,
	})
}

// DefinitionError lists everything that is wrong with a definition.
type DefinitionError struct {
	Definition string
	Faults     []string
}

func (e *DefinitionError) Error() string {
	text := fmt.Sprintf("saga: definition %q cannot be used:", e.Definition)
	for _, f := range e.Faults {
		text += "\n  - " + f
	}
	return text
}
