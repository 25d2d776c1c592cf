package saga_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/memory"
	"github.com/sagamill/sagamill/compensation"
	"github.com/sagamill/sagamill/saga"
)

// Recovery, and I7: losing a process at any moment, and two that believe they own an instance, break none of the promises.

// crash cuts an orchestrator off from its store: nothing that it does from now on is ever seen.
func crash(s *rigStore) { s.away.Store(true) }

// crashing starts an orchestrator that will be cut off. It is not closed before the test ends.
func crashing(t *testing.T, db saga.Store, config saga.OrchestratorConfig) (*saga.Orchestrator, *rigStore) {
	store := &rigStore{Store: db}
	config.DrainTimeout = time.Millisecond
	return runRig(t, store, config), store
}

func TestLocalStepOfACrashedProcessIsTakenOverAfterItsLeaseAndNotBefore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db, done := memory.NewStore(), &rigWorld{}
		def, letGo := parked(done)
		first, store := crashing(t, db, rigOf(def))
		startSaga(t, def, first, "a", rigData{})
		synctest.Wait()
		crash(store)
		second := runRig(t, db, rigOf(def))
		time.Sleep(4900 * time.Millisecond)
		require.Equal(t, []string{"park"}, done.list(), "its lease is not over")
		time.Sleep(200 * time.Millisecond)
		require.Equal(t, []string{"park", "park"}, done.list(), "taken over")
		require.Equal(t, map[string]int{instanceOf(t, def, second, "a").ID + "/park/1": 2}, done.byKey(), "under the same key")
		close(letGo)
		s := waitSettled(t, def, second, "a")
		require.Equal(t, saga.Completed, s.State)
		entries := requireGapless(t, second, s.Instance)
		require.Equal(t, []string{"", "recovered", "succeeded"}, outcomes(entries))
	})
}

func instanceOf[S, E ~string](t *testing.T, d *saga.Definition[S, E, rigData], o *saga.Orchestrator, key string) saga.Snapshot[S, rigData] {
	t.Helper()
	s, err := d.Get(t.Context(), o, key)
	require.NoError(t, err)
	return s
}

func outcomes(entries []saga.Entry) []string {
	var all []string
	for _, e := range entries {
		all = append(all, e.Outcome)
	}
	return all
}

func TestLeaseOfALongStepIsRenewedSoThatNobodyTakesItOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db, done := memory.NewStore(), &rigWorld{}
		letGo := make(chan struct{})
		def := saga.Linear("long", saga.Do("park", func(ctx context.Context, _ rigData) error { done.do(ctx); <-letGo; return nil }).
			NoUndo("test").Timeout(time.Hour))
		first, second := &rigStore{Store: db}, &rigStore{Store: db}
		o := runRig(t, first, rigOf(def))
		_ = runRig(t, second, rigOf(def))
		startSaga(t, def, o, "a", rigData{})
		synctest.Wait()
		before := first.calls.Load() + second.calls.Load()
		time.Sleep(10 * time.Minute)
		require.Equal(t, []string{"park"}, done.list())
		require.Less(t, first.calls.Load()+second.calls.Load()-before, int64(2500), "polls, renewals and no busy loop")
		close(letGo)
		s := waitSettled(t, def, o, "a")
		require.Equal(t, []string{"", "succeeded"}, outcomes(requireGapless(t, o, s.Instance)))
	})
}

// The last attempt of a budget is not repeated when its process crashes: it is in doubt when its time is over, and undone.
func TestLastAttemptOfACrashedProcessIsWaitedForQuietly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db, done := memory.NewStore(), &rigWorld{}
		letGo := make(chan struct{})
		def := saga.Linear("once", saga.Do("park", func(ctx context.Context, _ rigData) error { done.do(ctx); <-letGo; return nil }).
			Undo(func(ctx context.Context, _ rigData) error { done.do(ctx); return nil }).
			Retry(compensation.Retry{Attempts: 1}))
		defer close(letGo)
		first, store := crashing(t, db, rigOf(def))
		startSaga(t, def, first, "a", rigData{})
		synctest.Wait()
		crash(store)
		second := &rigStore{Store: db}
		o := runRig(t, second, rigOf(def))
		time.Sleep(29 * time.Second)
		require.Equal(t, []string{"park"}, done.list(), "an undo waits for the attempt's time to be over")
		require.Less(t, second.calls.Load(), int64(200), "no busy loop")
		s := waitSettled(t, def, o, "a")
		require.Equal(t, saga.Failed, s.State)
		require.Equal(t, []string{"park", "park/undo"}, done.list())
	})
}

// A process hangs, loses its lease, and comes back: what it may have done is undone, though the next attempt was rejected, and its
// outcome is in the history.
func TestLateOutcomeOfAZombieIsWrittenAndUndone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db, done := memory.NewStore(), &rigWorld{}
		hang, calls := make(chan struct{}), 0
		def := saga.Linear("zombie",
			saga.Do("work", func(ctx context.Context, _ rigData) error {
				if done.do(ctx); calls == 0 {
					calls++
					<-hang // and it does not look at its context
					return nil
				}
				return saga.Reject("no more")
			}).Undo(func(ctx context.Context, _ rigData) error { done.do(ctx); return nil }),
			done.step("mail").NoUndo("test"),
		)
		store := &rigStore{Store: db}
		zombie := runRig(t, store, rigOf(def))
		startSaga(t, def, zombie, "a", rigData{})
		synctest.Wait()
		store.away.Store(true) // it renews nothing
		o := runRig(t, db, rigOf(def))
		s := waitSettled(t, def, o, "a")
		require.Equal(t, saga.Failed, s.State)
		require.Equal(t, []string{"work", "work", "work/undo"}, done.list(), "the zombie's attempt is in doubt")
		store.away.Store(false)
		close(hang)
		time.Sleep(time.Minute)
		s = waitSettled(t, def, o, "a")
		require.Equal(t, saga.Failed, s.State, "a late success never moves the state")
		require.Equal(t, []string{"work undone"}, statuses(s.Instance))
		require.Equal(t, []string{"work", "work", "work/undo"}, done.list())
		require.Contains(t, outcomes(requireGapless(t, o, s.Instance)), "late")
	})
}

// An attempt that nobody reports on any more may still be at work: its undo waits until its time is over.
func TestUndoWaitsForAnOrphanedAttempt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db, done := memory.NewStore(), &rigWorld{}
		calls, hang := 0, make(chan struct{})
		defer close(hang)
		def := saga.Linear("orphan",
			saga.Do("work", func(ctx context.Context, _ rigData) error {
				if done.do(ctx); calls == 0 {
					calls++
					<-hang
				}
				return nil
			}).Undo(func(ctx context.Context, _ rigData) error { done.do(ctx); return nil }).Timeout(20*time.Second),
			saga.Do("no", func(ctx context.Context, _ rigData) error { done.do(ctx); return saga.Reject("no") }).NoUndo("test"),
		)
		first, store := crashing(t, db, rigOf(def))
		began := time.Now()
		startSaga(t, def, first, "a", rigData{})
		synctest.Wait()
		crash(store)
		o := runRig(t, db, rigOf(def))
		time.Sleep(19 * time.Second)
		require.Equal(t, []string{"work", "work", "no"}, done.list(), "the first attempt has a second left")
		s := waitSettled(t, def, o, "a")
		require.Equal(t, saga.Failed, s.State)
		require.GreaterOrEqual(t, time.Since(began), 20*time.Second)
		require.Equal(t, []string{"work", "work", "no", "work/undo"}, done.list())
	})
}

// A step that waited for a worker until its time was over must not begin: it may have been given up and undone by then.
func TestAttemptThatWaitedTooLongForAWorkerIsNotMade(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		done, letGo := &rigWorld{}, make(chan struct{})
		def := saga.Linear("late", saga.Do("work", func(ctx context.Context, b rigData) error {
			if b.Card == "blocks" {
				<-letGo
				return nil
			}
			done.note(fmt.Sprintf("attempt %d", saga.Info(ctx).Attempt))
			deadline, _ := ctx.Deadline()
			require.LessOrEqual(t, time.Until(deadline), 10*time.Second)
			return nil
		}).Undo(func(ctx context.Context, _ rigData) error { done.do(ctx); return nil }).
			Timeout(10*time.Second).Retry(compensation.Retry{First: time.Second, Attempts: 2, Jitter: -1}))
		config := rigOf(def)
		config.Workers = 1
		o := runRig(t, memory.NewStore(), config)
		startSaga(t, def, o, "blocks", rigData{Card: "blocks"})
		synctest.Wait()
		startSaga(t, def, o, "a", rigData{})
		time.Sleep(15 * time.Second)
		close(letGo)
		s := waitSettled(t, def, o, "a")
		require.Equal(t, saga.Completed, s.State)
		require.Equal(t, []string{"attempt 2"}, done.list(), "the first one's time was over before it had a worker")
		waitSettled(t, def, o, "blocks")
	})
}

// Two orchestrators on one store get the inputs of the same instances at once. Every effect's ledger must be right.
func TestTwoOrchestratorsRaceForTheSameInstances(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db, done := memory.NewStore(), &rigWorld{}
		def := clerk(done)
		both := []*saga.Orchestrator{runRig(t, db, rigOf(def)), runRig(t, db, rigOf(def))}
		const instances = 20
		for n := range instances {
			startSaga(t, def, both[n%2], fmt.Sprint(n), rigData{})
		}
		var wg sync.WaitGroup
		var mu sync.Mutex
		answers := map[string]map[saga.Disposition]int{}
		for n := range instances {
			for k := range 4 { // each event comes to both, twice
				for _, ev := range []clerkEvent{evPing, evShip, evPay} {
					wg.Go(func() {
						var payload any
						if ev == evPay {
							payload = payment{Amount: 1}
						}
						a, err := def.Send(t.Context(), both[k%2], fmt.Sprint(n), ev, saga.Input{Source: "test", ID: string(ev), Payload: payload})
						require.NoError(t, err)
						mu.Lock()
						defer mu.Unlock()
						id := fmt.Sprint(n, ev)
						if answers[id] == nil {
							answers[id] = map[saga.Disposition]int{}
						}
						answers[id][a]++
					})
				}
			}
		}
		wg.Wait()
		for id, a := range answers {
			require.Equal(t, 3, a[saga.Duplicated], "%s: %v", id, a)
		}
		for n := range instances {
			s := waitSettled(t, def, both[0], fmt.Sprint(n))
			require.Equal(t, clerkShipped, s.State)
			require.Equal(t, []string{"paid"}, s.Data.Log)
			require.Equal(t, []string{"send succeeded"}, statuses(s.Instance))
			require.Equal(t, 1, done.byKey()[s.ID+"/send/1"])
		}
	})
}

// The clocks of the processes decide nothing: only the store's does.
func TestOnlyTheStoresClockCounts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		ahead := -3 * time.Hour // the store's clock differs from the processes' by hours, and stands still until it is moved
		at := time.Now()
		db := memory.NewStore(memory.WithClock(func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			return at.Add(ahead)
		}))
		done := &rigWorld{}
		def, letGo := parked(done)
		first, store := crashing(t, db, rigOf(def))
		startSaga(t, def, first, "a", rigData{})
		synctest.Wait()
		crash(store)
		second := runRig(t, db, rigOf(def))
		time.Sleep(20 * time.Second) // less than the step's time-out, which the process that runs it measures by itself
		require.Equal(t, []string{"park"}, done.list(), "in the store's time no lease is over")
		mu.Lock()
		ahead += 6 * time.Second
		mu.Unlock()
		time.Sleep(2 * time.Second)
		require.Equal(t, []string{"park", "park"}, done.list())
		close(letGo)
		require.Equal(t, saga.Completed, waitSettled(t, def, second, "a").State)
	})
}

// A process crashes after each of its commits in turn; another one brings the saga to its end.
func TestCrashAfterEveryCommit(t *testing.T) {
	t.Parallel()
	for _, card := range []string{"good", "bad"} {
		for point := 1; point <= 9; point++ {
			t.Run(fmt.Sprint(card, point), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) { crashAfter(t, card, point) })
			})
		}
	}
}

func crashAfter(t *testing.T, card string, point int) {
	db, done, w, n := memory.NewStore(), &rigWorld{}, newRigWire(), 0
	packers(w, done)
	def := orderSaga(done)
	config := rigOf(def)
	config.Transport = w.transport()
	first, store := crashing(t, db, config)
	var mu sync.Mutex
	store.commit = func(_ []saga.Transition, next func() ([]saga.Verdict, error)) ([]saga.Verdict, error) {
		verdicts, err := next()
		mu.Lock()
		defer mu.Unlock()
		if n++; n == point {
			crash(store)
			return nil, errLostConnection
		}
		return verdicts, err
	}
	go func() {
		_, _ = def.Start(t.Context(), first, saga.StartParams[rigData]{Key: "a", Data: rigData{Card: card}})
	}()
	synctest.Wait()
	second := runRig(t, db, config)
	s := waitSettled(t, def, second, "a")
	want := map[string][]string{
		"good": {"reserve succeeded", "pack succeeded", "charge succeeded", "announce succeeded", "mail succeeded"},
		"bad":  {"reserve undone", "pack undone", "charge rejected"},
	}
	require.Equal(t, want[card], statuses(s.Instance))
	if card == "bad" {
		require.Equal(t, saga.Failed, s.State)
		require.Empty(t, w.published("orders"))
		return
	}
	require.Equal(t, saga.Completed, s.State)
	require.NotEmpty(t, w.published("orders"))
}

// The first attempt of a step, believed lost, succeeds while the one that took over is at work. What it does must not be undone
// under its hands.
func TestUndoWaitsForTheAttemptThatTookOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db, done := memory.NewStore(), &rigWorld{}
		calls, first, second := 0, make(chan struct{}), make(chan struct{})
		def := saga.Linear("two-hands",
			saga.Do("work", func(ctx context.Context, _ rigData) error {
				done.do(ctx)
				if calls++; calls == 1 {
					<-first
					return nil
				}
				<-second
				done.note("work done again")
				return nil
			}).Undo(func(ctx context.Context, _ rigData) error { done.do(ctx); return nil }),
			saga.Do("no", func(context.Context, rigData) error { return saga.Reject("no") }).NoUndo("test"),
		)
		store := &rigStore{Store: db}
		zombie := runRig(t, store, rigOf(def))
		startSaga(t, def, zombie, "a", rigData{})
		synctest.Wait()
		store.away.Store(true)
		o := runRig(t, db, rigOf(def))
		time.Sleep(6 * time.Second)
		require.Equal(t, []string{"work", "work"}, done.list())
		store.away.Store(false)
		close(first) // the zombie reports its success
		time.Sleep(5 * time.Second)
		require.NotContains(t, done.list(), "work/undo", "the second attempt is at work")
		close(second)
		s := waitSettled(t, def, o, "a")
		require.Equal(t, saga.Failed, s.State)
		require.Equal(t, []string{"work", "work", "work done again", "work/undo"}, done.list())
	})
}
