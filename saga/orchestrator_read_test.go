package saga_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/gochannel"
	"github.com/sagamill/sagamill/adapters/memory"
	"github.com/sagamill/sagamill/compensation"
	"github.com/sagamill/sagamill/saga"
)

// What can be seen from outside: Wait, List, History, the Observer, and trace context. And the bounds on what may gather.

func TestWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db, def := memory.NewStore(), reservation(&rigWorld{})
		o, other := runRig(t, db, rigOf(def)), runRig(t, db, rigOf(def))
		startSaga(t, def, o, "a", rigData{})
		s, err := def.Wait(t.Context(), o, "a", "reserved")
		require.NoError(t, err)
		require.Equal(t, clerkState("reserved"), s.State)
		require.False(t, s.Settled)

		type answer struct {
			s   saga.Snapshot[clerkState, rigData]
			err error
		}
		far, elsewhere, given := make(chan answer, 1), make(chan answer, 1), make(chan answer, 1)
		wait := func(ctx context.Context, at *saga.Orchestrator, to chan answer, states ...clerkState) {
			s, err := def.Wait(ctx, at, "a", states...)
			to <- answer{s, err}
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		go wait(t.Context(), other, far, clerkOff)
		go wait(t.Context(), o, elsewhere, clerkShipped)
		go wait(ctx, o, given)
		synctest.Wait()
		cancel(errors.New("enough"))
		a := <-given
		require.ErrorContains(t, a.err, "enough")
		require.ErrorContains(t, a.err, "reserved")
		began := time.Now()
		a = <-elsewhere
		require.ErrorContains(t, a.err, "settled in state off")
		require.Equal(t, clerkOff, a.s.State)
		require.Less(t, time.Since(began), 16*time.Minute)
		at := time.Now()
		a = <-far
		require.NoError(t, a.err)
		require.Equal(t, clerkOff, a.s.State)
		require.LessOrEqual(t, time.Since(at), time.Second, "changes of others are seen within PollInterval")

		idle, err := saga.NewOrchestrator(db, rigOf(def), nil)
		require.NoError(t, err)
		s, err = def.Wait(t.Context(), idle, "a") // reading takes no Run
		require.NoError(t, err)
		require.Equal(t, clerkOff, s.State)
		startSaga(t, def, o, "b", rigData{})
		go func() { require.NoError(t, o.Close()) }()
		_, err = def.Wait(t.Context(), o, "b")
		require.ErrorIs(t, err, saga.ErrClosed)
	})
}

func TestList(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		def, res := clerk(&rigWorld{}), reservation(&rigWorld{})
		bad := saga.Linear("bad", saga.Do("bad", func(context.Context, rigData) error { return errors.New("broken") }).
			Pivot().Retry(compensation.Retry{Alert: 1}))
		o := runRig(t, memory.NewStore(), rigOf(def, res, bad))
		var ids []string
		for n := range 7 {
			ids = append(ids, startSaga(t, def, o, fmt.Sprint(n), rigData{}).ID)
			time.Sleep(time.Second)
		}
		startSaga(t, bad, o, "bad", rigData{})
		_, err := def.Send(t.Context(), o, "3", evCancel, saga.Input{Source: "test", ID: "1"})
		require.NoError(t, err)
		time.Sleep(5 * time.Second)
		list := func(q saga.Query) (found []string, next string) {
			page, next, err := o.List(t.Context(), q)
			require.NoError(t, err)
			for _, i := range page {
				found = append(found, i.Key)
			}
			return found, next
		}
		found, next := list(saga.Query{Definition: "clerk", Limit: 3})
		require.Equal(t, []string{"0", "1", "2"}, found)
		require.Equal(t, ids[2], next)
		found, next = list(saga.Query{Definition: "clerk", Limit: 3, After: next})
		require.Equal(t, []string{"3", "4", "5"}, found)
		found, next = list(saga.Query{Definition: "clerk", Limit: 3, After: next})
		require.Equal(t, []string{"6"}, found)
		require.Empty(t, next)
		found, _ = list(saga.Query{Definition: "clerk", Unsettled: true})
		require.Len(t, found, 6)
		found, _ = list(saga.Query{State: string(clerkOff)})
		require.Equal(t, []string{"3"}, found)
		found, _ = list(saga.Query{Definition: "clerk", OlderThan: 9 * time.Second})
		require.Equal(t, []string{"0", "1", "2", "3"}[:len(found)], found)
		require.Less(t, len(found), 7)
		found, _ = list(saga.Query{NeedsAttention: true})
		require.Equal(t, []string{"bad"}, found, "a stuck step shows")
		found, _ = list(saga.Query{Definition: "nobody's"})
		require.Empty(t, found)
	})
}

func TestHistoryIsReadInPages(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		def := clerk(&rigWorld{})
		o := runRig(t, memory.NewStore(), rigOf(def))
		s := startSaga(t, def, o, "a", rigData{})
		for n := range 5 {
			_, err := def.Send(t.Context(), o, "a", evPing, saga.Input{Source: "test", ID: fmt.Sprint(n)})
			require.NoError(t, err)
		}
		page, err := o.History(t.Context(), s.ID, 2, 2)
		require.NoError(t, err)
		require.Len(t, page, 2)
		require.Equal(t, uint64(3), page[0].Revision)
		require.Equal(t, "1", page[0].InputID)
		require.Equal(t, saga.Ignored, page[0].Result)
		require.Equal(t, time.Now().UTC(), page[0].At)
		page, err = o.History(t.Context(), s.ID, 6, 0)
		require.NoError(t, err)
		require.Empty(t, page)
	})
}

func TestTraceContextGoesFromStartIntoCommandsRepliesEventsAndSteps(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		trace := map[string]string{"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate": "a=b", "baggage": "k=v"}
		broker := gochannel.New(gochannel.Config{}, nil)
		defer func() { require.NoError(t, broker.Close()) }()
		transport := broker.Transport()
		var mu sync.Mutex
		seen, mine := map[string]map[string]string{}, &rigWatcher{}
		see := func(who string, trace map[string]string) {
			mu.Lock()
			defer mu.Unlock()
			seen[who] = trace
		}
		p, err := saga.NewParticipant(memory.NewInbox(), saga.ParticipantConfig{Name: "packers", Transport: transport}, nil)
		require.NoError(t, err)
		require.NoError(t, saga.Handle(p, packCmd, func(ctx context.Context, _ *memory.Tx, _ string) (string, error) {
			see("participant", saga.TraceOf(ctx))
			return "boxed", nil
		}))
		go func() { _ = p.Run(context.Background()) }()
		defer func() { require.NoError(t, p.Close()) }()
		<-p.Running()
		listen := func(topic string) {
			sub, err := transport.Subscriber(saga.SubscriberParams{Topic: topic, Group: "test"})
			require.NoError(t, err)
			msgs, err := sub.Subscribe(t.Context(), topic)
			require.NoError(t, err)
			go func() {
				for msg := range msgs {
					got := map[string]string{}
					for k := range trace {
						got[k] = msg.Metadata.Get(k)
					}
					see(topic, got)
					msg.Ack()
				}
			}()
			t.Cleanup(func() { require.NoError(t, sub.Close()) })
		}
		listen("orders")
		listen("sagamill.replies")
		def := saga.Linear("traced",
			saga.Do("one", func(ctx context.Context, _ rigData) error { see("step", saga.TraceOf(ctx)); return nil }).
				Undo(func(ctx context.Context, _ rigData) error { see("undo", saga.TraceOf(ctx)); return nil }),
			saga.Ask("pack", packCmd, func(rigData) string { return "box" }, rigData.with).NoUndo("test"),
			saga.Emit("announce", "orders", "Packed", func(b rigData) rigData { return b }).NoUndo("test"),
			saga.Do("no", func(context.Context, rigData) error { return saga.Reject("no") }).NoUndo("test"))
		config := rigOf(def)
		config.Transport, config.Observer = transport, mine
		o := runRig(t, memory.NewStore(), config)
		_, err = def.Start(saga.WithTrace(t.Context(), trace), o, saga.StartParams[rigData]{Key: "a"})
		require.NoError(t, err)
		require.Equal(t, saga.Failed, waitSettled(t, def, o, "a").State)
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		require.Equal(t, map[string]map[string]string{"step": trace, "undo": trace, "participant": trace, "orders": trace, "sagamill.replies": trace}, seen)
		require.NoError(t, o.Close())

		for _, what := range []saga.What{saga.ObserveTransition, saga.ObserveStep, saga.ObserveReply, saga.ObserveSettled, saga.ObserveCommit} {
			require.NotEmpty(t, mine.of(what), what)
		}
		require.Len(t, mine.of(saga.ObserveSettled), 1)
		require.Len(t, mine.of(saga.ObserveStep), 3)
		for _, ob := range mine.of(saga.ObserveStep) {
			require.Equal(t, 1, ob.Attempt)
		}
	})
}

func TestFullStepQueueHoldsStartsBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		done := &rigWorld{}
		def, letGo := parked(done)
		config := rigOf(def)
		config.Workers, config.StepQueue = 2, 3
		o := runRig(t, memory.NewStore(), config)
		for n := range 5 {
			startSaga(t, def, o, fmt.Sprint(n), rigData{})
			synctest.Wait()
		}
		require.Len(t, done.list(), 2)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := def.Start(ctx, o, saga.StartParams[rigData]{Key: "impatient"})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		var started atomic.Int32
		for n := range 5 {
			go func() {
				startSaga(t, def, o, fmt.Sprint("waits", n), rigData{})
				started.Add(1)
			}()
		}
		time.Sleep(time.Minute)
		require.Zero(t, started.Load())
		require.Len(t, done.list(), 2, "the leases of queued steps are renewed, too")
		close(letGo)
		for n := range 5 {
			waitSettled(t, def, o, fmt.Sprint(n))
		}
		time.Sleep(time.Minute)
		require.Equal(t, int32(5), started.Load())
		for n := range 5 {
			waitSettled(t, def, o, fmt.Sprint("waits", n))
		}
		require.Len(t, done.list(), 10)
	})
}

func TestFullLaneHoldsSendersBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		def := clerk(&rigWorld{})
		store, gate := &rigStore{Store: memory.NewStore()}, make(chan struct{})
		batches := []int{}
		store.commit = func(transitions []saga.Transition, next func() ([]saga.Verdict, error)) ([]saga.Verdict, error) {
			if transitions[0].Start == nil {
				batches = append(batches, len(transitions[0].History))
				<-gate
			}
			return next()
		}
		config := rigOf(def)
		config.Lanes, config.LaneDepth = 1, 4
		o := runRig(t, store, config)
		startSaga(t, def, o, "a", rigData{})
		var sent atomic.Int32
		for n := range 10 {
			go func() {
				_, err := def.Send(t.Context(), o, "a", evPing, saga.Input{Source: "test", ID: fmt.Sprint(n)})
				require.NoError(t, err)
				sent.Add(1)
			}()
			synctest.Wait()
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := def.Send(ctx, o, "a", evPing, saga.Input{Source: "test", ID: "impatient"})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		close(gate)
		synctest.Wait()
		require.Equal(t, int32(10), sent.Load())
		for _, size := range batches {
			require.LessOrEqual(t, size, 4)
		}
		require.Len(t, requireGapless(t, o, instanceOf(t, def, o, "a").Instance), 11)
	})
}

func TestCacheOfOneInstance(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		done := &rigWorld{}
		def := orderSaga(done)
		w := newRigWire()
		packers(w, done)
		config := rigOf(def)
		config.Transport, config.CacheSize, config.Lanes = w.transport(), 1, 2
		o := runRig(t, memory.NewStore(), config)
		for n := range 50 {
			startSaga(t, def, o, fmt.Sprint(n), rigData{})
		}
		for n := range 50 {
			require.Equal(t, saga.Completed, waitSettled(t, def, o, fmt.Sprint(n)).State)
		}
		require.Equal(t, 50, done.count("charge"))
	})
}

// Steps that one commit begins are all at work at once, if there are workers for them.
func TestStepsBegunTogetherAllFindWorkers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var met sync.WaitGroup
		var steps []saga.Step[rigData]
		for n := range 5 {
			met.Add(1)
			steps = append(steps, saga.Do(fmt.Sprint("meet-", n), func(context.Context, rigData) error {
				met.Done()
				met.Wait()
				return nil
			}).NoUndo("it leaves nothing"))
		}
		together := saga.Linear("together", saga.Parallel(steps...))
		config := rigOf(together)
		config.Workers = len(steps)
		o := runRig(t, memory.NewStore(), config)
		startSaga(t, together, o, "1", rigData{})
		require.Equal(t, saga.Completed, waitSettled(t, together, o, "1").State)
	})
}

// A definition whose steps are slow does not hold up another: neither its starts nor, when a worker becomes free, its steps.
func TestWorkersAreSharedBetweenDefinitions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		done := &rigWorld{}
		slow, letGo := parked(done)
		quick := saga.Linear("quick", saga.Do("hurry", func(ctx context.Context, _ rigData) error { done.do(ctx); return nil }).NoUndo("it leaves nothing"))
		timed := saga.Define(saga.Spec[clerkState, clerkEvent, rigData]{
			Name: "timed", Initial: clerkOpen, Start: "start", Succeeded: []clerkState{clerkOff},
			Table: saga.Table[clerkState, clerkEvent, rigData]{
				{From: clerkOpen, On: "start", To: "reserved"}, {From: "reserved", After: time.Second, To: clerkOff},
			},
			Otherwise: saga.Refuse,
		})
		config := rigOf(slow, quick, timed)
		config.Workers, config.StepQueue = 2, 3
		o := runRig(t, memory.NewStore(), config)
		for n := range 5 {
			startSaga(t, slow, o, fmt.Sprint(n), rigData{})
			synctest.Wait()
		}
		for n := range 2 {
			startSaga(t, quick, o, fmt.Sprint(n), rigData{})
		}
		synctest.Wait()
		require.Len(t, done.list(), 2, "all workers are busy")
		startSaga(t, timed, o, "t", rigData{})
		require.Equal(t, clerkOff, waitSettled(t, timed, o, "t").State, "the sweep finds what is due of others")
		letGo <- struct{}{}
		synctest.Wait()
		names := done.list()
		require.Len(t, names, 5)
		require.Contains(t, names[2], "hurry")
		require.Contains(t, names[3], "hurry")
		require.Contains(t, names[4], "park")
		for n := range 2 {
			waitSettled(t, quick, o, fmt.Sprint(n))
		}
		close(letGo)
		for n := range 5 {
			waitSettled(t, slow, o, fmt.Sprint(n))
		}
	})
}
