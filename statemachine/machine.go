package statemachine

import (
	"slices"
	"strconv"
	"time"
)

// Kind says what becomes of an event.
type Kind uint8

const (
	Transition Kind = iota + 1 // a row leads to Answer.To
	Ignored                    // recorded and dropped
	Buffered                   // kept until a state is reached in which it fits
	Refused                    // answered with a refusal
	NoState                    // the machine does not know the state
	NoEvent                    // the machine does not know the event
)

// String returns the kind in lower case, such as "transition".
func (k Kind) String() string {
	switch k {
	case Transition:
		return "transition"
	case Ignored:
		return "ignored"
	case Buffered:
		return "buffered"
	case Refused:
		return "refused"
	case NoState:
		return "no such state"
	case NoEvent:
		return "no such event"
	}
	return "Kind(" + strconv.Itoa(int(k)) + ")"
}

// Answer says what becomes of an event in a state.
type Answer[S ~string] struct {
	Kind Kind
	Row  int // index into Table.Rows; -1 if Otherwise decided, or nothing could
	To   S   // for Transition; the same state if that is not left
}

// Timeout is a row that is taken when its state has lasted for After, provided
// that its guard holds then.
type Timeout struct {
	Row   int
	After time.Duration
}

// Machine answers what becomes of events. It is made by [Table.Build], never
// changes, and may be used by many goroutines. Methods that take a row panic if
// the table has no row with that index.
type Machine[S, E ~string, D any] struct {
	initial  S
	rows     []Row[S, E, D]
	states   []S
	events   []E
	stateAt  names
	eventAt  names
	ends     []bool           // by state
	cells    [][]choice[S, D] // state * len(events) + event
	timeouts [][]Timeout      // by state
	members  map[string][]int
	where    [][]int // by row
}

// choice is one row of a cell. All but the last of a cell have a guard.
type choice[S ~string, D any] struct {
	holds  func(D) bool
	answer Answer[S]
}

// Find says what becomes of the event in the state. It allocates nothing.
func (m *Machine[S, E, D]) Find(state S, event E, data D) Answer[S] {
	s, known := m.stateAt.find(string(state))
	if !known {
		return Answer[S]{Kind: NoState, Row: -1}
	}
	e, known := m.eventAt.find(string(event))
	if !known {
		return Answer[S]{Kind: NoEvent, Row: -1}
	}
	cell := m.cells[s*len(m.events)+e]
	last := len(cell) - 1
	for i := range last {
		if cell[i].holds(data) {
			return cell[i].answer
		}
	}
	return cell[last].answer
}

// Timeouts returns the time-outs that begin when the state is entered, the
// shortest first. Those of one duration stand in the order of precedence: when
// it is over, the first whose guard holds is taken, and the rest are not. The
// slice is shared: do not change it.
func (m *Machine[S, E, D]) Timeouts(state S) []Timeout {
	s, known := m.stateAt.find(string(state))
	if !known {
		return nil
	}
	return m.timeouts[s]
}

// Holds reports whether the guard of a row holds; without a guard it does.
func (m *Machine[S, E, D]) Holds(row int, data D) bool {
	holds := m.rows[row].If.Holds
	return holds == nil || holds(data)
}

// Initial returns the state in which an instance begins.
func (m *Machine[S, E, D]) Initial() S { return m.initial }

// IsFinal reports whether an instance ends in the state.
func (m *Machine[S, E, D]) IsFinal(state S) bool {
	s, known := m.stateAt.find(string(state))
	return known && m.ends[s]
}

// HasState reports whether the table names the state. Groups are no states.
func (m *Machine[S, E, D]) HasState(state S) bool {
	_, known := m.stateAt.find(string(state))
	return known
}

// HasEvent reports whether the table names the event.
func (m *Machine[S, E, D]) HasEvent(event E) bool {
	_, known := m.eventAt.find(string(event))
	return known
}

// States returns all states: the initial one, then the others as they appear in
// the rows, then those that only Final or a group names.
func (m *Machine[S, E, D]) States() []S { return slices.Clone(m.states) }

// Events returns all events, as listed or else as they appear in the rows.
func (m *Machine[S, E, D]) Events() []E { return slices.Clone(m.events) }

// Rows returns the number of rows.
func (m *Machine[S, E, D]) Rows() int { return len(m.rows) }

// Row returns a row as it was declared.
func (m *Machine[S, E, D]) Row(row int) Row[S, E, D] { return m.rows[row] }

// Members returns the states that a [Row.From] names: those of a group, all for
// [Any], else the state itself. It returns none for an unknown name.
func (m *Machine[S, E, D]) Members(from S) []S { return m.pick(m.members[string(from)]) }

// Where returns the states in which the row may be taken: its members without
// those that are final (if it leads on) and those in which more specific rows
// leave nothing to it.
func (m *Machine[S, E, D]) Where(row int) []S { return m.pick(m.where[row]) }

func (m *Machine[S, E, D]) pick(states []int) []S {
	picked := make([]S, len(states))
	for i, state := range states {
		picked[i] = m.states[state]
	}
	return picked
}

// assemble makes the machine of a table and its plan, which has no faults.
func assemble[S, E ~string, D any](t Table[S, E, D], p *plan) *Machine[S, E, D] {
	m := &Machine[S, E, D]{
		initial:  t.Initial,
		rows:     slices.Clone(t.Rows),
		states:   typed[S](p.states.list),
		events:   typed[E](p.events.list),
		stateAt:  p.states,
		eventAt:  p.events,
		ends:     p.ends,
		cells:    make([][]choice[S, D], len(p.cells)),
		timeouts: make([][]Timeout, len(p.states.list)),
		members:  p.members,
		where:    p.where(),
	}
	for i, cell := range p.cells {
		for _, row := range cell.rows {
			m.cells[i] = append(m.cells[i], choice[S, D]{t.Rows[row].If.Holds, answer(t.Rows[row], row)})
		}
		if !cell.closed {
			m.cells[i] = append(m.cells[i], choice[S, D]{answer: Answer[S]{Kind: decides[t.Otherwise], Row: -1}})
		}
	}
	for state := range p.states.list {
		for _, row := range p.timeouts(state) {
			m.timeouts[state] = append(m.timeouts[state], Timeout{Row: row, After: t.Rows[row].After})
		}
	}
	return m
}

// decides is what a policy makes of an event.
var decides = [...]Kind{Ignore: Ignored, Buffer: Buffered, Refuse: Refused}

func answer[S, E ~string, D any](row Row[S, E, D], index int) Answer[S] {
	if row.To == "" {
		return Answer[S]{Kind: decides[row.Policy], Row: index}
	}
	return Answer[S]{Kind: Transition, Row: index, To: row.To}
}
