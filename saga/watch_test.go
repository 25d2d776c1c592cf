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

// Whoever has the answer to an input, and waits then, is told of nothing older.
func TestAnswerComesAfterWhatThoseWhoWaitAreTold(t *testing.T) {
	t.Parallel()
	def := reservation(&rigWorld{})
	s, err := saga.NewStepped(t.Context(), memory.NewStore(), rigOf(def))
	require.NoError(t, err)
	told := uint64(0)
	note := func(err error) { require.NoError(t, err); told = s.Told("1") }
	require.NoError(t, saga.StartStepped(t.Context(), s, def, saga.StartParams[rigData]{ID: "1", Key: "a"}, func(_ bool, err error) { note(err) }))
	settle := func() {
		for lanes := s.Busy(); len(lanes) > 0; lanes = s.Busy() {
			s.Lane(t.Context(), lanes[0])
		}
	}
	settle()
	require.EqualValues(t, 1, told)
	require.NoError(t, s.Event(t.Context(), "1", string(evPay), "test", "1", nil, func(_ saga.Disposition, err error) { note(err) }))
	settle()
	require.EqualValues(t, 2, told)
}
