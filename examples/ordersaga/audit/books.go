// Package audit compares the books of the shop. The auditor does not believe what the shop answers: it reads the sagas in their
// store, the parcels in fulfillment's and the money in the gateway's, and compares them with each other and with what payment
// and inventory say.
package audit

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/sagamill/sagamill/adapters/gochannel"
	"github.com/sagamill/sagamill/compensation"
	"github.com/sagamill/sagamill/examples/ordersaga/app"
	"github.com/sagamill/sagamill/examples/ordersaga/data"
	"github.com/sagamill/sagamill/examples/ordersaga/fulfillment"
	"github.com/sagamill/sagamill/examples/ordersaga/inventory"
	"github.com/sagamill/sagamill/examples/ordersaga/order"
	"github.com/sagamill/sagamill/examples/ordersaga/outside"
	"github.com/sagamill/sagamill/examples/ordersaga/payment"
	"github.com/sagamill/sagamill/saga"
)

// Books are those of a shop, read beside the processes that serve it.
type Books struct {
	tenant  string
	orders  *saga.Orchestrator // reads only: it does not run
	parcels *fulfillment.Fulfillment
	gateway *outside.World
	world   *data.DB // the gateway's
	closers []func() error
}

// Open opens the books of a tenant's orders. An empty one means all.
func Open(ctx context.Context, store, tenant string) (b *Books, err error) {
	b = &Books{tenant: tenant}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.Close())
		}
	}()
	databases := map[string]*data.DB{}
	for _, of := range []string{app.Order, app.Fulfillment, "outside"} {
		if databases[of], err = data.Open(ctx, store, of); err != nil {
			return b, err
		}
		b.closers = append(b.closers, databases[of].Close)
	}
	broker := gochannel.New(gochannel.Config{}, nil)
	b.closers = append(b.closers, broker.Close)
	lifecycle := order.Lifecycle(order.Times{ReserveTTL: time.Hour, PaymentTimeout: time.Hour}, nil)
	b.orders, err = saga.NewOrchestrator(databases[app.Order].Sagas, saga.OrchestratorConfig{
		Name: "audit", Definitions: []saga.AnyDefinition{lifecycle}, Transport: broker.Transport(),
	}, nil)
	if err != nil {
		return b, err
	}
	b.world = databases["outside"]
	if b.parcels, err = fulfillment.New(ctx, databases[app.Fulfillment], nil, nil); err != nil {
		return b, err
	}
	b.gateway, err = outside.New(ctx, b.world, false, 0)
	return b, err
}

// Close closes them.
func (b *Books) Close() error {
	var errs []error
	for _, c := range slices.Backward(b.closers) {
		errs = append(errs, c())
	}
	return errors.Join(errs...)
}

// Movements is the gateway's ledger of an order.
func (b *Books) Movements(ctx context.Context, order string) ([]payment.Movement, error) {
	return b.gateway.Movements(ctx, order)
}

// Orders reads the sagas of the orders.
func (b *Books) Orders(ctx context.Context) ([]saga.Instance, error) { return b.all(ctx, saga.Query{}) }

// all reads the sagas of the orders.
func (b *Books) all(ctx context.Context, q saga.Query) (all []saga.Instance, err error) {
	q.Definition, q.Limit = "order", 500
	if b.tenant != "" {
		q.KeyPrefix = b.tenant + "/"
	}
	for {
		page, next, err := b.orders.List(ctx, q)
		if all = append(all, page...); err != nil || next == "" {
			return all, err
		}
		q.After = next
	}
}

// atRest tells whether an order does nothing until it hears of something.
func atRest(i saga.Instance) bool {
	moving := slices.ContainsFunc(i.Steps, func(e compensation.Entry) bool { return e.InFlight() })
	judged := !slices.ContainsFunc(i.Waiting, func(w saga.WaitingEvent) bool { return !w.Buffered })
	return i.Settled || !moving && judged && i.CompensatingTo == ""
}

// UntilRest waits until no order does anything by itself any more.
func (b *Books) UntilRest(ctx context.Context) error {
	return until(ctx, func() (why string, err error) {
		open, err := b.all(ctx, saga.Query{Unsettled: true})
		open = slices.DeleteFunc(open, atRest)
		return describe(open), err
	})
}

// UntilEnd waits until every order has ended, and the world has told all its news.
func (b *Books) UntilEnd(ctx context.Context) error {
	return until(ctx, func() (why string, err error) {
		open, err := b.all(ctx, saga.Query{Unsettled: true})
		if err != nil || len(open) > 0 {
			return describe(open), err
		}
		var untold int
		err = b.world.QueryRowContext(ctx, `SELECT count(*) FROM webhooks WHERE state = 'waiting'`).Scan(&untold)
		if untold > 0 {
			why = fmt.Sprintf("%d webhooks are not taken", untold)
		}
		return why, err
	})
}

func until(ctx context.Context, done func() (why string, err error)) error {
	for last := "nothing is known"; ; {
		why, err := done()
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("it takes too long: %s", last)
		case err != nil:
			return err
		case why == "":
			return nil
		}
		last = why
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

func describe(open []saga.Instance) string {
	if len(open) == 0 {
		return ""
	}
	i := open[0]
	return fmt.Sprintf("%d orders are not done; order %s is %s (to %q, attention %q, waiting %v, steps %+v)",
		len(open), i.ID, i.State, i.CompensatingTo, i.Attention, i.Waiting, i.Steps)
}

// Shop is what payment and inventory say of themselves.
type Shop interface {
	Ledger(ctx context.Context, order string) (payment.Ledger, error)
	Stock(ctx context.Context, sku string) (inventory.Stock, error)
}

// Check compares the books of all orders, which must be at rest, and the stock with what there was at first. It answers how many
// orders are in each state, and what does not fit.
func (b *Books) Check(ctx context.Context, shop Shop, stock map[string]int64) (count map[order.State]int, violations []error) {
	orders, err := b.all(ctx, saga.Query{})
	if err != nil {
		return nil, []error{err}
	}
	count, violations = map[order.State]int{}, nil
	reserved, committed := map[string]int64{}, map[string]int64{}
	for _, i := range orders {
		var o order.Order
		if err := json.Unmarshal(i.Data, &o); err != nil {
			violations = append(violations, fmt.Errorf("order %s: %w", i.ID, err))
			continue
		}
		count[order.State(i.State)]++
		for _, err := range b.checkOrder(ctx, shop, i, o) {
			violations = append(violations, fmt.Errorf("order %s, which is %s: %w", i.ID, i.State, err))
		}
		for _, l := range o.Lines {
			switch {
			case left(order.State(i.State)):
				committed[l.SKU] += l.Quantity
			case !ended(order.State(i.State)):
				reserved[l.SKU] += l.Quantity
			}
		}
	}
	for sku, n := range stock {
		want := inventory.Stock{Available: n - reserved[sku] - committed[sku], Reserved: reserved[sku], Committed: committed[sku]}
		switch s, err := shop.Stock(ctx, sku); {
		case err != nil:
			violations = append(violations, fmt.Errorf("stock of %s: %w", sku, err))
		case s != want:
			violations = append(violations, fmt.Errorf("stock of %s: there were %d; it is %+v, and should be %+v", sku, n, s, want))
		}
	}
	return count, violations
}

func (b *Books) checkOrder(ctx context.Context, shop Shop, i saga.Instance, o order.Order) []error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if !atRest(i) {
		fault("it is not at rest: %s", describe([]saga.Instance{i}))
	}
	if i.Attention != "" {
		fault("it needs attention: %s", i.Attention)
	}
	if err := b.checkHistory(ctx, i); err != nil {
		fault("its history: %w", err)
	}
	if err := b.checkMoney(ctx, shop, order.State(i.State), o); err != nil {
		fault("its money: %w", err)
	}
	switch parcels, err := b.parcels.Shipped(ctx, o.ID); {
	case err != nil:
		fault("its parcels: %w", err)
	case parcels > 1 || parcels == 1 != left(order.State(i.State)):
		fault("%d parcels have left", parcels)
	}
	return faults
}

// checkHistory: the history has each revision once and leads to where the order is.
func (b *Books) checkHistory(ctx context.Context, i saga.Instance) error {
	state, last := "", uint64(0)
	for {
		page, err := b.orders.History(ctx, i.ID, last, 500)
		if err != nil {
			return err
		}
		for _, e := range page {
			if e.Revision != last+1 {
				return fmt.Errorf("revision %d comes after %d", e.Revision, last)
			}
			last = e.Revision
			for _, m := range e.Moves {
				if state != "" && m.From != state {
					return fmt.Errorf("revision %d moves from %s, but it was %s", e.Revision, m.From, state)
				}
				state = m.To
			}
		}
		if len(page) == 0 {
			break
		}
	}
	// It is read after the order: that its events are published may have been noted meanwhile.
	if last < i.Revision || state != "" && state != i.State {
		return fmt.Errorf("it ends at revision %d in %s, the order is at %d", last, state, i.Revision)
	}
	return nil
}

func ended(s order.State) bool { return s == order.Failed || s == order.Cancelled }
func left(s order.State) bool  { return s == order.Shipped || s == order.InTransit }
func kept(s order.State) bool  { return s == order.Paid || s == order.Confirmed || left(s) }

// checkMoney: who has bought has paid once, who has not has paid nothing, and payment's ledger is the gateway's.
func (b *Books) checkMoney(ctx context.Context, shop Shop, state order.State, o order.Order) error {
	movements, err := b.gateway.Movements(ctx, o.ID)
	if err != nil {
		return err
	}
	ledger, err := shop.Ledger(ctx, o.ID)
	if err != nil {
		return err
	}
	moved, net := map[payment.EntryType]int{}, int64(0)
	for _, m := range movements {
		moved[m.Type]++
		switch m.Type {
		case payment.Capture:
			net += m.Amount
		case payment.Refund:
			net -= m.Amount
		}
	}
	want := int64(0)
	if kept(state) {
		want = o.Total
	}
	entries := []payment.Movement{}
	for _, e := range ledger.Entries {
		entries = append(entries, payment.Movement{Type: e.Type, Transaction: e.TransactionID, Amount: e.Amount})
	}
	switch {
	case moved[payment.Capture] > 1:
		return fmt.Errorf("captured more than once: %+v", movements)
	case net != want:
		return fmt.Errorf("%d was taken, and not %d: %+v", net, want, movements)
	case ended(state) && moved[payment.Authorize] != moved[payment.Capture]+moved[payment.Void]:
		return fmt.Errorf("some is still blocked: %+v", movements)
	case ledger.Net != net || !reflect.DeepEqual(inOrder(movements), inOrder(entries)):
		return fmt.Errorf("the gateway moved %+v, payment has %+v", movements, entries)
	}
	return nil
}

func inOrder(list []payment.Movement) []payment.Movement {
	list = append([]payment.Movement{}, list...)
	slices.SortFunc(list, func(x, y payment.Movement) int {
		return cmp.Or(cmp.Compare(x.Transaction, y.Transaction), cmp.Compare(x.Type, y.Type), cmp.Compare(x.Amount, y.Amount))
	})
	return list
}
