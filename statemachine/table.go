package statemachine

import (
	"strconv"
	"time"
)

// Any as [Row.From] means every state; as [Row.On], in policy rows only, every
// event. No state, group or event can have this name.
const Any = "*"

// Policy says what becomes of an event in a state where no row leads on.
type Policy uint8

const (
	Undecided Policy = iota // nobody decided: Build reports the cell
	Ignore                  // recorded and dropped
	Buffer                  // kept until a state is reached in which it fits
	Refuse                  // answered with a refusal
)

// String returns the policy in lower case, such as "ignore".
func (p Policy) String() string {
	switch p {
	case Undecided:
		return "undecided"
	case Ignore:
		return "ignore"
	case Buffer:
		return "buffer"
	case Refuse:
		return "refuse"
	}
	return "Policy(" + strconv.Itoa(int(p)) + ")"
}

// Guard is a condition on the data under which a row is taken. The zero value
// is no guard. Holds must be pure: it may be called any number of times, or
// not at all. The name is what diagrams and faults show; within a cell it
// stands for the condition, so that no two rows there may share it.
type Guard[D any] struct {
	Name  string
	Holds func(D) bool
}

// Row is one line of the table: from a state, on an event or after a time, to
// a state or under a policy.
type Row[S, E ~string, D any] struct {
	From    S             // a state, the name of a group, or Any
	On      E             // the event; empty in a row with After; Any only in policy rows
	After   time.Duration // instead of On: taken when the state has lasted so long
	If      Guard[D]      // taken only if it holds
	To      S             // where it leads; the state itself means that it is not left
	Policy  Policy        // instead of To
	Because string        // why the row is there, for readers
}

// Table describes a machine. The states are those that it names anywhere.
type Table[S, E ~string, D any] struct {
	Initial S         // where every instance begins
	Final   []S       // where it ends; none if it never does
	Groups  map[S][]S // name to members; a member may be another group

	// Events lists all events there are. A row with another one is then a
	// fault, and an event without any row still has cells to be decided. If it
	// is empty, the events are those of the rows.
	Events []E

	Rows      []Row[S, E, D]
	Otherwise Policy // what becomes of an event in all the cells left
}
