package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/examples/ordersaga/client"
	"github.com/sagamill/sagamill/examples/ordersaga/order"
	"github.com/sagamill/sagamill/examples/ordersaga/outside"
	"github.com/sagamill/sagamill/examples/ordersaga/payment"
)

// Things that happen at the same time. Nothing outside moves by itself here: the tests play the world, so they can let two
// things race that in life seldom meet. Whoever wins, the books must fit (see books_test.go).

// One key is one order, however many say it at once: whoever is told that it is created is told the same bytes, and whoever
// is told to wait gets them later.
func TestOneKeyAtOnceIsOneOrder(t *testing.T) {
	t.Parallel()
	keys, clients := size(t, "ORDERSAGA_KEYS", 20), 64
	s, b := openAudited(t)
	require.NoError(t, s.Restock(s.ctx(), "phone", 1000))
	hasty := *s.Client
	hasty.Patience = 0
	for k := range keys {
		place := func(ctx context.Context, c *client.Client) (client.Answer, error) {
			return c.Do(ctx, http.MethodPost, "/v1/orders", phone(outside.Visa).Body(), "Idempotency-Key", fmt.Sprintf("key-%d", k))
		}
		answers := make([]client.Answer, clients)
		crowd(t, clients, clients, func(ctx context.Context, job int) (err error) {
			answers[job], err = place(ctx, &hasty)
			return err
		})
		first, err := place(s.ctx(), s.Client)
		require.NoError(t, err)
		require.Equal(t, http.StatusCreated, first.Status, "%s", first.Body)
		for _, a := range answers {
			if a.Status == http.StatusConflict {
				require.NotEmpty(t, a.Header.Get("Retry-After"), "%s", a.Body)
				a, err = place(s.ctx(), s.Client)
				require.NoError(t, err)
			}
			require.Equal(t, http.StatusCreated, a.Status, "%s", a.Body)
			require.Equal(t, first.Body, a.Body)
		}
	}
	b.untilAllRest(t)
	require.Equal(t, map[order.State]int{order.Reserved: keys}, b.audit(t, s.Client, map[string]int64{"phone": 1000}))
}

// A customer who cancels while the payment arrives gets either the goods or the money. The cancellation comes at a different
// moment each time: from before the payment to after the parcel has left.
func TestCancelRacesPayment(t *testing.T) {
	t.Parallel()
	races := size(t, "ORDERSAGA_RACES", 1000)
	s, b := openAudited(t)
	stock := int64(races)
	require.NoError(t, s.Restock(s.ctx(), "phone", races))
	r := &race{shop: s}
	r.way.Store(int64(100 * time.Millisecond))
	crowd(t, 16, races, r.run)
	b.untilAllRest(t)
	count := b.audit(t, s.Client, map[string]int64{"phone": stock})
	t.Logf("%d races ended so: %v", races, count)
	require.Equal(t, races, count[order.Cancelled]+count[order.Shipped], "%v", count)
	require.GreaterOrEqual(t, count[order.Cancelled], races*9/16, "%v", count)
	require.GreaterOrEqual(t, count[order.Shipped], races/16, "%v", count)
}

type race struct {
	*shop
	way atomic.Int64 // how long the way from payment to parcel took when it was last taken undisturbed
}

// run is one race. In every other one fraud check and warehouse have spoken before, so that nothing stops the order between
// payment and parcel; in the others it stops as PAID, and can be cancelled in any case. The moments of the cancellation are
// spread over the whole way.
func (r *race) run(ctx context.Context, job int) error {
	v, err := r.Place(ctx, fmt.Sprintf("place-%d", job), phone(outside.Visa))
	if err != nil {
		return err
	}
	if v, err = r.Pay(ctx, "pay-"+v.ID, v.ID); err != nil {
		return err
	}
	swift, moment := job%2 == 1, job/2%8
	if swift {
		err := errors.Join(r.Tell(ctx, "fraud", client.FraudOf(v.ID, "fraud-"+v.ID, "pass")), r.Tell(ctx, "warehouse", client.PackedOf(v.ID, "packed-"+v.ID)))
		if err != nil {
			return err
		}
	}
	pay := func() error {
		return r.Tell(ctx, "payment", client.PaymentOf(v, "evt-"+v.ID, "payment.succeeded", "tx-"+v.ID))
	}
	cancel := func() error { return r.cancelOrRefused(ctx, v.ID) }
	switch {
	case moment == 0:
		return errors.Join(cancel(), pay())
	case moment == 7 && swift:
		began := time.Now()
		if err := pay(); err != nil {
			return err
		}
		_, err := r.Until(ctx, v.ID, client.In(order.Shipped))
		r.way.Store(int64(time.Since(began)))
		return errors.Join(err, cancel())
	}
	return atOnce(pay, func() error {
		time.Sleep(time.Duration(r.way.Load() * int64(moment-1) / 5))
		return cancel()
	})
}

// cancelOrRefused cancels an order. That is refused only if the parcel has left.
func (s *shop) cancelOrRefused(ctx context.Context, id string) error {
	_, err := s.Cancel(ctx, "cancel-"+id, id)
	refused := (*client.Error)(nil)
	if !errors.As(err, &refused) || refused.Status != http.StatusConflict {
		return err
	}
	_, err = s.Until(ctx, id, client.In(order.Shipped))
	return err
}

// Of 1,000 customers for 100 pieces a hundred get one, and the others are told so.
func TestStampedeForTheLastPieces(t *testing.T) {
	t.Parallel()
	customers := size(t, "ORDERSAGA_STAMPEDE", 1000)
	pieces := customers / 10
	s, b := openAudited(t)
	require.NoError(t, s.Restock(s.ctx(), "phone", pieces))
	ids := make([]string, customers)
	crowd(t, 64, customers, func(ctx context.Context, job int) error {
		v, err := s.Place(ctx, fmt.Sprintf("k%d", job), phone(outside.Visa))
		ids[job] = v.ID
		return err
	})
	b.untilAllRest(t)
	require.Equal(t, map[order.State]int{order.Reserved: pieces, order.Failed: customers - pieces}, b.audit(t, s.Client, map[string]int64{"phone": int64(pieces)}))
	var reserved []string
	for _, id := range ids {
		v, err := s.Order(s.t.Context(), id)
		require.NoError(t, err)
		if v.State == order.Reserved {
			reserved = append(reserved, id)
			continue
		}
		told, err := s.Notifications(s.t.Context(), id)
		require.NoError(t, err)
		require.Len(t, told, 1)
		require.Equal(t, "Out of Stock", told[0].Text)
	}

	// And all of it comes back.
	crowd(t, 16, len(reserved), func(ctx context.Context, job int) error {
		_, err := s.Cancel(ctx, "cancel-"+reserved[job], reserved[job])
		return err
	})
	b.untilAllRest(t)
	require.Equal(t, map[order.State]int{order.Cancelled: pieces, order.Failed: customers - pieces}, b.audit(t, s.Client, map[string]int64{"phone": int64(pieces)}))
}

// Baskets name the same articles in opposite order. None waits for another, and none gets half of what it wants.
func TestBasketsInOppositeOrder(t *testing.T) {
	t.Parallel()
	customers := size(t, "ORDERSAGA_BASKETS", 200)
	phones, cases := customers*3/5, customers
	s, b := openAudited(t)
	require.NoError(t, s.Restock(s.ctx(), "phone", phones))
	require.NoError(t, s.Restock(s.ctx(), "case", cases))
	crowd(t, 32, customers, func(ctx context.Context, job int) error {
		lines := []order.Line{{SKU: "phone", Quantity: 1, UnitPrice: 79900}, {SKU: "case", Quantity: 1, UnitPrice: 1900}}
		if job%2 == 1 {
			lines[0], lines[1] = lines[1], lines[0]
		}
		_, err := s.Place(ctx, fmt.Sprintf("k%d", job), client.Basket{Lines: lines, Method: outside.Visa})
		return err
	})
	b.untilAllRest(t)
	require.Equal(t, map[order.State]int{order.Reserved: phones, order.Failed: customers - phones},
		b.audit(t, s.Client, map[string]int64{"phone": int64(phones), "case": int64(cases)}))
}

// A gateway that is away, and then does what it is asked for but does not say so, takes the money once all the same.
func TestFlakyGatewayTakesMoneyOnce(t *testing.T) {
	t.Parallel()
	const customers = 8
	s, b := openAudited(t)
	require.NoError(t, s.Restock(s.ctx(), "phone", customers))
	crowd(t, customers, customers, func(ctx context.Context, job int) error {
		v, err := s.Place(ctx, fmt.Sprintf("k%d", job), phone(outside.Flaky))
		if err == nil {
			v, err = s.Pay(ctx, "pay-"+v.ID, v.ID)
		}
		return errors.Join(err, s.playWorld(ctx, v))
	})
	b.untilAllEnd(t)
	require.Equal(t, map[order.State]int{order.InTransit: customers}, b.audit(t, s.Client, map[string]int64{"phone": customers}))
}

// playWorld tells all the good news of an order.
func (s *shop) playWorld(ctx context.Context, v order.View) error {
	return errors.Join(
		s.Tell(ctx, "payment", client.PaymentOf(v, "evt-"+v.ID, "payment.succeeded", "tx-"+v.ID)),
		s.Tell(ctx, "fraud", client.FraudOf(v.ID, "fraud-"+v.ID, "pass")),
		s.Tell(ctx, "warehouse", client.PackedOf(v.ID, "packed-"+v.ID)),
		s.Tell(ctx, "carrier", client.ScanOf(v.ID, "scan-"+v.ID)),
	)
}

// Who cancels while nobody knows what the gateway has done, because it has taken the money and not said so, gets it back.
func TestFlakyGatewayGivesBack(t *testing.T) {
	t.Parallel()
	const customers = 8
	for _, asked := range []string{"authorize", "capture"} {
		t.Run(asked, func(t *testing.T) {
			t.Parallel()
			s, b := openAudited(t)
			require.NoError(t, s.Restock(s.ctx(), "phone", customers))
			crowd(t, customers, customers, func(ctx context.Context, job int) error {
				v, err := s.Place(ctx, fmt.Sprintf("k%d", job), phone(outside.Flaky))
				if err != nil {
					return err
				}
				return atOnce(
					func() error { return s.payAndConfirm(ctx, v, asked == "capture") },
					func() error {
						err := b.untilMoved(ctx, v.ID, asked)
						_, err2 := s.Cancel(ctx, "cancel-"+v.ID, v.ID)
						return errors.Join(err, err2)
					})
			})
			b.untilAllRest(t)
			require.Equal(t, map[order.State]int{order.Cancelled: customers}, b.audit(t, s.Client, map[string]int64{"phone": customers}))
		})
	}
}

// payAndConfirm clicks on Pay; the gateway's webhook may follow.
func (s *shop) payAndConfirm(ctx context.Context, v order.View, confirmed bool) error {
	_, err := s.Pay(ctx, "pay-"+v.ID, v.ID)
	if err != nil || !confirmed {
		return err
	}
	return s.Tell(ctx, "payment", client.PaymentOf(v, "evt-"+v.ID, "payment.succeeded", "tx-"+v.ID))
}

// untilMoved waits until the gateway has moved money.
func (b books) untilMoved(ctx context.Context, order, movement string) error {
	for {
		list, err := b.Movements(ctx, order)
		if err != nil || slices.ContainsFunc(list, func(m payment.Movement) bool { return string(m.Type) == movement }) {
			return err
		}
		time.Sleep(time.Millisecond)
	}
}
