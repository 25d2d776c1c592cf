package main

import (
	"context"
	"fmt"
	"time"

	"github.com/sagamill/sagamill/saga"
)

// The order saga: a table of states, with events from outside and a time-out, and local steps. What it writes is compared with its floor
// like that of linear sagas.

type (
	orderState string
	orderEvent string
)

const (
	orderCreated   orderState = "CREATED"
	orderReserved  orderState = "RESERVED"
	orderCaptured  orderState = "CAPTURED"
	orderFulfilled orderState = "FULFILLED"
	orderSoldOut   orderState = "SOLD_OUT"
	orderCancelled orderState = "CANCELLED"

	checkout      orderEvent = "checkout"
	stockMissing  orderEvent = "stock-missing"
	paymentCame   orderEvent = "payment-came"
	parcelLeft    orderEvent = "parcel-left"
	cancelClicked orderEvent = "cancel-clicked"
)

type webhook struct {
	Transaction string `json:"transaction"`
}

func orderSaga() workload {
	nothing := func(context.Context, cargo) error { return nil }
	order := saga.Define(saga.Spec[orderState, orderEvent, cargo]{
		Name: "order", Initial: orderCreated, Start: checkout,
		Succeeded: []orderState{orderFulfilled}, Failed: []orderState{orderSoldOut, orderCancelled},
		Events: []saga.Event[orderEvent, cargo]{
			saga.On(paymentCame, func(d cargo, w webhook) cargo { d.Transaction = w.Transaction; return d }),
			{Name: parcelLeft}, {Name: cancelClicked},
		},
		Table: saga.Table[orderState, orderEvent, cargo]{
			{From: orderCreated, On: checkout, To: orderReserved, Run: saga.Run(saga.Do("reserve", nothing).Undo(nothing)), Rejected: stockMissing},
			{From: orderCreated, On: stockMissing, To: orderSoldOut},
			{From: orderReserved, On: paymentCame, To: orderCaptured, Run: saga.Run(saga.Do("capture", nothing).Pivot())},
			{From: orderReserved, On: "capture.rejected", To: orderCancelled, Compensate: true},
			{From: orderReserved, On: cancelClicked, To: orderCancelled, Compensate: true},
			{From: orderReserved, After: 15 * time.Minute, To: orderCancelled, Compensate: true},
			{From: orderCaptured, On: parcelLeft, To: orderFulfilled},
		},
		Otherwise: saga.Refuse,
	})
	send := func(ctx context.Context, o *saga.Orchestrator, key string, event orderEvent, payload any) error {
		answer, err := order.Send(ctx, o, key, event, saga.Input{Source: "outside", ID: key + "-" + string(event), Payload: payload})
		if err == nil && answer != saga.Applied {
			err = fmt.Errorf("%s is %s for %s", event, answer, key)
		}
		return err
	}
	wait := func(ctx context.Context, o *saga.Orchestrator, key string, state orderState) error {
		_, err := order.Wait(ctx, o, key, state)
		return err
	}
	return workload{name: "order saga", definition: order, one: func(ctx context.Context, o *saga.Orchestrator) error {
		key := nextKey()
		if _, err := order.Start(ctx, o, saga.StartParams[cargo]{Key: key, Data: anOrder}); err != nil {
			return err
		}
		if err := wait(ctx, o, key, orderReserved); err != nil {
			return err
		}
		if err := send(ctx, o, key, paymentCame, webhook{"tx-4711"}); err != nil {
			return err
		}
		if err := wait(ctx, o, key, orderCaptured); err != nil {
			return err
		}
		if err := send(ctx, o, key, parcelLeft, nil); err != nil {
			return err
		}
		return wait(ctx, o, key, orderFulfilled)
	}}
}
