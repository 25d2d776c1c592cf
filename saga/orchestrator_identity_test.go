package saga_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/memory"
	"github.com/sagamill/sagamill/saga"
)

// Source and ID identify an event. What comes again under them is the same event, or a mistake that is told, never dropped.
func TestAnotherEventUnderTheSameIDIsAConflict(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		def := clerk(&rigWorld{})
		o := runRig(t, memory.NewStore(), rigOf(def))
		startSaga(t, def, o, "a", rigData{})
		send := func(e clerkEvent, payload any) (saga.Disposition, error) {
			return def.Send(t.Context(), o, "a", e, saga.Input{Source: "gateway", ID: "7", Payload: payload})
		}
		answer, err := send(evPay, payment{Amount: 20})
		require.NoError(t, err)
		require.Equal(t, saga.Applied, answer)
		answer, err = send(evPay, payment{Amount: 20})
		require.NoError(t, err)
		require.Equal(t, saga.Duplicated, answer)

		_, err = send(evPay, payment{Amount: 99})
		require.ErrorIs(t, err, saga.ErrInputConflict)
		require.ErrorContains(t, err, "another payload")
		_, err = send(evShip, nil)
		var conflict *saga.InputConflictError
		require.True(t, errors.As(err, &conflict))
		require.Equal(t, "ship", conflict.Event)
		require.Equal(t, "pay", conflict.Recorded)
		require.Equal(t, []string{"paid"}, instanceOf(t, def, o, "a").Data.Log)
	})
}

// An event that waited, and was refused then, is told as refused to whoever sends it again.
func TestRefusalAfterTheWaitIsToldAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		def, letGo := parked(&rigWorld{})
		o := runRig(t, memory.NewStore(), rigOf(def))
		startSaga(t, def, o, "a", rigData{})
		cancel := func(id string) (saga.Disposition, error) {
			return def.Send(t.Context(), o, "a", saga.Cancel, saga.Input{Source: "web", ID: id})
		}
		answer, err := cancel("1")
		require.NoError(t, err)
		require.Equal(t, saga.Interrupts, answer)
		answer, err = cancel("2")
		require.NoError(t, err)
		require.Equal(t, saga.Waits, answer)
		close(letGo)
		s := waitSettled(t, def, o, "a")
		require.Equal(t, saga.Cancelled, s.State)
		require.Equal(t, "cancel", s.Cause)
		_, err = cancel("2")
		require.ErrorIs(t, err, saga.ErrRefused)
	})
}

// A saga that failed says why, also when its steps' reasons are history.
func TestCauseSaysWhyASagaFailed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &rigWorld{}
		fails := func(name string, err error) *saga.LinearDefinition[rigData] {
			return saga.Linear(name, w.undoable("a"), saga.Do("b", func(context.Context, rigData) error { return err }).
				Undo(func(context.Context, rigData) error { return nil }))
		}
		no, down := fails("no", saga.Reject("sold out")), fails("down", errors.New("503"))
		o := runRig(t, memory.NewStore(), rigOf(no, down))
		for def, why := range map[*saga.LinearDefinition[rigData]]string{no: "b: sold out", down: "b: given up after 12 attempts: 503"} {
			startSaga(t, def, o, "a", rigData{})
			s := waitSettled(t, def, o, "a")
			require.Equal(t, saga.Failed, s.State)
			require.Equal(t, why, s.Cause)
			require.Empty(t, s.Attention)
		}
	})
}
