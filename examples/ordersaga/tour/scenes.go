package tour

import (
	"bytes"
	"net/http"

	"github.com/sagamill/sagamill/examples/ordersaga/app"
	"github.com/sagamill/sagamill/examples/ordersaga/client"
	"github.com/sagamill/sagamill/examples/ordersaga/order"
)

// scenes are the rows of the specification's tables, one after the other, and what lies between them.
var scenes = []scene{
	{
		title: "The happy path, row by row",
		play:  func(a *act) { a.to(order.InTransit) },
		end:   order.InTransit, net: price, told: []string{"Your order is on the way."},
	},
	{
		title: "Out of stock", stock: -1,
		play: func(a *act) { a.reach(order.Failed) },
		end:  order.Failed, told: []string{"Out of Stock"},
	},
	{
		title: "The card is declined at once", method: "pm_card_chargeDeclined",
		play: func(a *act) { a.to(order.Reserved); a.pay(); a.reach(order.Failed) },
		end:  order.Failed, told: []string{"Payment Failed"},
	},
	{
		title: "The customer reserves and closes the browser", hasty: true,
		play: func(a *act) { a.to(order.Reserved); a.say("(time passes)"); a.reach(order.Cancelled) },
		end:  order.Cancelled,
	},
	{
		title: "The gateway is never heard of again", hasty: true, method: "pm_card_silent",
		play: func(a *act) { a.to(order.PaymentPending); a.say("(time passes)"); a.reach(order.Failed) },
		end:  order.Failed, told: []string{"Payment Failed"},
	},
	{
		title: "The payment fails later", method: "pm_card_failsLater",
		play: func(a *act) { a.to(order.PaymentPending); a.notPaid(); a.reach(order.Failed) },
		end:  order.Failed, told: []string{"Payment Failed"},
	},
	{
		title: "The fraud check fails: the money goes back",
		play:  func(a *act) { a.to(order.Paid); a.fraud("fail"); a.reach(order.Failed) },
		end:   order.Failed, captures: 1,
	},
	{
		title: "Nobody delivers to Antarctica", land: "AQ",
		play: func(a *act) { a.to(order.Paid); a.fraud("pass"); a.reach(order.Failed) },
		end:  order.Failed, captures: 1, told: []string{"We cannot deliver to your address"},
	},
	{
		title: "Cancel in CREATED, while inventory is at it",
		play:  cancelInCreated, end: order.Cancelled,
	},
	cancelIn(order.Reserved, 0),
	cancelIn(order.PaymentPending, 0),
	cancelIn(order.Paid, 1),
	cancelIn(order.Confirmed, 1),
	{
		title: "Cancel after it was shipped is refused",
		play:  cancelTooLate, end: order.InTransit, net: price, told: []string{"Your order is on the way."},
	},
	{
		title: "The double click: one order, one payment",
		play:  doubleClick, end: order.InTransit, net: price, told: []string{"Your order is on the way."},
	},
	{
		title: "News that come early are kept until they fit",
		play:  earlyNews, end: order.InTransit, net: price, told: []string{"Your order is on the way."},
	},
	{
		title: "News that come twice, and contradict each other",
		play:  repeatedNews, end: order.InTransit, net: price, told: []string{"Your order is on the way."},
	},
	{
		title: "Money that comes too late goes back, once",
		play:  lateMoney, end: order.Cancelled,
	},
	{
		title: "The gateway is flaky: errors, and silence after the effect", method: "pm_card_flaky",
		play: func(a *act) { a.to(order.InTransit) },
		end:  order.InTransit, net: price, told: []string{"Your order is on the way."},
	},
	{
		title: "Somebody else's webhooks are not believed",
		play:  forgedNews, end: order.Cancelled,
	},
}

func cancelIn(s order.State, captures int) scene {
	return scene{
		title: "Cancel in " + string(s),
		play:  func(a *act) { a.to(s); a.cancel(); a.reach(order.Cancelled) },
		end:   order.Cancelled, captures: captures,
	}
}

// cancelInCreated keeps inventory's answer back, so that the order is found in CREATED.
func cancelInCreated(a *act) {
	a.reach(order.Reserved) // the scene's own order; the one that counts comes now
	a.cancel()
	a.reach(order.Cancelled)
	a.gate.close(app.Inventory)
	a.say("place another order")
	v, err := a.Place(a.ctx, a.key(), a.basket())
	if a.fail(err) {
		return
	}
	a.order, a.shown = v, 0
	a.cancel()
	v, err = a.Order(a.ctx, v.ID)
	a.fail(err)
	a.want(v.State == order.Created, "the cancel should wait for inventory's answer, and the order is %s", v.State)
	a.gate.open(app.Inventory)
	a.reach(order.Cancelled)
}

func cancelTooLate(a *act) {
	a.to(order.Shipped)
	_, err := a.Cancel(a.ctx, a.key(), a.order.ID)
	a.refusedWith(http.StatusConflict, err)
	a.tour.line("SHIPPED", "refused: 409", "click Cancel")
	a.scanned()
	a.reach(order.InTransit)
}

func doubleClick(a *act) {
	a.reach(order.Reserved)
	key := a.key()
	var answers []client.Answer
	for range 2 {
		answer, err := a.Do(a.ctx, http.MethodPost, "/v1/orders", a.basket().Body(), "Idempotency-Key", key)
		if a.fail(err) {
			return
		}
		answers = append(answers, answer)
	}
	a.want(answers[1].Header.Get("Idempotent-Replayed") == "true" && bytes.Equal(answers[0].Body, answers[1].Body), "the second click should get the first one's answer")
	other, err := a.Do(a.ctx, http.MethodPost, "/v1/orders", client.Basket{Lines: []order.Line{{SKU: a.sku, Quantity: 2, UnitPrice: price}}, Method: "pm_card_visa"}.Body(), "Idempotency-Key", key)
	a.fail(err)
	a.want(other.Status == http.StatusUnprocessableEntity, "another order under the same key should be 422, and is %d", other.Status)
	a.tour.line("one order", "the second is replayed", "click Buy, twice")
	a.cancel() // the scene's first order makes room: the double click's is the one that counts
	a.reach(order.Cancelled)
	a.order, a.shown = viewIn(a, answers[0]), 0
	a.reach(order.Reserved)
	key = a.key()
	for range 2 {
		_, err := a.Pay(a.ctx, key, a.order.ID)
		a.fail(err)
	}
	a.say("click Pay, twice")
	a.reach(order.PaymentPending)
	a.paid("tx_" + a.sku)
	a.reach(order.Paid)
	a.fraud("pass")
	a.packed()
	a.scanned()
	a.reach(order.InTransit)
}

func earlyNews(a *act) {
	a.to(order.Reserved)
	a.scanned()
	a.packed()
	a.fraud("pass")
	a.paid("tx_" + a.sku)
	a.tour.line("RESERVED", "buffered: 4", "scan, packed, fraud, paid")
	a.pay()
	a.reach(order.InTransit)
}

func repeatedNews(a *act) {
	a.to(order.PaymentPending)
	webhook := client.PaymentOf(a.order, a.key(), "payment.succeeded", "tx_"+a.sku)
	a.tell("webhook: payment succeeded", "payment", webhook)
	a.tell("webhook: the same, again", "payment", webhook)
	a.reach(order.Paid)
	a.paid("tx_" + a.sku) // told of again, as another event
	a.fraud("pass")
	a.reach(order.Confirmed)
	a.fraud("fail")
	a.tour.line("CONFIRMED", "ignored: first stands", "webhook: fraud check fail")
	a.packed()
	a.packed()
	a.reach(order.Shipped)
	a.scanned()
	a.scanned()
	a.reach(order.InTransit)
}

func lateMoney(a *act) {
	a.to(order.PaymentPending)
	a.cancel()
	a.reach(order.Cancelled)
	a.paid("tx_late_" + a.sku)
	a.paid("tx_late_" + a.sku)
	a.settle()
	l, err := a.Ledger(a.ctx, a.order.ID)
	a.fail(err)
	voids := 0
	for _, e := range l.Entries {
		if e.TransactionID == "tx_late_"+a.sku && e.Type == "void" {
			voids++
		}
	}
	a.want(voids == 1, "the late payment should be given back once, and was %d times: %v", voids, l.Entries)
}

func forgedNews(a *act) {
	a.to(order.PaymentPending)
	thief := *a.Client
	thief.Secret = "guessed"
	a.refusedWith(http.StatusBadRequest, thief.Tell(a.ctx, "payment", client.PaymentOf(a.order, a.key(), "payment.succeeded", "tx_1")))
	cheap := client.PaymentOf(a.order, a.key(), "payment.succeeded", "tx_1")
	cheap["amount"] = 1
	a.refusedWith(http.StatusUnprocessableEntity, a.Tell(a.ctx, "payment", cheap))
	a.refusedWith(http.StatusNotFound, a.Tell(a.ctx, "fraud", client.FraudOf("nobody's", a.key(), "pass")))
	a.tour.line("PAYMENT_PENDING", "refused: 400, 422, 404", "forged, cheap, of no order")
	a.cancel()
	a.reach(order.Cancelled)
}
