package saga_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/memory"
	"github.com/sagamill/sagamill/saga"
)

// Clean removes what has been settled for long, in batches, and nothing else.
func TestClean(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, done := memory.NewStore(), &rigWorld{}
		def := saga.Linear("trip", done.step("hotel").NoUndo("test"), done.step("mail").NoUndo("test"))
		o := runRig(t, store, rigOf(def))
		for n := range 25 {
			startSaga(t, def, o, fmt.Sprint("old", n), rigData{})
			waitSettled(t, def, o, fmt.Sprint("old", n))
		}
		time.Sleep(time.Hour)
		startSaga(t, def, o, "young", rigData{})
		waitSettled(t, def, o, "young")

		var archived []saga.Archived
		broken := errors.New("the archive is away")
		r := saga.Retention{KeepFor: time.Minute, Batch: 10, Archive: func(_ context.Context, some []saga.Archived) error {
			if len(archived) == 10 {
				return broken
			}
			archived = append(archived, some...)
			return nil
		}}
		n, err := saga.Clean(t.Context(), store, r)
		require.ErrorIs(t, err, broken)
		require.Equal(t, 10, n)
		require.Len(t, archived, 10)
		require.Equal(t, saga.Completed, saga.LinearState(archived[0].State))
		require.Len(t, archived[0].History, int(archived[0].Revision))

		r.Archive = nil
		n, err = saga.Clean(t.Context(), store, r)
		require.NoError(t, err)
		require.Equal(t, 15, n)
		n, err = saga.Clean(t.Context(), store, r)
		require.NoError(t, err)
		require.Zero(t, n)
		_, err = def.Get(t.Context(), o, "old3")
		require.ErrorIs(t, err, saga.ErrNotFound)
		require.Equal(t, saga.Completed, waitSettled(t, def, o, "young").State)

		_, err = saga.Clean(t.Context(), store, saga.Retention{})
		require.ErrorIs(t, err, saga.ErrInvalid)
	})
}
