package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/gochannel"
	"github.com/sagamill/sagamill/compensation"
	"github.com/sagamill/sagamill/examples/ordersaga/app"
	"github.com/sagamill/sagamill/examples/ordersaga/client"
	"github.com/sagamill/sagamill/examples/ordersaga/data"
	"github.com/sagamill/sagamill/examples/ordersaga/fulfillment"
	"github.com/sagamill/sagamill/examples/ordersaga/inventory"
	"github.com/sagamill/sagamill/examples/ordersaga/order"
	"github.com/sagamill/sagamill/examples/ordersaga/outside"
	"github.com/sagamill/sagamill/examples/ordersaga/payment"
	"github.com/sagamill/sagamill/saga"
)

// What the heavy tests have in common: many customers at once, and, when they are done, an audit. The auditor does not believe
// what the shop answers. It reads the sagas in their file, the parcels in fulfillment's and the money in the gateway's, and
// compares them with each other and with what payment and inventory say.

// books are the files of a shop, read beside the process that serves it.
type books struct {
	orders  *saga.Orchestrator // reads only: it does not run
	parcels *fulfillment.Fulfillment
	gateway *outside.World
	world   *data.DB // the gateway's
}

func openBooks(t *testing.T, store string) *books {
	t.Helper()
	database := func(of string) *data.DB {
		db, err := data.Open(t.Context(), store, of)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, db.Close()) })
		return db
	}
	broker := gochannel.New(gochannel.Config{}, nil)
	t.Cleanup(func() { require.NoError(t, broker.Close()) })
	lifecycle := order.Lifecycle(order.Times{ReserveTTL: time.Hour, PaymentTimeout: time.Hour}, nil)
	b := &books{world: database("outside")}
	var err error
	b.orders, err = saga.NewOrchestrator(database(app.Order).Sagas, saga.OrchestratorConfig{
		Definitions: []saga.AnyDefinition{lifecycle}, Transport: broker.Transport(),
	}, nil)
	require.NoError(t, err)
	b.parcels, err = fulfillment.New(t.Context(), database(app.Fulfillment), nil, nil)
	require.NoError(t, err)
	b.gateway, err = outside.New(t.Context(), b.world, false, 0)
	require.NoError(t, err)
	return b
}

// openAudited opens a shop, and its books beside it.
func openAudited(t *testing.T, change ...func(*app.Config)) (*shop, *books) {
	t.Helper()
	store := "sqlite:" + filepath.Join(t.TempDir(), "shop.db")
	s := open(t, append(change, func(c *app.Config) { c.Store = store })...)
	s.HTTP = manyConnections(t)
	s.Patience = 30 * time.Second
	return s, openBooks(t, store)
}

// manyConnections is an HTTP client that keeps its connections, however many customers share it.
func manyConnections(t *testing.T) *http.Client {
	transport := &http.Transport{MaxIdleConnsPerHost: 1000}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// crowd has clients do jobs at the same time, each job once.
func crowd(t *testing.T, clients, jobs int, do func(ctx context.Context, job int) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	var next atomic.Int64
	var all sync.WaitGroup
	errs := make([]error, clients)
	for k := range clients {
		all.Go(func() {
			for job := next.Add(1) - 1; job < int64(jobs) && errs[k] == nil; job = next.Add(1) - 1 {
				errs[k] = do(ctx, int(job))
			}
		})
	}
	all.Wait()
	require.NoError(t, errors.Join(errs...))
}

// atOnce does things at the same time, and tells whether all went well.
func atOnce(things ...func() error) error {
	var all sync.WaitGroup
	errs := make([]error, len(things))
	for k, do := range things {
		all.Go(func() { errs[k] = do() })
	}
	all.Wait()
	return errors.Join(errs...)
}

// size is how big a test is: what an environment variable says; with ORDERSAGA_FULL=1 its full size; otherwise a tenth, as
// SQLite, which is translated to Go, is some twenty times slower under the race detector.
func size(t *testing.T, variable string, full int) int {
	t.Helper()
	if text := os.Getenv(variable); text != "" {
		n, err := strconv.Atoi(text)
		require.NoError(t, err, variable)
		return n
	}
	if os.Getenv("ORDERSAGA_FULL") != "" {
		return full
	}
	return full / 10
}

// all reads the sagas of the orders.
func (b *books) all(ctx context.Context, q saga.Query) (all []saga.Instance, err error) {
	q.Definition, q.Limit = "order", 500
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

// untilAllRest waits until no order does anything by itself any more.
func (b *books) untilAllRest(t *testing.T) {
	t.Helper()
	b.until(t, func(ctx context.Context) (why string, err error) {
		open, err := b.all(ctx, saga.Query{Unsettled: true})
		open = slices.DeleteFunc(open, atRest)
		return describe(open), err
	})
}

// untilAllEnd waits until every order has ended, and the world has told all its news.
func (b *books) untilAllEnd(t *testing.T) {
	t.Helper()
	b.until(t, func(ctx context.Context) (why string, err error) {
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

func describe(open []saga.Instance) string {
	if len(open) == 0 {
		return ""
	}
	i := open[0]
	return fmt.Sprintf("%d orders are not done; order %s is %s (to %q, attention %q, waiting %v, steps %+v)",
		len(open), i.ID, i.State, i.CompensatingTo, i.Attention, i.Waiting, i.Steps)
}

func (b *books) until(t *testing.T, done func(context.Context) (why string, err error)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for last := "nothing is known"; ; {
		why, err := done(ctx)
		if ctx.Err() != nil {
			t.Fatalf("it takes too long: %s", last)
		}
		require.NoError(t, err)
		if why == "" {
			return
		}
		last = why
		time.Sleep(50 * time.Millisecond)
	}
}

// audit compares the books of all orders, which must be at rest, and the stock of what there was at first. It answers how many
// orders are in each state.
func (b *books) audit(t *testing.T, c *client.Client, stock map[string]int64) map[order.State]int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	orders, err := b.all(ctx, saga.Query{})
	require.NoError(t, err)
	count, reserved, committed := map[order.State]int{}, map[string]int64{}, map[string]int64{}
	for _, i := range orders {
		require.True(t, atRest(i), describe([]saga.Instance{i}))
		require.Empty(t, i.Attention)
		var o order.Order
		require.NoError(t, json.Unmarshal(i.Data, &o))
		state := order.State(i.State)
		count[state]++
		b.requireMoney(ctx, t, c, state, o)
		b.requireParcel(ctx, t, state, o)
		for _, l := range o.Lines {
			switch {
			case left(state):
				committed[l.SKU] += l.Quantity
			case !ended(state):
				reserved[l.SKU] += l.Quantity
			}
		}
	}
	for sku, n := range stock {
		s, err := c.Stock(ctx, sku)
		require.NoError(t, err)
		require.Equal(t, inventory.Stock{Available: n - reserved[sku] - committed[sku], Reserved: reserved[sku], Committed: committed[sku]}, s, sku)
	}
	return count
}

func ended(s order.State) bool { return s == order.Failed || s == order.Cancelled }
func left(s order.State) bool  { return s == order.Shipped || s == order.InTransit }
func kept(s order.State) bool  { return s == order.Paid || s == order.Confirmed || left(s) }

// requireMoney: who has bought has paid once, who has not has paid nothing, and payment's ledger is the gateway's.
func (b *books) requireMoney(ctx context.Context, t *testing.T, c *client.Client, state order.State, o order.Order) {
	t.Helper()
	movements, err := b.gateway.Movements(ctx, o.ID)
	require.NoError(t, err)
	net, err := b.gateway.Net(ctx, o.ID)
	require.NoError(t, err)
	moved := map[string]int{}
	for _, m := range movements {
		moved[string(m.Type)]++
	}
	require.LessOrEqual(t, moved["capture"], 1, "order %s: %+v", o.ID, movements)
	if kept(state) {
		require.Equal(t, o.Total, net, "order %s is %s: %+v", o.ID, state, movements)
	} else {
		require.Zero(t, net, "order %s is %s: %+v", o.ID, state, movements)
	}
	if ended(state) {
		require.Equal(t, moved["authorize"], moved["capture"]+moved["void"], "order %s is %s, and money is still blocked: %+v", o.ID, state, movements)
	}

	ledger, err := c.Ledger(ctx, o.ID)
	require.NoError(t, err)
	entries := []payment.Movement{}
	for _, e := range ledger.Entries {
		entries = append(entries, payment.Movement{Type: e.Type, Transaction: e.TransactionID, Amount: e.Amount})
	}
	require.Equal(t, net, ledger.Net, "order %s is %s: the gateway moved %+v, payment has %+v", o.ID, state, movements, entries)
	require.Equal(t, inOrder(movements), inOrder(entries), "order %s is %s: the gateway's and payment's ledgers", o.ID, state)
}

func inOrder(list []payment.Movement) []payment.Movement {
	list = append([]payment.Movement{}, list...)
	slices.SortFunc(list, func(x, y payment.Movement) int {
		return cmp.Or(cmp.Compare(x.Transaction, y.Transaction), cmp.Compare(x.Type, y.Type), cmp.Compare(x.Amount, y.Amount))
	})
	return list
}

// requireParcel: a parcel has left for each order that says so, and for no other.
func (b *books) requireParcel(ctx context.Context, t *testing.T, state order.State, o order.Order) {
	t.Helper()
	want := 0
	if left(state) {
		want = 1
	}
	parcels, err := b.parcels.Shipped(ctx, o.ID)
	require.NoError(t, err)
	require.Equal(t, want, parcels, "parcels of order %s, which is %s", o.ID, state)
}
