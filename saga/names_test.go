package saga_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"unicode/utf8"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/memory"
	"github.com/sagamill/sagamill/saga"
)

// pickyStore is as particular about texts as PostgreSQL is, and has indexes as small as MariaDB's.
type pickyStore struct{ saga.Store }

func picky(texts ...string) error {
	for _, s := range texts {
		if !utf8.ValidString(s) || strings.Contains(s, "\x00") || len(s) > 2048 {
			return fmt.Errorf("invalid byte sequence, or too long: %.20q", s)
		}
	}
	return nil
}

func (s pickyStore) Load(ctx context.Context, ids ...string) ([]saga.Record, error) {
	if err := picky(ids...); err != nil {
		return nil, err
	}
	return s.Store.Load(ctx, ids...)
}

func (s pickyStore) Lookup(ctx context.Context, definition, key string) (saga.Record, error) {
	if err := picky(definition, key); err != nil {
		return saga.Record{}, err
	}
	return s.Store.Lookup(ctx, definition, key)
}

func (s pickyStore) History(ctx context.Context, id string, after uint64, limit int) ([]saga.HistoryRecord, error) {
	if err := picky(id); err != nil {
		return nil, err
	}
	return s.Store.History(ctx, id, after, limit)
}

func (s pickyStore) Bury(ctx context.Context, l saga.DeadLetter) error {
	if err := errors.Join(picky(l.ID, l.Topic, l.Reason)); err != nil {
		return err
	}
	return s.Store.Bury(ctx, l)
}

// IDs and keys that no database takes come from callers and messages. They name nothing: callers are told, messages are buried, and
// nobody else's input waits for them.
func TestNamesThatNoDatabaseTakes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, def := newRigWire(), clerk(&rigWorld{})
		config := rigOf(def, parcel()) // which hears of replies
		config.Transport, config.Subscribers = w.transport(), 1
		config.Events = []saga.EventSource{{Topic: "events"}}
		o := runRig(t, pickyStore{memory.NewStore()}, config)
		odd := []string{"x\x00", "x\xff", strings.Repeat("x", 10_000)}
		var sent []*message.Message
		for _, name := range odd {
			_, err := o.Operate(t.Context(), name, saga.Operation{Verb: saga.RetryNow, Step: "x", Who: "ann", Why: "test"})
			require.ErrorIs(t, err, saga.ErrNotFound)
			_, err = o.Send(t.Context(), saga.RoutedEvent{Instance: name, Event: string(evPing), Source: "test", ID: "1"})
			require.ErrorIs(t, err, saga.ErrNotFound)
			_, err = def.Send(t.Context(), o, name, evPing, saga.Input{Source: "test", ID: "1"})
			require.ErrorIs(t, err, saga.ErrNotFound)
			_, err = def.Get(t.Context(), o, name)
			require.ErrorIs(t, err, saga.ErrNotFound)
			_, err = def.Wait(t.Context(), o, name)
			require.ErrorIs(t, err, saga.ErrNotFound)
			_, err = o.Get(t.Context(), name)
			require.ErrorIs(t, err, saga.ErrNotFound)
			_, err = o.History(t.Context(), name, 0, 0)
			require.ErrorIs(t, err, saga.ErrNotFound)
			live, err := o.Live(t.Context(), []string{name})
			require.NoError(t, err)
			require.Empty(t, live)
			sent = append(sent,
				w.send("sagamill.replies", "", saga.MetaInstance, name, saga.MetaStep, "x", saga.MetaRun, "1", saga.MetaAttempt, "1", saga.MetaOutcome, "succeeded"),
				w.send("events", "", saga.MetaEvent, string(evPing), saga.MetaSource, "test", saga.MetaInputID, "1", saga.MetaInstance, name),
				w.send("events", "", saga.MetaEvent, string(evPing), saga.MetaSource, "test", saga.MetaInputID, "1", saga.MetaDefinition, "clerk", saga.MetaKey, name))
			m := message.NewMessage(name, nil)
			w.topic("events") <- m
			sent = append(sent, m)
		}
		startSaga(t, def, o, "a", rigData{})
		good := w.send("events", "", saga.MetaEvent, string(evPing), saga.MetaSource, "test", saga.MetaInputID, "1", saga.MetaDefinition, "clerk", saga.MetaKey, "a")
		synctest.Wait()
		for k, m := range append(sent, good) {
			require.True(t, isAcked(m), "message %d", k)
		}
		letters, err := o.DeadLetters(t.Context(), "", 0)
		require.NoError(t, err)
		require.Len(t, letters, len(sent))
	})
}
