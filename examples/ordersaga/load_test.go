package main

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/examples/ordersaga/app"
	"github.com/sagamill/sagamill/examples/ordersaga/client"
	"github.com/sagamill/sagamill/examples/ordersaga/order"
	"github.com/sagamill/sagamill/examples/ordersaga/outside"
)

// Many customers buy, all the way to the parcel, and nothing goes wrong. The figures are for comparison on one machine: all of
// it, with the customers and the world outside, runs in this process.
func TestLoad(t *testing.T) {
	t.Parallel()
	orders := size(t, "ORDERSAGA_LOAD", 200)
	clients := 32
	if orders >= 2000 {
		clients = 256
	}
	s, b := openAudited(t, func(c *app.Config) { c.Simulate, c.Resend = true, 0 })
	require.NoError(t, s.Restock(s.ctx(), "phone", orders))
	took := make([]time.Duration, orders)
	began := time.Now()
	crowd(t, clients, orders, func(ctx context.Context, job int) (err error) {
		took[job], err = s.buyAll(ctx, job, time.Duration(clients)*2*time.Millisecond)
		return err
	})
	all := time.Since(began)
	b.untilAllEnd(t)
	require.Equal(t, map[order.State]int{order.InTransit: orders}, b.audit(t, s.Client, map[string]int64{"phone": int64(orders)}))

	slices.Sort(took)
	t.Logf("%d clients, %d orders in %s: %.1f sagas/s; from placing to IN_TRANSIT p50 %s, p99 %s", clients, orders,
		all.Round(time.Millisecond), float64(orders)/all.Seconds(),
		took[orders/2].Round(time.Millisecond), took[orders*99/100].Round(time.Millisecond))
}

// buyAll buys, and looks every now and then whether the parcel is on its way. It answers how long that took, by the order's
// own history: so to look seldom does no harm.
func (s *shop) buyAll(ctx context.Context, job int, every time.Duration) (time.Duration, error) {
	began := time.Now()
	v, err := s.Place(ctx, fmt.Sprintf("place-%d", job), phone(outside.Visa))
	if err != nil {
		return 0, err
	}
	if _, err = s.Pay(ctx, "pay-"+v.ID, v.ID); err != nil {
		return 0, err
	}
	for {
		switch v, err = s.Order(ctx, v.ID); {
		case err != nil:
			return 0, err
		case client.In(order.InTransit)(v):
			return v.History[len(v.History)-1].At.Sub(began), nil
		case v.Status == "FAILED" || v.Status == "CANCELLED":
			return 0, fmt.Errorf("order %s is %s: %s", v.ID, v.State, v.Reason)
		}
		time.Sleep(every)
	}
}
