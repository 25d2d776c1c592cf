package saga_test

import (
	"context"
	"fmt"
	"time"

	"github.com/sagamill/sagamill/adapters/gochannel"
	"github.com/sagamill/sagamill/adapters/memory"
	"github.com/sagamill/sagamill/saga"
)

// Order is the data of the examples' saga.
type Order struct {
	SKU     string
	Payment string
}

func (o Order) withPayment(p Payment) Order { o.Payment = p.Transaction; return o }

// Payment is the payload of the event Paid.
type Payment struct{ Transaction string }

type State string

const (
	Created   State = "CREATED"
	Reserved  State = "RESERVED"
	Shipped   State = "SHIPPED"
	SoldOut   State = "SOLD_OUT"
	Cancelled State = "CANCELLED"

	Open State = "open" // a group: not shipped yet
)

type Event string

const (
	Checkout      Event = "checkout"
	StockMissing  Event = "stock-missing"
	Paid          Event = "paid"
	CancelClicked Event = "cancel-clicked"
)

// The contract with the inventory service, declared once and used on both sides.
var (
	ReserveStock = saga.Command[Reservation, struct{}]{Name: "reserveStock", Topic: "inventory.commands"}
	ReleaseStock = saga.Command[Reservation, struct{}]{Name: "releaseStock", Topic: "inventory.commands"}
)

type Reservation struct{ SKU string }

func (o Order) reservation() Reservation { return Reservation{SKU: o.SKU} }

var reserve = saga.Ask("reserve-stock", ReserveStock, Order.reservation, nil).
	UndoBy(saga.RequestOf(ReleaseStock, Order.reservation))

var ship = saga.Do("ship", func(ctx context.Context, o Order) error {
	fmt.Println("shipping", o.SKU, "paid by", o.Payment)
	return nil
}).Pivot()

// OrderLifecycle is a table-driven saga: one row there, one row here.
var OrderLifecycle = saga.Define(saga.Spec[State, Event, Order]{
	Name: "order", Initial: Created, Start: Checkout,
	Succeeded: []State{Shipped},
	Failed:    []State{SoldOut, Cancelled},
	Groups:    map[State][]State{Open: {Created, Reserved}},
	Events: []saga.Event[Event, Order]{
		saga.On(Paid, Order.withPayment),
		{Name: CancelClicked},
	},
	Table: saga.Table[State, Event, Order]{
		{From: Created, On: Checkout, To: Reserved, Run: saga.Run(reserve), Rejected: StockMissing},
		{From: Created, On: StockMissing, To: SoldOut},
		{From: Reserved, On: Paid, To: Shipped, Run: saga.Run(ship)},
		{From: Reserved, On: "ship.rejected", To: Cancelled, Compensate: true},
		{From: Reserved, After: 15 * time.Minute, To: Cancelled, Compensate: true},
		{From: Open, On: CancelClicked, To: Cancelled, Compensate: true, Interrupts: true},
		{From: Shipped, On: Paid, Policy: saga.Ignore, Because: "the gateway says it twice"},
	},
	Otherwise: saga.Refuse,
})

// A table-driven saga with a command step, and the participant that handles it, in one process.
func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	broker := gochannel.New(gochannel.Config{}, nil)
	defer func() { _ = broker.Close() }()

	// The inventory service.
	inventory, err := saga.NewParticipant(memory.NewInbox(), saga.ParticipantConfig{
		Name: "inventory", Transport: broker.Transport(),
	}, nil)
	must(err)
	must(saga.Handle(inventory, ReserveStock, func(ctx context.Context, tx *memory.Tx, r Reservation) (struct{}, error) {
		if r.SKU != "phone" {
			return struct{}{}, saga.Reject("out of stock: %s", r.SKU)
		}
		return struct{}{}, nil
	}))
	must(saga.Handle(inventory, ReleaseStock, func(ctx context.Context, tx *memory.Tx, r Reservation) (struct{}, error) {
		fmt.Println("released", r.SKU)
		return struct{}{}, nil
	}))
	go func() { must(inventory.Run(ctx)) }()
	<-inventory.Running()
	defer func() { must(inventory.Close()) }()

	// The order service.
	orders, err := saga.NewOrchestrator(memory.NewStore(), saga.OrchestratorConfig{
		Name:        "orders", // its group on the broker, and where replies go
		Definitions: []saga.AnyDefinition{OrderLifecycle},
		Transport:   broker.Transport(),
	}, nil)
	must(err)
	go func() { must(orders.Run(ctx)) }()
	defer func() { must(orders.Close()) }()

	for _, order := range []struct{ key, sku string }{{"1001", "phone"}, {"1002", "phone"}, {"1003", "unicorn"}} {
		_, err := OrderLifecycle.Start(ctx, orders, saga.StartParams[Order]{Key: order.key, Data: Order{SKU: order.sku}})
		must(err)
		_, err = OrderLifecycle.Wait(ctx, orders, order.key, Reserved, SoldOut)
		must(err)
	}
	_, err = OrderLifecycle.Send(ctx, orders, "1001", Paid, saga.Input{Source: "gateway", ID: "evt_1", Payload: Payment{Transaction: "tx_7"}})
	must(err)
	_, err = OrderLifecycle.Send(ctx, orders, "1002", CancelClicked, saga.Input{Source: "web", ID: "click-1"})
	must(err)
	for _, key := range []string{"1001", "1002", "1003"} {
		order, err := OrderLifecycle.Wait(ctx, orders, key)
		must(err)
		defer fmt.Println(order.Key, order.State)
	}
	stuck, _, err := orders.List(ctx, saga.Query{NeedsAttention: true})
	must(err)
	fmt.Println("stuck:", len(stuck))
	// Unordered output:
	// stuck: 0
	// shipping phone paid by tx_7
	// released phone
	// 1001 SHIPPED
	// 1002 CANCELLED
	// 1003 SOLD_OUT
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// Validate names every fault of a definition at once; put it into a test.
func ExampleDefinition_Validate() {
	careless := saga.Linear("careless",
		saga.Do("send-mail", func(context.Context, Order) error { return nil }),
		saga.Do("charge", func(context.Context, Order) error { return nil }).Pivot(),
		saga.Do("reserve", func(context.Context, Order) error { return nil }).NoUndo("reservations lapse by themselves"),
	)
	fmt.Println(careless.Validate())
	// Output:
	// saga: definition "careless" cannot be used:
	//   - row running/begin: step "reserve" comes after the pivot, where nothing is undone any more: make it Retriable, or move it before the pivot
	//   - step "send-mail" may have taken effect when the saga fails (running/cancel, running/send-mail.rejected, running/charge.rejected, running/reserve.rejected): say how it is undone (Undo, UndoBy), or why it need not be (NoUndo)
}
