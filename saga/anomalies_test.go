package saga_test

import (
	"context"
	"errors"
	"maps"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/gochannel"
	"github.com/sagamill/sagamill/adapters/memory"
	"github.com/sagamill/sagamill/adapters/sqlite"
	"github.com/sagamill/sagamill/compensation"
	"github.com/sagamill/sagamill/saga"
)

// The anomalies that the field knows: what went wrong in papers, in the issues of other projects and in shops. Each has one
// test, which names where it is told of. They are played on the real parts: an orchestrator on a store, a bank behind its
// inbox, and a broker between them whose network loses, keeps back and doubles messages; and they are judged by the bank's
// books, by the ledger and by the history. Time is that of a bubble.
//
// Some are shown elsewhere:
//
//	a message leaves before the state that it tells of is stored       TestNothingIsRunOrPublishedBeforeItsCommit
//	  (MassTransit/MassTransit#1005)
//	a message is lost between the commit and the broker (dual write)   TestEventIsPublishedUntilACommitRecordsIt,
//	                                                                   TestKilledAfterEachCommitAndBeforeEachPublish
//	a process pauses, loses its lease, and comes back                  TestLateOutcomeOfAZombieIsWrittenAndUndone,
//	  (M. Kleppmann, "How to do distributed locking", 2016)            TestUndoWaitsForTheAttemptThatTookOver
//	clocks differ (the C of X. Ye's NPC, en.dtm.pub/practice/barrier)  TestOnlyTheStoresClockCounts
//	two starts of one saga at once                                     TestStartIsIdempotentByBusinessKey
//	another event under an ID that is taken                            TestAnotherEventUnderTheSameIDIsAConflict

// The bank of these tests.

type anomalyBill struct{ For string }

var (
	anomalyChargeCmd = saga.Command[anomalyBill, string]{Name: "charge-card", Topic: "bank.commands"}
	anomalyRefundCmd = saga.Command[anomalyBill, struct{}]{Name: "refund-card", Topic: "bank.commands"}
)

// anomalyBooks tell no repetitions: what is done twice stands there twice.
type anomalyBooks struct {
	mu sync.Mutex
	n  map[string]int
}

func (b *anomalyBooks) add(what string, n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.n == nil {
		b.n = map[string]int{}
	}
	if b.n[what] += n; b.n[what] == 0 {
		delete(b.n, what)
	}
}

func (b *anomalyBooks) all() map[string]int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.n) == 0 {
		return map[string]int{}
	}
	return maps.Clone(b.n)
}

// anomalyNetwork lies before a broker.
type anomalyNetwork struct {
	*gochannel.Broker
	mu     sync.Mutex
	keep   func(*message.Message) bool // which messages are kept back; nil: none
	kept   []anomalyLetter
	copies int            // how often each message is delivered; 0: once
	sent   map[string]int // by what it is: a command's name, or "reply to" that
}

type anomalyLetter struct {
	topic string
	msg   *message.Message
}

func (n *anomalyNetwork) transport() saga.Transport {
	t := n.Broker.Transport()
	t.Publisher = n
	return t
}

func (n *anomalyNetwork) Publish(topic string, msgs ...*message.Message) error {
	for _, msg := range msgs {
		for range n.copiesOf(topic, msg) {
			if err := n.Broker.Publish(topic, msg.Copy()); err != nil {
				return err
			}
		}
	}
	return nil
}

func (n *anomalyNetwork) copiesOf(topic string, msg *message.Message) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sent[anomalyKind(msg)]++
	if n.keep != nil && n.keep(msg) {
		n.kept = append(n.kept, anomalyLetter{topic, msg})
		return 0
	}
	return max(1, n.copies)
}

// deliver lets go what was kept back.
func (n *anomalyNetwork) deliver(t *testing.T) {
	t.Helper()
	n.mu.Lock()
	kept := n.kept
	n.keep, n.kept = nil, nil
	n.mu.Unlock()
	require.NotEmpty(t, kept)
	for _, l := range kept {
		require.NoError(t, n.Broker.Publish(l.topic, l.msg.Copy()))
	}
}

func (n *anomalyNetwork) count(kind string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.sent[kind]
}

func anomalyKind(msg *message.Message) string {
	if msg.Metadata.Get(saga.MetaOutcome) != "" {
		return "reply to " + msg.Metadata.Get(saga.MetaCommand)
	}
	return msg.Metadata.Get(saga.MetaCommand)
}

// keepFirst keeps back the first messages of a kind; a negative number means all of them.
func (n *anomalyNetwork) keepFirst(number int, kind string) {
	n.keep = func(msg *message.Message) bool {
		if anomalyKind(msg) != kind || number == 0 {
			return false
		}
		number--
		return true
	}
}

// anomalyShop is a saga's surroundings.
type anomalyShop struct {
	t       *testing.T
	store   saga.Store
	network *anomalyNetwork
	books   anomalyBooks
	handled atomic.Int32 // runs of the bank's handlers
	// inBank is what happens in a handler that has written, before its commit; nil: nothing.
	inBank func(ctx context.Context, command string) error
}

func newAnomalyShop(t *testing.T) *anomalyShop {
	t.Helper()
	return newAnomalyShopOn(t, memory.NewInbox())
}

func newAnomalyShopOn(t *testing.T, inbox saga.Inbox[*memory.Tx], options ...saga.HandlerOption) *anomalyShop {
	t.Helper()
	s := &anomalyShop{t: t, store: memory.NewStore()}
	s.network = &anomalyNetwork{Broker: gochannel.New(gochannel.Config{}, nil), sent: map[string]int{}}
	t.Cleanup(func() { require.NoError(t, s.network.Close()) })
	bank, err := saga.NewParticipant(inbox, saga.ParticipantConfig{Name: "bank", Transport: s.network.transport(), Subscribers: 1}, nil)
	require.NoError(t, err)
	require.NoError(t, saga.Handle(bank, anomalyChargeCmd, func(ctx context.Context, tx *memory.Tx, b anomalyBill) (string, error) {
		return "charged", s.post(ctx, tx, anomalyChargeCmd.Name, "charged "+b.For)
	}))
	require.NoError(t, saga.Handle(bank, anomalyRefundCmd, func(ctx context.Context, tx *memory.Tx, b anomalyBill) (struct{}, error) {
		return struct{}{}, s.post(ctx, tx, anomalyRefundCmd.Name, "refunded "+b.For)
	}, options...))
	ended := make(chan error, 1)
	go func() { ended <- bank.Run(context.WithoutCancel(t.Context())) }()
	<-bank.Running()
	t.Cleanup(func() { require.NoError(t, errors.Join(bank.Close(), <-ended)) })
	return s
}

// post is the handlers' own transaction.
func (s *anomalyShop) post(ctx context.Context, tx *memory.Tx, command, what string) error {
	s.handled.Add(1)
	s.books.add(what, 1)
	tx.OnRollback(func() { s.books.add(what, -1) })
	if s.inBank != nil {
		return s.inBank(ctx, command)
	}
	return nil
}

// open starts an orchestrator.
func (s *anomalyShop) open(definitions ...saga.AnyDefinition) *saga.Orchestrator {
	s.t.Helper()
	return runRig(s.t, s.store, s.config(definitions...))
}

func (s *anomalyShop) config(definitions ...saga.AnyDefinition) saga.OrchestratorConfig {
	config := rigOf(definitions...)
	config.Transport, config.Subscribers = s.network.transport(), 1
	return config
}

func anomalyBillOf(d rigData) anomalyBill { return anomalyBill{For: d.Card} }

// anomalyCharge charges the card, and is undone by a refund.
func anomalyCharge() saga.Step[rigData] {
	return saga.Ask("charge", anomalyChargeCmd, anomalyBillOf, rigData.with).UndoBy(saga.RequestOf(anomalyRefundCmd, anomalyBillOf)).
		Retry(anomalyTries(3)).UndoRetry(anomalyTries(0))
}

// anomalyTries waits 1s, 2s, 4s and so on.
func anomalyTries(attempts int) compensation.Retry {
	return compensation.Retry{First: time.Second, Attempts: attempts, Jitter: -1}
}

// anomalyNo is a step that is refused.
func anomalyNo() saga.Step[rigData] {
	return saga.Do("no", func(context.Context, rigData) error { return saga.Reject("no") }).NoUndo("it does nothing")
}

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

// The shop's order, for events that come too early, too late, and under too many names.

type (
	anomalyState string
	anomalyEvent string
)

const (
	anomalyOpen      anomalyState = "open"
	anomalyPaid      anomalyState = "paid"
	anomalyShipped   anomalyState = "shipped"
	anomalyCancelled anomalyState = "cancelled"

	anomalyCaptured anomalyEvent = "captured" // the gateway tells of a payment when it has the money,
	anomalySettled  anomalyEvent = "settled"  // and when it hands it over
	anomalyPacked   anomalyEvent = "packed"
	anomalyCancel   anomalyEvent = "cancel"
)

type anomalyPayment struct{ Txn string }

// anomalyFold notes the payment of the order in Card, and any other one in Log.
func anomalyFold(d rigData, p anomalyPayment) rigData {
	if d.Log = nil; d.Card == "" || d.Card == p.Txn {
		d.Card = p.Txn
		return d
	}
	return d.with(p.Txn)
}

// anomalyUnwanted is the transaction whose money is to go back.
func anomalyUnwanted(d rigData) string {
	if len(d.Log) > 0 {
		return d.Log[0]
	}
	return d.Card
}

func anomalyOrder(w *rigWorld) *saga.Definition[anomalyState, anomalyEvent, rigData] {
	giveBack := saga.Run(saga.Ask("give-back", anomalyRefundCmd, func(d rigData) anomalyBill { return anomalyBill{For: anomalyUnwanted(d)} }, nil).
		Key(anomalyUnwanted).NoUndo("it is an undo itself").Retriable())
	another := saga.When("another payment", func(d rigData) bool { return len(d.Log) > 0 })
	spec := saga.Spec[anomalyState, anomalyEvent, rigData]{
		Name: "order", Initial: anomalyOpen, Succeeded: []anomalyState{anomalyShipped}, Failed: []anomalyState{anomalyCancelled},
		Groups: map[anomalyState][]anomalyState{"has its money": {anomalyPaid, anomalyShipped}},
		Events: []saga.Event[anomalyEvent, rigData]{
			saga.On(anomalyCaptured, anomalyFold), saga.On(anomalySettled, anomalyFold), {Name: anomalyPacked}, {Name: anomalyCancel},
		},
		Table: saga.Table[anomalyState, anomalyEvent, rigData]{
			{From: anomalyOpen, On: anomalyCancel, To: anomalyCancelled, Compensate: true},
			{From: anomalyOpen, On: anomalyPacked, Policy: saga.Buffer},
			{From: anomalyPaid, On: anomalyPacked, To: anomalyShipped, Run: saga.Run(w.step("ship").Retriable())},
		},
		Otherwise: saga.Refuse,
	}
	for _, paid := range []anomalyEvent{anomalyCaptured, anomalySettled} {
		spec.Table = append(spec.Table, saga.Table[anomalyState, anomalyEvent, rigData]{
			{From: anomalyOpen, On: paid, To: anomalyPaid},
			{From: anomalyCancelled, On: paid, To: anomalyCancelled, Run: giveBack},
			{From: anomalyPaid, On: paid, If: another, To: anomalyPaid, Run: giveBack},
			{From: anomalyShipped, On: paid, If: another, To: anomalyShipped, Run: giveBack},
			{From: "has its money", On: paid, Policy: saga.Ignore},
		}...)
	}
	return saga.Define(spec)
}

// anomalyOffice is the shop with an order "a".
type anomalyOffice struct {
	*anomalyShop
	done *rigWorld
	def  *saga.Definition[anomalyState, anomalyEvent, rigData]
	o    *saga.Orchestrator
}

func newAnomalyOffice(t *testing.T) *anomalyOffice {
	t.Helper()
	x := &anomalyOffice{anomalyShop: newAnomalyShop(t), done: &rigWorld{}}
	x.def = anomalyOrder(x.done)
	require.NoError(t, x.def.Validate())
	x.o = x.open(x.def)
	startSaga(t, x.def, x.o, "a", rigData{})
	return x
}

// send sends an event, with the transaction that it tells of, if any.
func (x *anomalyOffice) send(event anomalyEvent, id string, txn ...string) (saga.Disposition, error) {
	in := saga.Input{Source: "world", ID: id}
	if len(txn) > 0 {
		in.Payload = anomalyPayment{Txn: txn[0]}
	}
	return x.def.Send(x.t.Context(), x.o, "a", event, in)
}

func (x *anomalyOffice) is(want saga.Disposition, event anomalyEvent, id string, txn ...string) {
	x.t.Helper()
	answer, err := x.send(event, id, txn...)
	require.NoError(x.t, err)
	require.Equal(x.t, want, answer)
}

// Two different events tell of one payment that is unwanted, and each asks for the money to be given back: mollie/magento2#1047,
// PrestaShopCorp/ps_checkout#331. The transaction names the effect, not the event. A second payment is another matter:
// woocommerce/woocommerce#9297.
func TestAnomalyTwoEventsForOnePaymentGiveItBackOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := newAnomalyOffice(t)
		x.is(saga.Applied, anomalyCancel, "click")
		var both sync.WaitGroup
		for _, e := range []anomalyEvent{anomalyCaptured, anomalySettled} {
			both.Go(func() {
				answer, err := x.send(e, string(e), "T1")
				require.NoError(t, err)
				require.Contains(t, []saga.Disposition{saga.Applied, saga.Waits}, answer)
			})
		}
		both.Wait()
		s := waitSettled(t, x.def, x.o, "a")
		require.Equal(t, anomalyCancelled, s.State)
		require.Equal(t, map[string]int{"refunded T1": 1}, x.books.all())
		require.Equal(t, []string{"give-back succeeded", "give-back succeeded"}, statuses(s.Instance), "asked for twice")
		require.EqualValues(t, 1, x.handled.Load(), "and done once")

		x.is(saga.Applied, anomalyCaptured, "captured-2", "T2")
		s = waitSettled(t, x.def, x.o, "a")
		require.Equal(t, map[string]int{"refunded T1": 1, "refunded T2": 1}, x.books.all())
		require.Equal(t, anomalyCancelled, s.State)
	})
}

// A webhook comes again under another ID, as when it is subscribed to twice (shopify.dev/apps/build/webhooks/ignore-duplicates), or
// the platform tells it twice (PAYONE-GmbH/magento-2#279, where an order was paid double). IDs cannot tell; what it says can.
func TestAnomalySameWebhookUnderAnotherID(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := newAnomalyOffice(t)
		x.is(saga.Applied, anomalyCaptured, "w1", "T1")
		x.is(saga.Ignored, anomalyCaptured, "w2", "T1")
		x.is(saga.Duplicated, anomalyCaptured, "w2", "T1")
		x.is(saga.Applied, anomalyPacked, "p1")
		s := waitSettled(t, x.def, x.o, "a")
		require.Equal(t, anomalyShipped, s.State)
		x.is(saga.Ignored, anomalyCaptured, "w3", "T1")
		require.Equal(t, []string{"ship"}, x.done.list())
		require.Empty(t, x.books.all(), "it is the payment of the order, and stays")
		s = waitSettled(t, x.def, x.o, "a")
		require.Equal(t, "T1", s.Data.Card)
		var ignored int
		for _, e := range requireGapless(t, x.o, s.Instance) {
			if e.Result == saga.Ignored {
				ignored++
			}
		}
		require.Equal(t, 2, ignored, "both are on the record")
		x.is(saga.Applied, anomalyCaptured, "w4", "T2")
		waitSettled(t, x.def, x.o, "a")
		require.Equal(t, map[string]int{"refunded T2": 1}, x.books.all(), "a customer who really paid twice gets one back")
	})
}

// An event comes before the state that it fits, or before its saga: MassTransit/MassTransit#573 and #1163 (it is lost without a
// word), Particular/docs.particular.net#3144.
func TestAnomalyEventThatComesEarly(t *testing.T) {
	t.Parallel()
	t.Run("before its state: it is kept", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			x := newAnomalyOffice(t)
			x.is(saga.Buffered, anomalyPacked, "p1")
			x.is(saga.Duplicated, anomalyPacked, "p1")
			time.Sleep(time.Hour)
			require.Empty(t, x.done.list())
			x.is(saga.Applied, anomalyCaptured, "w1", "T1")
			s := waitSettled(t, x.def, x.o, "a")
			require.Equal(t, anomalyShipped, s.State)
			require.Equal(t, []string{"ship"}, x.done.list())
		})
	})
	t.Run("before its saga: whoever sends it is told, and from a topic it is a dead letter", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			shop, def := newAnomalyShop(t), anomalyOrder(&rigWorld{})
			config := shop.config(def)
			config.Events = []saga.EventSource{{Topic: "events"}}
			o := runRig(t, shop.store, config)
			_, err := def.Send(t.Context(), o, "a", anomalyPacked, saga.Input{Source: "world", ID: "p1"})
			require.ErrorIs(t, err, saga.ErrNotFound)
			msg := message.NewMessage("early", nil)
			msg.Metadata = message.Metadata{saga.MetaDefinition: "order", saga.MetaKey: "a", saga.MetaEvent: "packed", saga.MetaSource: "world", saga.MetaInputID: "p1"}
			require.NoError(t, shop.network.Publish("events", msg))
			synctest.Wait()
			letters, err := o.DeadLetters(t.Context(), "", 0)
			require.NoError(t, err)
			require.Len(t, letters, 1)
			require.Equal(t, "p1", letters[0].Metadata[saga.MetaInputID], "all that it takes to send it again")
			startSaga(t, def, o, "a", rigData{})
			answer, err := def.Send(t.Context(), o, "a", anomalyPacked, saga.Input{Source: "world", ID: "p1"})
			require.NoError(t, err)
			require.Equal(t, saga.Buffered, answer, "its ID was not used up")
		})
	})
}

// An event comes after the end: MassTransit/MassTransit#4947. If it is a payment the customer has paid for what was cancelled:
// woocommerce/woocommerce-gateway-stripe#5703.
func TestAnomalyEventThatComesAfterTheEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := newAnomalyOffice(t)
		x.is(saga.Applied, anomalyCancel, "click")
		require.True(t, waitSettled(t, x.def, x.o, "a").Settled)
		time.Sleep(time.Hour)
		letGo := make(chan struct{})
		x.inBank = func(context.Context, string) error { <-letGo; return nil }
		x.is(saga.Applied, anomalyCaptured, "w1", "T1")
		i := instanceOf(t, x.def, x.o, "a")
		require.Equal(t, anomalyCancelled, i.State)
		require.False(t, i.Settled, "there is something to do")
		close(letGo)
		s := waitSettled(t, x.def, x.o, "a")
		require.Equal(t, anomalyCancelled, s.State, "the end is the end")
		require.Equal(t, map[string]int{"refunded T1": 1}, x.books.all())
		_, err := x.send(anomalyPacked, "p1")
		require.ErrorIs(t, err, saga.ErrRefused, "what does not matter any more is answered, too")
		entries := requireGapless(t, x.o, waitSettled(t, x.def, x.o, "a").Instance)
		require.Equal(t, saga.Refused, entries[len(entries)-1].Result)
		require.Empty(t, x.done.list())
	})
}
