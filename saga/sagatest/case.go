package sagatest

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sagamill/sagamill/compensation"
	"github.com/sagamill/sagamill/saga"
)

// Case is one story of one saga, in which nothing goes wrong but what the case says:
//
//	result := sagatest.Given(lifecycle, Order{Total: 100}).
//		Meets("charge-card", sagatest.StepRejects).
//		When(Paid, Payment{Amount: 100}).
//		Then(t, Cancelled)
//	require.Equal(t, compensation.Undone, result.Status("reserve-stock"))
//
// Each event is sent when nothing is under way any more. Then plays the story from its beginning.
type Case[S, E ~string, D any] struct {
	definition *saga.Definition[S, E, D]
	data       D
	setup      []func(*Run)
	events     []caseEvent[E]
	after      time.Duration
	scripted   map[string][]Fault
	err        error
}

type caseEvent[E ~string] struct {
	event   E
	payload any
	after   time.Duration
}

// Given is a saga that was started with some data. The functions make its surroundings: participants, a world.
func Given[S, E ~string, D any](d *saga.Definition[S, E, D], data D, setup ...func(*Run)) *Case[S, E, D] {
	return &Case[S, E, D]{definition: d, data: data, setup: setup, scripted: map[string][]Fault{}}
}

// Meets says what the next attempt of a step meets that nothing was said of yet; step + "/undo" is its compensation. It is one of the
// faults of a local step, or of a participant.
func (c *Case[S, E, D]) Meets(step string, faults ...Fault) *Case[S, E, D] {
	for _, f := range faults {
		if !slices.Contains(attemptFaults, f) && c.err == nil {
			c.err = fmt.Errorf("sagatest: step %s cannot meet %q: it is one of %v", step, f, attemptFaults)
		}
	}
	c.scripted[step] = append(c.scripted[step], faults...)
	return c
}

var attemptFaults = []Fault{
	StepFails, StepFailsAfterEffect, StepRejects, StepHangs, CrashBeforeEffect, CrashAfterEffect,
	HandlerFails, HandlerFailsAfterEffect, HandlerRejects, ParticipantCrashesBefore, ReplyLost,
}

// When sends an event, once nothing is under way.
func (c *Case[S, E, D]) When(event E, payload any) *Case[S, E, D] {
	c.events, c.after = append(c.events, caseEvent[E]{event, payload, c.after}), 0
	return c
}

// After lets time pass, once nothing is under way.
func (c *Case[S, E, D]) After(d time.Duration) *Case[S, E, D] {
	c.after += d
	return c
}

// Result is how a Case ended.
type Result[D any] struct {
	saga.Instance
	Data D
	Run  *Run
}

// Status returns what the ledger says of a step, in its last run.
func (r *Result[D]) Status(step string) compensation.Status {
	for _, e := range slices.Backward(r.Steps) {
		if e.Step == step {
			return e.Status
		}
	}
	return compensation.Never
}

// Then plays the story, and fails the test if the saga does not end in the state. It returns how it ended.
func (c *Case[S, E, D]) Then(t *testing.T, state S) *Result[D] {
	t.Helper()
	x, err := newExplorer(c.definition, func(*Run) {}, nil)
	if err == nil {
		err = c.err
	}
	if err != nil {
		t.Fatal(err)
	}
	x.scripted = c.scripted
	result := &Result[D]{}
	synctest.Test(t, func(t *testing.T) {
		r := newRun(t.Context(), x, plan(nil), true)
		result.Run = r
		c.play(r)
		result.Instance = r.Saga("case")
		if err := json.Unmarshal(result.Instance.Data, &result.Data); err != nil {
			r.violated("the data cannot be read: %v", err)
		}
		var begun []string
		for _, e := range result.Instance.Steps {
			begun = append(begun, e.Step)
		}
		for step, left := range r.scripted {
			if len(left) > 0 {
				r.violated("step %s was not attempted often enough to meet %v; the saga began %q", step, left, begun)
			}
		}
		if result.State != string(state) {
			r.violated("it is in %s, not in %s", result.State, state)
		}
	})
	for _, v := range result.Run.violations {
		t.Errorf("%s", v)
	}
	if len(result.Run.violations) > 0 {
		for _, line := range shown(result.Run.trace, "they are like those beside them, mostly") {
			t.Log(line)
		}
	}
	return result
}

// play starts the saga and sends the events, each once nothing is under way.
func (c *Case[S, E, D]) play(r *Run) {
	for _, f := range c.setup {
		f(r)
	}
	s := Start(r, c.definition, "case", c.data)
	r.quiesce(0)
	for _, e := range c.events {
		r.quiesce(e.after)
		s.Send(e.event, e.payload)
		r.quiesce(0)
	}
	r.quiesce(c.after)
}

// quiesce lets time pass, and plays until nothing is under way: what is left may be time-outs of states.
func (r *Run) quiesce(after time.Duration) {
	for till := time.Now().Add(after); len(r.violations) == 0; {
		if r.turns++; r.turns > maxTurns {
			r.violated("it does not come to rest: after %d turns %s", maxTurns, r.unsettled())
		}
		switch quiet := !r.pending() && !r.underWay(); {
		case !quiet:
			r.turn()
		case time.Now().Before(till):
			wait, busy := r.sweep()
			if !busy {
				r.sleep(min(wait, time.Until(till)))
				r.sweep()
			}
		case !r.send():
			return
		}
	}
}

// underWay tells whether a step is.
func (r *Run) underWay() bool {
	return slices.ContainsFunc(r.Sagas(), func(i saga.Instance) bool {
		return slices.ContainsFunc(i.Steps, func(e compensation.Entry) bool { return e.InFlight() })
	})
}
