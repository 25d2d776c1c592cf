package saga

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sagamill/sagamill/compensation"
)

// Explain tells what the definition's checks have proved, as a table for people: for each state, and each way out of it that
// compensates or fails, what is undone, in which order, and what is left; then what undoes each step, or why it is left. It is what
// may have taken effect at most; [Instance.WouldUndo] says it of one instance. A definition with faults proves nothing: it is
// empty.
func (d *Definition[S, E, D]) Explain() string {
	if d.err != nil {
		return ""
	}
	p := newProof(d.plan)
	var ways [][]string
	for _, state := range d.plan.machine.States() {
		ways = append(ways, p.ways(state)...)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s version %d: what a compensation undoes, and what it leaves\n\n", d.plan.name, d.plan.version)
	layout(&b, append([][]string{{"STATE", "WHEN", "UNDOES, IN THIS ORDER", "LEAVES"}}, ways...))
	if steps := p.steps(); len(steps) > 0 {
		b.WriteString("\n")
		layout(&b, append([][]string{{"STEP", "IS UNDONE BY, OR LEFT BECAUSE"}}, steps...))
	}
	for _, sign := range []struct{ sign, means string }{
		{"? ", "a?: refused or given up, so that its effect exists only if an answer was lost"},
		{" & ", "a & b: side by side"},
		{" / ", "a / b: alternatives, or steps of a loop: what began last is undone first"},
	} {
		if slices.ContainsFunc(ways, func(way []string) bool {
			return strings.Contains(strings.ReplaceAll(way[2]+", "+way[3]+" ", ",", " "), sign.sign)
		}) {
			b.WriteString("\n" + sign.means)
		}
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}

// proof is what the checks of a definition computed, with what it takes to tell it.
type proof struct {
	*compiler
	may         map[string]stepSet
	beforePivot map[string]bool // states
	afterPivot  map[string]bool
	declared    []*stepPlan                // in the table's order
	precedes    map[string]map[string]bool // a step may begin after the other has taken effect
	siblings    map[string][]string        // steps that run beside it
	told        map[string]bool            // steps that the table speaks of
}

func newProof(p *plan) *proof {
	c := &compiler{plan: p}
	f := &proof{compiler: c, may: c.mayHaveRun(), precedes: map[string]map[string]bool{}, siblings: map[string][]string{}, told: map[string]bool{}}
	f.beforePivot, f.afterPivot = c.reach()
	for i := range p.rows {
		r := &p.rows[i]
		for _, g := range r.groups {
			for _, s := range g {
				if !slices.Contains(f.declared, s) {
					f.declared = append(f.declared, s)
				}
				for _, sibling := range g {
					f.siblings[s.name] = append(f.siblings[s.name], sibling.name)
				}
			}
		}
		for _, state := range c.members(r) {
			f.follow(r, state)
		}
	}
	return f
}

// follow notes which steps have begun when those of row r do: what may have taken effect before it, without what it undoes.
func (f *proof) follow(r *rowPlan, state string) {
	earlier := f.before(r, state, f.may)
	for _, g := range r.groups {
		for _, s := range g {
			for name := range earlier {
				if r.compensate && f.plan.steps[name].undo.exists() {
					continue
				}
				if f.precedes[name] == nil {
					f.precedes[name] = map[string]bool{}
				}
				f.precedes[name][s.name] = true
			}
		}
		earlier.add(f.effects([][]*stepPlan{g}))
	}
}

// ways lists the ways out of a state: a line of the table for each.
func (f *proof) ways(state string) (lines [][]string) {
	if f.plan.machine.IsFinal(state) {
		return [][]string{{state, "it has ended here", "nothing", "nothing"}}
	}
	passing := f.afterPivot[state]
	for i := range f.plan.rows {
		r := &f.plan.rows[i]
		if !slices.Contains(f.members(r), state) {
			continue
		}
		passing = passing || r.hasPivot()
		fails := f.plan.failed[r.to] && r.to != state
		if f.beforePivot[state] && (r.compensate || fails) {
			undone, left := f.parted(f.before(r, state, f.may), r.compensate)
			lines = append(lines, []string{state, f.when(r), undone, left})
		}
	}
	if passing {
		lines = append(lines, []string{state, "after the pivot " + strings.Join(f.pivots(), " or "), "nothing: forward only", "nothing"})
	}
	if len(lines) == 0 {
		lines = append(lines, []string{state, "nothing fails or compensates here", "nothing", "nothing"})
	}
	for k := range lines[1:] {
		lines[k+1][0] = ""
	}
	return lines
}

// when says what takes a row, and where it leads.
func (f *proof) when(r *rowPlan) string {
	when := r.on
	if when == "" {
		when = "after " + r.after.String()
	}
	if r.guarded {
		when += " [" + f.plan.machine.Row(r.index).If.Name + "]"
	}
	return when + " -> " + r.to
}

func (f *proof) pivots() (names []string) {
	for _, s := range f.declared {
		if s.class == compensation.Pivot {
			names = append(names, s.name)
		}
	}
	return names
}

// parted writes which steps of a set are undone, and which are left. Without a compensation, only what was given up by itself
// is undone.
func (f *proof) parted(set stepSet, compensate bool) (undone, left string) {
	var undo []*stepPlan
	var stays []string
	for _, s := range f.declared {
		certain, may := set[s.name]
		if !may {
			continue
		}
		f.told[s.name] = true
		if s.undo.exists() && (compensate || !certain) {
			undo = append(undo, s)
		} else {
			stays = append(stays, marked(s, set))
		}
	}
	var order []string
	for len(undo) > 0 {
		wave := f.lastOf(undo)
		order = append(order, f.clustered(wave, set))
		undo = slices.DeleteFunc(undo, func(s *stepPlan) bool { return slices.Contains(wave, s) })
	}
	return listed(order), listed(stays)
}

func marked(s *stepPlan, set stepSet) string {
	if set[s.name] {
		return s.name
	}
	return s.name + "?"
}

func listed(names []string) string {
	if len(names) == 0 {
		return "nothing"
	}
	return strings.Join(names, ", ")
}

// lastOf returns the steps after which none of the others begins: they are undone first. In a loop there may be none that is last;
// then it is all of them.
func (f *proof) lastOf(steps []*stepPlan) []*stepPlan {
	var last []*stepPlan
	for _, s := range steps {
		followed := slices.ContainsFunc(steps, func(other *stepPlan) bool {
			return f.precedes[s.name][other.name] && !f.precedes[other.name][s.name]
		})
		if !followed {
			last = append(last, s)
		}
	}
	if len(last) == 0 {
		return steps
	}
	return last
}

// clustered writes steps between which the table fixes no order, those that run side by side as such.
func (f *proof) clustered(wave []*stepPlan, set stepSet) string {
	var clusters []string
	seen := map[string]bool{}
	for _, s := range wave {
		if seen[s.name] {
			continue
		}
		var cluster []string
		for _, other := range wave {
			if other == s || slices.Contains(f.siblings[s.name], other.name) {
				cluster, seen[other.name] = append(cluster, marked(other, set)), true
			}
		}
		clusters = append(clusters, strings.Join(cluster, " & "))
	}
	return strings.Join(clusters, " / ")
}

// steps says of each step that the table speaks of what undoes it, or why it is left.
func (f *proof) steps() (lines [][]string) {
	for _, s := range f.declared {
		if !f.told[s.name] {
			continue
		}
		how := "left: " + s.noUndo
		switch c := s.undo.command; {
		case c != nil:
			how = "undone by the command " + c.name + " to " + c.topic
		case s.undo.local != nil:
			how = "undone by a local function"
		}
		lines = append(lines, []string{s.name, how})
	}
	return lines
}
