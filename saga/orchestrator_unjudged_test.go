package saga_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/memory"
	"github.com/sagamill/sagamill/compensation"
	"github.com/sagamill/sagamill/saga"
)

// Events that could not be judged because the definition failed: kept, told, and judged again.

// A reducer that panics, or data that cannot be read, are not the sender's fault: the event is kept, the log tells of it, and the
// process with the mended definition applies it.
func TestEventThatTheDefinitionFailsOnWaitsForAMendedOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		defined := func(fold func(rigData, payment) rigData) *saga.Definition[clerkState, clerkEvent, rigData] {
			return saga.Define(saga.Spec[clerkState, clerkEvent, rigData]{
				Name: "till", Initial: clerkOpen, Succeeded: []clerkState{clerkPaid},
				Events:    []saga.Event[clerkEvent, rigData]{saga.On(evPay, fold)},
				Table:     saga.Table[clerkState, clerkEvent, rigData]{{From: clerkOpen, On: evPay, To: clerkPaid}},
				Otherwise: saga.Refuse,
			})
		}
		store, log := memory.NewStore(), watermill.NewCaptureLogger()
		broken := defined(func(rigData, payment) rigData { panic("unlucky") })
		first, err := saga.NewOrchestrator(store, rigOf(broken), log)
		require.NoError(t, err)
		ended := make(chan error, 1)
		go func() { ended <- first.Run(t.Context()) }()
		started := startSaga(t, broken, first, "a", rigData{})
		answer, err := broken.Send(t.Context(), first, "a", evPay, saga.Input{Source: "bank", ID: "1", Payload: payment{Amount: 7}})
		require.NoError(t, err)
		require.Equal(t, saga.Waits, answer)
		stuck, _, err := first.List(t.Context(), saga.Query{NeedsAttention: true})
		require.NoError(t, err)
		require.Len(t, stuck, 1)
		require.JSONEq(t, `{"Amount": 7}`, string(stuck[0].Waiting[0].Payload))
		require.Contains(t, stuck[0].Attention, "event pay could not be judged: event pay panicked: unlucky")
		require.Equal(t, "event pay panicked: unlucky", stuck[0].Waiting[0].Why)
		revision := stuck[0].Revision
		time.Sleep(5 * time.Minute)
		require.Equal(t, revision, instanceOf(t, broken, first, "a").Revision, "to judge it again in vain leaves no trace")
		require.NoError(t, first.Close())
		require.NoError(t, <-ended)
		told := log.Captured()[watermill.ErrorLogLevel]
		require.Greater(t, len(told), 5, "each time that it was judged")
		require.Contains(t, told[0].Fields["stack"], "TestEventThatTheDefinitionFailsOn")
		require.True(t, slices.ContainsFunc(told, func(m watermill.CapturedMessage) bool {
			return m.Msg == "Saga needs attention" && m.Fields["instance"] == started.ID && m.Err.Error() == stuck[0].Attention
		}))

		mended := defined(func(b rigData, p payment) rigData { return b.with(fmt.Sprint("paid ", p.Amount)) })
		second := runRig(t, store, rigOf(mended))
		s := waitSettled(t, mended, second, "a")
		require.Equal(t, clerkPaid, s.State)
		require.Equal(t, []string{"paid 7"}, s.Data.Log)
		require.Empty(t, s.Attention)
	})
}

// So does one that is to interrupt a row.
func TestInterruptThatTheDefinitionFailsOnWaitsForAMendedOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		defined := func(fold func(rigData, payment) rigData) *saga.Definition[clerkState, clerkEvent, rigData] {
			pack := saga.Ask("pack", packCmd, func(rigData) string { return "box" }, rigData.with).NoUndo("test").Retriable()
			return saga.Define(saga.Spec[clerkState, clerkEvent, rigData]{
				Name: "till", Initial: clerkOpen, Succeeded: []clerkState{clerkShipped}, Failed: []clerkState{clerkOff},
				Events: []saga.Event[clerkEvent, rigData]{saga.On(evCancel, fold), {Name: evShip}},
				Table: saga.Table[clerkState, clerkEvent, rigData]{
					{From: clerkOpen, On: evCancel, To: clerkOff, Compensate: true, Interrupts: true},
					{From: clerkOpen, On: evShip, To: clerkShipped, Run: saga.Run(pack)},
				},
				Otherwise: saga.Refuse,
			})
		}
		store, w := memory.NewStore(), newRigWire()
		configOf := func(d saga.AnyDefinition) saga.OrchestratorConfig {
			c := rigOf(d)
			c.Transport = w.transport()
			return c
		}
		broken := defined(func(rigData, payment) rigData { panic("unlucky") })
		first := runRig(t, store, configOf(broken))
		startSaga(t, broken, first, "a", rigData{})
		_, err := broken.Send(t.Context(), first, "a", evShip, saga.Input{Source: "test", ID: "1"})
		require.NoError(t, err)
		answer, err := broken.Send(t.Context(), first, "a", evCancel, saga.Input{Source: "test", ID: "2", Payload: payment{Amount: 1}})
		require.NoError(t, err)
		require.Equal(t, saga.Waits, answer)
		require.Contains(t, instanceOf(t, broken, first, "a").Attention, "event cancel could not be judged: event cancel panicked: unlucky")
		require.NoError(t, first.Close())

		mended := defined(func(d rigData, _ payment) rigData { return d })
		second := runRig(t, store, configOf(mended))
		require.Equal(t, clerkOff, waitSettled(t, mended, second, "a").State)
	})
}

// Whatever a panic says, to judge an event again in vain leaves no trace: also where two processes do.
func TestEventThatCannotBeJudgedWritesNoHistory(t *testing.T) {
	t.Parallel()
	for name, value := range map[string]func() any{
		"long": func() any { return strings.Repeat("é", 2000) }, "NUL": func() any { return "a\x00b" }, "no UTF-8": func() any { return "a\xff" },
		"address": func() any { return fmt.Sprintf("%p", new([64]byte)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				def := saga.Define(saga.Spec[clerkState, clerkEvent, rigData]{
					Name: "till", Initial: clerkOpen, Succeeded: []clerkState{clerkPaid},
					Events:    []saga.Event[clerkEvent, rigData]{saga.On(evPay, func(rigData, payment) rigData { panic(value()) })},
					Table:     saga.Table[clerkState, clerkEvent, rigData]{{From: clerkOpen, On: evPay, To: clerkPaid}},
					Otherwise: saga.Refuse,
				})
				store := memory.NewStore()
				o, _ := runRig(t, store, rigOf(def)), runRig(t, store, rigOf(def))
				startSaga(t, def, o, "a", rigData{})
				_, err := def.Send(t.Context(), o, "a", evPay, saga.Input{Source: "test", ID: "1", Payload: payment{}})
				require.NoError(t, err)
				time.Sleep(time.Hour)
				require.EqualValues(t, 2, instanceOf(t, def, o, "a").Revision)
			})
		})
	}
}

// Events that cannot be judged take no room from others, and have a bound of their own.
func TestEventsThatCannotBeJudgedAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		def := clerk(&rigWorld{})
		config := rigOf(def)
		config.MaxWaiting = 2
		o := runRig(t, memory.NewStore(), config)
		startSaga(t, def, o, "a", rigData{})
		send := func(e clerkEvent, id string, payload any) (saga.Disposition, error) {
			return def.Send(t.Context(), o, "a", e, saga.Input{Source: "test", ID: id, Payload: payload})
		}
		for _, id := range []string{"1", "2"} {
			answer, err := send(evPay, id, payment{Amount: 13})
			require.NoError(t, err)
			require.Equal(t, saga.Waits, answer)
		}
		_, err := send(evPay, "3", payment{Amount: 13})
		require.ErrorIs(t, err, saga.ErrRefused)
		require.ErrorContains(t, err, "unlucky")
		answer, err := send(evShip, "4", nil)
		require.NoError(t, err)
		require.Equal(t, saga.Buffered, answer)
	})
}

// A deployment whose data type does not fit says nothing of the step: its function is not called, its budget is not spent, a person hears
// of it at once, and a deployment that fits goes on.
func TestDataThatCannotBeReadCostNoBudget(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		type before struct{ Amount string }
		type broken struct{ Amount int }
		var calls atomic.Int32
		down := errors.New("down")
		retry := compensation.Retry{First: time.Minute, Max: time.Minute, Attempts: 2}
		good := saga.Linear("typed", saga.Do("pay", func(context.Context, before) error {
			if calls.Add(1) == 1 {
				return down
			}
			return nil
		}).NoUndo("test").Retry(retry))
		bad := saga.Linear("typed", saga.Do("pay", func(context.Context, broken) error { calls.Add(1); return nil }).NoUndo("test").Retry(retry))
		store := memory.NewStore()
		o := runRig(t, store, rigOf(good))
		s, err := good.Start(t.Context(), o, saga.StartParams[before]{Key: "a", Data: before{Amount: "ten"}})
		require.NoError(t, err)
		synctest.Wait()
		require.NoError(t, o.Close())

		o = runRig(t, store, rigOf(bad))
		time.Sleep(time.Hour)
		i, err := o.Get(t.Context(), s.ID)
		require.NoError(t, err)
		require.EqualValues(t, 1, calls.Load())
		require.Equal(t, string(saga.Running), i.State)
		require.Contains(t, i.Attention, "decode saga_test.broken")
		require.Greater(t, i.Steps[0].Attempts, 30)
		require.Equal(t, i.Steps[0].Attempts-1, i.Steps[0].Faults)
		require.NoError(t, o.Close())

		o = runRig(t, store, rigOf(good))
		done, err := good.Wait(t.Context(), o, "a")
		require.NoError(t, err)
		require.Equal(t, saga.Completed, done.State)
		require.EqualValues(t, 2, calls.Load())
	})
}
