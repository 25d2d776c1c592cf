package saga

import (
	"slices"
	"time"

	"github.com/sagamill/sagamill/compensation"
)

// Instance is what can be seen of a saga instance.
type Instance struct {
	ID         string
	Definition string
	Version    int    // of the definition
	Key        string // business key
	Revision   uint64 // counts the entries of its history
	State      string

	CompensatingTo string // the state that is entered when the undos are done; empty: nothing is being undone
	Settled        bool   // in a final state, with nothing left to do for the engine
	Attention      string // why a person should look at it, also if it is settled; empty: no need
	Cause          string // why it left its path: the last rejection, or what it was compensated for; empty: it did not

	Steps   []compensation.Entry // the ledger, in order of start
	Waiting []WaitingEvent       // events that wait for a row's end, or for a state that they fit
	Timers  []Timer              // what will become due, the earliest first
	Data    []byte               // as the codec wrote it

	CreatedAt time.Time // all in the store's time
	UpdatedAt time.Time
}

// WaitingEvent is an event that an instance keeps.
type WaitingEvent struct {
	Event    string
	Source   string
	ID       string
	Payload  []byte // as the codec wrote it
	Buffered bool   // it was judged, and fits no state so far
	Why      string // why it could not be judged: a function of the definition's failed. It is judged again, every 30 seconds
}

// Timer is something that becomes due.
type Timer struct {
	Name string // for MoveTimer
	Due  time.Time
}

// Snapshot is an Instance with its state and data typed.
type Snapshot[S ~string, D any] struct {
	Instance
	State S
	Data  D
}

func (i *instance) view() Instance {
	v := Instance{
		ID: i.id, Definition: i.definition, Version: i.version, Key: i.key, Revision: i.revision, State: i.state,
		CompensatingTo: i.compensatingTo(), Settled: i.settled, Attention: i.attention, Cause: i.Cause,
		Steps: slices.Clone(i.Ledger), Data: slices.Clone(i.data.bytes), CreatedAt: i.created, UpdatedAt: i.updated,
	}
	for _, w := range i.Waiting {
		v.Waiting = append(v.Waiting, WaitingEvent{Event: w.Event, Source: w.Source, ID: w.ID, Payload: slices.Clone(w.Payload), Buffered: w.Buffered, Why: w.Why})
	}
	for k := range i.Timers {
		v.Timers = append(v.Timers, Timer{Name: i.Timers[k].name(), Due: i.Timers[k].Due})
	}
	slices.SortStableFunc(v.Timers, func(a, b Timer) int { return a.Due.Compare(b.Due) })
	return v
}

// WouldUndo tells what a compensation would undo now, in its order; steps that are undone in parallel stand together.
func (v Instance) WouldUndo() [][]string { return compensation.Ledger(v.Steps).WouldUndo() }
