package saga_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/memory"
	"github.com/sagamill/sagamill/compensation"
	"github.com/sagamill/sagamill/saga"
)

// What becomes due is in the store, and judged by its clock.

func reservation(w *rigWorld) *saga.Definition[clerkState, clerkEvent, rigData] {
	return reservationBy(w.undoable("reserve"))
}

func reservationBy(reserve saga.Step[rigData]) *saga.Definition[clerkState, clerkEvent, rigData] {
	return saga.Define(saga.Spec[clerkState, clerkEvent, rigData]{
		Name: "reservation", Initial: clerkOpen, Start: "start", Succeeded: []clerkState{clerkShipped}, Failed: []clerkState{clerkOff},
		Events: []saga.Event[clerkEvent, rigData]{{Name: evPay}, {Name: evShip}},
		Table: saga.Table[clerkState, clerkEvent, rigData]{
			{From: clerkOpen, On: "start", To: "reserved", Run: saga.Run(reserve)},
			{From: clerkOpen, On: "reserve.rejected", To: clerkOff, Compensate: true},
			{From: "reserved", After: 15 * time.Minute, To: clerkOff, Compensate: true},
			{From: "reserved", On: evPay, To: clerkPaid},
			{From: clerkPaid, On: evShip, To: clerkShipped},
			{From: clerkPaid, After: 2 * time.Hour, To: clerkOff, Compensate: true},
		},
		Otherwise: saga.Refuse,
	})
}

func TestTimeToLiveOfAState(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		done := &rigWorld{}
		def := reservation(done)
		o := runRig(t, memory.NewStore(), rigOf(def))
		began := time.Now()
		startSaga(t, def, o, "expires", rigData{})
		startSaga(t, def, o, "is paid", rigData{})
		synctest.Wait()
		i := instanceOf(t, def, o, "is paid")
		require.Equal(t, []saga.Timer{{Name: "reserved/after->off", Due: began.Add(15 * time.Minute).UTC()}}, i.Timers)

		time.Sleep(10 * time.Minute)
		_, err := def.Send(t.Context(), o, "is paid", evPay, saga.Input{Source: "test", ID: "1"})
		require.NoError(t, err)
		require.Equal(t, []saga.Timer{{Name: "paid/after->off", Due: time.Now().Add(2 * time.Hour).UTC()}}, instanceOf(t, def, o, "is paid").Timers)
		time.Sleep(5*time.Minute - time.Millisecond)
		require.Equal(t, clerkState("reserved"), instanceOf(t, def, o, "expires").State)
		time.Sleep(100 * time.Millisecond)
		expired := waitSettled(t, def, o, "expires")
		require.Equal(t, clerkOff, expired.State)
		require.Empty(t, expired.Timers)
		require.Equal(t, []string{"reserve undone"}, statuses(expired.Instance))

		time.Sleep(time.Hour)
		require.Equal(t, clerkPaid, instanceOf(t, def, o, "is paid").State, "the timer died when the state was left")
		time.Sleep(2 * time.Hour)
		require.Equal(t, clerkOff, instanceOf(t, def, o, "is paid").State)
	})
}

func TestTimersSurviveARestart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db, done := memory.NewStore(), &rigWorld{}
		def := reservation(done)
		o := runRig(t, db, rigOf(def))
		startSaga(t, def, o, "a", rigData{})
		startSaga(t, def, o, "b", rigData{})
		synctest.Wait()
		require.NoError(t, o.Close())
		time.Sleep(14 * time.Minute)
		o = runRig(t, db, rigOf(def))
		time.Sleep(59 * time.Second)
		require.Equal(t, clerkState("reserved"), instanceOf(t, def, o, "a").State)
		require.NoError(t, o.Close())
		time.Sleep(time.Hour) // it comes due while nobody is there
		o = runRig(t, db, rigOf(def))
		require.Equal(t, clerkOff, waitSettled(t, def, o, "a").State)
		require.Equal(t, clerkOff, waitSettled(t, def, o, "b").State)
	})
}

func TestMovedTimerFiresAtItsNewTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db, done := memory.NewStore(), &rigWorld{}
		def := reservation(done)
		o, other := runRig(t, db, rigOf(def)), runRig(t, db, rigOf(def))
		later, sooner := startSaga(t, def, o, "later", rigData{}), startSaga(t, def, o, "sooner", rigData{})
		synctest.Wait()
		move := func(id string, in time.Duration) saga.Instance {
			i, err := other.Operate(t.Context(), id, saga.Operation{
				Verb: saga.MoveTimer, Timer: "reserved/after->off", In: in, Who: "ann", Why: "asked for by phone",
			})
			require.NoError(t, err)
			return i
		}
		require.Equal(t, time.Now().Add(time.Hour).UTC(), move(later.ID, time.Hour).Timers[0].Due)
		history, err := o.History(t.Context(), later.ID, 0, 0)
		require.NoError(t, err)
		moved := history[len(history)-1]
		require.Equal(t, "reserved/after->off", moved.Timer)
		require.Equal(t, time.Hour, moved.In)
		move(sooner.ID, time.Minute)
		time.Sleep(59 * time.Second)
		require.Equal(t, clerkState("reserved"), instanceOf(t, def, o, "sooner").State)
		time.Sleep(2 * time.Second)
		require.Equal(t, clerkOff, instanceOf(t, def, o, "sooner").State)
		time.Sleep(58 * time.Minute)
		require.Equal(t, clerkState("reserved"), instanceOf(t, def, o, "later").State)
		time.Sleep(time.Minute)
		require.Equal(t, clerkOff, instanceOf(t, def, o, "later").State)
	})
}

// Each timer is kept on time, not only the first one: the sweeper is told of every one that comes earlier than its next look.
func TestEachRetryComesOnTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var at []time.Duration
		def := saga.Linear("retries", saga.Do("one", func(context.Context, rigData) error {
			at = append(at, time.Since(began))
			return errors.New("not yet")
		}).NoUndo("test").Retry(compensation.Retry{First: 100 * time.Millisecond, Max: 400 * time.Millisecond, Jitter: -1, Attempts: 6}))
		o := runRig(t, memory.NewStore(), rigOf(def))
		startSaga(t, def, o, "a", rigData{})
		waitSettled(t, def, o, "a")
		require.Len(t, at, 6)
		for k, want := range []time.Duration{0, 100, 300, 700, 1100, 1500} {
			require.InDelta(t, want*time.Millisecond, at[k], float64(5*time.Millisecond), "attempt %d", k+1)
		}
	})
}
