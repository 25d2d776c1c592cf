package saga_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/memory"
	"github.com/sagamill/sagamill/saga"
)

// X. Ye, "Exceptions and subtransaction barriers" (en.dtm.pub/practice/barrier), calls it null compensation: the action's
// request is lost, and its compensation comes all the same. Also apache/incubator-seata#4095.
func TestAnomalyNullCompensationUndoesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		shop, def := newAnomalyShop(t), saga.Linear("order", anomalyCharge())
		shop.network.keepFirst(-1, "charge-card")
		o := shop.open(def)
		startSaga(t, def, o, "a", rigData{Card: "visa"})
		s := waitSettled(t, def, o, "a")
		require.Equal(t, saga.Failed, s.State)
		require.Equal(t, []string{"charge undone"}, statuses(s.Instance))
		require.Equal(t, 3, shop.network.count("charge-card"))
		require.Equal(t, 1, shop.network.count("refund-card"), "answered as done")
		require.Zero(t, shop.handled.Load(), "the handler did not run")
		require.Empty(t, shop.books.all())
	})
}

// X. Ye (en.dtm.pub/practice/barrier) calls it hanging: the action's request comes after its compensation, when nobody will
// undo it any more. Also apache/servicecomb-pack#346 and apache/incubator-seata#7840.
func TestAnomalyHangingActionIsRefusedAfterItsCompensation(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		shop, def := newAnomalyShop(t), saga.Linear("order", anomalyCharge())
		shop.network.keepFirst(-1, "charge-card")
		o := shop.open(def)
		startSaga(t, def, o, "a", rigData{Card: "visa"})
		before := waitSettled(t, def, o, "a")
		shop.network.deliver(t)
		time.Sleep(time.Minute)
		require.Equal(t, 3, shop.network.count("reply to charge-card"), "each of the three is answered")
		require.Zero(t, shop.handled.Load(), "by the barrier")
		require.Empty(t, shop.books.all())
		require.Equal(t, before, instanceOf(t, def, o, "a"), "the refusal is no news")
	})
}

// X. Ye (en.dtm.pub/practice/barrier): requests are repeated. Here each command and each reply comes three times.
func TestAnomalyDuplicateMessagesTakeEffectOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		shop, def := newAnomalyShop(t), saga.Linear("order", anomalyCharge(), anomalyNo())
		shop.network.copies = 3
		o := shop.open(def)
		startSaga(t, def, o, "a", rigData{Card: "visa"})
		s := waitSettled(t, def, o, "a")
		time.Sleep(time.Minute)
		require.Equal(t, saga.Failed, s.State)
		require.Equal(t, map[string]int{"charged visa": 1, "refunded visa": 1}, shop.books.all())
		require.Equal(t, 3, shop.network.count("reply to charge-card"), "each is answered")
		require.Equal(t, 3, shop.network.count("reply to refund-card"))
		require.Equal(t, []string{"charged"}, s.Data.Log, "the result is folded once")
		require.Equal(t, []string{"charge undone", "no rejected"}, statuses(s.Instance))
		require.Equal(t, []string{"", "succeeded", "rejected", "succeeded"}, outcomes(requireGapless(t, o, s.Instance)))
		require.Equal(t, s, instanceOf(t, def, o, "a"), "nothing follows")
	})
}

// The success of an action and its time-out cross each other: apache/servicecomb-pack#346, where what had been done stayed, and
// apache/incubator-seata#7840, of an action that succeeds after its time.
func TestAnomalySuccessThatRacesItsTimeOutIsKeptOrUndone(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		by      time.Duration
		allowed []saga.LinearState
	}{
		"before it": {-100 * time.Millisecond, []saga.LinearState{saga.Completed}},
		"with it":   {0, []saga.LinearState{saga.Completed, saga.Failed}},
		"after it":  {100 * time.Millisecond, []saga.LinearState{saga.Failed}},
	} {
		check := func(t *testing.T, s saga.Snapshot[saga.LinearState, rigData], books map[string]int) {
			t.Helper()
			require.Contains(t, c.allowed, s.State)
			want, status := map[string]int{"charged visa": 1}, "charge succeeded"
			if s.State == saga.Failed {
				want["refunded visa"], status = 1, "charge undone"
			}
			require.Equal(t, want, books)
			require.Equal(t, []string{status}, statuses(s.Instance))
		}
		t.Run("command "+name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				shop, def := newAnomalyShop(t), saga.Linear("order", anomalyCharge().Retry(anomalyTries(1)))
				shop.inBank = func(_ context.Context, command string) error {
					if command == "charge-card" {
						time.Sleep(time.Second + c.by)
					}
					return nil
				}
				o := shop.open(def)
				startSaga(t, def, o, "a", rigData{Card: "visa"})
				waitSettled(t, def, o, "a")
				time.Sleep(time.Minute)
				check(t, waitSettled(t, def, o, "a"), shop.books.all())
			})
		})
		t.Run("local step "+name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				books := &anomalyBooks{}
				def := saga.Linear("order", saga.Do("charge", func(context.Context, rigData) error {
					books.add("charged visa", 1)
					time.Sleep(10*time.Second + c.by) // the gateway's answer
					return nil
				}).Undo(func(context.Context, rigData) error { books.add("refunded visa", 1); return nil }).
					Timeout(10*time.Second).Retry(anomalyTries(1)))
				o := runRig(t, memory.NewStore(), rigOf(def))
				startSaga(t, def, o, "a", rigData{})
				waitSettled(t, def, o, "a")
				time.Sleep(time.Minute)
				check(t, waitSettled(t, def, o, "a"), books.all())
			})
		})
	}
}

// The answer to an attempt comes when a later one is under way already: cadence-workflow/cadence#1214.
func TestAnomalyReplyToAnEarlierAttempt(t *testing.T) {
	t.Parallel()
	t.Run("a failure does not end the attempt under way", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			shop, def := newAnomalyShop(t), saga.Linear("order", anomalyCharge().Retry(anomalyTries(2)))
			shop.inBank = func(context.Context, string) error {
				if shop.handled.Load() == 1 {
					return errors.New("busy")
				}
				time.Sleep(1500 * time.Millisecond)
				return nil
			}
			shop.network.keepFirst(1, "reply to charge-card")
			o := shop.open(def)
			startSaga(t, def, o, "a", rigData{Card: "visa"})
			time.Sleep(1200 * time.Millisecond) // the second attempt, which is the last, is at work
			shop.network.deliver(t)
			s := waitSettled(t, def, o, "a")
			require.Equal(t, saga.Completed, s.State)
			require.Equal(t, 2, shop.network.count("charge-card"), "no third attempt was made")
			require.Equal(t, map[string]int{"charged visa": 1}, shop.books.all())
			require.Equal(t, 2, s.Steps[0].Attempts)
		})
	})
	t.Run("a success counts, and that of the later one is no news", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			shop, def := newAnomalyShop(t), saga.Linear("order", anomalyCharge())
			shop.network.keepFirst(1, "reply to charge-card")
			late, seen := shop.network.keep, 0
			shop.network.keep = func(msg *message.Message) bool { // and the second command
				if anomalyKind(msg) == "charge-card" {
					seen++
				}
				return late(msg) || anomalyKind(msg) == "charge-card" && seen == 2
			}
			o := shop.open(def)
			startSaga(t, def, o, "a", rigData{Card: "visa"})
			time.Sleep(1500 * time.Millisecond)
			require.Equal(t, 2, shop.network.count("charge-card"))
			shop.network.deliver(t)
			s := waitSettled(t, def, o, "a")
			require.Equal(t, saga.Completed, s.State)
			time.Sleep(time.Minute)
			require.Equal(t, 2, shop.network.count("charge-card"))
			require.Equal(t, 2, shop.network.count("reply to charge-card"), "the second command got the stored reply")
			require.Equal(t, map[string]int{"charged visa": 1}, shop.books.all())
			require.Equal(t, []string{"charged"}, s.Data.Log)
			require.Equal(t, s, instanceOf(t, def, o, "a"))
		})
	})
}

// A message that nobody can read stands at the head of a topic: ThreeDotsLabs/watermill#184 (it is nacked for ever),
// ThreeDotsLabs/watermill#224 (it blocks the group). Here one stands before each of the saga's topics, at a single subscriber.
func TestAnomalyPoisonMessageAtTheHeadOfATopic(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		shop, seen := newAnomalyShop(t), &rigWatcher{}
		def := saga.Linear("order", anomalyCharge())
		config := shop.config(def)
		config.Events, config.Observer = []saga.EventSource{{Topic: "events"}}, seen
		o := runRig(t, shop.store, config)
		for _, topic := range []string{"bank.commands", "sagamill.replies", "events"} {
			require.NoError(t, shop.network.Publish(topic, message.NewMessage("poison", []byte("\xff{"))))
		}
		garbled := message.NewMessage("garbled", []byte("\xff{"))
		garbled.Metadata = message.Metadata{saga.MetaCommand: "charge-card", saga.MetaEffect: "nobody's"}
		require.NoError(t, shop.network.Publish("bank.commands", garbled))
		began := time.Now()
		s := startSaga(t, def, o, "a", rigData{Card: "visa"})
		require.Equal(t, saga.Completed, waitSettled(t, def, o, "a").State)
		require.Less(t, time.Since(began), time.Second, "nothing was waited for")
		require.Equal(t, 1, shop.network.count("charge-card")-1, "the garbled one, and one that was sent once")
		require.Equal(t, map[string]int{"charged visa": 1}, shop.books.all())
		cancel := message.NewMessage("cancel", nil)
		cancel.Metadata = message.Metadata{saga.MetaInstance: s.ID, saga.MetaEvent: "cancel", saga.MetaSource: "web", saga.MetaInputID: "1"}
		require.NoError(t, shop.network.Publish("events", cancel))
		synctest.Wait()
		require.Len(t, seen.of(saga.ObserveInput), 1, "the event behind it was judged")
		letters, err := o.DeadLetters(t.Context(), "", 0)
		require.NoError(t, err)
		var topics []string
		for _, l := range letters {
			topics = append(topics, l.Topic)
		}
		require.ElementsMatch(t, []string{"sagamill.replies", "events"}, topics, "for a person to look at")
	})
}
