package saga

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/sagamill/sagamill/compensation"
)

// The definitions that the scripts and the property tests run. Local steps are never called here: their outcomes are inputs.

var scripted = map[string]AnyDefinition{
	"trip": trip, "order": order, "tour": tour, "club": club, "newsletter": newsletter, "desk": desk, "desk-2": desk2,
}

// happyEvents are what the world outside does to bring a saga to a good end.
var happyEvents = map[string][]string{
	"order": {"pay", "payment-succeeded", "fraud-passed", "packed", "carrier-scan"},
	"club":  {"quit"}, "newsletter": {"close"}, "desk": {"work", "close"},
}

func nothing[D any](context.Context, D) error { return nil }

// unused is the action of a step with a result.
func unused[D any](context.Context, D) (reply, error) { return reply{}, errors.New("never called") }

type reply struct {
	Ref string `json:"ref,omitempty"`
}

// trip: the linear saga. Local steps, a pivot, a retriable step behind it.
type tripData struct {
	City   string `json:"city,omitempty"`
	Hotel  string `json:"hotel,omitempty"`
	Flight string `json:"flight,omitempty"`
}

var trip = Linear("trip",
	Call("book-hotel", unused[tripData], func(d tripData, r reply) tripData { d.Hotel = r.Ref; return d }).
		Undo(nothing[tripData]),
	Call("book-flight", unused[tripData], func(d tripData, r reply) tripData { d.Flight = r.Ref; return d }).
		Undo(nothing[tripData]).Retry(compensation.Retry{First: time.Second, Attempts: 3, Alert: 3}).Timeout(10*time.Second),
	Do("charge-card", nothing[tripData]).Pivot().Retry(compensation.Retry{First: time.Second, Alert: 3}),
	Do("send-tickets", nothing[tripData]).Retriable().Retry(compensation.Retry{First: time.Second, Alert: 2}),
)

// tour: parallel command steps, and one that the pivot follows.
type tourData struct {
	Booked []string `json:"booked,omitempty"`
}

func tourStep(name string) Step[tourData] {
	command := Command[string, reply]{Name: "reserve", Topic: name}
	cancel := Command[string, struct{}]{Name: "cancel", Topic: name}
	request := func(tourData) string { return name }
	return Ask(name, command, request, func(d tourData, r reply) tourData { d.Booked = append(d.Booked, r.Ref); return d }).
		UndoBy(RequestOf(cancel, request)).Retry(compensation.Retry{Attempts: 2})
}

var tour = Linear("tour",
	tourStep("guide"),
	Parallel(tourStep("bus"), tourStep("museum"), tourStep("lunch")),
	Ask("pay", Command[int, reply]{Name: "pay", Topic: "bank"}, func(d tourData) int { return len(d.Booked) }, nil).Pivot(),
)

// club: loops and self rows, several runs of one step, time-outs with guards.
type clubData struct {
	Months  int  `json:"months,omitempty"`
	Dunning bool `json:"dunning,omitempty"`
}

var charge = Call("charge", unused[clubData], func(d clubData, _ reply) clubData { d.Months++; d.Dunning = false; return d }).
	Undo(nothing[clubData]).Retry(compensation.Retry{Attempts: 1})

var club = Define(Spec[string, string, clubData]{
	Name: "club", Initial: "guest", Succeeded: []string{"left"}, Failed: []string{"expelled"},
	Events: []Event[string, clubData]{{Name: "join"}, {Name: "renew"}, {Name: "quit"}, {Name: "misbehave"}},
	Table: Table[string, string, clubData]{
		{From: "guest", On: "join", To: "member", Run: Run(charge)},
		{From: "guest", On: "charge.rejected", To: "guest"},
		{From: "guest", On: "quit", To: "left"},
		{From: "guest", On: "renew", Policy: Buffer},
		{From: "member", On: "renew", To: "member", Run: Run(charge)},
		{From: "member", On: "charge.rejected", To: "member", Run: Run(Do("remind", nothing[clubData]).Retriable().NoUndo("a letter is harmless"))},
		{From: "member", On: "quit", To: "left"},
		{From: "member", On: "misbehave", To: "expelled", Compensate: true},
		{From: "member", After: time.Hour, If: When("long-standing", func(d clubData) bool { return d.Months > 1 }), To: "member",
			Run: Run(Do("thank", nothing[clubData]).Retriable().NoUndo("a letter is harmless"))},
		{From: "member", After: time.Hour, To: "expelled", Compensate: true},
		{From: "member", After: 3 * time.Hour, If: When("still-new", func(d clubData) bool { return d.Months < 2 }), To: "expelled", Compensate: true},
		{From: "member", After: 24 * time.Hour, To: "left"},
	},
	Otherwise: Refuse,
})

// newsletter: events that the saga emits.
type newsletterData struct {
	Issue int `json:"issue,omitempty"`
}

func issue(d newsletterData) int { return d.Issue }

var newsletter = Define(Spec[string, string, newsletterData]{
	Name: "newsletter", Initial: "draft", Start: "open", Succeeded: []string{"closed"}, Failed: []string{"withdrawn"},
	Events: []Event[string, newsletterData]{On("write", func(_ newsletterData, n int) newsletterData { return newsletterData{Issue: n} }), {Name: "close"}, {Name: "withdraw"}},
	Table: Table[string, string, newsletterData]{
		{From: "draft", On: "open", To: "draft", Run: Run(Emit("say-opened", "news", "OPENED", issue).NoUndo("history"))},
		{From: "draft", On: "write", To: "draft", Run: Run(Emit("say-issue", "news", "ISSUE", func(d newsletterData) int { return 12 / d.Issue }).NoUndo("history"))},
		{From: "draft", On: "close", To: "closed", Run: Run(Emit("say-closed", "news", "CLOSED", issue).NoUndo("history"))},
		{From: "draft", On: "withdraw", To: "withdrawn", Compensate: true, Interrupts: true},
	},
	Otherwise: Refuse,
})

// desk: what is awkward. Guards and keys that panic, an interrupting row with a guard, and one without compensation.
type deskData struct {
	Paid   bool   `json:"paid,omitempty"`
	Broken bool   `json:"broken,omitempty"`
	Key    string `json:"key,omitempty"`
	Notes  int    `json:"notes,omitempty"`
}

func sound(d deskData) bool {
	if d.Broken {
		panic("broken")
	}
	return true
}

var deskPay = Call("pay", unused[deskData], func(d deskData, r reply) deskData { d.Paid, d.Key = true, r.Ref; return d }).
	Undo(nothing[deskData]).Retry(compensation.Retry{Attempts: 2})

var deskSpec = Spec[string, string, deskData]{
	Name: "desk", Initial: "new", Succeeded: []string{"done"}, Failed: []string{"dropped"},
	Events: []Event[string, deskData]{
		{Name: "work"}, {Name: "close"}, {Name: "drop"}, {Name: "send"}, {Name: "seal"},
		On("note", func(d deskData, n int) deskData { d.Notes += 10 / n; return d }),
	},
	Table: Table[string, string, deskData]{
		{From: "new", On: "work", To: "open", Run: Run(deskPay)},
		{From: "new", On: "pay.rejected", If: When("sound", sound), To: "new"},
		{From: "new", On: "pay.rejected", To: "dropped", Compensate: true},
		{From: "new", On: "drop", If: When("unpaid", func(d deskData) bool { return !d.Paid }), To: "dropped", Compensate: true, Interrupts: true},
		{From: "new", On: "drop", Policy: Buffer},
		{From: "new", After: time.Minute, If: When("sound", sound), To: "dropped", Compensate: true},
		{From: "new", On: "note", To: "new"},
		{From: "new", On: "close", Policy: Buffer},
		{From: "open", On: "note", If: When("sound", sound), To: "open"},
		{From: "open", On: "note", Policy: Ignore},
		{From: "open", On: "send", To: "open", Run: Run(
			Do("post", nothing[deskData]).Retriable().Key(func(d deskData) string { return d.Key }).
				Retry(compensation.Retry{First: time.Second, Alert: 2}).NoUndo("a letter"),
		)},
		{From: "open", On: "drop", To: "dropped", Compensate: true, Interrupts: true},
		{From: "open", On: "seal", To: "sealed", Run: Run(Do("stamp", nothing[deskData]).Pivot()), Rejected: "no-stamp"},
		{From: "open", On: "no-stamp", To: "open"},
		{From: "open", On: "close", To: "done"},
		{From: "open", After: 2 * time.Hour, To: "sealed"},
		{From: "sealed", On: "close", To: "done"},
		{From: "sealed", On: "drop", To: "dropped", Compensate: true},
		{From: "sealed", After: time.Hour, To: "dropped", Compensate: true},
		{From: "done", On: "close", Policy: Buffer},
	},
	Otherwise: Refuse,
}

var desk = Define(deskSpec)

// desk2 is desk as someone changed it under its instances: rows, steps and compensations are gone.
var desk2 = Define(Spec[string, string, deskData]{
	Name: "desk", Initial: "new", Succeeded: []string{"done"}, Failed: []string{"dropped"},
	Events: []Event[string, deskData]{{Name: "labour"}, {Name: "drop"}, {Name: "close"}},
	Table: Table[string, string, deskData]{
		{From: "new", On: "labour", To: "open", Run: Run(Do("pay", nothing[deskData]).Retriable().NoUndo("changed"))},
		{From: "open", On: "drop", To: "dropped", Compensate: true},
		{From: "open", On: "close", To: "done"},
	},
	Otherwise: Refuse,
})

// order: the order saga, with both of its tables.
type orderData struct {
	Total int    `json:"total"`
	URL   string `json:"url,omitempty"`
	Txn   string `json:"txn,omitempty"`
	Late  string `json:"late,omitempty"` // transaction of a payment that came too late
}

type payment struct {
	Txn    string `json:"txn"`
	Amount int    `json:"amount"`
}

func orderStep(name, service string, fold func(orderData, reply) orderData) Step[orderData] {
	return Ask(name, Command[string, reply]{Name: name, Topic: service}, func(d orderData) string { return d.Txn }, fold)
}

func orderUndo(name, service string) Request[orderData] {
	return RequestOf(Command[string, struct{}]{Name: name, Topic: service}, func(d orderData) string { return d.Txn })
}

func notify(name string) Step[orderData] {
	return Do(name, nothing[orderData]).Retriable().NoUndo("what was said stays said")
}

var (
	reserveStock = orderStep("reserve-stock", "inventory", nil).UndoBy(orderUndo("release-stock", "inventory"))
	authorize    = orderStep("authorize", "payment", func(d orderData, r reply) orderData { d.URL = r.Ref; return d }).UndoBy(orderUndo("void", "payment"))
	capture      = orderStep("capture", "payment", nil).UndoBy(orderUndo("refund", "payment"))
	invoice      = Do("invoice", nothing[orderData]).NoUndo("a credit note is not asked for")
	shipment     = orderStep("create-shipment", "fulfillment", nil).Pivot()
	label        = orderStep("label", "fulfillment", nil).Retriable()
	commitStock  = orderStep("commit-stock", "inventory", nil).Retriable()
	refundLate   = Ask("refund-late", Command[string, reply]{Name: "refund", Topic: "payment"}, func(d orderData) string { return d.Late }, nil).
			Retriable().Key(func(d orderData) string { return d.Late })
	paymentFailed = notify("notify-payment-failed")
)

func emitOrder(name, event string) Step[orderData] {
	return Emit(name, "order-events", event, func(d orderData) int { return d.Total }).NoUndo("consumers drop what is older")
}

func paid(d orderData, p payment) orderData {
	if d.Txn == "" && p.Amount == d.Total {
		d.Txn = p.Txn
	}
	d.Late = p.Txn
	return d
}

var order = Define(Spec[string, string, orderData]{
	Name: "order", Initial: "CREATED", Start: "checkout", Succeeded: []string{"IN_TRANSIT"}, Failed: []string{"FAILED", "CANCELLED"},
	Groups: map[string][]string{
		"unpaid":  {"CREATED", "RESERVED", "PAYMENT_PENDING"},
		"preship": {"unpaid", "PAID", "CONFIRMED"},
	},
	Events: []Event[string, orderData]{
		{Name: "pay"}, On("payment-succeeded", paid), {Name: "payment-failed"}, {Name: "fraud-passed"}, {Name: "fraud-failed"},
		{Name: "packed"}, {Name: "carrier-scan"}, {Name: "cancel"},
	},
	Table: slices.Concat(happyPath, exitPaths, openCells), Otherwise: Refuse,
})

type orderTable = Table[string, string, orderData]

var happyPath = orderTable{
	{From: "CREATED", On: "checkout", To: "RESERVED", Run: Run(reserveStock), Rejected: "out-of-stock"},
	{From: "RESERVED", On: "pay", To: "PAYMENT_PENDING", Run: Run(authorize), Rejected: "declined"},
	{From: "PAYMENT_PENDING", On: "payment-succeeded", If: When("amount-agrees", func(d orderData) bool { return d.Txn != "" }), To: "PAID", Run: Run(capture), Rejected: "not-captured"},
	{From: "PAID", On: "fraud-passed", To: "CONFIRMED", Run: Run(invoice, emitOrder("say-confirmed", "ORDER_CONFIRMED")), Rejected: "no-invoice"},
	{From: "CONFIRMED", On: "packed", To: "SHIPPED", Run: Run(shipment, label, commitStock), Rejected: "not-shipped"},
	{From: "SHIPPED", On: "carrier-scan", To: "IN_TRANSIT", Run: Run(notify("notify-on-the-way"))},
}

var exitPaths = orderTable{
	{From: "CREATED", On: "out-of-stock", To: "FAILED", Run: Run(notify("notify-out-of-stock"))},
	{From: "RESERVED", On: "declined", To: "FAILED", Compensate: true, Run: Run(paymentFailed)},
	{From: "RESERVED", After: 15 * time.Minute, To: "CANCELLED", Compensate: true},
	{From: "PAYMENT_PENDING", On: "not-captured", To: "FAILED", Compensate: true, Run: Run(paymentFailed)},
	{From: "PAYMENT_PENDING", On: "payment-failed", To: "FAILED", Compensate: true, Run: Run(paymentFailed)},
	{From: "PAYMENT_PENDING", After: 10 * time.Minute, To: "FAILED", Compensate: true, Run: Run(paymentFailed)},
	{From: "PAID", On: "fraud-failed", To: "FAILED", Compensate: true},
	{From: "PAID", On: "no-invoice", To: "FAILED", Compensate: true},
	{From: "CONFIRMED", On: "not-shipped", To: "FAILED", Compensate: true},
	{From: "preship", On: "cancel", To: "CANCELLED", Compensate: true, Interrupts: true},
	{From: "CONFIRMED", On: "cancel", To: "CANCELLED", Compensate: true, Interrupts: true, Run: Run(emitOrder("say-cancelled", "ORDER_CANCELLED"))},
}

var openCells = orderTable{
	{From: "FAILED", On: "payment-succeeded", To: "FAILED", Run: Run(refundLate)},
	{From: "CANCELLED", On: "payment-succeeded", To: "CANCELLED", Run: Run(refundLate)},
	{From: "unpaid", On: "fraud-passed", Policy: Buffer},
	{From: "unpaid", On: "fraud-failed", Policy: Buffer},
	{From: "preship", On: "packed", Policy: Buffer},
	{From: "preship", On: "carrier-scan", Policy: Buffer},
	{From: "PAID", On: "payment-succeeded", Policy: Ignore},
	{From: Any, On: "packed", Policy: Ignore},
	{From: Any, On: "carrier-scan", Policy: Ignore},
	{From: Any, On: "fraud-passed", Policy: Ignore},
	{From: Any, On: "fraud-failed", Policy: Ignore},
}
