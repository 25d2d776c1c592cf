package saga

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/sagamill/sagamill/compensation"
)

// What an instance relies on, by what it holds.
func TestLacks(t *testing.T) {
	t.Parallel()
	ask := func(name string) Step[int] {
		return Ask(name, Command[int, reply]{Name: name, Topic: "t"}, func(int) int { return 0 }, nil)
	}
	p := Define(chore(
		choreRow{From: "new", After: time.Hour, To: "open", Run: Run(undoable("a"), Parallel(undoable("b"), undoable("c")), undoable("d"))},
		choreRow{From: "new", On: "a.rejected", To: "failed", Compensate: true}, choreRow{From: "new", On: "b.rejected", To: "failed", Compensate: true},
		choreRow{From: "new", On: "c.rejected", To: "failed", Compensate: true}, choreRow{From: "new", On: "d.rejected", To: "failed", Compensate: true},
		choreRow{From: "open", On: "go", To: "done", Run: Run(ask("ship").Pivot(), retriable("tell"))},
		choreRow{From: "open", On: "ship.rejected", To: "failed", Compensate: true},
		choreRow{From: "open", On: "stop", To: "failed", Compensate: true},
	))
	require.NoError(t, p.Validate())
	entry := func(order int, step string, status compensation.Status, set ...func(*compensation.Entry)) compensation.Entry {
		e := compensation.Entry{Step: step, Run: 1, Order: order, Status: status}
		for _, s := range set {
			s(&e)
		}
		return e
	}
	undoes := func(e *compensation.Entry) { e.Undoable = true }
	of := func(c compensation.Class) func(*compensation.Entry) {
		return func(e *compensation.Entry) { e.Class = c }
	}
	const sent, succeeded = compensation.Sent, compensation.Succeeded
	pivot := entry(9, "ship", succeeded, of(compensation.Pivot))
	opening := &running{Name: "new/after->open", To: "open"}
	for name, c := range map[string]struct {
		state string
		has   engine
		lacks []string
	}{
		"nothing":       {"open", engine{}, nil},
		"a state":       {"attic", engine{}, []string{"state attic"}},
		"a group":       {"any", engine{}, []string{"state any"}},
		"its row":       {"new", engine{Row: opening, Ledger: compensation.Ledger{entry(1, "a", succeeded, undoes), entry(2, "b", sent, undoes), entry(2, "c", sent, undoes)}}, nil},
		"a row":         {"new", engine{Row: &running{Name: "new/push", To: "open", Base: -1}}, []string{"row new/push to open"}},
		"a row's end":   {"new", engine{Row: &running{Name: "new/after->open", To: "attic", Base: -1}}, []string{"row new/after->open to attic"}},
		"another order": {"new", engine{Row: opening, Ledger: compensation.Ledger{entry(1, "d", sent, undoes)}}, []string{"row new/after->open running d"}},
		"one of two": {"new", engine{Row: opening, Ledger: compensation.Ledger{entry(1, "a", succeeded, undoes), entry(2, "b", sent, undoes)}},
			[]string{"row new/after->open running a, b"}},
		"more steps than there are": {"open", engine{Row: &running{Name: "open/go", To: "done"}, Ledger: compensation.Ledger{
			pivot, entry(10, "tell", succeeded, of(compensation.Retriable)), entry(11, "bill", sent, of(compensation.Retriable)),
		}}, []string{"row open/go running ship, tell, bill", "step bill"}},
		"forced":                             {"open", engine{Row: &running{To: "attic"}}, []string{"state attic"}},
		"a step that would be undone":        {"open", engine{Ledger: compensation.Ledger{entry(1, "z", succeeded, undoes)}}, []string{"step z"}},
		"a step that is left":                {"open", engine{Ledger: compensation.Ledger{entry(1, "z", succeeded)}}, nil},
		"a step that was undone":             {"open", engine{Ledger: compensation.Ledger{entry(1, "z", compensation.Undone, undoes)}}, nil},
		"a step before the pivot":            {"open", engine{Ledger: compensation.Ledger{entry(1, "z", succeeded, undoes), pivot}}, nil},
		"late, and undone after the pivot":   {"open", engine{Ledger: compensation.Ledger{entry(1, "z", compensation.Undoing, undoes), pivot}}, []string{"step z"}},
		"a step of another class":            {"open", engine{Ledger: compensation.Ledger{entry(1, "a", sent, of(compensation.Retriable))}}, []string{"step a as retriable"}},
		"a compensation":                     {"open", engine{Ledger: compensation.Ledger{entry(1, "tell", compensation.Undoing, undoes, of(compensation.Retriable))}}, []string{"compensation of step tell"}},
		"a command":                          {"open", engine{Ledger: compensation.Ledger{entry(1, "a", sent)}, Outbox: []outgoing{{Step: "a", Run: 1}}}, []string{"step a as command"}},
		"an undo by command":                 {"open", engine{Ledger: compensation.Ledger{entry(1, "a", compensation.Undoing, undoes)}, Outbox: []outgoing{{Step: "a", Run: 1, Undo: true}}}, []string{"step a/undo as command"}},
		"a local step":                       {"open", engine{Ledger: compensation.Ledger{entry(1, "ship", sent, of(compensation.Pivot))}, Timers: []timer{{Kind: attemptTimer, Step: "ship", Run: 1}}}, []string{"step ship as local"}},
		"a time-out":                         {"new", engine{Timers: []timer{{Kind: stateTimer, Row: "new/after->attic"}, {Kind: stateTimer, Row: "new/after->open"}}}, []string{"row new/after->attic"}},
		"an event that waits":                {"new", engine{Waiting: []waiting{{Event: "push"}, {Event: "push"}, {Event: "go"}}}, []string{"event push"}},
		"an event of its own":                {"new", engine{Raised: &raised{Event: "z.rejected"}}, []string{"event z.rejected"}},
		"an event of its own that is known":  {"new", engine{Raised: &raised{Event: "a.rejected"}}, nil},
		"an event that nobody has looked at": {"new", engine{Undecided: []undecided{{Event: &waiting{Event: "push"}}}}, nil},
		"several":                            {"attic", engine{Waiting: []waiting{{Event: "push"}}}, []string{"state attic", "event push"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lacks := p.compiled().lacks(&instance{state: c.state, engine: c.has})
			require.Equal(t, c.lacks, append([]string(nil), lacks...))
		})
	}
}

// No instance lacks anything of the definition that it was started with, whatever happens to it.
func TestOwnDefinitionLacksNothing(t *testing.T) {
	t.Parallel()
	for _, d := range []AnyDefinition{trip, order, tour, club, newsletter, desk} {
		t.Run(d.Name(), func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(rt *rapid.T) {
				c := &chaos{world: newWorld(d), T: rt}
				c.must(c.start(rapid.SampledFrom(anyData[d.Name()]).Draw(rt, "data")))
				for range rapid.IntRange(0, 40).Draw(rt, "inputs") {
					c.any()
					if lacks := c.plan.lacks(c.inst); len(lacks) > 0 {
						rt.Fatalf("%v\n%+v", lacks, c.inst.engine)
					}
				}
			})
		})
	}
}
