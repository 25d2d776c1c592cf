package order_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/memory"
	"github.com/sagamill/sagamill/examples/ordersaga/contract"
	"github.com/sagamill/sagamill/examples/ordersaga/data"
	"github.com/sagamill/sagamill/examples/ordersaga/order"
	"github.com/sagamill/sagamill/saga"
	"github.com/sagamill/sagamill/saga/sagatest"
)

// The real lifecycle in a small world of numbers, through every fault at every moment (see package sagatest). Each test is a
// story. What must hold is the same in all of them: no piece, no parcel and nobody's money is lost.

func TestExploreCancelledAtAnyTime(t *testing.T) {
	explore(t, func(s *shop) {
		a := s.place("A", "card", "DE")
		a.goesWell()
		a.Send(order.CancelClicked, nil).Anytime()
		a.Send(order.CancelClicked, nil).When(order.Cancelled)
	})
}

func TestExplorePaymentThatFailsFirst(t *testing.T) {
	explore(t, func(s *shop) {
		a := s.place("A", "card", "DE")
		a.Send(order.PaymentFailed, a.payment()).When(order.PaymentPending)
		a.Send(order.PaymentFailed, a.payment()).When(order.Failed)
		a.Send(order.PaymentSucceeded, a.payment()).When(order.Failed)
		a.goesWell() // should the success be heard of first
	})
}

func TestExplorePaymentsBesides(t *testing.T) {
	explore(t, func(s *shop) {
		a := s.place("A", "card", "DE")
		a.goesWell()
		a.Send(order.PaymentSucceeded, a.payment()).When(order.Paid, order.Failed)
		for _, state := range []order.State{order.Paid, order.Confirmed, order.Shipped, order.InTransit} {
			s.paysBesides(a, "while "+string(state), state)
		}
	})
}

func TestExploreFraud(t *testing.T) {
	explore(t, func(s *shop) {
		a := s.place("A", "card", "DE")
		a.Send(order.FraudFailed, nil).When(order.Paid)
		a.goesWell()
	})
}

func TestExploreNoDeliveryAndNoCredit(t *testing.T) {
	explore(t, func(s *shop) {
		s.place("A", "card", "AQ").goesWell()
		s.place("B", "declined", "DE").goesWell()
	})
}

func TestExplorePaymentThatComesTooLate(t *testing.T) {
	explore(t, func(s *shop) {
		s.place("A", "card", "DE") // and never pays
		b := s.place("B", "card", "DE")
		b.Send(order.PayClicked, nil)
		b.Send(order.PaymentSucceeded, b.payment()).After(time.Hour)
	})
}

func TestExploreTwoWantTheLastBook(t *testing.T) {
	explore(t, func(s *shop) {
		s.place("A", "card", "DE").goesWell()
		s.place("B", "card", "DE").goesWell()
	})
}

// Whatever comes comes whenever: early, late and in the wrong order.
func TestExploreWhateverWhenever(t *testing.T) {
	explore(t, func(s *shop) {
		a := s.place("A", "card", "DE")
		a.goesWell()
		s.paysBesides(a, "again", order.Paid)
		for _, e := range []order.Event{order.PayClicked, order.FraudPassed, order.FraudFailed, order.Packed, order.CarrierScanned, order.CancelClicked} {
			a.Send(e, nil).Anytime()
		}
		a.Send(order.PaymentSucceeded, a.payment()).Anytime()
		a.Send(order.PaymentFailed, a.payment()).Anytime()
	}, sagatest.Runs(600), sagatest.Seeds(80))
}

func explore(t *testing.T, story func(*shop), options ...sagatest.Option) {
	db, err := data.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "order.db"), "order")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	book, err := order.NewBook(t.Context(), db)
	require.NoError(t, err)
	lifecycle := order.Lifecycle(order.Times{ReserveTTL: 15 * time.Minute, PaymentTimeout: 10 * time.Minute}, book)
	var s *shop
	sagatest.Explore(t, lifecycle, func(r *sagatest.Run) {
		s = open(r, lifecycle) // each run has its own
		story(s)
	}, slices.Concat([]sagatest.Option{
		sagatest.Always("no piece and no charge is lost or doubled", func(*sagatest.Run) error { return s.sound() }),
		sagatest.Finally("money, pieces and parcels are where they belong", func(*sagatest.Run) error { return s.settled() }),
		sagatest.Runs(200), sagatest.Seeds(20), // go test -sagatest.runs 5000 looks closer
	}, options)...)
}

// shop is the world that a run's orders act upon. One goroutine runs everything, so it needs no lock.
type shop struct {
	run       *sagatest.Run
	lifecycle *order.Definition
	free      map[string]int64  // pieces, by SKU
	baskets   map[string]string // by order: reserved, shipped; empty: none
	parcels   map[string]int    // by order
	money     map[string]*money // at the gateway, by transaction
	answers   map[string]string // of the gateway, by idempotency key: the transaction; empty: no, and never
}

// money is a customer's: the gateway holds it until it is captured or given back.
type money struct {
	order, where string // held, ours, given back
	captures     int
}

type nothing = contract.Nothing

var stock = map[string]int64{"book": 1, "pen": 5}

func open(r *sagatest.Run, lifecycle *order.Definition) *shop {
	s := &shop{r, lifecycle, maps.Clone(stock), map[string]string{}, map[string]int{}, map[string]*money{}, map[string]string{}}
	p := sagatest.NewParticipant(r, memory.NewInbox())
	if err := errors.Join(
		saga.Handle(p, contract.ReserveStock, s.takes(1, "reserved")),
		saga.Handle(p, contract.ReleaseStock, s.takes(-1, "")),
		saga.Handle(p, contract.CommitStock, s.takes(0, "shipped")),
		saga.Handle(p, contract.Authorize, s.authorize),
		saga.Handle(p, contract.Capture, s.capture),
		saga.Handle(p, contract.Refund, s.refund, saga.NullCompensation),
		saga.Handle(p, contract.CreateShipment, s.createShipment),
		saga.Handle(p, contract.GenerateLabel, func(context.Context, *memory.Tx, contract.Parcel) (l contract.Label, err error) { return l, nil }),
	); err != nil {
		panic(err)
	}
	return s
}

// takes makes a handler that takes a basket off the shelf, or puts it back. Memory does not roll back: a handler says how to.
func (s *shop) takes(times int64, becomes string) func(context.Context, *memory.Tx, contract.Basket) (nothing, error) {
	return func(_ context.Context, tx *memory.Tx, b contract.Basket) (nothing, error) {
		before := s.baskets[b.Order]
		s.baskets[b.Order] = becomes
		tx.OnRollback(func() { s.baskets[b.Order] = before })
		for _, l := range b.Lines {
			if times > 0 && s.free[l.SKU] < l.Quantity {
				return nothing{}, saga.Reject("out of stock: %s", l.SKU)
			}
			s.free[l.SKU] -= times * l.Quantity
			tx.OnRollback(func() { s.free[l.SKU] += times * l.Quantity })
		}
		return nothing{}, nil
	}
}

func (s *shop) createShipment(_ context.Context, tx *memory.Tx, p contract.Parcel) (nothing, error) {
	if p.Address.Country == "AQ" {
		return nothing{}, errors.New("no carrier goes there")
	}
	s.parcels[p.Order]++
	tx.OnRollback(func() { s.parcels[p.Order]-- })
	return nothing{}, nil
}

// The gateway is outside: what it did stays when the handler's transaction is rolled back, and it knows by the key a call that
// comes again.
func (s *shop) authorize(ctx context.Context, _ *memory.Tx, c contract.Charge) (a contract.Authorization, err error) {
	key := saga.Info(ctx).EffectKey
	if _, again := s.answers[key]; !again && c.Method != "declined" {
		s.answers[key] = "payment of " + c.Order
		s.money[s.answers[key]] = &money{order: c.Order, where: "held"}
	}
	if s.answers[key] == "" {
		return a, saga.Reject("the payment was declined")
	}
	return a, nil
}

func (s *shop) capture(ctx context.Context, _ *memory.Tx, c contract.Money) (nothing, error) {
	key, m := saga.Info(ctx).EffectKey, s.money[c.Transaction]
	if _, again := s.answers[key]; again {
		return nothing{}, nil
	}
	if m == nil || m.where != "held" {
		return nothing{}, saga.Reject("the capture was refused")
	}
	s.answers[key], m.where, m.captures = c.Transaction, "ours", m.captures+1
	return nothing{}, nil
}

// refund undoes authorize and capture, and gives back what came too late. An authorization that never came never will.
func (s *shop) refund(ctx context.Context, _ *memory.Tx, c contract.Money) (nothing, error) {
	if key := saga.Info(ctx).ActionKey; c.Transaction == "" {
		c.Transaction = s.answers[key]
		s.answers[key] = c.Transaction
	}
	if m := s.money[c.Transaction]; m != nil {
		m.where = "given back"
	}
	return nothing{}, nil
}

type placed struct {
	*sagatest.Saga[order.State, order.Event, order.Order]
	id string
}

func (s *shop) place(id, method, country string) placed {
	return placed{sagatest.Start(s.run, s.lifecycle, id, order.Order{
		ID: id, Total: 100, PaymentMethod: method, Address: contract.Address{Country: country},
		Lines: []order.Line{{SKU: "pen", Quantity: 2, UnitPrice: 20}, {SKU: "book", Quantity: 1, UnitPrice: 60}},
	}), id}
}

func (p placed) payment() order.Payment { return order.Payment{Transaction: "payment of " + p.id} }

// goesWell lets all come that has to, in time.
func (p placed) goesWell() {
	p.Send(order.PayClicked, nil).When(order.Reserved)
	p.Send(order.PaymentSucceeded, p.payment()).When(order.PaymentPending)
	p.Send(order.FraudPassed, nil).When(order.Paid)
	p.Send(order.Packed, nil).When(order.Confirmed)
	p.Send(order.CarrierScanned, nil).When(order.Shipped)
}

// paysBesides lets the customer make another payment, of which the gateway tells in a state, or when all is over.
func (s *shop) paysBesides(p placed, transaction string, in order.State) {
	s.money[transaction] = &money{order: p.id, where: "held"}
	p.Send(order.PaymentSucceeded, order.Payment{Transaction: transaction}).When(in, order.Failed, order.Cancelled)
}

// sound: no piece is lost or sold twice, and nobody is charged twice.
func (s *shop) sound() error {
	sum, captures := maps.Clone(s.free), map[string]int{}
	for _, basket := range s.baskets {
		if basket != "" { // every order is of two pens and a book
			sum["pen"], sum["book"] = sum["pen"]+2, sum["book"]+1
		}
	}
	if s.free["pen"] < 0 || s.free["book"] < 0 || !maps.Equal(sum, stock) {
		return fmt.Errorf("of %v there are %v, and %v are free", stock, sum, s.free)
	}
	for _, m := range s.money {
		if captures[m.order] += m.captures; captures[m.order] > 1 {
			return fmt.Errorf("order %s is charged twice", m.order)
		}
	}
	return nil
}

// settled: an order that is on its way was paid once and sent once. Any other leaves nothing.
func (s *shop) settled() error {
	type left struct {
		basket              string
		parcels, ours, held int
	}
	for _, i := range s.run.Sagas() {
		want, got := left{}, left{basket: s.baskets[i.Key], parcels: s.parcels[i.Key]}
		if i.State == string(order.InTransit) {
			want = left{basket: "shipped", parcels: 1, ours: 1}
		}
		for _, m := range s.money {
			if m.order == i.Key && m.where == "ours" {
				got.ours++
			} else if m.order == i.Key && m.where == "held" {
				got.held++
			}
		}
		for _, e := range s.run.History(i.ID) {
			for _, j := range append(e.Judged, saga.Judgement{Event: e.Event, Result: e.Result}) {
				if j.Event == string(order.PaymentSucceeded) && j.Result == saga.Refused {
					return fmt.Errorf("%s is told of a payment, and does not listen", i.Key)
				}
			}
		}
		if got != want {
			return fmt.Errorf("%s is %s, and leaves %+v, not %+v", i.Key, i.State, got, want)
		}
	}
	return nil
}
