package saga_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/memory"
	"github.com/sagamill/sagamill/saga"
)

// An instance stays on the version that it started with. Versions stand side by side, in one process or in many.

// versioned is a saga whose steps and log entries name its version. It packs by command, and ends with an event.
func versioned(w *rigWorld, version int, more ...saga.Event[clerkEvent, rigData]) *saga.Definition[clerkState, clerkEvent, rigData] {
	name := "send-v" + string(rune('0'+version))
	table := saga.Table[clerkState, clerkEvent, rigData]{
		{From: clerkOpen, On: "start", To: clerkPaid, Run: saga.Run(saga.Ask("pack", packCmd, func(rigData) string { return "box" }, rigData.with).NoUndo("test"))},
		{From: clerkPaid, On: evShip, To: clerkShipped, Run: saga.Run(w.step(name).Retriable())},
		{From: clerkPaid, On: evPay, To: clerkPaid},
		{From: clerkPaid, On: evCancel, To: clerkOff},
		{From: clerkOpen, On: "pack.rejected", To: clerkOff, Compensate: true},
		{From: clerkShipped, On: evRefund, To: clerkShipped, Run: saga.Run(w.step("refund").Retriable())},
	}
	for _, e := range more {
		table = append(table, saga.Row[clerkState, clerkEvent, rigData]{From: saga.Any, On: e.Name, Policy: saga.Ignore})
	}
	return saga.Define(saga.Spec[clerkState, clerkEvent, rigData]{
		Name: "versioned", Version: version, Initial: clerkOpen, Start: "start",
		Succeeded: []clerkState{clerkShipped}, Failed: []clerkState{clerkOff},
		Events: append([]saga.Event[clerkEvent, rigData]{
			{Name: evShip}, {Name: evCancel}, {Name: evRefund},
			saga.On(evPay, func(b rigData, _ payment) rigData { return b.with("paid") }),
		}, more...),
		Table: table, Otherwise: saga.Refuse,
	})
}

func TestVersionsRunSideBySide(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		done, w := &rigWorld{}, newRigWire()
		packers(w, done)
		// Each version has an event that the other one has not.
		v1 := versioned(done, 1, saga.Event[clerkEvent, rigData]{Name: "old"})
		v2 := versioned(done, 2, saga.Event[clerkEvent, rigData]{Name: "new"})
		config := rigOf(v1, v2)
		config.Transport = w.transport()
		o := runRig(t, memory.NewStore(), config)
		startSaga(t, v1, o, "a", rigData{})
		startSaga(t, v2, o, "b", rigData{})
		synctest.Wait()

		answer, err := v1.Send(t.Context(), o, "a", "old", saga.Input{Source: "test", ID: "0"})
		require.NoError(t, err, "the newest version does not speak for the others")
		require.Equal(t, saga.Ignored, answer)
		_, err = v1.Send(t.Context(), o, "b", "old", saga.Input{Source: "test", ID: "0"})
		require.ErrorIs(t, err, saga.ErrUnknownEvent)
		require.ErrorContains(t, err, "version 2")

		for key, d := range map[string]*saga.Definition[clerkState, clerkEvent, rigData]{"a": v1, "b": v2} {
			_, err := d.Send(t.Context(), o, key, evShip, saga.Input{Source: "test", ID: "1"})
			require.NoError(t, err)
			require.Equal(t, d.Version(), waitSettled(t, d, o, key).Version)
		}
		require.Equal(t, 1, done.count("send-v1"))
		require.Equal(t, 1, done.count("send-v2"))
	})
}

func TestInputsOfAnUnknownVersionAreKeptForAProcessThatKnowsIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		done, w, db, seen := &rigWorld{}, newRigWire(), memory.NewStore(), &rigWatcher{}
		v1, v2 := versioned(done, 1), versioned(done, 2)
		config := rigOf(v1)
		config.Transport = w.transport()
		old := runRig(t, db, config)
		s := startSaga(t, v1, old, "a", rigData{})
		synctest.Wait()
		require.NoError(t, old.Close())
		require.NotEmpty(t, w.published("packers"))
		command := w.published("packers")[0]

		config.Definitions, config.Observer, config.Events = []saga.AnyDefinition{v2}, seen, []saga.EventSource{{Topic: "events"}}
		config.MaxWaiting = 4
		fresh := runRig(t, db, config)
		reply := w.reply(command, "succeeded", `"boxed"`)
		event := func(name clerkEvent, id, payload string) bool {
			msg := w.send("events", payload, saga.MetaInstance, s.ID, saga.MetaEvent, string(name), saga.MetaSource, "test", saga.MetaInputID, id)
			synctest.Wait()
			return isAcked(msg)
		}
		require.True(t, event(evPay, "1", `{"Amount":1}`), "recorded, and acknowledged")
		require.True(t, event(evPay, "1", `{"Amount":1}`), "a duplicate is one, decided or not")
		require.True(t, isAcked(reply))
		answer, err := v2.Send(t.Context(), fresh, "a", evShip, saga.Input{Source: "test", ID: "2"})
		require.NoError(t, err)
		require.Equal(t, saga.Undecided, answer)
		answer, err = v2.Send(t.Context(), fresh, "a", evShip, saga.Input{Source: "test", ID: "2"})
		require.NoError(t, err)
		require.Equal(t, saga.Duplicated, answer)

		// An event that only the engine raises is none of those that may come from outside, whoever decides.
		answer, err = fresh.Send(t.Context(), saga.RoutedEvent{Instance: s.ID, Event: "start", Source: "test", ID: "evil"})
		require.NoError(t, err)
		require.Equal(t, saga.Undecided, answer)
		// What is kept is bounded.
		_, err = v2.Send(t.Context(), fresh, "a", evShip, saga.Input{Source: "test", ID: "3"})
		require.ErrorIs(t, err, saga.ErrRefused)
		require.True(t, event(evShip, "4", ""))
		letters, err := fresh.DeadLetters(t.Context(), "", 0)
		require.NoError(t, err)
		require.Len(t, letters, 1, "an event that is not kept is a dead letter")

		_, err = fresh.Operate(t.Context(), s.ID, saga.Operation{Verb: saga.EditData, Data: rigData{}, Who: "me", Why: "test"})
		require.ErrorIs(t, err, saga.ErrUnknownDefinition)
		time.Sleep(time.Minute)
		require.Equal(t, clerkOpen, instanceOf(t, v1, fresh, "a").State, "a sweep takes only what it knows")

		config = rigOf(v1)
		config.Transport = w.transport()
		old = runRig(t, db, config)
		got := waitSettled(t, v1, old, "a")
		require.Equal(t, clerkShipped, got.State)
		require.Equal(t, 1, got.Version)
		require.Equal(t, []string{"boxed", "paid"}, got.Data.Log)
		require.Equal(t, 1, done.count("send-v1"))
		require.Zero(t, done.count("send-v2"))
	})
}

// Two times the same event in one batch, for a version that this process does not know: one is kept, one is a duplicate.
func TestUndecidedEventTwiceInOneBatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		done, w, db := &rigWorld{}, newRigWire(), memory.NewStore()
		v1, v2 := versioned(done, 1), versioned(done, 2)
		config := rigOf(v1)
		config.Transport, config.Lanes = w.transport(), 1
		old := runRig(t, db, config)
		startSaga(t, v1, old, "a", rigData{})
		require.NoError(t, old.Close())

		store := &rigStore{Store: db}
		store.commit = func(_ []saga.Transition, next func() ([]saga.Verdict, error)) ([]saga.Verdict, error) {
			time.Sleep(time.Second) // the inputs gather
			return next()
		}
		config.Definitions = []saga.AnyDefinition{v2}
		fresh := runRig(t, store, config)
		answers := make(chan saga.Disposition, 3)
		for _, id := range []string{"0", "1", "1"} {
			go func() {
				a, err := v2.Send(t.Context(), fresh, "a", evShip, saga.Input{Source: "test", ID: id})
				require.NoError(t, err)
				answers <- a
			}()
			synctest.Wait()
		}
		require.Equal(t, saga.Undecided, <-answers)
		require.Equal(t, saga.Undecided, <-answers)
		require.Equal(t, saga.Duplicated, <-answers)
	})
}

// A late event for a settled instance of another version wakes the process that knows it.
func TestUndecidedEventOfASettledInstanceIsFound(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		done, w, db := &rigWorld{}, newRigWire(), memory.NewStore()
		packers(w, done)
		v1, v2 := versioned(done, 1), versioned(done, 2)
		config := rigOf(v1)
		config.Transport = w.transport()
		old := runRig(t, db, config)
		startSaga(t, v1, old, "a", rigData{})
		synctest.Wait()
		_, err := v1.Send(t.Context(), old, "a", evShip, saga.Input{Source: "test", ID: "1"})
		require.NoError(t, err)
		waitSettled(t, v1, old, "a")

		config.Definitions = []saga.AnyDefinition{v2}
		fresh := runRig(t, db, config)
		answer, err := v2.Send(t.Context(), fresh, "a", evRefund, saga.Input{Source: "test", ID: "2"})
		require.NoError(t, err)
		require.Equal(t, saga.Undecided, answer)
		time.Sleep(2 * time.Second)
		require.Equal(t, 1, done.count("refund"))
		s := waitSettled(t, v1, old, "a")
		require.Equal(t, clerkShipped, s.State)
	})
}

func TestOrchestratorRefusesWhatItCannotContinue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db, done := memory.NewStore(), &rigWorld{}
		letGo := make(chan struct{})
		wait := saga.Do("wait", func(context.Context, rigData) error { <-letGo; return nil }).NoUndo("test")
		before := saga.Linear("grown", wait, done.undoable("old-step"))
		after := saga.Linear("grown", wait, done.undoable("new-step"))
		more := saga.Linear("grown", wait, done.undoable("old-step"), done.undoable("new-step"))

		o := runRig(t, db, rigOf(before))
		startSaga(t, before, o, "a", rigData{})
		refused, err := saga.NewOrchestrator(db, rigOf(after), nil)
		require.NoError(t, err)
		err = refused.Run(t.Context())
		require.ErrorIs(t, err, saga.ErrIncompatible)
		var why *saga.IncompatibleError
		require.True(t, errors.As(err, &why))
		require.Equal(t, "grown", why.Definition)
		require.Equal(t, 1, why.Version)
		require.Equal(t, 1, why.Live)
		require.Contains(t, why.Missing, "step old-step as compensatable local, undone by local")
		require.ErrorContains(t, err, "step old-step")
		_, err = after.Start(t.Context(), refused, saga.StartParams[rigData]{Key: "b"})
		require.ErrorIs(t, err, saga.ErrClosed)
		require.ErrorIs(t, refused.Close(), saga.ErrIncompatible)

		for name, changed := range map[string]*saga.LinearDefinition[rigData]{
			"a step before one that may have begun": saga.Linear("grown", done.undoable("new-step"), wait, done.undoable("old-step")),
			"a step that was compensatable decides": saga.Linear("grown", wait, done.step("old-step").Pivot()),
			"a compensation is gone":                saga.Linear("grown", wait, done.step("old-step").NoUndo("test")),
		} {
			refused, err := saga.NewOrchestrator(db, rigOf(changed), nil)
			require.NoError(t, err, name)
			require.ErrorIs(t, refused.Run(t.Context()), saga.ErrIncompatible, name)
		}

		wider := runRig(t, db, rigOf(more)) // it can do all that the one before could
		require.NoError(t, wider.Close())
		close(letGo)
		waitSettled(t, before, o, "a")
		require.NoError(t, o.Close())
		runRig(t, db, rigOf(after)) // nobody needs the old step any more
	})
}
