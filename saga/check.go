package saga

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sagamill/sagamill/compensation"
)

// The checks of a definition: what the compiler can prove before any instance runs.

// checkStep looks at a step by itself.
func (c *compiler) checkStep(s *stepPlan) {
	c.checkName("a step", s.name)
	if strings.Contains(s.name, "/") {
		c.faultf("step %q: a step's name has no \"/\", which stands between it and its run, and its undo", s.name)
	}
	for _, f := range s.faults {
		c.faultf("step %q: %s", s.name, f)
	}
	c.checkCarried(fmt.Sprintf("step %q: ", s.name), s.carries...)
	if !s.action.exists() {
		c.faultf("step %q has no action: its function is nil", s.name)
	}
	if s.undos > 1 {
		c.faultf("step %q says more than once how it is undone: one of Undo, UndoBy and NoUndo", s.name)
	}
	if s.undos == 1 && s.noUndo == "" && !s.undo.exists() {
		c.faultf("step %q has an empty compensation", s.name)
	}
	if s.undo.exists() && s.class == compensation.Pivot {
		c.faultf("step %q is the pivot and has a compensation, which would never run: drop one of the two", s.name)
	}
	if s.key != nil && s.undo.exists() {
		c.faultf("step %q names a Key of its own and has a compensation: under that key it is done once, and would not be done again after it was undone; drop one of the two", s.name)
	}
	if s.timeout > 0 && s.action.local == nil && s.undo.local == nil {
		c.faultf("step %q has a Timeout, which bounds local attempts, and none of its own: Retry says when a command is sent again", s.name)
	}
	if s.action.oneway && s.class == compensation.Pivot {
		c.faultf("step %q is an event and cannot be the pivot: nobody answers it", s.name)
	}
	for _, undo := range []bool{false, true} {
		e := s.effect(undo)
		if err := e.retry.Validate(); err != nil {
			c.faultf("step %q: %s", s.name, strings.ReplaceAll(err.Error(), "\n", "; "))
		}
		if e.command != nil {
			c.checkCarried(fmt.Sprintf("step %q: ", s.name), e.command.carries...)
		}
		if p := e.command; p != nil && (p.name == "" || p.topic == "" || p.request == nil) {
			c.faultf("step %q: a command needs a name, a topic and a function that makes it", s.name)
		}
	}
}

// checkRow looks at a row by itself.
func (c *compiler) checkRow(r *rowPlan) {
	if r.policy != 0 && (len(r.groups) > 0 || r.compensate || r.interrupts || r.rejected != "") {
		c.faultf("row %s has a Policy, so it takes no transition: Run, Rejected, Compensate and Interrupts have no meaning in it", r.name)
	}
	if r.interrupts && r.on == "" {
		c.faultf("row %s: a time-out never interrupts; drop Interrupts", r.name)
	}
	if r.rejected != "" && !r.canBeRejected() {
		c.faultf("row %s names the event Rejected: %q, but none of its steps can be rejected", r.name, r.rejected)
	}
	if r.compensate && c.succeeded[r.to] {
		c.faultf("row %s undoes everything and ends in %q, which is in Succeeded: lead it to a state of Failed, or drop Compensate", r.name, r.to)
	}
	decided := false // a pivot was seen
	seen := map[string]bool{}
	for _, g := range r.groups {
		for _, s := range g {
			if seen[s.name] {
				c.faultf("row %s runs step %q twice: a step's run is known by its row, so declare a step for each", r.name, s.name)
			}
			seen[s.name] = true
			if len(g) > 1 && (s.class != g[0].class || s.class == compensation.Pivot) {
				c.faultf("row %s: step %q cannot run beside the others: parallel steps are of one class, and a pivot stands alone", r.name, s.name)
			}
			switch {
			case decided && s.class == compensation.Pivot:
				c.faultf("row %s has two pivots, %q is the second: what decides is decided once; make it Retriable", r.name, s.name)
			case decided && s.rejectable():
				c.faultf("row %s: step %q comes after the pivot, where nothing is undone any more: make it Retriable, or move it before the pivot", r.name, s.name)
			case decided && s.undo.exists():
				c.faultf("row %s: step %q comes after the pivot and has a compensation, which would never run: drop it", r.name, s.name)
			}
			if r.compensate && s.rejectable() {
				c.faultf("row %s: step %q runs while the row compensates, so it must be Retriable", r.name, s.name)
			}
		}
		decided = decided || len(g) > 0 && g[0].class == compensation.Pivot
	}
}

// check follows the rows through the state graph.
func (c *compiler) check() {
	c.checkStart()
	for i := range c.plan.rows {
		if r := &c.plan.rows[i]; r.policy == 0 {
			c.checkInterrupt(r)
			if !r.compensate { // such a row has no steps that can be rejected, or checkRow has told
				c.checkRejections(r)
			}
		}
	}
	c.checkTraps()
	c.checkAfterPivot()
	c.checkFailedEnds()
}

// checkTraps looks for states that only time-outs leave, all of them with guards. A time-out is judged once: if its guard does
// not hold then, it is over. (Events may come again.)
func (c *compiler) checkTraps() {
	for _, state := range c.plan.machine.States() {
		guarded, free := 0, 0
		for i := range c.plan.rows {
			r := &c.plan.rows[i]
			switch {
			case r.to == state || !slices.Contains(c.members(r), state):
			case r.guarded && r.after > 0:
				guarded++
			default:
				free++
			}
		}
		if guarded > 0 && free == 0 {
			c.faultf("state %q is left by time-outs with guards only: if none holds when it is due, nothing ever leaves it; give one of the longest no guard", state)
		}
	}
}

func (c *compiler) checkStart() {
	p := c.plan
	if p.start != "" && !c.alwaysAnswered(p.machine.Initial(), p.start) {
		c.faultf("the start event %q has no row (without a guard) in the initial state %q", p.start, p.machine.Initial())
	}
}

func (c *compiler) checkInterrupt(r *rowPlan) {
	if r.interrupts && c.plan.events[r.on] == nil {
		c.faultf("row %s interrupts, but %q is not an event from outside", r.name, r.on)
	}
}

// answers lists the rows with transitions that may answer an event in a state.
func (c *compiler) answers(state, event string) []*rowPlan {
	var rows []*rowPlan
	for i := range c.plan.rows {
		r := &c.plan.rows[i]
		if r.on == event && slices.Contains(c.members(r), state) {
			rows = append(rows, r)
		}
	}
	return rows
}

// alwaysAnswered tells whether the table answers an event in a state with a transition, whatever the data.
func (c *compiler) alwaysAnswered(state, event string) bool {
	return slices.ContainsFunc(c.answers(state, event), func(r *rowPlan) bool { return !r.guarded })
}

// checkRejections: the rejection of each step must be answered in each state from which its row starts.
func (c *compiler) checkRejections(r *rowPlan) {
	for _, g := range r.groups {
		for _, s := range g {
			if !s.rejectable() {
				continue
			}
			for _, state := range c.members(r) {
				c.checkAnswer(r, s, state, r.rejection(s.name))
			}
		}
	}
}

func (c *compiler) checkAnswer(r *rowPlan, s *stepPlan, state, event string) {
	for _, answer := range c.answers(state, event) {
		if r.stepCount() > 1 && !answer.compensate {
			c.faultf("row %s answers a rejection in row %s, which has several steps: some may have taken effect, so it must Compensate", answer.name, r.name)
		}
	}
	if !c.alwaysAnswered(state, event) {
		c.faultf("step %q of row %s may be rejected, but state %q has no row (without a guard) on %q", s.name, r.name, state, event)
	}
}

// checkAfterPivot: once a pivot succeeded the saga only goes forward. A state that is also reached without the pivot may have
// a compensating row: after the pivot its event is refused.
func (c *compiler) checkAfterPivot() {
	before, after := c.reach()
	for i := range c.plan.rows {
		r := &c.plan.rows[i]
		for _, state := range c.members(r) {
			if !after[state] {
				continue
			}
			for _, g := range r.groups {
				for _, s := range g {
					if s.rejectable() {
						c.faultf("step %q of row %s may come after the pivot, where nothing is undone any more: make it Retriable", s.name, r.name)
					}
				}
			}
			switch {
			case r.compensate && !before[state]:
				c.faultf("row %s compensates, but state %q is only reached after the pivot, where nothing is undone any more", r.name, state)
			case !r.compensate && c.plan.failed[r.to] && r.to != state:
				c.faultf("row %s may end in %q after the pivot, where nothing is undone any more: lead it to a state of Succeeded", r.name, r.to)
			}
		}
	}
}

// reach answers which states can be reached without passing a pivot, and which behind one.
func (c *compiler) reach() (before, after map[string]bool) {
	before, after = map[string]bool{c.plan.machine.Initial(): true}, map[string]bool{}
	for changed := true; changed; {
		changed = false
		mark := func(set map[string]bool, state string) {
			if !set[state] {
				set[state], changed = true, true
			}
		}
		for i := range c.plan.rows {
			r := &c.plan.rows[i]
			for _, state := range c.members(r) {
				if before[state] && !r.hasPivot() {
					mark(before, r.to)
				}
				if before[state] && r.hasPivot() || after[state] && !r.compensate {
					mark(after, r.to)
				}
			}
		}
	}
	return before, after
}

// members lists the states in which a row with a transition may be taken.
func (c *compiler) members(r *rowPlan) []string {
	if r.policy != 0 {
		return nil
	}
	return c.plan.machine.Where(r.index)
}

// checkFailedEnds proves that no path to a failed end leaves an effect behind. It computes, as a fixed point over the state
// graph, which steps may have taken effect in each state, and looks at every row that leads to a failed end.
func (c *compiler) checkFailedEnds() {
	may := c.mayHaveRun()
	unprepared := map[string][]string{} // steps that say nothing about being undone: the rows that would leave their effects
	for i := range c.plan.rows {
		r := &c.plan.rows[i]
		if !c.plan.failed[r.to] {
			continue
		}
		for _, state := range c.members(r) {
			before := c.before(r, state, may)
			for _, name := range slices.Sorted(maps.Keys(before)) {
				s, certain := c.plan.steps[name], before[name]
				switch {
				case !s.undo.exists() && s.noUndo == "" && !slices.Contains(unprepared[name], r.name):
					unprepared[name] = append(unprepared[name], r.name)
				case certain && !r.compensate && s.undo.exists():
					c.faultf("row %s ends in %q, but leaves what step %q did: it must Compensate", r.name, r.to, name)
				}
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(unprepared)) {
		c.faultf("step %q may have taken effect when the saga fails (%s): say how it is undone (Undo, UndoBy), or why it need not be (NoUndo)",
			name, strings.Join(unprepared[name], ", "))
	}
}

// stepSet holds steps that may have taken effect. True: and nothing but a compensation undoes it. False: the step was given up
// by itself, and if its outcome is unknown it is undone (or cannot be) whatever the rows say.
type stepSet map[string]bool

func (s stepSet) add(more stepSet) (news bool) {
	for name, certain := range more {
		if known, ok := s[name]; !ok || certain && !known {
			s[name], news = certain, true
		}
	}
	return news
}

// before answers which steps may have taken effect when row r is taken in the state: those of the rows before, and those of
// the row that r abandons, by answering its rejection or by interrupting it.
func (c *compiler) before(r *rowPlan, state string, may map[string]stepSet) stepSet {
	set := stepSet{}
	set.add(may[state])
	for i := range c.plan.rows {
		abandoned := &c.plan.rows[i]
		if !slices.Contains(c.members(abandoned), state) {
			continue
		}
		if r.interrupts && !abandoned.compensate { // a row that compensates is not interrupted
			set.add(c.effects(abandoned.groups))
			continue
		}
		set.add(c.effectsWhenRejected(abandoned, r.on))
	}
	return set
}

// effectsWhenRejected lists the steps of a row that may have taken effect when the event of a rejection ends it: none of a group
// after the last one that raises it. If one step alone raises it there, that step was refused, or was given up by itself.
func (c *compiler) effectsWhenRejected(r *rowPlan, event string) stepSet {
	begun, raising := 0, []string{}
	for k, g := range r.groups {
		for _, s := range g {
			if s.rejectable() && r.rejection(s.name) == event {
				if begun != k+1 {
					begun, raising = k+1, nil
				}
				raising = append(raising, s.name)
			}
		}
	}
	set := c.effects(r.groups[:begun])
	if len(raising) == 1 && set[raising[0]] {
		set[raising[0]] = false
	}
	return set
}

// effects lists the steps whose effect a later failure would have to deal with: those before the pivot.
func (c *compiler) effects(groups [][]*stepPlan) stepSet {
	set := stepSet{}
	for _, g := range groups {
		for _, s := range g {
			if s.class == compensation.Pivot {
				return set
			}
			set[s.name] = true
		}
	}
	return set
}

// mayHaveRun computes for each state the steps whose effect may exist in it, and can still be undone.
func (c *compiler) mayHaveRun() map[string]stepSet {
	may := map[string]stepSet{}
	for changed := true; changed; {
		changed = false
		for i := range c.plan.rows {
			r := &c.plan.rows[i]
			if r.hasPivot() || c.plan.failed[r.to] {
				continue
			}
			for _, state := range c.members(r) {
				left := c.before(r, state, may)
				if r.compensate {
					maps.DeleteFunc(left, func(name string, _ bool) bool { return c.plan.steps[name].undo.exists() })
				}
				left.add(c.effects(r.groups))
				if may[r.to] == nil {
					may[r.to] = stepSet{}
				}
				changed = may[r.to].add(left) || changed
			}
		}
	}
	return may
}
