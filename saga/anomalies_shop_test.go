package saga_test

import (
	"context"
	"errors"
	"maps"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/gochannel"
	"github.com/sagamill/sagamill/adapters/memory"
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
