package payment_test

import (
	"encoding/json"
	"path/filepath"
	"testing"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/gochannel"
	"github.com/sagamill/sagamill/examples/ordersaga/contract"
	"github.com/sagamill/sagamill/examples/ordersaga/data"
	"github.com/sagamill/sagamill/examples/ordersaga/outside"
	"github.com/sagamill/sagamill/examples/ordersaga/payment"
	"github.com/sagamill/sagamill/saga"
)

// desk is payment on its own, with the gateway: commands go in, and replies come out.
type desk struct {
	t       *testing.T
	payment *payment.Payment
	gateway *outside.World
	send    message.Publisher
	replies <-chan *message.Message
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	open := func(service string) *data.DB {
		db, err := data.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "shop.db"), service)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, db.Close()) })
		return db
	}
	d := &desk{t: t}
	var err error
	d.gateway, err = outside.New(t.Context(), open("outside"), false, 0)
	require.NoError(t, err)
	db := open("payment")
	d.payment, err = payment.New(t.Context(), db, d.gateway)
	require.NoError(t, err)
	broker := gochannel.New(gochannel.Config{}, nil)
	t.Cleanup(func() { require.NoError(t, broker.Close()) })
	p, err := saga.NewParticipant(db.Inbox, saga.ParticipantConfig{Name: "payment", Transport: broker.Transport()}, nil)
	require.NoError(t, err)
	require.NoError(t, d.payment.Handle(p))
	ended := make(chan error, 1)
	go func() { ended <- p.Run(t.Context()) }()
	t.Cleanup(func() { require.NoError(t, p.Close()); require.NoError(t, <-ended) })
	<-p.Running()
	d.send = broker.Transport().Publisher
	subscriber, err := broker.Transport().Subscriber(saga.SubscriberParams{Topic: "replies", Group: "test"})
	require.NoError(t, err)
	d.replies, err = subscriber.Subscribe(t.Context(), "replies")
	require.NoError(t, err)
	return d
}

// ask sends a command, and answers what the reply says.
func (d *desk) ask(command, topic, effect string, undo bool, payload any) string {
	d.t.Helper()
	text, err := json.Marshal(payload)
	require.NoError(d.t, err)
	m := message.NewMessage(watermill.NewUUID(), text)
	m.Metadata.Set(saga.MetaCommand, command)
	m.Metadata.Set(saga.MetaEffect, effect)
	m.Metadata.Set(saga.MetaReplyTo, "replies")
	if undo {
		m.Metadata.Set(saga.MetaUndo, "true")
	}
	require.NoError(d.t, d.send.Publish(topic, m))
	reply := <-d.replies
	reply.Ack()
	return reply.Metadata.Get(saga.MetaOutcome)
}

// The gateway took the charge, and its answer was lost. Payment's transaction was rolled back: it knows nothing of the charge. The
// compensation gives the money back all the same, and its ledger says so.
func TestChargeWhoseAnswerWasLostIsGivenBack(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	charge := contract.Charge{Order: "o-1", Tenant: "shop", Amount: 100, Currency: "EUR", Method: outside.Flaky}
	topic := contract.Authorize.Topic
	require.Equal(t, "failed", d.ask("authorize", topic, "effect-1", false, charge), "the gateway was not available")
	require.Equal(t, "failed", d.ask("authorize", topic, "effect-1", false, charge), "it was, but did not answer")
	ledger, err := d.payment.Ledger(t.Context(), "shop", "o-1")
	require.NoError(t, err)
	require.Empty(t, ledger.Entries)

	undo := contract.Money{Order: "o-1", Tenant: "shop", Amount: 100, Currency: "EUR"}
	var last string
	for range 3 { // the flaky card's gateway is as flaky about this
		last = d.ask("refund", topic, "effect-1", true, undo)
	}
	require.Equal(t, "succeeded", last)
	movements, err := d.gateway.Movements(t.Context(), "o-1")
	require.NoError(t, err)
	require.Len(t, movements, 2)
	require.Equal(t, payment.Void, movements[1].Type)
	ledger, err = d.payment.Ledger(t.Context(), "shop", "o-1")
	require.NoError(t, err)
	require.Len(t, ledger.Entries, 2)
	require.Equal(t, payment.Void, ledger.Entries[1].Type)
}
