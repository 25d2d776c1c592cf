// Package order is "the boss": it keeps each order's lifecycle, and tells the other services what to do. Begin with this
// file: the table is the specification.
package order

import (
	"slices"
	"time"

	"github.com/sagamill/sagamill/compensation"
	"github.com/sagamill/sagamill/examples/ordersaga/contract"
	"github.com/sagamill/sagamill/saga"
)

// State is where an order stands.
type State string

const (
	Created        State = "CREATED"
	Reserved       State = "RESERVED"        // the stock is locked; the customer may have closed the browser
	PaymentPending State = "PAYMENT_PENDING" // the gateway was asked
	Paid           State = "PAID"            // we have the money
	Confirmed      State = "CONFIRMED"       // the order is valid
	Shipped        State = "SHIPPED"
	InTransit      State = "IN_TRANSIT"
	Failed         State = "FAILED"    // the customer wanted to buy, and could not
	Cancelled      State = "CANCELLED" // the customer, or time, decided to stop

	// Groups.
	Unpaid  State = "not paid yet"
	PreShip State = "any pre-ship state"
	Sold    State = "paid or later"
	Ended   State = "failed or cancelled"
)

// Event is what happens to an order.
type Event string

const (
	CheckoutInitiated Event = "checkout-initiated"
	PayClicked        Event = "pay-clicked"
	PaymentSucceeded  Event = "payment-succeeded"
	PaymentFailed     Event = "payment-failed"
	FraudPassed       Event = "fraud-check-passed"
	FraudFailed       Event = "fraud-check-failed"
	Packed            Event = "packed"
	CarrierScanned    Event = "carrier-scan"
	CancelClicked     Event = "cancel-clicked"

	// What a participant's "no" raises.
	InventoryCheckFailed Event = "inventory-check-failed"
	PaymentDeclined      Event = "payment-declined"
	CaptureRefused       Event = "capture-refused"
	ShipmentRefused      Event = "shipment-refused"
)

// Times are the lifecycle's durations.
type Times struct {
	ReserveTTL     time.Duration // how long stock is kept for a customer who does not pay
	PaymentTimeout time.Duration // how long the gateway's webhook is waited for
	Resend         time.Duration // when a command without a reply is sent again, at first; default 1s
}

type (
	// Definition is the lifecycle's type.
	Definition = saga.Definition[State, Event, Order]
	table      = saga.Table[State, Event, Order]
)

// Lifecycle is the order saga: one row of the specification, one row here. The column "compensation" is not written per
// state: it follows from which steps have (perhaps) taken effect. The book keeps what the order service itself does.
//
// The specification gives RESERVED and PAYMENT_PENDING a time-out, and the others none: a paid order waits for the fraud check
// and the warehouse for as long as it takes, or until its customer cancels.
func Lifecycle(times Times, book *Book) *Definition {
	steps := newSteps(compensation.Retry{First: times.Resend}, book)
	tell, notify := steps.tell, steps.notify
	paymentFailed, failed, cancelled := notify("Payment Failed"), tell(contract.OrderFailed), tell(contract.OrderCancelled)

	happyPath := table{
		{From: Created, On: CheckoutInitiated, To: Reserved, Run: saga.Run(tell(contract.OrderCreated), steps.reserveStock), Rejected: InventoryCheckFailed},
		{From: Reserved, On: PayClicked, To: PaymentPending, Run: saga.Run(steps.authorize), Rejected: PaymentDeclined},
		{From: PaymentPending, On: PaymentSucceeded, To: Paid, Run: saga.Run(steps.capture, tell(contract.OrderPaid)), Rejected: CaptureRefused},
		{From: Paid, On: FraudPassed, If: deliverable, To: Confirmed, Run: saga.Run(steps.invoice, tell(contract.OrderConfirmed))},
		{From: Confirmed, On: Packed, To: Shipped, Run: saga.Run(steps.createShipment, steps.generateLabel, steps.commitStock, tell(contract.OrderShipped)), Rejected: ShipmentRefused},
		{From: Shipped, On: CarrierScanned, To: InTransit, Run: saga.Run(notify("Your order is on the way."), tell(contract.OrderInTransit))},
	}

	exits := table{
		{From: Created, On: InventoryCheckFailed, To: Failed, Compensate: true, Run: saga.Run(notify("Out of Stock"), failed)},
		{From: Reserved, On: PaymentDeclined, To: Failed, Compensate: true, Run: saga.Run(paymentFailed, failed)},
		{From: Reserved, After: times.ReserveTTL, To: Cancelled, Compensate: true, Run: saga.Run(cancelled)},
		{From: PaymentPending, After: times.PaymentTimeout, To: Failed, Compensate: true, Run: saga.Run(paymentFailed, failed)},
		{From: PaymentPending, On: PaymentFailed, To: Failed, Compensate: true, Run: saga.Run(paymentFailed, failed)},
		{From: PaymentPending, On: CaptureRefused, To: Failed, Compensate: true, Run: saga.Run(paymentFailed, failed, steps.giveBack), Because: "a refused payment may be another than the one that is undone"},
		{From: Paid, On: FraudFailed, To: Failed, Compensate: true, Run: saga.Run(failed)},
		{From: Paid, On: FraudPassed, To: Failed, Compensate: true, Run: saga.Run(notify("We cannot deliver to your address"), failed), Because: "the address is not one that we deliver to"},
		{From: Confirmed, On: ShipmentRefused, To: Failed, Compensate: true, Run: saga.Run(failed)},
		{From: PreShip, On: CancelClicked, To: Cancelled, Compensate: true, Interrupts: true, Run: saga.Run(cancelled)},
	}

	// What the specification's tables leave open.
	open := table{
		// Money that comes too late, or twice, goes back: once for each transaction.
		{From: Failed, On: PaymentSucceeded, To: Failed, Run: saga.Run(steps.giveBack)},
		{From: Cancelled, On: PaymentSucceeded, To: Cancelled, Run: saga.Run(steps.giveBack)},
		{From: Paid, On: PaymentSucceeded, If: another, To: Paid, Run: saga.Run(steps.giveBack)},
		{From: Confirmed, On: PaymentSucceeded, If: another, To: Confirmed, Run: saga.Run(steps.giveBack)},
		{From: Shipped, On: PaymentSucceeded, If: another, To: Shipped, Run: saga.Run(steps.giveBack)},
		{From: InTransit, On: PaymentSucceeded, If: another, To: InTransit, Run: saga.Run(steps.giveBack)},
		{From: Paid, On: CancelClicked, If: another, To: Cancelled, Compensate: true, Interrupts: true, Run: saga.Run(cancelled, steps.giveBack), Because: "it may interrupt what gives that one back"},
		{From: Confirmed, On: CancelClicked, If: another, To: Cancelled, Compensate: true, Interrupts: true, Run: saga.Run(cancelled, steps.giveBack), Because: "it may interrupt what gives that one back"},
		{From: Sold, On: PaymentSucceeded, Policy: saga.Ignore, Because: "the gateway says it twice"},

		{From: PaymentPending, On: PayClicked, Policy: saga.Ignore, Because: "clicked twice"},
		{From: Sold, On: PayClicked, Policy: saga.Ignore, Because: "clicked twice"},
		{From: Cancelled, On: CancelClicked, Policy: saga.Ignore, Because: "clicked twice"},

		{From: Unpaid, On: PaymentSucceeded, Policy: saga.Buffer, Because: "the webhook is quicker than our own bookkeeping"},
		{From: Unpaid, On: PaymentFailed, Policy: saga.Ignore, Because: "no payment was asked for"},
		{From: Sold, On: PaymentFailed, Policy: saga.Ignore, Because: "the first decision stands"},
		{From: Ended, On: PaymentFailed, Policy: saga.Ignore, Because: "there is nothing to pay for"},

		// A decision, a parcel or a scan that comes early is kept until it fits; twice does no harm.
		{From: PreShip, On: FraudPassed, Policy: saga.Buffer},
		{From: PreShip, On: FraudFailed, Policy: saga.Buffer},
		{From: Confirmed, On: FraudPassed, Policy: saga.Ignore, Because: "the first decision stands"},
		{From: Confirmed, On: FraudFailed, Policy: saga.Ignore, Because: "the first decision stands"},
		{From: PreShip, On: Packed, Policy: saga.Buffer},
		{From: PreShip, On: CarrierScanned, Policy: saga.Buffer},
		{From: saga.Any, On: FraudPassed, Policy: saga.Ignore},
		{From: saga.Any, On: FraudFailed, Policy: saga.Ignore},
		{From: saga.Any, On: Packed, Policy: saga.Ignore},
		{From: saga.Any, On: CarrierScanned, Policy: saga.Ignore},
	}

	return saga.Define(saga.Spec[State, Event, Order]{
		Name: "order", Initial: Created, Start: CheckoutInitiated,
		Succeeded: []State{InTransit},
		Failed:    []State{Failed, Cancelled},
		Groups: map[State][]State{
			Unpaid:  {Created, Reserved},
			PreShip: {Created, Reserved, PaymentPending, Paid, Confirmed},
			Sold:    {Paid, Confirmed, Shipped, InTransit},
			Ended:   {Failed, Cancelled},
		},
		Events: []saga.Event[Event, Order]{
			saga.On(PaymentSucceeded, Order.withPayment), saga.On(PaymentFailed, Order.withFailure),
			{Name: PayClicked}, {Name: FraudPassed}, {Name: FraudFailed},
			{Name: Packed}, {Name: CarrierScanned}, {Name: CancelClicked},
		},
		Table:     slices.Concat(happyPath, exits, open),
		Otherwise: saga.Refuse, // pay after the end, cancel after shipping
	})
}
