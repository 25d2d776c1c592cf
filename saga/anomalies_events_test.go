package saga_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/saga"
)

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
