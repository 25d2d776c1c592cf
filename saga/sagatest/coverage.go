package sagatest

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/sagamill/sagamill/saga"
	"github.com/sagamill/sagamill/saga/internal/stepped"
)

// coverage is what of a definition was seen in some run.
type coverage struct {
	shape stepped.Definition
	seen  map[string]bool
}

func newCoverage(shape stepped.Definition) *coverage {
	return &coverage{shape, map[string]bool{}}
}

func state(name string) string { return "state " + name }
func row(name string) string   { return "row " + name }
func step(name string) string  { return "step " + name } // of a compensation: name/undo

// add notes what an instance went through.
func (c *coverage) add(i saga.Instance, history []saga.Entry) {
	at := c.shape.States[0]
	for _, e := range history {
		c.seen[state(at)] = true
		if e.Kind == "event" {
			c.policy(at, e.Event, e.Result)
		}
		for _, m := range e.Moves {
			at = m.To
			c.seen[state(at)], c.seen[row(m.Row)] = true, true
		}
		for _, j := range e.Judged {
			c.policy(at, j.Event, j.Result)
		}
		for _, name := range e.Began {
			c.seen[step(name)] = true
		}
	}
}

// buffered notes the rows by which events are kept that had to wait: the history tells what became of such an event in the end, and
// not that it did not fit at first.
func (c *coverage) buffered(t saga.Transition) {
	if !bytes.Contains(t.Engine, []byte(`"buffered"`)) {
		return // the usual case, without a look
	}
	for _, event := range stepped.Buffered(saga.Record{State: t.State, Engine: t.Engine}) {
		c.policy(t.State, event, saga.Buffered)
	}
}

// policy notes the rows by which an event was ignored, buffered or refused.
func (c *coverage) policy(in, event string, result saga.Disposition) {
	policy := map[saga.Disposition]string{saga.Ignored: "ignore", saga.Buffered: "buffer", saga.Refused: "refuse"}[result]
	if policy == "" {
		return
	}
	for _, r := range c.shape.Rows {
		if r.Policy == policy && (r.On == event || r.On == saga.Any) && slices.Contains(r.In, in) {
			c.seen[row(r.Name)] = true
		}
	}
}

// all lists what there is to cover.
func (c *coverage) all() (states, rows, steps []string) {
	for _, s := range c.shape.States {
		states = append(states, state(s))
	}
	for _, r := range c.shape.Rows {
		rows = append(rows, row(r.Name))
	}
	for _, s := range c.shape.Steps {
		steps = append(steps, step(s.Name))
		if s.Undo {
			steps = append(steps, step(s.Name+"/undo"))
		}
	}
	return states, rows, steps
}

// missing lists what was not covered, except some that need not be.
func (c *coverage) missing(except []string) []string {
	states, rows, steps := c.all()
	return slices.DeleteFunc(slices.Concat(states, rows, steps), func(what string) bool {
		return c.seen[what] || slices.Contains(except, what)
	})
}

// unknown lists the names that nothing has.
func (c *coverage) unknown(names []string) []string {
	states, rows, steps := c.all()
	all := slices.Concat(states, rows, steps)
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool { return slices.Contains(all, name) })
}

// String names what was not covered.
func (c *coverage) String() string {
	var b strings.Builder
	states, rows, steps := c.all()
	for _, kind := range []struct {
		name string
		all  []string
	}{{"states", states}, {"rows", rows}, {"steps and compensations", steps}} {
		missing := slices.DeleteFunc(slices.Clone(kind.all), func(what string) bool { return c.seen[what] })
		fmt.Fprintf(&b, "  covered: %d of %d %s", len(kind.all)-len(missing), len(kind.all), kind.name)
		if len(missing) > 0 {
			fmt.Fprintf(&b, "; not: %s", strings.Join(bare(missing), ", "))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// bare cuts off what kind of thing is named.
func bare(names []string) []string {
	out := make([]string, len(names))
	for k, name := range names {
		_, out[k], _ = strings.Cut(name, " ")
	}
	return out
}
