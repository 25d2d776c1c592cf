package saga_test

import (
	"context"
	"time"

	"github.com/sagamill/sagamill/saga"
)

type (
	clerkState string
	clerkEvent string
)

const (
	clerkOpen    clerkState = "open"
	clerkPaid    clerkState = "paid"
	clerkShipped clerkState = "shipped"
	clerkOff     clerkState = "off"

	evPing   clerkEvent = "ping"   // ignored
	evPay    clerkEvent = "pay"    // its payload matters
	evShip   clerkEvent = "ship"   // buffered until it is paid
	evRefund clerkEvent = "refund" // refused
	evCancel clerkEvent = "cancel"
)

type payment struct{ Amount int }

// clerk takes events of every kind. A payment of 13 makes the reducer panic, one of 14 the guard, one of 15 grows the data
// beyond bounds, one of 5 is not enough.
func clerk(w *rigWorld) *saga.Definition[clerkState, clerkEvent, rigData] {
	return saga.Define(clerkSpec(w))
}

func clerkSpec(w *rigWorld) saga.Spec[clerkState, clerkEvent, rigData] {
	return saga.Spec[clerkState, clerkEvent, rigData]{
		Name: "clerk", Initial: clerkOpen, Succeeded: []clerkState{clerkShipped}, Failed: []clerkState{clerkOff},
		Events: []saga.Event[clerkEvent, rigData]{
			{Name: evPing}, {Name: evShip}, {Name: evRefund}, {Name: evCancel},
			saga.On(evPay, func(b rigData, p payment) rigData {
				switch p.Amount {
				case 13:
					panic("unlucky")
				case 14:
					b.Card = "panic"
				case 15:
					b.Log = append(b.Log, string(make([]byte, 2000)))
				case 5:
					b.Card = "little"
				}
				return b.with("paid")
			}),
		},
		Table: saga.Table[clerkState, clerkEvent, rigData]{
			{From: clerkOpen, On: evPay, To: clerkPaid, If: saga.When("enough", func(b rigData) bool {
				if b.Card == "panic" {
					panic("guard")
				}
				return b.Card != "little"
			})},
			{From: clerkOpen, On: evPay, Policy: saga.Refuse},
			{From: clerkOpen, On: evShip, Policy: saga.Buffer},
			{From: clerkPaid, On: evShip, To: clerkShipped, Run: saga.Run(w.step("send").Retriable())},
			{From: saga.Any, On: evPing, Policy: saga.Ignore},
			{From: clerkOpen, On: evCancel, To: clerkOff, Compensate: true},
			{From: clerkPaid, On: evCancel, To: clerkOff, Compensate: true},
		},
		Otherwise: saga.Refuse,
	}
}

// parked is a saga whose one step works until it is let go.
func parked(w *rigWorld) (def *saga.LinearDefinition[rigData], letGo chan struct{}) {
	letGo = make(chan struct{})
	return saga.Linear("parked", saga.Do("park", func(ctx context.Context, _ rigData) error {
		w.do(ctx)
		select {
		case <-letGo:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}).Undo(func(ctx context.Context, _ rigData) error { w.do(ctx); return nil }).Timeout(24*time.Hour)), letGo
}
