package saga

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// TestAnyInputs gives random inputs to every scripted definition. After each decision the rules are checked (see world.check),
// and at the end everything succeeds, upon which every saga must settle in a final state.
func TestAnyInputs(t *testing.T) {
	t.Parallel()
	for _, d := range []AnyDefinition{trip, order, tour, club, newsletter, desk} {
		t.Run(d.Name(), func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(rt *rapid.T) {
				c := &chaos{world: newWorld(d), T: rt}
				c.random = rapid.Float64Range(0, 0.99).Draw(rt, "random")
				c.waits = waits{"inventory/reserve-stock": time.Duration(rapid.IntRange(0, 60).Draw(rt, "wait")) * time.Second}
				c.must(c.start(rapid.SampledFrom(anyData[d.Name()]).Draw(rt, "data")))
				for range rapid.IntRange(0, 40).Draw(rt, "inputs") {
					c.any()
				}
				c.succeed()
			})
		})
	}
}

// anyData are data that an instance may have: sound ones first, with which it can go on.
var anyData = map[string][]string{
	"trip": {`{"city":"Oslo"}`, `{}`}, "order": {`{"total":100,"late":"T9"}`, `{"total":100}`}, "tour": {`{}`},
	"club": {`{}`, `{"months":3}`}, "newsletter": {`{"issue":3}`, `{}`},
	"desk": {`{"key":"K"}`, `{}`, `{"broken":true}`, `{"paid":true}`},
}

var anyPayload = map[string][]string{
	"payment-succeeded": {`{"txn":"T1","amount":100}`, `{"txn":"T2","amount":100}`, `{"txn":"T3","amount":7}`, `nonsense`},
	"write":             {`3`, `0`, `"x"`},
	"note":              {`5`, `0`},
}

type chaos struct {
	*world
	*rapid.T
	events int
}

func (c *chaos) must(d decision, err error) decision {
	if err != nil {
		c.Fatalf("%v", err)
	}
	return d
}

// pick draws one of some, or zero if there are none.
func pick[T any](c *chaos, what string, from []T) (one T) {
	if len(from) == 0 {
		return one
	}
	return rapid.SampledFrom(from).Draw(c.T, what)
}

func (c *chaos) any() {
	switch rapid.IntRange(0, 9).Draw(c.T, "kind") {
	case 0, 1, 2:
		name := pick(c, "event", append(c.plan.eventNames(), "nonsense", "pay.rejected", "begin"))
		id := fmt.Sprint(rapid.IntRange(0, 30).Draw(c.T, "id"))
		c.must(c.event(name, "world", id, pick(c, "payload", anyPayload[name])))
	case 3, 4, 5, 6:
		o := c.anyOutcome()
		c.must(c.decide(input{outcome: &o}))
	case 7:
		after := pick(c, "after", []time.Duration{0, time.Second, 5 * time.Second, 31 * time.Second, 11 * time.Minute, time.Hour})
		c.must(c.wake(after, rapid.Bool().Draw(c.T, "lease over"), pick(c, "running", c.steps())))
	case 8:
		c.must(c.decide(input{published: append(c.oneway(), "stale")[rapid.IntRange(0, 1).Draw(c.T, "skip")%(len(c.oneway())+1):]}))
	case 9:
		c.anyOperation()
	}
}

func (c *chaos) steps() []string {
	var names []string
	for name := range c.plan.steps {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// anyOutcome is mostly one of what is under way, and sometimes whatever a broker may bring.
func (c *chaos) anyOutcome() outcome {
	o := pick(c, "under way", c.underWay())
	if o.Step == "" || rapid.IntRange(0, 3).Draw(c.T, "odd") == 0 {
		o = outcome{Step: pick(c, "step", c.steps()), Run: rapid.IntRange(1, 3).Draw(c.T, "run"), Undo: rapid.Bool().Draw(c.T, "undo")}
		if e := c.inst.Ledger.Latest(o.Step); e != nil {
			o.Run = e.Run
		}
		o.Attempt = rapid.IntRange(1, 3).Draw(c.T, "attempt")
	}
	o.Kind = pick(c, "outcome", []outcomeKind{outcomeSucceeded, outcomeSucceeded, outcomeRejected, outcomeFailed})
	if o.Kind == outcomeSucceeded {
		o.Result = []byte(pick(c, "result", []string{`{"ref":"R"}`, `{"ref":"R"}`, ``, `nonsense`}))
	} else {
		o.Reason = "because"
	}
	return o
}

func (c *chaos) anyOperation() {
	var timers, failed []string
	for _, t := range c.timers() {
		timers = append(timers, t.name())
	}
	for state := range c.plan.failed {
		failed = append(failed, state)
	}
	slices.Sort(failed)
	op := operation{
		verb: pick(c, "verb", verbs), who: "ann", why: "why not",
		step: pick(c, "step", c.steps()), timer: pick(c, "timer", timers), in: time.Minute, toState: pick(c, "to", failed),
	}
	if len(c.inst.Waiting) > 0 {
		ev := pick(c, "waiting", c.inst.Waiting)
		op.source, op.inputID = ev.Source, ev.ID
	}
	switch op.verb {
	case EditData:
		op.data = []byte(pick(c, "data", anyData[c.plan.name]))
	case MarkDone:
		op.data = []byte(pick(c, "result", []string{``, `{"ref":"R"}`, `nonsense`}))
	}
	c.must(c.decide(input{operator: &op}))
}

// succeed lets everything succeed, and the world outside do its part, until the saga is settled.
func (c *chaos) succeed() {
	for range 200 {
		if c.inst.settled {
			return
		}
		c.succeedOnce()
	}
	c.Fatalf("it does not settle: state %s, %+v\nattention: %s", c.inst.state, c.inst.engine, c.inst.attention)
}

func (c *chaos) succeedOnce() {
	for _, o := range c.underWay() {
		o.Kind, o.Result = outcomeSucceeded, []byte(`{"ref":"R"}`)
		c.must(c.decide(input{outcome: &o}))
	}
	c.must(c.decide(input{published: c.oneway()}))
	if strings.Contains(c.inst.attention, "panicked") || strings.Contains(c.inst.attention, "key of step") {
		c.must(c.decide(input{operator: &operation{verb: EditData, who: "ann", why: "mend", data: []byte(anyData[c.plan.name][0])}}))
	}
	if c.inst.idle() && !c.plan.machine.IsFinal(c.inst.state) {
		for _, name := range happyEvents[c.plan.name] {
			c.events++
			payload := ""
			if name == "payment-succeeded" {
				payload = `{"txn":"T1","amount":100}`
			}
			c.must(c.event(name, "happy", fmt.Sprint(c.events), payload))
		}
	}
	due := slices.DeleteFunc(c.timers(), func(t timer) bool { return t.Ripe })
	if len(due) > 0 {
		c.must(c.wake(max(due[0].Due.Sub(c.now), 0), true))
	}
}

// A saga that everything succeeds for at once ends well, and one whose first rejection is at any step ends badly, with nothing
// left.
func TestRejectionAtEachStepLeavesNothing(t *testing.T) {
	t.Parallel()
	for _, d := range []AnyDefinition{trip, order, tour} {
		for name, s := range d.compiled().steps {
			if !s.rejectable() {
				continue
			}
			t.Run(d.Name()+"/"+name, func(t *testing.T) {
				t.Parallel()
				w := playUntil(t, d, func(w *world, o *outcome) {
					if o.Step == name && !o.Undo {
						o.Kind, o.Result, o.Reason = outcomeRejected, nil, "no"
					}
				})
				require.True(t, w.plan.failed[w.inst.state], w.inst.state)
				for _, e := range w.inst.Ledger {
					require.False(t, e.Undoable && e.MayExist(), "%s is still there", e.Step)
				}
			})
		}
		t.Run(d.Name()+"/none", func(t *testing.T) {
			t.Parallel()
			w := playUntil(t, d, func(*world, *outcome) {})
			require.False(t, w.plan.failed[w.inst.state], w.inst.state)
		})
	}
}

// playUntil plays a saga to its end; change may change each outcome.
func playUntil(t *testing.T, d AnyDefinition, change func(*world, *outcome)) *world {
	w := newWorld(d)
	_, err := w.start(anyData[d.Name()][0])
	require.NoError(t, err)
	happy := slices.Clone(happyEvents[d.Name()])
	for range 100 {
		if w.inst.settled {
			return w
		}
		for _, o := range w.underWay() {
			o.Kind, o.Result = outcomeSucceeded, []byte(`{"ref":"R"}`)
			change(w, &o)
			_, err := w.decide(input{outcome: &o})
			require.NoError(t, err)
		}
		_, err := w.decide(input{published: w.oneway()})
		require.NoError(t, err)
		if w.inst.idle() && len(happy) > 0 && !w.inst.settled {
			_, err := w.event(happy[0], "happy", happy[0], `{"txn":"T1","amount":100}`)
			require.NoError(t, err)
			happy = happy[1:]
		}
	}
	t.Fatalf("it does not settle: %+v", w.inst.engine)
	return nil
}
