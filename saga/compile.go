package saga

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/sagamill/sagamill/statemachine"
)

// compile turns a Spec into the form that the engine runs, and collects every fault on the way.
func compile[S, E ~string, D any](spec Spec[S, E, D]) (*plan, error) {
	c := &compiler{succeeded: map[string]bool{}, plan: &plan{
		name: spec.Name, version: max(spec.Version, 1), start: string(spec.Start),
		byName: map[string]*rowPlan{}, steps: map[string]*stepPlan{}, events: map[string]*eventPlan{}, failed: map[string]bool{},
		readable: func(c Codec, data []byte) error {
			_, err := decodeAs[D](c, data)
			return err
		},
		readsAll: readsAll[D],
		isData: func(v any) (bool, string) {
			_, is := v.(D)
			return is, reflect.TypeFor[D]().String()
		},
	}}
	c.checkName("a definition", spec.Name)
	if spec.Version < 0 {
		c.faultf("Version is %d: versions count from 1", spec.Version)
	}
	if len(spec.Succeeded)+len(spec.Failed) == 0 {
		c.faultf("there is no end: name the final states in Succeeded and Failed")
	}
	c.checkCarried("", carry[D]("the data type"))
	for _, e := range spec.Events {
		c.addEvent(string(e.Name), e.plan)
	}
	for _, s := range spec.Succeeded {
		c.succeeded[string(s)] = true
	}
	for _, s := range spec.Failed {
		c.plan.failed[string(s)] = true
		if slices.Contains(spec.Succeeded, s) {
			c.faultf("state %q is in Succeeded and in Failed: it is one or the other", s)
		}
	}
	table := statemachine.Table[string, string, folded]{
		Initial: string(spec.Initial), Groups: map[string][]string{}, Otherwise: spec.Otherwise,
		Final: append(stringsOf(spec.Succeeded), stringsOf(spec.Failed)...),
	}
	for name, members := range spec.Groups {
		table.Groups[string(name)] = stringsOf(members)
	}
	for _, row := range spec.Table {
		table.Rows = append(table.Rows, addRow(c, row))
	}
	c.addInnerEvents(&table)
	c.buildMachine(table)
	if c.plan.machine != nil { // the checks below follow the rows, which must make a machine first
		c.check()
	}
	if len(c.faults) > 0 {
		return c.plan, &DefinitionError{Definition: spec.Name, Faults: c.faults}
	}
	return c.plan, nil
}

type compiler struct {
	plan      *plan
	succeeded map[string]bool // the ends that are no failure
	faults    []string
}

func (c *compiler) faultf(format string, args ...any) {
	if f := fmt.Sprintf(format, args...); !slices.Contains(c.faults, f) {
		c.faults = append(c.faults, f)
	}
}

// checkName keeps names to what can be stored, logged and sent as metadata.
func (c *compiler) checkName(of, name string) {
	visible := !strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' })
	if name == "" || len(name) > 100 || !visible {
		c.faultf("%s is named %q: a name has 1 to 100 visible ASCII characters", of, name)
	}
}

func (c *compiler) addEvent(name string, e eventPlan) {
	c.checkName("an event", name)
	if c.plan.events[name] != nil {
		c.faultf("event %q is declared twice", name)
	}
	c.checkCarried(fmt.Sprintf("event %q: ", name), e.payload...)
	e.name = name
	c.plan.events[name] = &e
}

// addRow compiles one row of the table, and answers with what the state machine needs to know of it.
func addRow[S, E ~string, D any](c *compiler, row Row[S, E, D]) statemachine.Row[string, string, folded] {
	r := &rowPlan{
		guarded: row.If.Holds != nil, index: len(c.plan.rows), from: string(row.From), on: string(row.On), after: row.After, to: string(row.To),
		rejected: string(row.Rejected), compensate: row.Compensate, interrupts: row.Interrupts, policy: row.Policy,
	}
	guard := statemachine.Guard[folded]{Name: row.If.Name}
	if holds := row.If.Holds; holds != nil {
		guard.Holds = func(f folded) bool {
			d, err := readAs[D](f.codec, f.data)
			if err != nil {
				panic(err) // decide turns it into a refusal that names the guard's row
			}
			return holds(d)
		}
	}
	r.name = c.rowName(r, guard.Name)
	for _, s := range row.Run {
		r.groups = append(r.groups, addGroup(c, r, s))
	}
	c.checkRow(r)
	c.plan.rows = append(c.plan.rows, *r)
	return statemachine.Row[string, string, folded]{
		From: r.from, On: r.on, After: r.after, If: guard, To: r.to, Policy: r.policy, Because: row.Because,
	}
}

// rowName is what is stored of a row. It has no duration in it: a time to live may be configured anew.
func (c *compiler) rowName(r *rowPlan, guard string) string {
	name := r.from + "/" + r.on
	if r.on == "" {
		name = r.from + "/after->" + r.to
	}
	if guard != "" {
		name += "[" + guard + "]"
	}
	taken := func(name string) bool {
		return slices.ContainsFunc(c.plan.rows, func(o rowPlan) bool { return o.name == name })
	}
	for n, base := 2, name; taken(name); n++ {
		name = fmt.Sprintf("%s#%d", base, n)
	}
	return name
}

func addGroup[D any](c *compiler, r *rowPlan, s Step[D]) []*stepPlan {
	if s.parallel == nil {
		return []*stepPlan{c.addStep(s.plan)}
	}
	for _, f := range s.plan.faults {
		c.faultf("row %s: %s", r.name, f)
	}
	if len(s.parallel) == 0 {
		c.faultf("row %s: Parallel without steps", r.name)
	}
	var group []*stepPlan
	for _, sibling := range s.parallel {
		if sibling.parallel != nil {
			c.faultf("row %s: Parallel inside of Parallel: list all siblings in one", r.name)
			continue
		}
		group = append(group, c.addStep(sibling.plan))
	}
	return group
}

// addStep registers a step under its name. The same declaration may stand in several rows.
func (c *compiler) addStep(s stepPlan) *stepPlan {
	if known := c.plan.steps[s.name]; known != nil {
		if known.id != s.id {
			c.faultf("two steps are named %q: names are stored, so each step needs one of its own", s.name)
		}
		return known
	}
	p := &s
	c.plan.steps[s.name] = p
	c.checkStep(p)
	return p
}

// addInnerEvents adds the events that only the engine raises: the start, and the rejections of steps. Where no row speaks of
// them they cannot happen; the policy rows say so, that no one has to decide their cells.
func (c *compiler) addInnerEvents(table *statemachine.Table[string, string, folded]) {
	inner := c.innerEvents()
	for _, name := range inner {
		if c.plan.events[name] != nil {
			mend := "name the outside event differently"
			if name == c.plan.start {
				mend = "it is the Start event, take it out of Events"
			}
			c.faultf("event %q is declared as one from outside, but the engine raises it by itself: %s", name, mend)
		}
		decided := func(r statemachine.Row[string, string, folded]) bool {
			return r.From == Any && r.On == name && r.If.Name == ""
		}
		if !slices.ContainsFunc(table.Rows, decided) {
			table.Rows = append(table.Rows, statemachine.Row[string, string, folded]{From: Any, On: name, Policy: Refuse})
		}
	}
	for name := range c.plan.events {
		table.Events = append(table.Events, name)
	}
	slices.Sort(table.Events)
	for _, name := range inner {
		if c.plan.events[name] == nil {
			table.Events = append(table.Events, name)
		}
	}
	if len(table.Events) > 0 {
		return // the state machine finds rows on other events
	}
	for i := range c.plan.rows {
		if on := c.plan.rows[i].on; on != "" {
			c.faultf("row %s: there is no event %q: name it in Events", c.plan.rows[i].name, on)
		}
	}
}

func (c *compiler) innerEvents() []string {
	var inner []string
	add := func(name string) {
		if name != "" && !slices.Contains(inner, name) {
			inner = append(inner, name)
		}
	}
	add(c.plan.start)
	for i := range c.plan.rows {
		r := &c.plan.rows[i]
		for _, g := range r.groups {
			for _, s := range g {
				if s.rejectable() {
					add(r.rejection(s.name))
				}
			}
		}
	}
	return inner
}

func (c *compiler) buildMachine(table statemachine.Table[string, string, folded]) {
	machine, err := table.Build()
	var faults *statemachine.FaultsError
	switch {
	case errors.As(err, &faults):
		for _, f := range faults.Faults {
			c.faultf("%s", inSpec(f))
		}
	case err != nil:
		c.faultf("%s", err)
	}
	c.plan.machine = machine
	for i := range c.plan.rows {
		c.plan.byName[c.plan.rows[i].name] = &c.plan.rows[i]
	}
}

// inSpec says a fault of the state machine's in the words of a Spec.
func inSpec(fault string) string {
	return strings.NewReplacer("Rows[", "Table[", "of Final", "of Succeeded and Failed", "in Final", "in Succeeded or Failed").Replace(fault)
}

func stringsOf[S ~string](in []S) []string {
	out := make([]string, len(in))
	for i, s := range in {
		out[i] = string(s)
	}
	return out
}
