// Outside is what a user's module may look like: it has nothing but sagamill's exported API, and brings a step, a store and a
// transport of its own.
package main

import (
	"context"
	"fmt"
	"log"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/sagamill/sagamill/adapters/memory"
	"github.com/sagamill/sagamill/saga"
)

// Order is the saga's data.
type Order struct {
	Item   string
	Parcel string
	Bill   int
}

type (
	state string
	event string
)

// paid is the payload of the event that ends the wait for money.
type paid struct{ Cents int }

var packing = saga.Command[string, string]{Name: "pack", Topic: "warehouse"}

// logged is a step of the user's own: it prints what it does around another function.
func logged[D any](name string, f func(context.Context, D) error) saga.Step[D] {
	return saga.Do(name, func(ctx context.Context, d D) error {
		err := f(ctx, d)
		fmt.Printf("%s of %s: %v\n", saga.Info(ctx).Step, saga.Info(ctx).Key, err)
		return err
	}).Undo(func(ctx context.Context, _ D) error {
		fmt.Printf("%s of %s: undone\n", saga.Info(ctx).Step, saga.Info(ctx).Key)
		return nil
	})
}

var order = saga.Define(saga.Spec[state, event, Order]{
	Name: "order", Initial: "new", Start: "start", Succeeded: []state{"sent"}, Failed: []state{"cancelled"},
	Events: []saga.Event[event, Order]{
		saga.On(event("paid"), func(o Order, p paid) Order { o.Bill = p.Cents; return o }),
	},
	Table: saga.Table[state, event, Order]{
		{From: "new", On: "start", To: "packed", Run: saga.Run(
			logged("reserve", func(_ context.Context, o Order) error {
				if o.Item == "unicorn" {
					return saga.Reject("there are none")
				}
				return nil
			}),
			saga.Ask("pack", packing, func(o Order) string { return o.Item }, func(o Order, parcel string) Order { o.Parcel = parcel; return o }).
				NoUndo("a parcel can stand around"),
		)},
		{From: "new", On: "reserve.rejected", To: "cancelled", Compensate: true},
		{From: "new", On: "pack.rejected", To: "cancelled", Compensate: true},
		{From: "new", On: "paid", Policy: saga.Buffer},
		{From: "packed", On: "paid", To: "sent", If: saga.When("enough", func(o Order) bool { return o.Bill >= 100 })},
	},
	Otherwise: saga.Refuse,
})

// countingStore is a store around another one.
type countingStore struct {
	saga.Store
	commits atomic.Int32
}

func (s *countingStore) Commit(ctx context.Context, ts []saga.Transition) ([]saga.Verdict, error) {
	s.commits.Add(1)
	return s.Store.Commit(ctx, ts)
}

func main() {
	log.SetFlags(0)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	pubsub := newPubSub()
	transport := saga.Transport{
		Publisher:  pubsub,
		Subscriber: func(saga.SubscriberParams) (message.Subscriber, error) { return pubsub, nil },
	}

	warehouse, err := saga.NewParticipant(memory.NewInbox(), saga.ParticipantConfig{Name: "warehouse", Transport: transport}, nil)
	check(err)
	check(saga.Handle(warehouse, packing, func(_ context.Context, _ *memory.Tx, item string) (string, error) {
		return "parcel with a " + item, nil
	}))
	go func() { check(warehouse.Run(ctx)) }()
	<-warehouse.Running()

	store := &countingStore{Store: memory.NewStore()}
	orchestrator, err := saga.NewOrchestrator(store, saga.OrchestratorConfig{
		Name: "orders", Definitions: []saga.AnyDefinition{order}, Transport: transport, Events: []saga.EventSource{{Topic: "payments"}},
	}, nil)
	check(err)
	go func() { check(orchestrator.Run(ctx)) }()

	_, err = order.Start(ctx, orchestrator, saga.StartParams[Order]{Key: "1", Data: Order{Item: "book"}})
	check(err)
	_, err = order.Start(ctx, orchestrator, saga.StartParams[Order]{Key: "2", Data: Order{Item: "unicorn"}})
	check(err)
	_, err = order.Wait(ctx, orchestrator, "1", "packed")
	check(err)
	payment := message.NewMessage("m", []byte(`{"Cents":100}`))
	payment.Metadata = message.Metadata{
		saga.MetaDefinition: "order", saga.MetaKey: "1", saga.MetaEvent: "paid", saga.MetaSource: "bank", saga.MetaInputID: "17",
	}
	check(pubsub.Publish("payments", payment))
	for _, key := range []string{"1", "2"} {
		done, err := order.Wait(ctx, orchestrator, key)
		check(err)
		fmt.Printf("order %s is %s: %+v\n", key, done.State, done.Data)
	}
	check(orchestrator.Close())
	check(warehouse.Close())
	fmt.Println("commits were counted:", store.commits.Load() > 3)
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
