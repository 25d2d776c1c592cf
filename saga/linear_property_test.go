package saga

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sagamill/sagamill/compensation"
)

// TestLinearSagasAgainstTheModel gives the same inputs to decide and to the model: answers, also repeated, late and contradictory
// ones, silence, crashes, and clicks on Cancel at any moment. After each both must have begun the same effects, in the same order,
// and know the same of each step.
func TestLinearSagasAgainstTheModel(t *testing.T) {
	t.Parallel()
	for range 5 { // a hundred each
		rapid.Check(t, compareOne)
	}
}

// compareOne plays one saga.
func compareOne(rt *rapid.T) {
	groups := anyGroups(rt)
	d := linearOf(groups)
	if err := d.Validate(); err != nil {
		rt.Fatalf("%+v: %v", groups, err)
	}
	two := &twoSagas{T: rt, world: newWorld(d), model: &linearModel{groups: groups, now: worldBegan, fates: map[string]Disposition{}}}
	two.lim.waiting = 100
	two.model.start()
	two.compare(two.start(`[]`))
	for range rapid.IntRange(0, 40).Draw(rt, "inputs") {
		two.any()
	}
	two.succeed()
}

// anyGroups are the steps of some saga: before the pivot, the pivot, and after it.
func anyGroups(rt *rapid.T) (groups [][]modelStep) {
	n := 0
	group := func(class compensation.Class, undone bool) {
		size := 1
		if class != compensation.Pivot {
			size = rapid.SampledFrom([]int{1, 1, 1, 2, 3}).Draw(rt, "siblings")
		}
		var steps []modelStep
		for range size {
			s := modelStep{name: fmt.Sprint("s", n), class: class, budget: rapid.IntRange(1, 3).Draw(rt, "budget")}
			kinds := []string{"local", "command", "event"}
			if class == compensation.Pivot {
				kinds = kinds[:2]
			}
			s.action = rapid.SampledFrom(kinds).Draw(rt, "action")
			if undone && s.action != "event" {
				s.undo = rapid.SampledFrom([]string{"local", "command", "local", "command", ""}).Draw(rt, "undo")
			}
			n++
			steps = append(steps, s)
		}
		groups = append(groups, steps)
	}
	pivot := rapid.IntRange(0, 2).Draw(rt, "pivot")
	for range rapid.IntRange(pivot/2^1, 3).Draw(rt, "groups before") {
		group(rapid.SampledFrom([]compensation.Class{"", "", "", compensation.Retriable}).Draw(rt, "class"), true)
	}
	if pivot > 0 {
		group(compensation.Pivot, false)
		for range rapid.IntRange(0, 2).Draw(rt, "groups after") {
			group(compensation.Retriable, false)
		}
	}
	return groups
}

type linearData []string

func (d linearData) with(name string) linearData { return append(slices.Clone(d), name) }

// linearOf builds the definition. What steps answer is said by inputs, so nothing of them is ever called but what is pure.
func linearOf(groups [][]modelStep) *LinearDefinition[linearData] {
	var steps []Step[linearData]
	for _, g := range groups {
		var siblings []Step[linearData]
		for _, s := range g {
			siblings = append(siblings, linearStep(s))
		}
		if len(siblings) > 1 {
			siblings = []Step[linearData]{Parallel(siblings...)}
		}
		steps = append(steps, siblings...)
	}
	return Linear("model", steps...)
}

func linearStep(s modelStep) Step[linearData] {
	name := func(linearData) string { return s.name }
	fold := func(d linearData, result string) linearData { return d.with(result) }
	retry := compensation.Retry{First: modelPause, Factor: 1, Max: modelPause, Jitter: -1, Attempts: s.budget, Alert: modelAlert}
	var step Step[linearData]
	switch s.action {
	case "local":
		step = Call(s.name, func(context.Context, linearData) (string, error) { return "", nil }, fold)
	case "command":
		step = Ask(s.name, Command[string, string]{Name: "do", Topic: "t"}, name, fold)
	case "event":
		step = Emit(s.name, "t", "done", name)
	}
	if s.action == "local" || s.undo == "local" {
		step = step.Timeout(modelPatience)
	}
	switch s.undo {
	case "local":
		step = step.Undo(nothing[linearData])
	case "command":
		step = step.UndoBy(RequestOf(Command[string, string]{Name: "undo", Topic: "t"}, name))
	default:
		if s.class != compensation.Pivot {
			step = step.NoUndo("it does no harm")
		}
	}
	switch s.class {
	case compensation.Pivot:
		step = step.Pivot()
	case compensation.Retriable:
		step = step.Retriable()
	}
	return step.Retry(retry).UndoRetry(retry)
}

// twoSagas are decide in its world, and the model.
type twoSagas struct {
	*rapid.T
	*world
	model *linearModel
	heard []outcome
	ids   int
	log   []string
}

func (two *twoSagas) any() {
	switch rapid.IntRange(0, 9).Draw(two.T, "input") {
	case 0, 1, 2, 3:
		under := two.underWay()
		if len(under) == 0 {
			return
		}
		o := rapid.SampledFrom(under).Draw(two.T, "under way")
		o.Kind = rapid.SampledFrom([]outcomeKind{outcomeSucceeded, outcomeSucceeded, outcomeSucceeded, outcomeFailed, outcomeFailed, outcomeRejected}).Draw(two.T, "answer")
		two.hear(o)
	case 4:
		if len(two.heard) > 0 {
			two.hear(rapid.SampledFrom(two.heard).Draw(two.T, "again"))
		}
	case 5:
		two.stray()
	case 6, 7:
		d := rapid.SampledFrom([]time.Duration{0, modelPause, modelPause, 5 * time.Second, modelPatience, 31 * time.Second}).Draw(two.T, "after")
		two.pass(d, rapid.IntRange(0, 2).Draw(two.T, "crash") == 0)
	case 8:
		two.ids++
		id := fmt.Sprint(two.ids)
		two.model.click("web/" + id)
		two.compare(two.event("cancel", "web", id, ""))
	case 9:
		two.publish()
	}
}

// stray is an answer to an attempt that was made some time, which nobody may wait for.
func (two *twoSagas) stray() {
	if len(two.inst.Ledger) == 0 {
		return
	}
	e := rapid.SampledFrom(two.inst.Ledger).Draw(two.T, "entry")
	o := outcome{Step: e.Step, Run: e.Run, Undo: e.Undos > 0 && rapid.Bool().Draw(two.T, "undo")}
	o.Attempt = rapid.IntRange(1, attemptsOf(&e, o.Undo)).Draw(two.T, "attempt")
	o.Kind = rapid.SampledFrom([]outcomeKind{outcomeSucceeded, outcomeFailed, outcomeRejected}).Draw(two.T, "answer")
	if two.plan.steps[e.Step].action.oneway {
		return // nobody answers events
	}
	two.hear(o)
}

func (two *twoSagas) hear(o outcome) {
	two.heard = append(two.heard, o)
	if o.Kind == outcomeSucceeded {
		o.Result, _ = json.Marshal(o.Step)
	} else {
		o.Reason = "because"
	}
	two.log = append(two.log, fmt.Sprintf("%s undo %v attempt %d %s", o.Step, o.Undo, o.Attempt, o.Kind))
	two.model.report(o.Step, o.Undo, o.Attempt, o.Kind)
	two.compare(two.decide(input{outcome: &o}))
}

func (two *twoSagas) pass(d time.Duration, crash bool) {
	two.log = append(two.log, fmt.Sprintf("%s later, crash %v", d, crash))
	two.model.wait(d, crash)
	two.compare(two.wake(d, crash))
}

func (two *twoSagas) publish() {
	two.model.sent()
	two.compare(two.decide(input{published: two.oneway()}))
}

// succeed lets everything succeed at last.
func (two *twoSagas) succeed() {
	for range 100 {
		if two.model.settled() {
			break
		}
		for _, o := range two.underWay() {
			o.Kind = outcomeSucceeded
			two.hear(o)
		}
		two.publish()
		two.pass(modelPatience, false)
	}
	if !two.inst.settled {
		two.Fatalf("it does not settle: %+v", two.inst.engine)
	}
	for _, e := range two.model.begun {
		good := e.is == "there" || two.model.state != "completed"
		if stays := e.is == "there" && e.undo != ""; !good || stays && two.model.state != "completed" {
			two.Fatalf("in the end the saga is %s, and %s is %s", two.model.state, e.name, e.is)
		}
	}
}

func (two *twoSagas) compare(d decision, err error) {
	if err != nil {
		two.Fatalf("%v\n%q", err, two.log)
	}
	m := two.model
	two.same("effects begun", m.inOrderOf(d.entry.Began), d.entry.Began)
	var moved []string
	for _, move := range d.entry.Moves {
		moved = append(moved, move.Event+" "+move.To)
	}
	two.same("states entered", m.moved, moved)
	two.same("state", m.state, two.inst.state)
	two.same("settled", m.settled(), two.inst.settled)
	two.same("steps begun", len(m.begun), len(two.inst.Ledger))
	for k, e := range two.inst.Ledger {
		b := m.begun[k]
		two.same(b.name, modelStatus[b.is], e.Status)
		two.same(b.name+" condemned", b.doomed, e.Condemned)
		two.same(b.name+" stuck", (b.waits(false) || b.waits(true)) && b.failed >= modelAlert, e.Stuck)
	}
	var data linearData
	if err := json.Unmarshal(two.inst.data.bytes, &data); err != nil {
		two.Fatalf("%v", err)
	}
	two.same("data", m.data, data)
	for id, fate := range m.fates {
		two.same(id, []Disposition{fate}, two.fates[id])
	}
	two.same("clicks with a fate", len(m.fates), len(two.fates))
}

var modelStatus = map[string]compensation.Status{
	"asked": compensation.Sent, "there": compensation.Succeeded, "not there": compensation.Rejected, "in doubt": compensation.Unknown,
	"being undone": compensation.Undoing, "undone": compensation.Undone,
}

// inOrderOf lists the effects that the model has begun. Of those side by side the order does not matter: it is that of names, as
// far as they are the same.
func (m *linearModel) inOrderOf(names []string) (all []string) {
	for _, line := range m.began {
		slices.SortFunc(line, func(a, b string) int { return slices.Index(names, a) - slices.Index(names, b) })
		all = append(all, line...)
	}
	return all
}

func (two *twoSagas) same(what string, want, got any) {
	if fmt.Sprint(want) != fmt.Sprint(got) {
		two.Fatalf("%s: by the model %v, by decide %v\nafter %q\nledger %+v", what, want, got, two.log, two.inst.Ledger)
	}
}
