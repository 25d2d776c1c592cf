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

// Nor does who sends an event to a saga of this process, and waits for a state that it comes to. Of a state that it was in before the
// wait began the store is asked whether it still is: another process may have gone on.
func TestToSendAndToWaitForAStateReadsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		def := reservationBy(saga.Do("reserve", func(context.Context, rigData) error {
			time.Sleep(time.Millisecond) // the clock does not go on by itself
			return nil
		}).NoUndo("test"))
		db := memory.NewStore()
		store := &readStore{Store: db}
		o, other := runRig(t, store, rigOf(def)), runRig(t, db, rigOf(def))
		startSaga(t, def, o, "a", rigData{})
		s, err := def.Wait(t.Context(), o, "a", "reserved")
		require.NoError(t, err)
		require.EqualValues(t, "reserved", s.State)
		_, err = def.Send(t.Context(), o, "a", evPay, saga.Input{Source: "test", ID: "1"})
		require.NoError(t, err)
		require.Zero(t, store.reads.Load())

		_, err = def.Send(t.Context(), other, "a", evShip, saga.Input{Source: "test", ID: "2"})
		require.NoError(t, err)
		s, err = def.Wait(t.Context(), o, "a", clerkPaid)
		require.ErrorContains(t, err, "has settled in state "+string(clerkShipped))
		require.Equal(t, clerkShipped, s.State)
		require.NotZero(t, store.reads.Load())
	})
}

// A key whose saga was removed, and that another process has given to another saga, is looked up again.
func TestKeyThatWasGivenAway(t *testing.T) {
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

// So it is for an event.
func TestToSendToAKeyThatWasGivenAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db, def := memory.NewStore(), reservation(&rigWorld{})
		one, other := runRig(t, db, rigOf(def)), runRig(t, db, rigOf(def))
		send := func(event clerkEvent, id string) {
			d, err := def.Send(t.Context(), one, "a", event, saga.Input{Source: "test", ID: id})
			require.NoError(t, err)
			require.Equal(t, saga.Applied, d)
		}
		startSaga(t, def, one, "a", rigData{})
		synctest.Wait()
		send(evPay, "1")
		send(evShip, "2")
		time.Sleep(time.Minute)
		n, err := saga.Clean(t.Context(), db, saga.Retention{KeepFor: time.Second})
		require.NoError(t, err)
		require.Equal(t, 1, n)
		startSaga(t, def, other, "a", rigData{})
		synctest.Wait()
		send(evPay, "3")
		require.Equal(t, clerkPaid, instanceOf(t, def, one, "a").State)
	})
}

// An ID that is used again, for another key, is not taken for the one that was removed: neither by who sends, nor by who waits.
func TestIDThatIsUsedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db, def := memory.NewStore(), reservation(&rigWorld{})
		one, other := runRig(t, db, rigOf(def)), runRig(t, db, rigOf(def))
		for _, o := range []*saga.Orchestrator{one, other} {
			start := func(o *saga.Orchestrator, key string) {
				_, err := def.Start(t.Context(), o, saga.StartParams[rigData]{ID: "x", Key: key})
				require.NoError(t, err)
				synctest.Wait()
			}
			send := func(key string, event clerkEvent, id string) error {
				_, err := def.Send(t.Context(), one, key, event, saga.Input{Source: "test", ID: id})
				return err
			}
			remove := func() {
				time.Sleep(time.Minute)
				n, err := saga.Clean(t.Context(), db, saga.Retention{KeepFor: time.Second})
				require.NoError(t, err)
				require.Equal(t, 1, n)
			}
			start(one, "a")
			require.NoError(t, send("a", evPay, "1"))
			require.NoError(t, send("a", evShip, "2"))
			remove()
			start(o, "b") // in this process, and in another one
			require.ErrorIs(t, send("a", evPay, "3"), saga.ErrNotFound)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			_, err := def.Wait(ctx, one, "a", clerkPaid)
			require.ErrorIs(t, err, saga.ErrNotFound)

			go func() {
				time.Sleep(time.Millisecond)
				require.NoError(t, send("b", evPay, "4"))
			}()
			began := time.Now()
			s, err := def.Wait(ctx, one, "b", clerkPaid)
			require.NoError(t, err)
			require.Equal(t, "b", s.Key)
			require.Equal(t, time.Millisecond, time.Since(began), "it is told")
			require.NoError(t, send("b", evShip, "5"))
			remove()
		}
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
