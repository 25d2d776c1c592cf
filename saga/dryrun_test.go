package saga_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/memory"
	"github.com/sagamill/sagamill/adapters/sqlite"
	"github.com/sagamill/sagamill/saga"
)

// listOnly is a store of which a dry run may only use List: everything else panics. Its pages are small.
type listOnly struct {
	saga.Store
	store saga.Store
}

func (s listOnly) List(ctx context.Context, q saga.Query) ([]saga.Record, error) {
	q.Limit = 2
	return s.store.List(ctx, q)
}

// dryRun checks definitions against a store, and that nothing but List is used.
func dryRun(t *testing.T, store saga.Store, definitions ...saga.AnyDefinition) []saga.VersionReport {
	t.Helper()
	reports, err := saga.CheckStore(t.Context(), listOnly{store: store}, definitions...)
	require.NoError(t, err)
	return reports
}

// Live sagas of an old definition meet new ones, in each store.
func TestCheckStore(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(t *testing.T) saga.Store{
		"memory": func(*testing.T) saga.Store { return memory.NewStore() },
		"sqlite": func(t *testing.T) saga.Store {
			db, err := sqlite.Open(filepath.Join(t.TempDir(), "sagas.db"))
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, db.Close()) })
			return sqlite.NewStore(db)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := open(t)
			none := dryRun(t, store, grownWith(1, "book", "pay"))
			require.Equal(t, []saga.VersionReport{{DefinitionVersion: saga.DefinitionVersion{Name: "grown", Version: 1}, Known: true}}, none)
			require.Equal(t, "grown version 1: no live instances", none[0].String())

			// Three have booked and wait in pay, one waits in book, one is over; one is of version 2, and one another saga's.
			v1, v2, other := grownWith(1, "book", "pay"), grownWith(2, "pay"), saga.Linear("other", stuckStep("wait"))
			o := runRig(t, store, rigOf(v1, v2, other))
			var ids []string
			for k := range 3 {
				ids = append(ids, startGrown(t, v1, o, fmt.Sprint("booked-", k), "pay"))
			}
			startGrown(t, v1, o, "books", "book")
			startGrown(t, v1, o, "over", "")
			startGrown(t, v2, o, "two", "pay")
			_, err := other.Start(t.Context(), o, saga.StartParams[grownData]{Key: "o", Data: grownData{Stop: "wait"}})
			require.NoError(t, err)

			reports := dryRun(t, store, grownWith(1, "book", "pay"), grownWith(2, "pay"))
			require.Len(t, reports, 3)
			require.Equal(t, "grown version 1: 4 live instances, which rely on nothing that it lacks", reports[0].String())
			require.Equal(t, "grown version 2: 1 live instances, which rely on nothing that it lacks", reports[1].String())
			require.Equal(t, "other version 1: is not among the definitions, and has 1 live instances: run it, too, until they have settled", reports[2].String())
			require.NoError(t, errors.Join(reports[0].Err(), reports[1].Err(), reports[2].Err()))

			reports = dryRun(t, store, grownWith(1, "book"), grownWith(3, "book"))
			require.Len(t, reports, 4)
			require.Equal(t, 4, reports[0].Live)
			require.Equal(t, 3, reports[0].Stranded)
			require.Equal(t, []saga.MissingName{
				{Name: "row running/begin running book, pay", Instances: 3, Example: reports[0].Missing[0].Example},
				{Name: "step pay", Instances: 3, Example: reports[0].Missing[1].Example},
			}, reports[0].Missing)
			require.Contains(t, ids, reports[0].Missing[0].Example)
			require.Contains(t, reports[0].String(), "grown version 1: would refuse 3 of 4 live instances, and the orchestrator would not start:\n")
			require.Contains(t, reports[0].String(), "  - step pay is gone, on which 3 rely (such as "+reports[0].Missing[1].Example+")")
			require.ErrorIs(t, reports[0].Err(), saga.ErrIncompatible)
			require.Equal(t, saga.VersionReport{DefinitionVersion: saga.DefinitionVersion{Name: "grown", Version: 2}, Live: 1}, reports[1])
			require.Equal(t, "grown version 2: is not among the definitions, and has 1 live instances: run it, too, until they have settled", reports[1].String())
			require.NoError(t, reports[1].Err())
			require.Equal(t, "grown version 3: no live instances", reports[2].String())

			// The orchestrator agrees with what was foretold.
			refused, err := saga.NewOrchestrator(store, rigOf(grownWith(1, "book")), nil)
			require.NoError(t, err)
			require.ErrorIs(t, refused.Run(t.Context()), saga.ErrIncompatible)
		})
	}
}

type grownData struct{ Stop string }

// stuckStep fails, for ever, in the sagas that are to stop at it.
func stuckStep(name string) saga.Step[grownData] {
	return saga.Do(name, func(_ context.Context, d grownData) error {
		if d.Stop == name {
			return errors.New("not yet")
		}
		return nil
	}).Undo(func(context.Context, grownData) error { return nil })
}

func grownWith(version int, steps ...string) *saga.LinearDefinition[grownData] {
	var all []saga.Step[grownData]
	for _, name := range steps {
		all = append(all, stuckStep(name))
	}
	return saga.Linear("grown", all...).WithVersion(version)
}

// startGrown starts a saga, and waits until it is stuck in a step, or is over if none is named.
func startGrown(t *testing.T, d *saga.LinearDefinition[grownData], o *saga.Orchestrator, key, stop string) string {
	t.Helper()
	s, err := d.Start(t.Context(), o, saga.StartParams[grownData]{Key: key, Data: grownData{Stop: stop}})
	require.NoError(t, err)
	_, err = o.WaitFor(t.Context(), s.ID, func(i saga.Instance) bool {
		return i.Settled || stop != "" && len(i.Steps) > 0 && i.Steps[len(i.Steps)-1].Step == stop
	})
	require.NoError(t, err)
	return s.ID
}

func TestCheckStoreFails(t *testing.T) {
	t.Parallel()
	d := grownWith(1, "book")
	_, err := saga.CheckStore(t.Context(), memory.NewStore())
	require.ErrorIs(t, err, saga.ErrInvalid)
	_, err = saga.CheckStore(t.Context(), nil, d)
	require.ErrorIs(t, err, saga.ErrInvalid)
	_, err = saga.CheckStore(t.Context(), memory.NewStore(), d, d)
	require.ErrorIs(t, err, saga.ErrInvalid)
	_, err = saga.CheckStore(t.Context(), memory.NewStore(), saga.Linear[grownData]("none"))
	var faults *saga.DefinitionError
	require.ErrorAs(t, err, &faults)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = saga.CheckStore(ctx, memory.NewStore(), d)
	require.ErrorIs(t, err, context.Canceled)

	store := memory.NewStore()
	_, err = store.Commit(t.Context(), []saga.Transition{{
		ID: "a", Start: &saga.Start{Definition: "grown", Version: 1, Key: "a"}, State: "running", Engine: []byte("nonsense"),
		History: []saga.HistoryRecord{{Revision: 1}},
	}})
	require.NoError(t, err)
	_, err = saga.CheckStore(t.Context(), store, d)
	require.ErrorContains(t, err, "instance a: stored state cannot be read")
}
