package saga_test

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/memory"
	"github.com/sagamill/sagamill/adapters/sqlite"
	"github.com/sagamill/sagamill/saga"
)

// A step that panics, always. It took down the worker of cadence-workflow/cadence-go-client#1169, and with each recovery the next
// one in dbos-inc/dbos-transact-golang#478.
func TestAnomalyStepThatAlwaysPanicsIsGivenUpAndHarmsNobodyElse(t *testing.T) {
	t.Parallel()
	check := func(t *testing.T, shop *anomalyShop, done *rigWorld, bad saga.Step[rigData]) saga.Snapshot[saga.LinearState, rigData] {
		def, other := saga.Linear("bad", done.undoable("reserve"), bad), saga.Linear("good", done.step("work").NoUndo("test"))
		config := shop.config(def, other)
		config.Workers, config.Lanes = 1, 1
		o := runRig(t, shop.store, config)
		startSaga(t, def, o, "a", rigData{Card: "visa"})
		startSaga(t, other, o, "b", rigData{})
		require.Equal(t, saga.Completed, waitSettled(t, other, o, "b").State)
		s := waitSettled(t, def, o, "a")
		require.Equal(t, saga.Failed, s.State)
		require.Contains(t, s.Cause, "panic")
		require.Equal(t, 3, s.Steps[1].Attempts)
		require.Equal(t, 1, done.count("reserve/undo"))
		return s
	}
	t.Run("in the orchestrator", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			done := &rigWorld{}
			s := check(t, newAnomalyShop(t), done, saga.Do("charge", func(ctx context.Context, _ rigData) error {
				done.do(ctx)
				var nobody *rigData
				nobody.Card = "visa"
				return nil
			}).Undo(func(ctx context.Context, _ rigData) error { done.do(ctx); return nil }).Retry(anomalyTries(3)))
			require.Equal(t, []string{"reserve undone", "charge undone"}, statuses(s.Instance))
			require.Equal(t, 3, done.count("charge"))
			require.Equal(t, 1, done.count("charge/undo"), "what it did before it panicked is in doubt")
		})
	})
	t.Run("in the participant", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			shop := newAnomalyShop(t)
			shop.inBank = func(context.Context, string) error { panic("no such card") }
			s := check(t, shop, &rigWorld{}, anomalyCharge())
			require.Equal(t, []string{"reserve undone", "charge undone"}, statuses(s.Instance))
			require.EqualValues(t, 3, shop.handled.Load())
			require.Empty(t, shop.books.all(), "each was rolled back, and so there is nothing to refund")
		})
	})
}

// A new release no longer knows the step that an instance is at: danielgerlag/workflow-core#107 went on at the wrong step, mendix/
// docs#5174 could not go on at all.
func TestAnomalyRestartWithoutTheStepThatAnInstanceIsAt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		shop, done := newAnomalyShop(t), &rigWorld{}
		before := saga.Linear("order", done.undoable("reserve"), anomalyCharge(), done.step("ship").NoUndo("test"))
		after := saga.Linear("order", done.undoable("reserve"), done.undoable("invoice"), done.step("ship").NoUndo("test"))
		shop.network.keepFirst(-1, "reply to charge-card")
		o := shop.open(before)
		startSaga(t, before, o, "a", rigData{Card: "visa"})
		synctest.Wait()
		require.NoError(t, o.Close())

		refused, err := saga.NewOrchestrator(shop.store, shop.config(after), nil)
		require.NoError(t, err)
		err = refused.Run(t.Context())
		require.ErrorIs(t, err, saga.ErrIncompatible)
		require.ErrorContains(t, err, "step charge", "it says which")
		require.Equal(t, []string{"reserve"}, done.list())

		next := after.WithVersion(2)
		o = shop.open(next) // the old version is not there: its instance is left alone
		time.Sleep(time.Minute)
		i := instanceOf(t, before, o, "a")
		require.Equal(t, []string{"reserve succeeded", "charge sent"}, statuses(i.Instance))
		require.NoError(t, o.Close())

		shop.network.deliver(t)
		o = shop.open(before, next)
		s := waitSettled(t, before, o, "a")
		require.Equal(t, saga.Completed, s.State)
		require.Equal(t, []string{"reserve succeeded", "charge succeeded", "ship succeeded"}, statuses(s.Instance))
		require.Equal(t, map[string]int{"charged visa": 1}, shop.books.all())
		require.Equal(t, []string{"reserve", "ship"}, done.list())
	})
}

// errAnomalyLost is what a connection answers that is lost after the COMMIT was sent.
var errAnomalyLost = errors.New("connection lost: nobody knows whether it is committed")

// anomalyLossyInbox loses the answer to the first commit of each effect.
type anomalyLossyInbox struct {
	saga.Inbox[*memory.Tx]
	mu   sync.Mutex
	lost map[saga.Effect]bool
}

func (i *anomalyLossyInbox) Handle(ctx context.Context, e saga.Effect, f func(context.Context, *memory.Tx) ([]byte, error)) (saga.Reply, error) {
	reply, err := i.Inbox.Handle(ctx, e, f)
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.lost[e] || err != nil {
		return reply, err
	}
	i.lost[e] = true
	return saga.Reply{}, errAnomalyLost
}

// The answer to COMMIT is lost. Who does it again may do it twice, who does not may never have done it: cockroachdb/cockroach#10248,
// neo4j/neo4j-java-driver#593. Here every answer is lost, to the orchestrator and to the participant.
func TestAnomalyLostAnswerToCommit(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(t *testing.T) saga.Store{
		"memory": func(*testing.T) saga.Store { return memory.NewStore() },
		"sqlite": func(t *testing.T) saga.Store {
			db, err := sqlite.Open(filepath.Join(t.TempDir(), "sagas.db"))
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, db.Close()) })
			return sqlite.NewStore(db)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				shop := newAnomalyShopOn(t, &anomalyLossyInbox{Inbox: memory.NewInbox(), lost: map[saga.Effect]bool{}})
				shop.store = &rigStore{
					Store: open(t),
					commit: func(_ []saga.Transition, next func() ([]saga.Verdict, error)) ([]saga.Verdict, error) {
						_, err := next()
						return nil, errors.Join(err, errAnomalyLost)
					},
				}
				done := &rigWorld{}
				def := saga.Linear("order", done.undoable("reserve"), anomalyCharge(), anomalyNo())
				o := shop.open(def)
				startSaga(t, def, o, "a", rigData{Card: "visa"})
				s := waitSettled(t, def, o, "a")
				require.Equal(t, saga.Failed, s.State)
				require.Equal(t, []string{"reserve undone", "charge undone", "no rejected"}, statuses(s.Instance))
				require.Equal(t, []string{"reserve", "reserve/undo"}, done.list())
				require.Equal(t, map[string]int{"charged visa": 1, "refunded visa": 1}, shop.books.all())
				require.EqualValues(t, 2, shop.handled.Load())
				require.Equal(t, []string{"charged"}, s.Data.Log)
			})
		})
	}
}

// Two processes believe that an instance is theirs: AxonIQ/AxonFramework#1605, MassTransit/MassTransit#742; M. Kleppmann, "How to
// do distributed locking" (2016). The first hangs with the outcome of its step in its hands, until the second has gone on
// without it.
func TestAnomalyTwoOwnersOfOneInstance(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db, done := memory.NewStore(), &rigWorld{}
		def := saga.Linear("order", done.undoable("charge"), done.step("ship").NoUndo("test"))
		hang := make(chan struct{})
		paused := &rigStore{Store: db}
		paused.commit = func(transitions []saga.Transition, next func() ([]saga.Verdict, error)) ([]saga.Verdict, error) {
			if transitions[0].Start == nil {
				<-hang
			}
			return next()
		}
		first := runRig(t, paused, rigOf(def))
		startSaga(t, def, first, "a", rigData{})
		synctest.Wait()
		require.Equal(t, []string{"charge"}, done.list())
		paused.away.Store(true) // it renews no lease
		second := runRig(t, db, rigOf(def))
		s := waitSettled(t, def, second, "a")
		require.Equal(t, map[string]int{s.ID + "/charge/1": 2, s.ID + "/ship/1": 1}, done.byKey(),
			"taken over under the key that it had; what follows is done by one of them")
		paused.away.Store(false)
		close(hang) // and it commits what it decided
		time.Sleep(time.Minute)
		require.Equal(t, s, instanceOf(t, def, first, "a"), "too late")
		require.Equal(t, []string{"charge", "charge", "ship"}, done.list())
		require.Equal(t, []string{"charge succeeded", "ship succeeded"}, statuses(s.Instance))
		require.Equal(t, []string{"", "recovered", "succeeded", "succeeded"}, outcomes(requireGapless(t, first, s.Instance)))
	})
}
