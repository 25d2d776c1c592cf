package saga_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/memory"
	"github.com/sagamill/sagamill/saga"
)

// A start by an ID that is taken may stand in the lane beside what the instance itself waits for, before it or after it. It
// is told that the instance exists, and takes nothing from it.
func TestStartUnderATakenIDBesideAnOutcome(t *testing.T) {
	t.Parallel()
	for _, first := range []string{"start", "outcome"} {
		t.Run(first+" first", func(t *testing.T) {
			t.Parallel()
			def := saga.Linear("named", (&rigWorld{}).undoable("one"), (&rigWorld{}).undoable("two"))
			s, err := saga.NewStepped(t.Context(), memory.NewStore(), rigOf(def))
			require.NoError(t, err)
			var told []bool
			start := func() {
				params := saga.StartParams[rigData]{ID: "id-1", Key: "a"}
				require.NoError(t, saga.StartStepped(t.Context(), s, def, params, func(existing bool, err error) {
					require.NoError(t, err)
					told = append(told, existing)
				}))
			}
			turn := func() {
				for _, k := range s.Busy() {
					s.Lane(t.Context(), k)
				}
			}
			start()
			turn()
			if first == "start" {
				start()
				s.Task(0)
			} else {
				s.Task(0)
				start()
			}
			turn()
			turn()
			require.Equal(t, []bool{false, true}, told)
			require.Equal(t, 1, s.Tasks(), "the outcome of step one was taken, and step two waits")
		})
	}
}
