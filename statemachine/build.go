package statemachine

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// Build checks the table and compiles it. The error is a [*FaultsError] that
// names every fault. The machine keeps nothing of the table that the caller
// could still change.
func (t Table[S, E, D]) Build() (*Machine[S, E, D], error) {
	p := t.plan()
	p.resolve()
	p.checkTable()
	p.compile()
	p.checkCompiled()
	if len(p.faults) > 0 {
		return nil, &FaultsError{Faults: p.faults}
	}
	return assemble(t, p), nil
}

// plan is a table without its types, and what becomes of it: names resolved to
// numbers, rows sorted into the cells that they take. It also works for tables
// with faults, so that one fault does not hide another.
type plan struct {
	initial   string
	final     []string
	groups    map[string][]string
	listed    []string // Table.Events
	rows      []line
	otherwise Policy

	states  names
	events  names
	ends    []bool           // by state
	members map[string][]int // the states that a From names

	faulty  []bool                    // by row; such rows are not compiled
	cells   []slot                    // state * len(events) + event
	excused []bool                    // by cell: a faulty row is about it
	clocks  []map[time.Duration]*slot // by state
	clashes []clash
	faults  []string
}

// line is a row without its types.
type line struct {
	from, on, to      string
	after             time.Duration
	guard             string
	guarded, callable bool // a guard is given; it has a function
	policy            Policy
}

// slot holds the rows that may take one event or one time-out in one state, in
// the order in which they are asked. It is closed when the last one has no
// guard.
type slot struct {
	rows   []int
	closed bool
}

// clash is a row that an earlier one of its level keeps from ever being taken.
type clash struct {
	earlier, later int
	states         []string
}

// names numbers strings in order of first appearance.
type names struct {
	list []string
	at   map[string]int
}

func (n *names) add(name string) {
	if _, known := n.at[name]; known {
		return
	}
	if n.at == nil {
		n.at = map[string]int{}
	}
	n.at[name] = len(n.list)
	n.list = append(n.list, name)
}

func (n *names) has(name string) bool {
	_, known := n.at[name]
	return known
}

// find is the number of a name. A few are sooner compared, one after the other, than one is hashed.
func (n *names) find(name string) (number int, known bool) {
	if len(n.list) > 12 {
		number, known = n.at[name]
		return number, known
	}
	for number, known := range n.list {
		if known == name {
			return number, true
		}
	}
	return 0, false
}

func (t Table[S, E, D]) plan() *plan {
	p := &plan{
		initial:   string(t.Initial),
		final:     plain(t.Final),
		listed:    plain(t.Events),
		groups:    make(map[string][]string, len(t.Groups)),
		rows:      make([]line, len(t.Rows)),
		otherwise: t.Otherwise,
	}
	for name, members := range t.Groups {
		p.groups[string(name)] = plain(members)
	}
	for i, row := range t.Rows {
		p.rows[i] = line{
			from:     string(row.From),
			on:       string(row.On),
			to:       string(row.To),
			after:    row.After,
			guard:    row.If.Name,
			guarded:  row.If.Name != "" || row.If.Holds != nil,
			callable: row.If.Holds != nil,
			policy:   row.Policy,
		}
	}
	return p
}

func plain[T ~string](list []T) []string {
	strs := make([]string, len(list))
	for i, s := range list {
		strs[i] = string(s)
	}
	return strs
}

func typed[T ~string](list []string) []T {
	ts := make([]T, len(list))
	for i, s := range list {
		ts[i] = T(s)
	}
	return ts
}

// resolve finds the states and events, and what each From stands for.
func (p *plan) resolve() {
	p.nameStates()
	p.nameEvents()
	p.members = map[string][]int{}
	for i, state := range p.states.list {
		p.members[state] = []int{i}
		p.members[Any] = append(p.members[Any], i)
	}
	for group := range p.groups {
		if group == Any {
			continue
		}
		p.members[group] = p.flatten(group, nil, map[string]bool{})
	}
	p.ends = make([]bool, len(p.states.list))
	for _, final := range p.final {
		if final == Any {
			continue
		}
		for _, state := range p.members[final] {
			p.ends[state] = true
		}
	}
}

func (p *plan) nameStates() {
	add := func(name string) {
		if name != "" && name != Any && !p.isGroup(name) {
			p.states.add(name)
		}
	}
	if p.mentions(p.initial) {
		add(p.initial)
	}
	for _, row := range p.rows {
		add(row.from)
		add(row.to)
	}
	for _, final := range p.final {
		add(final)
	}
	for _, group := range p.groupNames() {
		for _, member := range p.groups[group] {
			add(member)
		}
	}
}

// mentions reports whether the table knows a state apart from its being
// Initial. A row that leads on from every state knows it too: such a table
// need not name the first one again.
func (p *plan) mentions(state string) bool {
	for _, row := range p.rows {
		if row.from == state || row.to == state || row.from == Any && row.to != "" {
			return true
		}
	}
	for _, members := range p.groups {
		if slices.Contains(members, state) {
			return true
		}
	}
	return slices.Contains(p.final, state)
}

func (p *plan) nameEvents() {
	candidates := p.listed
	if len(p.listed) == 0 {
		for _, row := range p.rows {
			candidates = append(candidates, row.on)
		}
	}
	for _, event := range candidates {
		if event != "" && event != Any {
			p.events.add(event)
		}
	}
}

func (p *plan) isGroup(name string) bool {
	_, group := p.groups[name]
	return group
}

func (p *plan) groupNames() []string {
	return slices.Sorted(maps.Keys(p.groups))
}

// flatten appends the states of a group, each once, those of groups within it
// included. A cycle of groups, which is a fault, ends it too.
func (p *plan) flatten(group string, states []int, seen map[string]bool) []int {
	seen[group] = true
	for _, member := range p.groups[group] {
		if seen[member] {
			continue
		}
		if p.isGroup(member) {
			states = p.flatten(member, states, seen)
		} else if i, known := p.states.at[member]; known {
			seen[member] = true
			states = append(states, i)
		}
	}
	return states
}

// compile offers every sound row, the most specific first, to the slots of the
// states that it covers.
func (p *plan) compile() {
	p.cells = make([]slot, len(p.states.list)*len(p.events.list))
	p.excused = make([]bool, len(p.cells))
	p.clocks = make([]map[time.Duration]*slot, len(p.states.list))
	for i := range p.clocks {
		p.clocks[i] = map[time.Duration]*slot{}
	}
	for _, row := range p.bySpecificity() {
		for _, state := range p.covers(row) {
			p.place(row, state)
		}
	}
}

func (p *plan) place(row, state int) {
	if after := p.rows[row].after; after > 0 && !p.faulty[row] {
		if p.clocks[state][after] == nil {
			p.clocks[state][after] = &slot{}
		}
		p.offer(p.clocks[state][after], row, state)
		return
	}
	for _, event := range p.takes(row) {
		cell := state*len(p.events.list) + event
		if p.faulty[row] {
			p.excused[cell] = true
			continue
		}
		p.offer(&p.cells[cell], row, state)
	}
}

// offer adds a row to a slot unless a more specific one has closed it. If a row
// of the same level keeps it out, they clash.
func (p *plan) offer(s *slot, row, state int) {
	for _, earlier := range s.rows {
		if p.level(earlier) == p.level(row) && p.blocks(earlier, row) {
			p.addClash(earlier, row, p.states.list[state])
			return
		}
	}
	if s.closed {
		return
	}
	s.rows = append(s.rows, row)
	s.closed = !p.rows[row].guarded
}

// blocks reports whether a row can never be taken because of an earlier one.
func (p *plan) blocks(earlier, later int) bool {
	return !p.rows[earlier].guarded ||
		p.rows[later].guarded && p.rows[earlier].guard == p.rows[later].guard
}

func (p *plan) addClash(earlier, later int, state string) {
	for i := range p.clashes {
		c := &p.clashes[i]
		if c.earlier == earlier && c.later == later {
			if !slices.Contains(c.states, state) {
				c.states = append(c.states, state)
			}
			return
		}
	}
	p.clashes = append(p.clashes, clash{earlier, later, []string{state}})
}

// level is a row's place in the order of precedence, 0 being the first asked.
func (p *plan) level(row int) int {
	level := 0
	switch from := p.rows[row].from; {
	case from == Any:
		level = 2
	case p.isGroup(from):
		level = 1
	}
	if p.rows[row].on == Any {
		level += 3
	}
	return level
}

func (p *plan) bySpecificity() []int {
	rows := make([]int, len(p.rows))
	for i := range rows {
		rows[i] = i
	}
	slices.SortStableFunc(rows, func(a, b int) int { return cmp.Compare(p.level(a), p.level(b)) })
	return rows
}

// covers returns the states to which a row applies: those that its From names,
// without the final ones if it leads on and does not name one itself.
func (p *plan) covers(row int) []int {
	r := p.rows[row]
	members := p.members[r.from]
	if r.to == "" && r.after == 0 || p.states.has(r.from) {
		return members
	}
	open := make([]int, 0, len(members))
	for _, state := range members {
		if !p.ends[state] {
			open = append(open, state)
		}
	}
	return open
}

// takes returns the events that a row is about.
func (p *plan) takes(row int) []int {
	if p.rows[row].on == Any {
		all := make([]int, len(p.events.list))
		for i := range all {
			all[i] = i
		}
		return all
	}
	if event, known := p.events.at[p.rows[row].on]; known {
		return []int{event}
	}
	return nil
}

// timeouts returns the rows of a state's time-outs, the shortest first, those of
// one duration in the order in which they are asked.
func (p *plan) timeouts(state int) []int {
	var rows []int
	for _, after := range slices.Sorted(maps.Keys(p.clocks[state])) {
		rows = append(rows, p.clocks[state][after].rows...)
	}
	return rows
}

// where returns, by row, the states in which it may be taken.
func (p *plan) where() [][]int {
	states := make([][]int, len(p.rows))
	for state := range p.states.list {
		var rows []int
		for event := range p.events.list {
			rows = append(rows, p.cells[state*len(p.events.list)+event].rows...)
		}
		rows = append(rows, p.timeouts(state)...)
		slices.Sort(rows)
		for _, row := range slices.Compact(rows) { // a row on Any event has many cells
			states[row] = append(states[row], state)
		}
	}
	return states
}
