package sagatest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/memory"
	"github.com/sagamill/sagamill/saga"
)

// errand has all that faults may happen to: local steps and command steps, with compensations and a pivot; an event on its way out,
// and events that come in.
func errand() *saga.Definition[string, string, struct{}] {
	type none = struct{}
	nothing := func(context.Context, none) error { return nil }
	is := func(n none) none { return n }
	return saga.Define(saga.Spec[string, string, none]{
		Name: "errand", Initial: "new", Start: "ordered", Succeeded: []string{"done"}, Failed: []string{"off"},
		Events: []saga.Event[string, none]{{Name: "go"}, {Name: "cancel"}},
		Table: saga.Table[string, string, none]{
			{From: "new", On: "ordered", To: "ready", Rejected: "no", Run: saga.Run(
				saga.Do("local", nothing).Undo(nothing),
				saga.Ask("remote", remote, is, nil).UndoBy(saga.RequestOf(remoteUndo, is)),
				saga.Emit("tell", "news", "READY", is).Retriable().NoUndo("it is news"),
			)},
			{From: "new", On: "no", To: "off", Compensate: true},
			{From: "ready", On: "go", To: "done", Run: saga.Run(saga.Do("pivot", nothing).Pivot()), Rejected: "no"},
			{From: "ready", On: "no", To: "off", Compensate: true},
			{From: "ready", After: time.Hour, To: "off", Compensate: true},
			{From: "new", On: "cancel", To: "off", Compensate: true, Interrupts: true},
			{From: "ready", On: "cancel", To: "off", Compensate: true, Interrupts: true},
		},
		Otherwise: saga.Ignore,
	})
}

var (
	remote     = saga.Command[struct{}, struct{}]{Name: "remote", Topic: "office"}
	remoteUndo = saga.Command[struct{}, struct{}]{Name: "remote-undo", Topic: "office"}
)

func errandScript(d *saga.Definition[string, string, struct{}]) func(*Run) {
	return func(r *Run) {
		handle := func(_ context.Context, _ *memory.Tx, n struct{}) (struct{}, error) { return n, nil }
		p := NewParticipant(r, memory.NewInbox())
		if err := errors.Join(saga.Handle(p, remote, handle), saga.Handle(p, remoteUndo, handle)); err != nil {
			panic(err)
		}
		e := Start(r, d, "errand-1", struct{}{})
		e.Send("go", nil).When("ready")
		e.Send("cancel", nil).Anytime()
	}
}

func exploreErrand(t *testing.T, options ...Option) *explorer {
	t.Helper()
	d := errand()
	x, err := newExplorer(d, errandScript(d), options)
	require.NoError(t, err)
	if f := x.explore(t); f != nil {
		t.Fatal(f)
	}
	return x
}

func TestEveryFaultHappens(t *testing.T) {
	x := exploreErrand(t, Runs(300), Seeds(0))
	for _, f := range allFaults {
		require.NotZero(t, x.happened[f], "%s happens nowhere:\n%s", f, x.report())
	}
}

func TestWithoutLeavesFaultsOut(t *testing.T) {
	for _, f := range allFaults {
		x := exploreErrand(t, Without(f), Runs(30), Seeds(2))
		require.Zero(t, x.offered[f], f)
		require.Contains(t, x.report(), string(f)+" (left out)")
	}
	x := exploreErrand(t, Without(allFaults...))
	require.Equal(t, []int{1}, x.counts, "there is nothing but the run without faults")
}

// Of a level that is not run in full, every kind of fault has its share.
func TestFair(t *testing.T) {
	level := []plan{{{0, StepFails}}, {{1, StepFails}}, {{2, StepFails}}, {{3, CommitFails}}, {{1, CommitFails}, {4, ReadFails}}}
	require.Equal(t, []plan{level[0], level[3], level[4], level[1], level[2]}, fair(level))
	require.Empty(t, fair(nil))
}

// The faults of a run by seed are spread over all of it.
func TestLots(t *testing.T) {
	x := exploreErrand(t, Runs(1), Seeds(0))
	sum, faults := 0.0, 0
	for seed := range uint64(100) {
		d := errand()
		x.script = errandScript(d)
		x.definition = d
		r := x.run(t, newLots(seed, x.moments), false)
		for _, f := range r.happened {
			sum += float64(f.moment) / float64(len(r.moments))
			faults++
		}
	}
	require.Greater(t, faults, 500)
	require.InDelta(t, 0.5, sum/float64(faults), 0.1, "where they are, on the average")
}

// An event that waited while a row ran, and then did not fit, was kept by a row.
func TestCoverageOfWhatWaited(t *testing.T) {
	type none = struct{}
	d := saga.Define(saga.Spec[string, string, none]{
		Name: "parcel", Initial: "new", Start: "ordered", Succeeded: []string{"sent"},
		Events: []saga.Event[string, none]{{Name: "paid"}, {Name: "packed"}},
		Table: saga.Table[string, string, none]{
			{From: "new", On: "ordered", To: "ready", Run: saga.Run(
				saga.Do("local", func(context.Context, none) error { return nil }).Retriable().NoUndo("it is nothing"))},
			{From: "ready", On: "packed", Policy: saga.Buffer},
			{From: "ready", On: "paid", To: "open"},
			{From: "open", On: "packed", To: "sent"},
		},
		Otherwise: saga.Ignore,
	})
	x, err := newExplorer(d, func(r *Run) {
		p := Start(r, d, "parcel-1", none{})
		p.Send("packed", nil) // at once: the row runs
		p.Send("paid", nil).After(time.Minute)
	}, nil)
	require.NoError(t, err)
	r := x.run(t, plan(nil), true)
	require.Empty(t, r.violations)
	require.Empty(t, x.coverage.missing(nil), "%s", r.trace)
}

func TestParsePlan(t *testing.T) {
	for _, p := range []plan{nil, {{0, StepFails}}, {{3, InputNow}, {17, HandlerFailsAfterEffect}}} {
		parsed, err := parsePlan(p.String())
		require.NoError(t, err)
		require.Equal(t, p, parsed)
	}
	for text, wrong := range map[string]string{
		"tea": `"tea"`, "3": `"3"`, "3:tea": `"3:tea"`, ":step-fails": `":step-fails"`, "-1:step-fails": `"-1:step-fails"`,
		"1:step-fails,": `""`, "1:step-fails, 2:input-now": `" 2:input-now"`, "nothing,1:step-fails": `"nothing"`,
	} {
		_, err := parsePlan(text)
		require.ErrorContains(t, err, "-sagatest.replay has "+wrong+": it is a list of moment:fault", text)
	}
}

// A run is a function of its plan.
func TestRunsAreRepeatable(t *testing.T) {
	d := errand()
	x, err := newExplorer(d, errandScript(d), nil)
	require.NoError(t, err)
	for seed := range uint64(50) {
		drawn := x.run(t, newLots(seed, 60), true)
		planned := x.run(t, drawn.happened, true)
		require.Equal(t, drawn.trace, planned.trace)
		require.Equal(t, drawn.happened, planned.happened)
		require.Equal(t, drawn.moments, planned.moments)
	}
}
