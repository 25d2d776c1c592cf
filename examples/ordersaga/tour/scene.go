package tour

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sagamill/sagamill/examples/ordersaga/client"
	"github.com/sagamill/sagamill/examples/ordersaga/order"
	"github.com/sagamill/sagamill/examples/ordersaga/payment"
)

// scene is one path of an order.
type scene struct {
	title  string
	hasty  bool   // the time to live and the time-out are short
	method string // default pm_card_visa
	stock  int    // pieces of the scene's article; default 10, -1: none
	land   string // where the order goes

	play func(a *act) // what happens

	end      order.State
	net      int64    // what the customer has paid in the end
	captures int      // how often money was taken
	told     []string // what the customer was told
}

const price = 79900

// act is a scene being played. Its first error ends it.
type act struct {
	*stage
	ctx   context.Context
	tour  *tour
	scene scene
	sku   string
	order order.View
	n     int    // of requests and webhooks, for their keys
	shown int    // lines of the order's history
	told  string // what the shop was told, until it is shown
	last  string // the same, for errors
	err   error
}

func (t *tour) play(ctx context.Context, s scene) {
	t.played++
	t.say("%s", s.title)
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	a := &act{ctx: ctx, tour: t, scene: s, sku: fmt.Sprintf("phone-%d", t.played)}
	if a.stage, a.err = t.stage(ctx, s.hasty); a.err == nil {
		a.begin()
		if s.play != nil && a.err == nil {
			s.play(a)
		}
		a.check()
	}
	if a.stage != nil {
		a.gate.open("")
	}
	if a.err != nil {
		t.say("  FAILED  %s\n", strings.ReplaceAll(a.err.Error(), "\n", "\n          "))
		t.failures = append(t.failures, fmt.Errorf("%s: %w", s.title, a.err))
		return
	}
	t.say("  ok      %s\n", a.summary())
}

// begin stocks the article and places the order.
func (a *act) begin() {
	stock := a.scene.stock
	if stock == 0 {
		stock = 10
	}
	if a.fail(a.Restock(a.ctx, a.sku, max(stock, 0))) {
		return
	}
	a.say("place the order")
	v, err := a.Place(a.ctx, a.key(), a.basket())
	if a.fail(err) {
		return
	}
	a.order = v
}

func (a *act) basket() client.Basket {
	method := a.scene.method
	if method == "" {
		method = "pm_card_visa"
	}
	return client.Basket{Lines: []order.Line{{SKU: a.sku, Quantity: 1, UnitPrice: price}}, Method: method, Country: a.scene.land}
}

// key is that of the next request or webhook.
func (a *act) key() string {
	a.n++
	return fmt.Sprintf("%s-%d", a.sku, a.n)
}

// say notes what the shop is told now, to be shown beside what follows from it.
func (a *act) say(what string) { a.told, a.last = what, what }

func (a *act) fail(err error) bool {
	if a.err == nil {
		a.err = err
	}
	return a.err != nil
}

// reach waits until the order is in a state, and shows how it came there.
func (a *act) reach(s order.State) {
	if a.err != nil {
		return
	}
	v, err := a.Until(a.ctx, a.order.ID, client.In(s))
	a.show(v)
	if a.fail(err) {
		a.err = fmt.Errorf("after %q the order should become %s: %w", a.last, s, a.err)
	}
}

// show prints what is new in the order's history.
func (a *act) show(v order.View) {
	a.order = v
	for ; a.shown < len(v.History); a.shown++ {
		m := v.History[a.shown]
		move := fmt.Sprintf("%s -> %s", m.From, m.To)
		if m.From == m.To {
			move = string(m.From) + " (stays)"
		}
		a.tour.line(move, m.Event, a.told)
		a.told = ""
	}
}

// The customer.

func (a *act) pay() {
	a.say("click Pay")
	if a.err == nil {
		_, err := a.Pay(a.ctx, a.key(), a.order.ID)
		a.fail(err)
	}
}

func (a *act) cancel() {
	a.say("click Cancel")
	if a.err == nil {
		_, err := a.Cancel(a.ctx, a.key(), a.order.ID)
		a.fail(err)
	}
}

// The world outside.

func (a *act) tell(what, from string, body any) {
	a.say(what)
	if a.err == nil {
		a.fail(a.Tell(a.ctx, from, body))
	}
}

func (a *act) paid(transaction string) {
	a.tell("webhook: payment succeeded", "payment", client.PaymentOf(a.order, a.key(), "payment.succeeded", transaction))
}

func (a *act) notPaid() {
	a.tell("webhook: payment failed", "payment", client.PaymentOf(a.order, a.key(), "payment.failed", "tx_"+a.sku))
}

func (a *act) fraud(decision string) {
	a.tell("webhook: fraud check "+decision, "fraud", client.FraudOf(a.order.ID, a.key(), decision))
}

func (a *act) packed() {
	a.tell("webhook: packed", "warehouse", client.PackedOf(a.order.ID, a.key()))
}

func (a *act) scanned() {
	a.tell("webhook: carrier scan", "carrier", client.ScanOf(a.order.ID, a.key()))
}

// to plays the happy path as far as a state.
func (a *act) to(s order.State) {
	path := []struct {
		state order.State
		do    func()
	}{
		{order.Reserved, func() {}},
		{order.PaymentPending, a.pay},
		{order.Paid, func() { a.paid("tx_" + a.sku) }},
		{order.Confirmed, func() { a.fraud("pass") }},
		{order.Shipped, a.packed},
		{order.InTransit, a.scanned},
	}
	for _, p := range path {
		p.do()
		a.reach(p.state)
		if p.state == s {
			return
		}
	}
}

// want checks something on the way.
func (a *act) want(ok bool, format string, args ...any) {
	a.tour.checks++
	if !ok {
		a.fail(fmt.Errorf(format, args...))
	}
}

// check compares how the scene ended with how it should: the state, the money, the stock, what the customer was told.
func (a *act) check() {
	if a.err != nil {
		return
	}
	v, err := a.Until(a.ctx, a.order.ID, func(v order.View) bool {
		return v.State == a.scene.end && v.CompensatingTo == "" && !slices.ContainsFunc(v.Steps, func(s order.Step) bool { return s.Status == "sent" || s.Status == "undoing" })
	})
	a.show(v)
	if a.fail(err) {
		a.err = fmt.Errorf("the order should end as %s: %w", a.scene.end, a.err)
		return
	}
	a.checkMoney()
	a.checkStock()
	list, err := a.Notifications(a.ctx, a.order.ID)
	a.fail(err)
	var told []string
	for _, n := range list {
		told = append(told, n.Text)
	}
	a.want(slices.Equal(told, a.scene.told), "the customer should be told %q, and was told %q", a.scene.told, told)
}

func (a *act) checkMoney() {
	l, err := a.Ledger(a.ctx, a.order.ID)
	a.fail(err)
	captures := 0
	for _, e := range l.Entries {
		if e.Type == "capture" {
			captures++
		}
	}
	want := a.scene.captures
	if a.scene.net > 0 {
		want = 1
	}
	a.want(l.Net == a.scene.net, "the customer should have paid %d, and has paid %d: %v", a.scene.net, l.Net, l.Entries)
	a.want(captures == want, "money should be taken %d times, and was %d times: %v", want, captures, l.Entries)
}

// checkStock: what is sold is committed, what is under way is reserved, all the rest is there for others.
func (a *act) checkStock() {
	stock := int64(a.scene.stock)
	if stock == 0 {
		stock = 10
	}
	s, err := a.Stock(a.ctx, a.sku)
	a.fail(err)
	sold := int64(0)
	if a.scene.end == order.InTransit || a.scene.end == order.Shipped {
		sold = 1
	}
	a.want(s.Available == max(stock, 0)-sold && s.Reserved == 0 && s.Committed == sold, "the stock should be %d/0/%d, and is %+v", max(stock, 0)-sold, sold, s)
}

func (a *act) summary() string {
	l, _ := a.Ledger(a.ctx, a.order.ID)
	text := fmt.Sprintf("%s: captured %s, refunded %s", a.order.State, euros(l.Captured), euros(l.Refunded))
	voided := int64(0)
	for _, e := range l.Entries {
		if e.Type == payment.Void {
			voided += e.Amount
		}
	}
	if voided > 0 {
		text += ", voided " + euros(voided)
	}
	if a.order.Reason != "" {
		text += "; " + a.order.Reason
	}
	return text
}

func euros(cents int64) string { return fmt.Sprintf("%d.%02d", cents/100, cents%100) }

// refusedWith checks that a call was answered with a status.
func (a *act) refusedWith(status int, err error) {
	var e *client.Error
	a.want(errors.As(err, &e) && e.Status == status, "it should be answered %d, and was answered: %v", status, err)
}

// settle waits until nothing is under way for the order.
func (a *act) settle() {
	if a.err != nil {
		return
	}
	v, err := a.Until(a.ctx, a.order.ID, func(v order.View) bool {
		return !slices.ContainsFunc(v.Steps, func(s order.Step) bool { return s.Status == "sent" || s.Status == "undoing" })
	})
	a.show(v)
	a.fail(err)
}

// viewIn reads the order in an answer.
func viewIn(a *act, answer client.Answer) (v order.View) {
	a.fail(json.Unmarshal(answer.Body, &v))
	return v
}
