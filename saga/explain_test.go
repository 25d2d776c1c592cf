package saga

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/sagamill/sagamill/compensation"
)

type explained interface {
	AnyDefinition
	Explain() string
}

// loops has steps whose order the table leaves open: a and b are a loop, left and right are alternatives.
func loops() explained {
	s := chore(
		choreRow{From: "new", After: 1, To: "crossing"},
		choreRow{From: "crossing", On: "go", To: "turned", If: When("left", func(int) bool { return true }), Run: Run(undoable("left").Retriable())},
		choreRow{From: "crossing", On: "go", To: "turned", Run: Run(undoable("right").Retriable())},
		choreRow{From: "turned", On: "go", To: "here", Run: Run(undoable("a").Retriable())},
		choreRow{From: "here", On: "go", To: "turned", Run: Run(undoable("b").Retriable(), retriable("tell"))},
		choreRow{From: "here", On: "stop", To: "failed", Compensate: true},
		choreRow{From: "turned", On: "stop", To: "failed", Compensate: true},
	)
	return Define(s)
}

func TestExplain(t *testing.T) {
	t.Parallel()
	for name, d := range map[string]explained{"linear": trip, "parallel": tour, "table": order, "several-runs": club, "loops": loops()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.NoError(t, d.Validate())
			got, file := d.Explain(), filepath.Join("testdata/explain", name+".txt")
			for range 20 {
				require.Equal(t, got, d.Explain(), "the same each time")
			}
			for line := range strings.Lines(got) {
				require.LessOrEqual(t, len(line), pageWidth+1)
				require.Equal(t, strings.TrimRight(line, " \n"), strings.TrimSuffix(line, "\n"), "no blanks at the end")
			}
			if *rewrite {
				require.NoError(t, os.WriteFile(file, []byte(got), 0o600))
				return
			}
			want, err := os.ReadFile(file)
			require.NoError(t, err)
			if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
				t.Errorf("it explains something else (-want +got); go test ./saga -run TestExplain -rewrite\n%s", diff)
			}
		})
	}
}

func TestDefinitionWithFaultsProvesNothing(t *testing.T) {
	t.Parallel()
	require.Empty(t, Linear[int]("none").Explain())
	require.Empty(t, Linear("no-undo", do("work"), do("play")).Explain())
	require.Empty(t, trip.WithVersion(0).Explain())
	require.Contains(t, trip.WithVersion(7).Explain(), "trip version 7:")
}

// What is longer than a column is broken at spaces, and what has none makes its column wider.
func TestLayout(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	long := strings.Repeat("x", widest[0]+5)
	layout(&b, [][]string{{"A", "B"}, {long, strings.Repeat("word ", 20)}, {"ü", "end"}, {"", ""}})
	require.Equal(t, "A"+strings.Repeat(" ", len(long)+1)+"B\n"+
		long+"  "+strings.TrimSpace(strings.Repeat("word ", 12))+"\n"+
		strings.Repeat(" ", len(long)+2)+strings.TrimSpace(strings.Repeat("word ", 8))+"\n"+
		"ü"+strings.Repeat(" ", len(long)+1)+"end\n", b.String())
}

// TestProofCoversAnyInputs holds the proof against what decide does: whatever happens, a ledger has no effect that the proof does
// not know of, and begins steps in an order that it knows.
func TestProofCoversAnyInputs(t *testing.T) {
	t.Parallel()
	for _, d := range []AnyDefinition{trip, order, tour, club, newsletter, desk} {
		t.Run(d.Name(), func(t *testing.T) {
			t.Parallel()
			f := newProof(d.compiled())
			rapid.Check(t, func(rt *rapid.T) {
				c := &chaos{world: newWorld(d), T: rt}
				c.must(c.start(rapid.SampledFrom(anyData[d.Name()]).Draw(rt, "data")))
				for range rapid.IntRange(0, 40).Draw(rt, "inputs") {
					c.any()
					if err := f.covers(c.inst); err != nil {
						rt.Fatalf("%v\nhistory: %+v", err, c.history)
					}
				}
			})
		})
	}
}

// covers tells which effect of an instance, or which order of two, the proof does not know.
func (f *proof) covers(i *instance) error {
	if i.Ledger.PivotPassed() || f.plan.machine.IsFinal(i.state) {
		return nil
	}
	known := f.may[i.state]
	switch {
	case i.Row != nil && i.Row.Name == "": // an operator has forced it
		return nil
	case i.Row != nil && i.Row.Compensate && i.Row.Base >= 0: // it has undone all
		return nil
	case i.Row != nil && i.Row.Compensate:
		known = f.before(f.plan.byName[i.Row.Name], i.state, f.may)
	case i.Row != nil:
		known = stepSet{}
		known.add(f.may[i.state])
		known.add(f.effects(f.plan.byName[i.Row.Name].groups))
	}
	exists := func(e compensation.Entry) bool {
		late := e.Condemned && (i.Row == nil || !i.Row.Compensate) // undone by itself
		return e.MayExist() && e.Class != compensation.Pivot && !late
	}
	for k, e := range i.Ledger {
		if i.Row != nil && i.Row.Base >= 0 && k >= i.Row.Base || !exists(e) {
			continue
		}
		if _, told := known[e.Step]; !told {
			return fmt.Errorf("step %s is %s in state %s, row %+v, which the proof does not know", e.Step, e.Status, i.state, i.Row)
		}
		for _, later := range i.Ledger[k+1:] {
			if exists(later) && later.Order > e.Order && !f.precedes[e.Step][later.Step] {
				return fmt.Errorf("step %s is begun after %s, which the proof does not know", later.Step, e.Step)
			}
		}
	}
	return nil
}

func TestLastBegunIsUndoneFirst(t *testing.T) {
	t.Parallel()
	f := newProof(loops().compiled())
	named := func(names ...string) (steps []*stepPlan) {
		for _, name := range names {
			steps = append(steps, f.plan.steps[name])
		}
		return steps
	}
	require.Equal(t, named("a"), f.lastOf(named("left", "a")))
	require.Equal(t, named("a", "b"), f.lastOf(named("a", "right", "b")), "a loop")
	require.Equal(t, named("left", "right"), f.lastOf(named("left", "right")), "alternatives")
	require.False(t, slices.Contains(f.lastOf(named("left", "right", "a")), f.plan.steps["right"]))
}
