package saga

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/compensation"
)

// A success that comes late, in a final state, is undone before the instance counts as settled: also by a local step, of which no
// message tells that it is under way.
func TestLateLocalSuccessInAFinalStateIsUndoneBeforeItSettles(t *testing.T) {
	t.Parallel()
	nothing := func(context.Context, tourData) error { return nil }
	w := begun(t, Linear("late", Do("work", nothing).Undo(nothing), Do("mail", nothing).NoUndo("test")), `{}`)
	_, err := w.wake(defaultTimeout, false) // nothing was heard of the attempt
	require.NoError(t, err)
	_, err = w.decide(input{operator: &operation{verb: SkipStep, step: "work", who: "ann", why: "test"}})
	require.NoError(t, err)
	w.ok(t, "mail", "")
	require.True(t, w.inst.settled)

	_, err = w.decide(input{outcome: &outcome{Step: "work", Run: 1, Kind: outcomeSucceeded, Attempt: 1}})
	require.NoError(t, err)
	require.Equal(t, compensation.Undoing, w.inst.Ledger.Latest("work").Status)
	require.False(t, w.inst.settled)
	require.Len(t, w.inst.Timers, 1, "should the process crash, another one finds the undo")
	w.ok(t, "work", "")
	require.True(t, w.inst.settled)
	require.Equal(t, compensation.Undone, w.inst.Ledger.Latest("work").Status)
}
