package saga_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/memory"
	"github.com/sagamill/sagamill/compensation"
	"github.com/sagamill/sagamill/saga"
)

// Close and the end of Run's context are one: no more inputs are taken, and what is under way is finished.

func TestCloseWaitsForLocalStepsAndCommitsTheirOutcomes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db, done := memory.NewStore(), &rigWorld{}
		def, letGo := parked(done)
		o := runRig(t, db, rigOf(def))
		startSaga(t, def, o, "a", rigData{})
		synctest.Wait()
		closed := make(chan error, 1)
		go func() { closed <- o.Close() }()
		time.Sleep(10 * time.Second) // longer than a lease: it is renewed while the step is waited for
		select {
		case <-closed:
			require.FailNow(t, "Close did not wait for the step")
		default:
		}
		_, err := def.Start(t.Context(), o, saga.StartParams[rigData]{Key: "b"})
		require.ErrorIs(t, err, saga.ErrClosed)
		_, err = def.Send(t.Context(), o, "a", saga.Cancel, saga.Input{Source: "test", ID: "1"})
		require.ErrorIs(t, err, saga.ErrClosed)
		_, err = o.Operate(t.Context(), "a", saga.Operation{Verb: saga.RetryNow, Who: "me", Why: "test"})
		require.ErrorIs(t, err, saga.ErrClosed)
		close(letGo)
		require.NoError(t, <-closed)
		require.Equal(t, saga.Completed, instanceOf(t, def, o, "a").State, "committed before Close returned")
		require.Equal(t, []string{"park"}, done.list())
	})
}

// A step that is begun while the orchestrator closes is not run by it. The next one does so at once.
func TestStepsThatCloseLeavesAreTakenOverAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db, done := memory.NewStore(), &rigWorld{}
		letGo := make(chan struct{})
		def := saga.Linear("two",
			saga.Do("park", func(ctx context.Context, _ rigData) error { <-letGo; return nil }).NoUndo("test"),
			done.step("two").NoUndo("test"))
		o := runRig(t, db, rigOf(def))
		s := startSaga(t, def, o, "a", rigData{})
		synctest.Wait()
		closed := make(chan error, 1)
		go func() { closed <- o.Close() }()
		synctest.Wait()
		close(letGo)
		require.NoError(t, <-closed)
		i, err := o.Get(t.Context(), s.ID)
		require.NoError(t, err)
		require.Equal(t, "two", i.Steps[1].Step)
		require.Empty(t, done.list(), "begun, and not run")

		began := time.Now()
		next := runRig(t, db, rigOf(def))
		require.Equal(t, saga.Completed, waitSettled(t, def, next, "a").State)
		require.Less(t, time.Since(began), time.Second, "no lease had to be waited for")
	})
}

// gate is a store whose sweeps find nothing while it is shut.
type gate struct {
	saga.Store
	shut atomic.Bool
}

func (g *gate) Claim(ctx context.Context, c saga.Claim) ([]saga.Record, time.Duration, error) {
	if g.shut.Load() {
		return nil, saga.NoWake, nil
	}
	return g.Store.Claim(ctx, c)
}

// The lease of an instance is one. Who closes does not give it up if another process is at one of the instance's steps.
func TestCloseLeavesTheLeaseOfAnotherProcess(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db := memory.NewStore()
		letB, letPark := make(chan struct{}), make(chan struct{})
		defer close(letB)
		var tries atomic.Int64
		step := func(name string, first time.Duration, run func()) saga.Step[rigData] {
			return saga.Do(name, func(ctx context.Context, _ rigData) error {
				if saga.Info(ctx).Attempt == 1 {
					return errors.New("no")
				}
				run()
				return nil
			}).Retry(compensation.Retry{First: first, Jitter: -1}).NoUndo("test")
		}
		def := saga.Linear("pair", saga.Parallel(
			step("a", 3*time.Second, func() {}), step("b", time.Second, func() { tries.Add(1); <-letB })))
		park := saga.Linear("park", saga.Do("park", func(context.Context, rigData) error { <-letPark; return nil }).NoUndo("test"))
		config := rigOf(def, park)
		config.Workers = 1
		closes, works := &gate{Store: db}, &gate{Store: db}
		closes.shut.Store(true)
		first := runRig(t, closes, config)
		runRig(t, works, rigOf(def))
		startSaga(t, def, first, "a", rigData{})
		time.Sleep(1500 * time.Millisecond)
		require.EqualValues(t, 1, tries.Load(), "b is tried again by the other process")
		startSaga(t, park, first, "p", rigData{})
		works.shut.Store(true)
		closes.shut.Store(false)
		time.Sleep(5 * time.Second) // a is to be tried again by the first one, whose worker is busy
		closed := make(chan error, 1)
		go func() { closed <- first.Close() }()
		synctest.Wait()
		close(letPark)
		require.NoError(t, <-closed)
		runRig(t, db, rigOf(def))
		time.Sleep(10 * time.Second)
		require.EqualValues(t, 1, tries.Load(), "and nobody took it over")
	})
}

func TestDrainTimeoutCancelsLocalStepsWhoseOutcomesAreCommitted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db, done := memory.NewStore(), &rigWorld{}
		def, letGo := parked(done)
		config := rigOf(def)
		config.DrainTimeout = 3 * time.Second
		o := runRig(t, db, config)
		startSaga(t, def, o, "a", rigData{})
		synctest.Wait()
		began := time.Now()
		require.NoError(t, o.Close())
		require.Equal(t, 3*time.Second, time.Since(began))
		i := instanceOf(t, def, o, "a")
		require.Equal(t, "failed", requireGapless(t, o, i.Instance)[1].Outcome)
		require.Equal(t, saga.ErrClosed.Error(), i.Steps[0].Reason)

		close(letGo)
		next := runRig(t, db, rigOf(def))
		require.Equal(t, saga.Completed, waitSettled(t, def, next, "a").State)
		require.Less(t, time.Since(began), 5*time.Second, "no lease had to be waited for")
	})
}

// A step that looks at nothing cannot hold Close up for ever. Run says what it left behind.
func TestCloseLeavesBehindWhatDoesNotReturn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, hang := newRigWire(), make(chan struct{})
		defer close(hang)
		w.publish = func(string, []*message.Message) error { <-hang; return nil }
		def := saga.Linear("deaf",
			saga.Do("deaf", func(_ context.Context, b rigData) error {
				if b.Card == "deaf" {
					<-hang
				}
				return nil
			}).NoUndo("test"),
			saga.Emit("tell", "topic", "Told", func(b rigData) rigData { return b }).NoUndo("test"))
		config := rigOf(def)
		config.Transport, config.DrainTimeout = w.transport(), 5*time.Second
		o, err := saga.NewOrchestrator(memory.NewStore(), config, nil)
		require.NoError(t, err)
		ended := make(chan error, 1)
		go func() { ended <- o.Run(t.Context()) }()
		startSaga(t, def, o, "a", rigData{Card: "deaf"})
		startSaga(t, def, o, "b", rigData{})
		synctest.Wait()
		began := time.Now()
		closed := o.Close()
		require.Less(t, time.Since(began), 10*time.Second)
		err = <-ended
		require.Equal(t, err, closed, "Close returns what Run returned")
		require.ErrorContains(t, err, "local steps did not return")
		require.ErrorContains(t, err, "Publish did not return")
	})
}

// lateWire is a transport of one topic: its first subscriber ends by itself, and the second one is open only when closing has begun.
type lateWire struct {
	*rigWire
	opened, closed atomic.Int32
	replacing      chan struct{}
}

func (w *lateWire) Subscribe(ctx context.Context, _ string) (<-chan *message.Message, error) {
	messages := make(chan *message.Message)
	if w.opened.Add(1) == 1 {
		close(messages)
		return messages, nil
	}
	close(w.replacing)
	<-ctx.Done()
	synctest.Wait() // whoever closes is as far as can be
	return messages, nil
}

func (w *lateWire) Close() error { w.closed.Add(1); return nil }

func TestCloseWhileASubscriberIsReplacedLeavesNoneOpen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &lateWire{rigWire: newRigWire(), replacing: make(chan struct{})}
		config := rigOf(saga.Linear("nothing", (&rigWorld{}).undoable("one")))
		config.Events, config.Subscribers = []saga.EventSource{{Topic: "news"}}, 1
		config.Transport = saga.Transport{Publisher: w, Subscriber: func(saga.SubscriberParams) (message.Subscriber, error) { return w, nil }}
		o := runRig(t, memory.NewStore(), config)
		<-w.replacing
		require.NoError(t, o.Close())
		require.Equal(t, w.opened.Load(), w.closed.Load())
	})
}

func TestEndOfRunsContextIsLikeClose(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		done := &rigWorld{}
		def, letGo := parked(done)
		o, err := saga.NewOrchestrator(memory.NewStore(), rigOf(def), nil)
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- o.Run(ctx) }()
		startSaga(t, def, o, "a", rigData{})
		synctest.Wait()
		cancel()
		synctest.Wait()
		_, err = def.Start(t.Context(), o, saga.StartParams[rigData]{Key: "b"})
		require.ErrorIs(t, err, saga.ErrClosed)
		close(letGo)
		require.NoError(t, <-ended)
		require.NoError(t, o.Close())
		require.Equal(t, saga.Completed, instanceOf(t, def, o, "a").State, "the step's context was not cancelled")
	})
}

func TestCloseAndRunInAnyOrder(t *testing.T) {
	t.Parallel()
	def := saga.Linear("nothing", (&rigWorld{}).undoable("one"))
	fresh := func(t *testing.T) *saga.Orchestrator {
		o, err := saga.NewOrchestrator(memory.NewStore(), rigOf(def), nil)
		require.NoError(t, err)
		return o
	}
	t.Run("Close twice", func(t *testing.T) {
		t.Parallel()
		o := runRig(t, memory.NewStore(), rigOf(def))
		require.NoError(t, o.Close())
		require.NoError(t, o.Close())
	})
	t.Run("Close before Run", func(t *testing.T) {
		t.Parallel()
		o := fresh(t)
		require.NoError(t, o.Close())
		require.NoError(t, o.Run(t.Context()))
		_, err := def.Start(t.Context(), o, saga.StartParams[rigData]{Key: "a"})
		require.ErrorIs(t, err, saga.ErrClosed)
	})
	t.Run("Run twice", func(t *testing.T) {
		t.Parallel()
		o := runRig(t, memory.NewStore(), rigOf(def))
		require.ErrorIs(t, o.Run(t.Context()), saga.ErrInvalid)
		startSaga(t, def, o, "a", rigData{})
		require.NoError(t, o.Close())
		require.ErrorIs(t, o.Run(t.Context()), saga.ErrInvalid)
	})
	t.Run("Start before Run waits", func(t *testing.T) {
		t.Parallel()
		o := fresh(t)
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errors.New("impatient"))
		_, err := def.Start(ctx, o, saga.StartParams[rigData]{Key: "a"})
		require.ErrorContains(t, err, "impatient")
		require.NoError(t, o.Close())
	})
}

// Whoever starts a saga or sends it an event may go away: what follows from it goes on.
func TestCallersContextCancelsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		done := &rigWorld{}
		def, _ := parked(done)
		slow := saga.Linear("slow",
			saga.Do("one", func(context.Context, rigData) error { return nil }).Undo(func(ctx context.Context, _ rigData) error {
				select {
				case <-time.After(5 * time.Second):
					done.do(ctx)
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			}),
			saga.Do("no", func(context.Context, rigData) error { return saga.Reject("no") }).NoUndo("test"))
		o := runRig(t, memory.NewStore(), rigOf(slow, def))
		ctx, cancel := context.WithCancel(t.Context())
		_, err := slow.Start(ctx, o, saga.StartParams[rigData]{Key: "a"})
		require.NoError(t, err)
		cancel()
		require.Equal(t, saga.Failed, waitSettled(t, slow, o, "a").State)
		require.Equal(t, []string{"one/undo"}, done.list())
	})
}

// What comes in while the orchestrator closes is answered or not acknowledged, and is there for the next process.
func TestInputsInFlightWhenClosingAreNotLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db, done, w := memory.NewStore(), &rigWorld{}, newRigWire()
		letGo := make(chan struct{})
		def := saga.Linear("slow", saga.Do("park", func(context.Context, rigData) error { <-letGo; return nil }).NoUndo("test"))
		events := clerk(done)
		store := &rigStore{Store: db}
		store.commit = func(_ []saga.Transition, next func() ([]saga.Verdict, error)) ([]saga.Verdict, error) {
			time.Sleep(time.Second)
			return next()
		}
		config := rigOf(def, events)
		config.Transport, config.Events, config.Subscribers = w.transport(), []saga.EventSource{{Topic: "events"}}, 1
		o := runRig(t, store, config)
		startSaga(t, def, o, "slow", rigData{})
		s := startSaga(t, events, o, "a", rigData{})
		event := func(id string) *message.Message {
			return w.send("events", "", saga.MetaInstance, s.ID, saga.MetaEvent, string(evPing), saga.MetaSource, "test", saga.MetaInputID, id)
		}
		before := event("1") // its commit is under way when Close is called
		synctest.Wait()
		closed := make(chan struct{})
		go func() { _ = o.Close(); close(closed) }()
		synctest.Wait()
		after := event("2")
		time.Sleep(2 * time.Second)
		require.True(t, isAcked(before), "it was committed, and the broker hears of it while the step is waited for")
		require.False(t, isAcked(after))
		close(letGo)
		<-closed
		require.False(t, isAcked(after))
		entries := requireGapless(t, o, instanceOf(t, events, o, "a").Instance)
		require.Len(t, entries, 2, "start and the first event")
		require.Equal(t, saga.Completed, instanceOf(t, def, o, "slow").State)
	})
}
