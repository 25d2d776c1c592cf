package order

import (
	"context"
	"strings"

	"github.com/sagamill/sagamill/compensation"
	"github.com/sagamill/sagamill/examples/ordersaga/contract"
	"github.com/sagamill/sagamill/saga"
)

// step is one effect with one owner.
type step = saga.Step[Order]

// steps are what the lifecycle's rows run: commands to the other services, each with the command that undoes it, and what the
// order service does itself.
type steps struct {
	book *Book

	reserveStock, commitStock     step
	authorize, capture, giveBack  step
	createShipment, generateLabel step
	invoice                       step
}

func newSteps(retry compensation.Retry, book *Book) *steps {
	s := &steps{book: book}

	s.reserveStock = saga.Ask("reserve-stock", contract.ReserveStock, Order.basket, nil).Retry(retry).
		UndoBy(saga.RequestOf(contract.ReleaseStock, Order.basket)).UndoRetry(retry)
	s.commitStock = saga.Ask("commit-stock", contract.CommitStock, Order.basket, nil).Retry(retry).Retriable()

	s.authorize = saga.Ask("authorize", contract.Authorize, Order.charge, Order.withAuthorization).Retry(retry).
		UndoBy(saga.RequestOf(contract.Refund, Order.authorized)).UndoRetry(retry)
	s.capture = saga.Ask("capture", contract.Capture, Order.paid, nil).Retry(retry).
		UndoBy(saga.RequestOf(contract.Refund, Order.paid)).UndoRetry(retry)
	// Two payments that are too late are given back each for itself, and each once: hence a key of the step's own.
	s.giveBack = saga.Ask("give-back", contract.Refund, Order.lastPayment, nil).Retry(retry).
		Key(func(o Order) string { return o.ID + "/" + o.LastPayment }).
		Retriable().NoUndo("what was given back stays with the customer")

	// The pivot: a parcel that has left cannot be called back.
	s.createShipment = saga.Ask("create-shipment", contract.CreateShipment, Order.parcel, nil).Retry(retry).Pivot()
	s.generateLabel = saga.Ask("generate-label", contract.GenerateLabel, Order.parcel, Order.withLabel).Retry(retry).Retriable()

	s.invoice = saga.Call("generate-invoice", book.invoice, Order.withInvoice).
		Retriable().NoUndo("the books keep an invoice; a refund has a record of its own")
	return s
}

// notify tells the customer something.
func (s *steps) notify(text string) step {
	return saga.Do("notify-"+slug(text), func(ctx context.Context, o Order) error { return s.book.notify(ctx, o, text) }).
		Retriable().NoUndo("what was said stays said")
}

// tell publishes a change of the lifecycle on the topic order-events, for whoever listens.
func (s *steps) tell(event string) step {
	return saga.Emit("tell-"+slug(event), contract.OrderEvents, event, Order.event).
		Retriable().NoUndo("consumers drop what is older than what they have seen")
}

func slug(s string) string {
	return strings.Trim(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' {
			return r
		}
		return '-'
	}, strings.ToLower(s)), "-")
}
