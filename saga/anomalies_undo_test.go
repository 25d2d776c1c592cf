package saga_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/memory"
	"github.com/sagamill/sagamill/compensation"
	"github.com/sagamill/sagamill/saga"
)

// A refund is made, its answer is lost, and it is asked for again: money goes back twice, as with PrestaShopCorp/ps_checkout#331
// and in net-devs.com/insights/idempotency-in-payment-systems.
func TestAnomalyRefundThatTimesOutAfterItSucceededIsPaidOnce(t *testing.T) {
	t.Parallel()
	t.Run("by a participant, whose barrier tells the repetition", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			shop, def := newAnomalyShop(t), saga.Linear("order", anomalyCharge(), anomalyNo())
			shop.network.keepFirst(3, "reply to refund-card")
			o := shop.open(def)
			startSaga(t, def, o, "a", rigData{Card: "visa"})
			s := waitSettled(t, def, o, "a")
			require.Equal(t, saga.Failed, s.State)
			require.Equal(t, 4, shop.network.count("refund-card"))
			require.Equal(t, map[string]int{"charged visa": 1, "refunded visa": 1}, shop.books.all())
			require.Equal(t, []string{"charge undone", "no rejected"}, statuses(s.Instance))
			require.Equal(t, 4, s.Steps[0].Undos)
		})
	})
	t.Run("by a local step, whose key stays the same for the gateway to tell", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			gateway := &rigWorld{}
			def := saga.Linear("order",
				gateway.step("charge").Undo(func(ctx context.Context, _ rigData) error {
					if gateway.do(ctx); gateway.count("charge/undo") < 4 {
						<-ctx.Done() // it is done, and nobody says so
						return ctx.Err()
					}
					return nil
				}).Timeout(10*time.Second),
				anomalyNo())
			o := runRig(t, memory.NewStore(), rigOf(def))
			startSaga(t, def, o, "a", rigData{})
			s := waitSettled(t, def, o, "a")
			require.Equal(t, saga.Failed, s.State)
			require.Equal(t, map[string]int{s.ID + "/charge/1": 1, s.ID + "/charge/1/undo": 4}, gateway.byKey())
			require.Equal(t, []string{"charge undone", "no rejected"}, statuses(s.Instance))
		})
	})
}

// The gateway has charged the card, and then the participant's own transaction is rolled back: its barrier knows of no action, and
// takes the compensation for a null one. The money stays. apache/incubator-seata#6374. NullCompensation is for that.
func TestAnomalyEffectOutsideOfARolledBackActionIsUndone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		shop, def := newAnomalyShopOn(t, memory.NewInbox(), saga.NullCompensation), saga.Linear("order", anomalyCharge())
		gateway := &anomalyBooks{}
		shop.inBank = func(ctx context.Context, command string) error {
			if command == "charge-card" {
				gateway.add("charge with key "+saga.Info(ctx).EffectKey, 1)
				return errors.New("the database is away")
			}
			gateway.add("refund of what has key "+saga.Info(ctx).ActionKey, 1)
			return nil
		}
		o := shop.open(def)
		startSaga(t, def, o, "a", rigData{Card: "visa"})
		s := waitSettled(t, def, o, "a")
		require.Equal(t, saga.Failed, s.State)
		require.Equal(t, []string{"charge undone"}, statuses(s.Instance))
		key := s.ID + "/charge/1"
		require.Equal(t, map[string]int{"charge with key " + key: 3, "refund of what has key " + key: 1}, gateway.all(),
			"to a gateway that tells repetitions by the key: one charge, one refund")
	})
}

// A compensation fails. Those before it must neither overtake it nor be given up: apache/incubator-seata#2861.
func TestAnomalyCompensationThatFailsIsTriedUntilItSucceeds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		done, seen := &rigWorld{}, &rigWatcher{}
		def := saga.Linear("trip",
			done.undoable("hotel"),
			done.step("flight").Undo(func(ctx context.Context, _ rigData) error {
				if done.do(ctx); done.count("flight/undo") <= 20 {
					return errors.New("the airline is on strike")
				}
				return nil
			}).UndoRetry(compensation.Retry{First: time.Second, Max: time.Minute, Alert: 5, Jitter: -1}),
			anomalyNo())
		config := rigOf(def)
		config.Observer = seen
		o := runRig(t, memory.NewStore(), config)
		startSaga(t, def, o, "a", rigData{})
		time.Sleep(10 * time.Minute)
		i := instanceOf(t, def, o, "a")
		require.Equal(t, []string{"hotel succeeded", "flight undoing", "no rejected"}, statuses(i.Instance))
		require.Contains(t, i.Attention, "the compensation of flight is stuck")
		require.Len(t, seen.of(saga.ObserveAttention), 1)
		s := waitSettled(t, def, o, "a")
		require.Equal(t, saga.Failed, s.State)
		require.Empty(t, s.Attention)
		require.Equal(t, []string{"hotel undone", "flight undone", "no rejected"}, statuses(s.Instance))
		require.Equal(t, 21, done.count("flight/undo"))
		calls := done.list()
		require.Equal(t, "hotel/undo", calls[len(calls)-1], "in reverse order")
		require.Equal(t, 1, done.count("hotel/undo"))
	})
}

// Cancel comes while the compensation runs. In engines whose compensation runs in the scope that is cancelled it ends there:
// temporalio/sdk-java#305, cadence-workflow/cadence-go-client#870.
func TestAnomalyCancelWhileCompensating(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		shop, done := newAnomalyShop(t), &rigWorld{}
		def := saga.Linear("order", done.undoable("reserve"), anomalyCharge(), anomalyNo())
		letGo := make(chan struct{})
		shop.inBank = func(_ context.Context, command string) error {
			if command == "refund-card" {
				<-letGo
			}
			return nil
		}
		o := shop.open(def)
		ctx, cancel := context.WithCancel(t.Context())
		_, err := def.Start(ctx, o, saga.StartParams[rigData]{Key: "a", Data: rigData{Card: "visa"}})
		require.NoError(t, err)
		cancel() // that of the caller, too
		synctest.Wait()
		require.Equal(t, "failed", instanceOf(t, def, o, "a").CompensatingTo)
		in := saga.Input{Source: "web", ID: "click"}
		answer, err := def.Send(t.Context(), o, "a", saga.Cancel, in)
		require.NoError(t, err)
		require.Equal(t, saga.Waits, answer)
		close(letGo)
		s := waitSettled(t, def, o, "a")
		require.Equal(t, saga.Failed, s.State, "it goes on to where it was going")
		require.Equal(t, []string{"reserve undone", "charge undone", "no rejected"}, statuses(s.Instance))
		require.Equal(t, []string{"reserve", "reserve/undo"}, done.list())
		require.Equal(t, map[string]int{"charged visa": 1, "refunded visa": 1}, shop.books.all())
		entries := requireGapless(t, o, s.Instance)
		last := entries[len(entries)-1]
		require.Len(t, last.Judged, 1)
		require.Equal(t, saga.Refused, last.Judged[0].Result, "the click is accounted for")
		_, err = def.Send(t.Context(), o, "a", saga.Cancel, in)
		require.ErrorIs(t, err, saga.ErrRefused)
	})
}

// The customer cancels what is being paid, and has paid: the order is off, and the money is gone. amzn/amazon-payments-magento-2-
// plugin#1280, Adyen/adyen-magento#831. The pivot decides.
func TestAnomalyCancelThatMeetsASuccessfulPaymentIsRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		gateway := &rigWorld{}
		def := saga.Linear("order", gateway.undoable("reserve"),
			saga.Do("charge", func(ctx context.Context, _ rigData) error {
				if gateway.do(ctx); gateway.count("charge") == 1 {
					<-ctx.Done() // paid, and nobody knows
					return ctx.Err()
				}
				return nil
			}).Pivot().Timeout(10*time.Second).Retry(anomalyTries(0)),
			gateway.step("ship").Retriable())
		o := runRig(t, memory.NewStore(), rigOf(def))
		startSaga(t, def, o, "a", rigData{})
		time.Sleep(10500 * time.Millisecond) // the next attempt is in half a second
		require.Equal(t, []string{"reserve", "charge"}, gateway.list())
		answer, err := def.Send(t.Context(), o, "a", saga.Cancel, saga.Input{Source: "web", ID: "click"})
		require.NoError(t, err)
		require.Equal(t, saga.Interrupts, answer, "it waits for the pivot in doubt")
		s := waitSettled(t, def, o, "a")
		require.Equal(t, saga.Completed, s.State)
		require.Equal(t, []string{"reserve succeeded", "charge succeeded", "ship succeeded"}, statuses(s.Instance))
		require.Equal(t, map[string]int{s.ID + "/reserve/1": 1, s.ID + "/charge/1": 2, s.ID + "/ship/1": 1}, gateway.byKey(), "one payment, asked for twice under its key")
		_, err = def.Send(t.Context(), o, "a", saga.Cancel, saga.Input{Source: "web", ID: "click"})
		require.ErrorIs(t, err, saga.ErrRefused)
	})
}
