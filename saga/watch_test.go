package saga_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/memory"
	"github.com/sagamill/sagamill/saga"
)

// readStore counts what is read.
type readStore struct {
	saga.Store
	reads atomic.Int64
}

func (s *readStore) Load(ctx context.Context, ids ...string) ([]saga.Record, error) {
	s.reads.Add(1)
	return s.Store.Load(ctx, ids...)
}

func (s *readStore) Lookup(ctx context.Context, definition, key string) (saga.Record, error) {
	s.reads.Add(1)
	return s.Store.Lookup(ctx, definition, key)
}

// Who starts a saga and waits for its end costs the store no read. Later, when others may have gone on with it, it is asked.
func TestToWaitForAnEndReadsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		done := &rigWorld{}
		def := saga.Linear("trip", done.step("hotel").NoUndo("test"), done.step("flight").NoUndo("test"), done.step("mail").NoUndo("test"))
		store := &readStore{Store: memory.NewStore()}
		o := runRig(t, store, rigOf(def))
		startSaga(t, def, o, "a", rigData{})
		s, err := def.Wait(t.Context(), o, "a")
		require.NoError(t, err)
		require.Equal(t, saga.Completed, s.State)
		require.Zero(t, store.reads.Load())

		time.Sleep(time.Minute)
		again, err := def.Wait(t.Context(), o, "a")
		require.NoError(t, err)
		require.Equal(t, s, again)
		require.NotZero(t, store.reads.Load())
	})
}

// A key whose saga was removed, and that another process has given to another saga, is looked up again.
func TestToWaitForAKeyThatWasGivenAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db, done := memory.NewStore(), &rigWorld{}
		def := saga.Linear("trip", done.step("hotel").NoUndo("test"))
		one, other := runRig(t, db, rigOf(def)), runRig(t, db, rigOf(def))
		startSaga(t, def, one, "a", rigData{})
		first := waitSettled(t, def, one, "a")
		time.Sleep(time.Minute)
		n, err := saga.Clean(t.Context(), db, saga.Retention{KeepFor: time.Second})
		require.NoError(t, err)
		require.Equal(t, 1, n)
		startSaga(t, def, other, "a", rigData{})
		second := waitSettled(t, def, one, "a")
		require.NotEqual(t, first.ID, second.ID)
	})
}
