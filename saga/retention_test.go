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

// Dead letters are removed by hand, or when they are old.
func TestDeadLettersAreRemoved(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memory.NewStore()
		o := runRig(t, store, rigOf(clerk(&rigWorld{})))
		bury := func(names ...string) {
			for _, name := range names {
				require.NoError(t, store.Bury(t.Context(), saga.DeadLetter{ID: name, Topic: "events"}))
			}
		}
		left := func() (ids []string) {
			letters, err := o.DeadLetters(t.Context(), "", 0)
			require.NoError(t, err)
			for _, l := range letters {
				ids = append(ids, l.ID)
			}
			return ids
		}
		bury("a", "b", "c", "d", "e", "f")
		n, err := o.RemoveDeadLetters(t.Context(), "b", "nobody", "x\x00")
		require.NoError(t, err)
		require.Equal(t, 1, n)
		require.Equal(t, []string{"a", "c", "d", "e", "f"}, left())
		_, err = o.RemoveDeadLetters(t.Context())
		require.ErrorIs(t, err, saga.ErrInvalid)
		n, err = o.RemoveDeadLetters(t.Context(), "\xff")
		require.NoError(t, err)
		require.Zero(t, n)

		time.Sleep(time.Hour)
		bury("young")
		r := saga.Retention{KeepFor: time.Minute, Batch: 2}
		n, err = saga.Clean(t.Context(), store, r)
		require.NoError(t, err)
		require.Zero(t, n)
		require.Len(t, left(), 6, "they are kept")
		r.KeepLetters = time.Minute
		n, err = saga.Clean(t.Context(), store, r)
		require.NoError(t, err)
		require.Zero(t, n, "it counts instances")
		require.Equal(t, []string{"young"}, left())
	})
}

// attention is a store whose instances all need some.
type attention struct{ saga.Store }

func (a attention) List(ctx context.Context, q saga.Query) ([]saga.Record, error) {
	records, err := a.Store.List(ctx, q)
	for k := range records {
		records[k].Attention = "the pivot succeeded late"
	}
	return records, err
}

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

		for _, bad := range []saga.Retention{{}, {KeepFor: time.Hour, KeepLetters: -1}} {
			_, err = saga.Clean(t.Context(), store, bad)
			require.ErrorIs(t, err, saga.ErrInvalid)
		}
		r.KeepFor = time.Nanosecond
		time.Sleep(time.Hour)
		n, err = saga.Clean(t.Context(), attention{store}, r)
		require.NoError(t, err)
		require.Zero(t, n, "who has to look at it finds it")
		_, err = saga.Clean(t.Context(), nil, r)
		require.ErrorIs(t, err, saga.ErrInvalid)
	})
}
