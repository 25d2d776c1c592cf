package saga_test

import (
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/memory"
	"github.com/sagamill/sagamill/saga"
)

// Whatever a message on the orchestrator's topic holds, it is acknowledged: it has changed an instance, or changes nothing, or is a
// dead letter. The next message is heard, and the saga that it is about goes on.
func FuzzReply(f *testing.F) {
	f.Add("id-1", "one", "1", "1", "", "succeeded", "", []byte(`"box"`))
	f.Add("id-1", "one", "1", "1", "", "rejected", "no", []byte(nil))
	f.Add("id-1", "one", "1", "7", "true", "failed", "again", []byte(`{`))
	f.Add("id-1", "one", "-1", "x", "yes", "maybe", "", []byte(`null`))
	f.Add("nobody", "", "", "", "", "", "\x00\xff", []byte{0xff})
	f.Fuzz(func(t *testing.T, instance, step, run, attempt, undo, outcome, reason string, payload []byte) {
		store := memory.NewStore()
		def := saga.Linear("asks", saga.Ask("one", packCmd, func(rigData) string { return "box" }, rigData.with).
			UndoBy(saga.RequestOf(packCmd, func(rigData) string { return "box" })), (&rigWorld{}).undoable("two"))
		config := rigOf(def)
		config.Transport = saga.Transport{Publisher: channelTransport(nil), Subscriber: noSubscriber}
		s, err := saga.NewStepped(t.Context(), store, config)
		require.NoError(t, err)
		turn := func() {
			for _, k := range s.Busy() {
				s.Lane(t.Context(), k)
			}
		}
		require.NoError(t, saga.StartStepped(t.Context(), s, def, saga.StartParams[rigData]{ID: "id-1", Key: "a"}, func(bool, error) {}))
		turn()
		msg := message.NewMessage("m-1", payload)
		for key, value := range map[string]string{
			saga.MetaInstance: instance, saga.MetaStep: step, saga.MetaRun: run, saga.MetaAttempt: attempt, saga.MetaUndo: undo,
			saga.MetaOutcome: outcome, saga.MetaReason: reason,
		} {
			msg.Metadata.Set(key, value)
		}
		s.Reply(t.Context(), "sagamill.replies", msg)
		turn()
		turn()
		requireAcked(t, msg)
		letters, err := store.DeadLetters(t.Context(), "", 10)
		require.NoError(t, err)
		records, err := store.Load(t.Context(), "id-1")
		require.NoError(t, err)
		if len(letters) > 0 {
			require.Equal(t, uint64(1), records[0].Revision, "what is a dead letter changes nothing")
			require.Equal(t, payload, letters[0].Payload)
		}
		i, err := saga.ReadInstance(records[0])
		require.NoError(t, err)
		require.False(t, i.Settled && len(i.Steps) > 0 && i.Steps[0].InFlight())
	})
}

// RouteMetadata reads what it is given, or says what is missing.
func FuzzRouteMetadata(f *testing.F) {
	f.Add("id-1", "", "", "paid", "gateway", "evt-1")
	f.Add("", "order", "1001", "paid", "gateway", "evt-1")
	f.Add("", "order", "", "paid", "", "")
	f.Fuzz(func(t *testing.T, instance, definition, key, event, source, id string) {
		msg := message.NewMessage("m-1", []byte(`{}`))
		for k, v := range map[string]string{
			saga.MetaInstance: instance, saga.MetaDefinition: definition, saga.MetaKey: key, saga.MetaEvent: event, saga.MetaSource: source, saga.MetaInputID: id,
		} {
			msg.Metadata.Set(k, v)
		}
		e, err := saga.RouteMetadata(msg)
		complete := event != "" && source != "" && id != "" && (instance != "" || definition != "" && key != "")
		require.Equal(t, complete, err == nil)
		if err != nil {
			require.ErrorIs(t, err, saga.ErrInvalid)
			return
		}
		require.Equal(t, saga.RoutedEvent{Instance: instance, Definition: definition, Key: key, Event: event, Source: source, ID: id, Payload: []byte(`{}`)}, e)
	})
}

func requireAcked(t *testing.T, msg *message.Message) {
	t.Helper()
	select {
	case <-msg.Acked():
	default:
		t.Fatal("the message is not acknowledged")
	}
}
