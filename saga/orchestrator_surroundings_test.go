package saga_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/gochannel"
	"github.com/sagamill/sagamill/adapters/memory"
	"github.com/sagamill/sagamill/saga"
)

// endingSubscriber ends by itself when it is told to, as some of Watermill's do on a message that they cannot read.
type endingSubscriber struct {
	message.Subscriber
	ends chan struct{}
}

func (s endingSubscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		select {
		case <-s.ends:
		case <-ctx.Done():
		}
		cancel()
	}()
	return s.Subscriber.Subscribe(ctx, topic)
}

func TestOrchestratorReplacesASubscriberThatEnds(t *testing.T) {
	t.Parallel()
	broker := gochannel.New(gochannel.Config{}, nil)
	defer func() { require.NoError(t, broker.Close()) }()
	ends, opened := make(chan struct{}), atomic.Int32{}
	config := rigOf(clerk(&rigWorld{}))
	config.Subscribers, config.Events = 1, []saga.EventSource{{Topic: "events"}}
	config.Transport = broker.Transport()
	inner := config.Transport.Subscriber
	again := make(chan struct{})
	config.Transport.Subscriber = func(p saga.SubscriberParams) (message.Subscriber, error) {
		sub, err := inner(p)
		if opened.Add(1) == 1 {
			return endingSubscriber{sub, ends}, err
		}
		close(again)
		return sub, err
	}
	runRig(t, memory.NewStore(), config)
	close(ends)
	select {
	case <-again:
	case <-time.After(10 * time.Second):
		require.FailNow(t, "nobody hears the topic any more")
	}
}

// What is wrong with an Observer costs a line in the log.
func TestObserverThatPanicsStopsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &rigWorld{}
		def := saga.Linear("watched", w.undoable("a"))
		config := rigOf(def)
		config.Observer = saga.ObserverFunc(func(context.Context, saga.Observation) { panic("observer") })
		o := runRig(t, memory.NewStore(), config)
		startSaga(t, def, o, "a", rigData{})
		require.Equal(t, saga.Completed, waitSettled(t, def, o, "a").State)
	})
}

// A request key without a fingerprint is checked by what is started.
func TestStartKeyWithoutFingerprintIsCheckedByTheData(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &rigWorld{}
		def := saga.Linear("keyed", w.undoable("a"))
		o := runRig(t, memory.NewStore(), rigOf(def))
		start := func(key string, data rigData) (saga.Started[saga.LinearState, rigData], error) {
			return def.Start(t.Context(), o, saga.StartParams[rigData]{Key: key, Data: data, StartKey: &saga.RequestKey{Key: "k"}})
		}
		_, err := start("a", rigData{Card: "1"})
		require.NoError(t, err)
		again, err := start("a", rigData{Card: "1"})
		require.NoError(t, err)
		require.True(t, again.Existing)
		_, err = start("b", rigData{Card: "2"})
		require.ErrorIs(t, err, saga.ErrKeyConflict)
	})
}

// Which sagas are live is what the expiry of idempotency keys asks.
func TestLive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		def, letGo := parked(&rigWorld{})
		o := runRig(t, memory.NewStore(), rigOf(def))
		s := startSaga(t, def, o, "a", rigData{})
		live, err := o.Live(t.Context(), []string{s.ID, "none"})
		require.NoError(t, err)
		require.Equal(t, []string{s.ID}, live)
		close(letGo)
		waitSettled(t, def, o, "a")
		live, err = o.Live(t.Context(), []string{s.ID, "none"})
		require.NoError(t, err)
		require.Empty(t, live)
	})
}
