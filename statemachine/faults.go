package statemachine

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// FaultsError lists all that is wrong with a table. Each fault says what, where
// and how to mend it. They come in the order of the table: its names first,
// then its rows, then what the rows together leave open.
type FaultsError struct {
	Faults []string
}

// Error returns the faults, each on a line of its own.
func (e *FaultsError) Error() string {
	number := "1 fault"
	if len(e.Faults) != 1 {
		number = strconv.Itoa(len(e.Faults)) + " faults"
	}
	return "statemachine: " + number + " in the table:\n  - " + strings.Join(e.Faults, "\n  - ")
}

func (p *plan) fault(format string, args ...any) {
	p.faults = append(p.faults, fmt.Sprintf(format, args...))
}

// checkTable looks at names and rows one by one.
func (p *plan) checkTable() {
	p.checkInitial()
	p.checkEvents()
	p.checkFinal()
	p.checkGroups()
	if p.otherwise > Refuse {
		p.fault("Otherwise is %v, which is no policy: use Ignore, Buffer or Refuse", p.otherwise)
	}
	p.faulty = make([]bool, len(p.rows))
	for i := range p.rows {
		before := len(p.faults)
		p.checkWhen(i)
		p.checkWhither(i)
		p.checkGuard(i)
		p.checkEnd(i)
		p.faulty[i] = len(p.faults) > before
	}
}

// checkCompiled looks at what the rows together make of the table.
func (p *plan) checkCompiled() {
	p.checkClashes()
	p.checkPaths()
	p.checkCells()
}

func (p *plan) checkInitial() {
	if len(p.rows) == 0 {
		p.fault("there are no rows: write at least one that leads on from Initial")
	}
	switch {
	case p.initial == "":
		p.fault("Initial is empty: name the state in which an instance begins")
	case p.initial == Any:
		p.fault(`Initial is "*", which no state can be named: name the one in which an instance begins`)
	case p.isGroup(p.initial):
		p.fault("Initial %q is a group: name one of its states, or rename the group", p.initial)
	case len(p.rows) > 0 && !p.states.has(p.initial):
		p.fault("Initial %q is unknown: no row, group or Final names it; correct it, or write a row from it", p.initial)
	}
}

func (p *plan) checkEvents() {
	for i, event := range p.listed {
		switch {
		case event == "":
			p.fault("Events[%d] is empty: name an event", i)
		case event == Any:
			p.fault(`Events[%d] is "*", which no event can be named: rename it`, i)
		case slices.Contains(p.listed[:i], event):
			p.fault("Events[%d] lists %q again: take it out", i, event)
		}
	}
}

func (p *plan) checkFinal() {
	for i, final := range p.final {
		switch {
		case final == "":
			p.fault("Final[%d] is empty: name a state", i)
		case final == Any:
			p.fault(`Final[%d] is "*", which no state can be named: list the final states`, i)
		case p.isGroup(final):
			p.fault("Final[%d] %q is a group: list its states, or rename the group", i, final)
		case slices.Contains(p.final[:i], final):
			p.fault("Final[%d] lists %q again: take it out", i, final)
		}
	}
}

func (p *plan) checkGroups() {
	for _, group := range p.groupNames() {
		switch members := p.groups[group]; {
		case group == "":
			p.fault(`Groups[""] has no name: name it`)
		case group == Any:
			p.fault(`Groups["*"] has the name that means every state: rename it`)
		case len(members) == 0:
			p.fault("Groups[%q] is empty: list its states, or take it out", group)
		}
		p.checkMembers(group)
		// A cycle is told once, beginning with the first of its names.
		if path := p.cycle(group, group, map[string]bool{}); path != nil {
			p.fault("groups go round in a circle, %s: take one out of the other", strings.Join(path, " > "))
		}
	}
}

func (p *plan) checkMembers(group string) {
	members := p.groups[group]
	for i, member := range members {
		switch {
		case member == "":
			p.fault("Groups[%q][%d] is empty: name a state or a group", group, i)
		case member == Any:
			p.fault(`Groups[%q][%d] is "*": list the states, or write rows from Any`, group, i)
		case member == group:
			p.fault("Groups[%q][%d] is the group itself: take it out, or rename the group if a state is meant", group, i)
		case slices.Contains(members[:i], member):
			p.fault("Groups[%q][%d] lists %q again: take it out", group, i, member)
		}
	}
}

// cycle returns the quoted names of a way from a group back to it through
// groups that sort after it, or nil.
func (p *plan) cycle(start, at string, seen map[string]bool) []string {
	for _, member := range p.groups[at] {
		if member == start && at != start {
			return []string{strconv.Quote(at), strconv.Quote(start)}
		}
		if !p.isGroup(member) || member <= start || seen[member] {
			continue
		}
		seen[member] = true
		if path := p.cycle(start, member, seen); path != nil {
			return append([]string{strconv.Quote(at)}, path...)
		}
	}
	return nil
}

// rowFault names the row, then what is wrong with it.
func (p *plan) rowFault(row int, format string, args ...any) {
	p.fault("%s: %s", p.name(row), fmt.Sprintf(format, args...))
}

// name says which row, in the words of the literal.
func (p *plan) name(row int) string {
	r := p.rows[row]
	name := fmt.Sprintf("Rows[%d] (from %q", row, r.from)
	if r.on != "" {
		name += fmt.Sprintf(" on %q", r.on)
	}
	if r.after != 0 {
		name += " after " + brief(r.after)
	}
	return name + ")"
}

func (p *plan) checkWhen(row int) {
	r := p.rows[row]
	if r.from == "" {
		p.rowFault(row, "From is empty: name a state, a group or Any")
	}
	switch {
	case r.on == "" && r.after == 0:
		p.rowFault(row, "it has neither On nor After: name the event that takes it, or the time after which it is taken")
	case r.on != "" && r.after != 0:
		p.rowFault(row, "it has both On and After: make two rows of it")
	case r.after < 0:
		p.rowFault(row, "After is negative: give a time above zero")
	case r.on == Any && r.to != "":
		p.rowFault(row, "it leads to %q on every event, which only a policy may take: name the event", r.to)
	}
	if r.on != "" && r.on != Any && !p.events.has(r.on) {
		p.rowFault(row, "Events does not list %q: correct it, or add it there", r.on)
	}
}

func (p *plan) checkWhither(row int) {
	r := p.rows[row]
	switch {
	case r.policy > Refuse:
		p.rowFault(row, "%v is no policy: use Ignore, Buffer or Refuse", r.policy)
	case r.to == "" && r.policy == Undecided:
		p.rowFault(row, "it has neither To nor Policy: name the state to which it leads, or say what becomes of the event")
	case r.to != "" && r.policy != Undecided:
		p.rowFault(row, "it has both To %q and Policy %v: keep one", r.to, r.policy)
	case r.policy != Undecided && r.after != 0 && r.on == "":
		p.rowFault(row, "it has a policy for a time-out, but policies are about events: give To, or On instead of After")
	case r.policy != Undecided && r.guarded:
		p.rowFault(row, "policy %v has a guard: take it off, and give guards to the rows that lead on", r.policy)
	}
	if r.to == Any {
		p.rowFault(row, `To is "*", which no state can be named: name the state to which it leads`)
	} else if p.isGroup(r.to) && r.to != "" {
		p.rowFault(row, "To %q is a group: name one of its states, or rename the group", r.to)
	}
}

func (p *plan) checkGuard(row int) {
	r := p.rows[row]
	if r.guarded && r.guard == "" {
		p.rowFault(row, "its guard has no name: give it one, for diagrams and messages")
	}
	if r.guarded && !r.callable {
		p.rowFault(row, "its guard %q has no function: set Holds", r.guard)
	}
}

// checkEnd finds rows that would lead out of final states.
func (p *plan) checkEnd(row int) {
	r := p.rows[row]
	if r.to == "" && r.after == 0 {
		return
	}
	if state, own := p.states.at[r.from]; own {
		switch {
		case !p.ends[state]:
		case r.after != 0:
			p.rowFault(row, "a final state has no time-outs: take the row out, or %q out of Final", r.from)
		case r.to != r.from:
			p.rowFault(row, "it leaves a final state: take the row out, or %q out of Final", r.from)
		}
		return
	}
	if len(p.members[r.from]) > 0 && len(p.covers(row)) == 0 {
		p.rowFault(row, "it applies nowhere, since all states of %q are final: take the row out, or one of them out of Final", r.from)
	}
}

func (p *plan) checkClashes() {
	slices.SortFunc(p.clashes, func(a, b clash) int {
		return cmp.Or(cmp.Compare(a.later, b.later), cmp.Compare(a.earlier, b.earlier))
	})
	for _, c := range p.clashes {
		earlier, later := p.rows[c.earlier], p.rows[c.later]
		switch {
		case earlier.guarded:
			p.rowFault(c.later, "it is never taken in %s, since %s has the same guard %q: keep one, or name another guard",
				quoted(c.states), p.name(c.earlier), later.guard)
		case later.guarded:
			p.rowFault(c.later, "it is never taken in %s, since %s comes before it and has no guard: put the guarded row first",
				quoted(c.states), p.name(c.earlier))
		default:
			mend := "keep one, or give the first a guard"
			if level := p.level(c.later); level != 0 && level != 3 {
				mend = "keep one, or decide in a row of the state itself"
			}
			p.rowFault(c.later, "it is ambiguous in %s, since %s has no guard either: %s",
				quoted(c.states), p.name(c.earlier), mend)
		}
	}
}

// checkPaths finds states that are never entered, and those that are never left
// for an end. Guards are taken to hold, some time.
func (p *plan) checkPaths() {
	onward, back := p.edges()
	p.checkEntered(onward)
	p.checkTraps(onward, back)
}

func (p *plan) checkEntered(onward [][]int) {
	start, known := p.states.at[p.initial]
	if !known {
		return
	}
	entered := walk(onward, []int{start})
	for i, state := range p.states.list {
		if !entered[i] {
			p.fault("state %q is never entered from %q: write a row that leads to it, correct the name, or declare it in Groups if a group is meant",
				state, p.initial)
		}
	}
}

func (p *plan) checkTraps(onward, back [][]int) {
	if !slices.Contains(p.ends, true) {
		for i, state := range p.states.list {
			if !slices.ContainsFunc(onward[i], func(to int) bool { return to != i }) {
				p.fault("state %q is a trap, since no row leaves it: write one, or name it in Final", state)
			}
		}
		return
	}
	var ends []int
	for i, end := range p.ends {
		if end {
			ends = append(ends, i)
		}
	}
	ending := walk(back, ends)
	for i, state := range p.states.list {
		if !ending[i] {
			p.fault("state %q is a trap, since no way leads from it to a final state: write a row that does, or name it in Final", state)
		}
	}
}

// edges returns where each state leads, and from where it is reached. Rows with
// faults of their own count too: those have been told already, and a state is
// not to be blamed for them.
func (p *plan) edges() (onward, back [][]int) {
	onward = make([][]int, len(p.states.list))
	back = make([][]int, len(p.states.list))
	for row, states := range p.where() {
		if p.faulty[row] {
			states = p.members[p.rows[row].from]
		}
		to, known := p.states.at[p.rows[row].to]
		if !known {
			continue
		}
		for _, from := range states {
			onward[from] = append(onward[from], to)
			back[to] = append(back[to], from)
		}
	}
	return onward, back
}

// walk reports which states are reached from some.
func walk(edges [][]int, from []int) []bool {
	reached := make([]bool, len(edges))
	for _, state := range from {
		reached[state] = true
	}
	for len(from) > 0 {
		state := from[0]
		from = from[1:]
		for _, to := range edges[state] {
			if !reached[to] {
				reached[to] = true
				from = append(from, to)
			}
		}
	}
	return reached
}

// checkCells finds what nobody decided.
func (p *plan) checkCells() {
	if p.otherwise != Undecided {
		return
	}
	for s, state := range p.states.list {
		var silent, guarded []string
		for e, event := range p.events.list {
			i := s*len(p.events.list) + e
			switch cell := p.cells[i]; {
			case cell.closed || p.excused[i]:
			case len(cell.rows) == 0:
				silent = append(silent, event)
			default:
				guarded = append(guarded, event)
			}
		}
		if len(silent) > 0 {
			p.fault("state %q: nobody decided what becomes of %s: write a row for each, a policy on Any, or Otherwise", state, quoted(silent))
		}
		if len(guarded) > 0 {
			p.fault("state %q: nobody decided what becomes of %s when no guard holds: write a row without guard for each, a policy on Any, or Otherwise",
				state, quoted(guarded))
		}
	}
}

func quoted(list []string) string {
	quotes := make([]string, len(list))
	for i, s := range list {
		quotes[i] = strconv.Quote(s)
	}
	return strings.Join(quotes, ", ")
}

// brief writes 15m, not 15m0s.
func brief(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
