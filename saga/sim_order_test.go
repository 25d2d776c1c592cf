package saga_test

import (
	"cmp"
	"slices"
	"time"

	"github.com/sagamill/sagamill/adapters/memory"
	"github.com/sagamill/sagamill/saga"
)

type (
	simState string
	simEvent string
)

const (
	simCreated   simState = "CREATED"
	simReserved  simState = "RESERVED"
	simPending   simState = "PAYMENT_PENDING"
	simPaid      simState = "PAID"
	simConfirmed simState = "CONFIRMED"
	simShipped   simState = "SHIPPED"
	simInTransit simState = "IN_TRANSIT"
	simFailed    simState = "FAILED"
	simCancelled simState = "CANCELLED"
	simPreShip   simState = "before it is shipped"
	simUnpaid    simState = "before it is paid"

	simCheckout  simEvent = "checkout"
	simPay       simEvent = "pay"
	simSuccess   simEvent = "success"
	simNoSuccess simEvent = "no-success"
	simValid     simEvent = "valid"
	simFraud     simEvent = "fraud"
	simPacked    simEvent = "packed"
	simScan      simEvent = "scan"
	simCancel    simEvent = "cancel"
)

func (d simData) paid(transaction string) simData {
	d.Paid, d.Last = cmp.Or(d.Paid, transaction), transaction
	return d
}

// defineOrder is the order saga: events that come early, late and twice; times to live; a refund for each payment that comes
// late or besides. So that each order comes to an end, states that wait for somebody have a time-out.
func (s *sim) defineOrder() *saga.Definition[simState, simEvent, simData] {
	request := func(name string) func(simData) simRequest {
		return func(d simData) simRequest {
			return simRequest{Step: name, Order: d.Key, Pieces: d.Pieces, Total: d.Total, Transaction: d.Last}
		}
	}
	ask := func(name string) saga.Step[simData] { return saga.Ask(name, simDo, request(name), nil).Retry(simRetry) }
	undoable := func(name string) saga.Step[simData] {
		return ask(name).UndoBy(saga.RequestOf(simUndo, request(name))).UndoRetry(simRetry)
	}
	tell := func(what string) saga.Step[simData] {
		return saga.Emit("tell-"+what, simNews, what, func(d simData) string { return d.Key }).Retriable().NoUndo("news")
	}
	giveBack := saga.Run(ask("give-back").Key(func(d simData) string { return d.Last }).Retriable().NoUndo("it stays with the customer"))
	another := saga.When("another payment", func(d simData) bool { return d.Last != d.Paid })
	table := saga.Table[simState, simEvent, simData]{
		{From: simCreated, On: simCheckout, To: simReserved, Run: saga.Run(undoable("reserve"))},
		{From: simReserved, On: simPay, To: simPending, Run: saga.Run(undoable("authorize"))},
		{From: simPending, On: simSuccess, To: simPaid, Run: saga.Run(undoable("capture"), tell("PAID"))},
		{From: simPaid, On: simValid, To: simConfirmed, Run: saga.Run(
			saga.Do("invoice", s.local).Retry(simRetry).Retriable().Timeout(simTimeout).NoUndo("the books keep it"), tell("CONFIRMED"))},
		{From: simConfirmed, On: simPacked, To: simShipped, Rejected: "no-shipment", Run: saga.Run(
			ask("ship").Pivot(), ask("label").Retriable(), ask("commit").Retriable(), tell("SHIPPED"))},
		{From: simShipped, On: simScan, To: simInTransit, Run: saga.Run(tell("IN_TRANSIT"))},
		{From: simShipped, After: 20 * time.Second, To: simInTransit},

		{From: simCreated, On: "reserve.rejected", To: simFailed},
		{From: simReserved, On: "authorize.rejected", To: simFailed, Compensate: true},
		{From: simReserved, After: 15 * time.Second, To: simCancelled, Compensate: true},
		{From: simPending, After: 10 * time.Second, To: simFailed, Compensate: true},
		{From: simPending, On: simNoSuccess, To: simFailed, Compensate: true},
		{From: simPending, On: "capture.rejected", To: simFailed, Compensate: true},
		{From: simPaid, On: simFraud, To: simFailed, Compensate: true},
		{From: simPaid, After: 20 * time.Second, To: simFailed, Compensate: true},
		{From: simConfirmed, On: "no-shipment", To: simFailed, Compensate: true},
		{From: simConfirmed, After: 20 * time.Second, To: simFailed, Compensate: true},
		{From: simPreShip, On: simCancel, To: simCancelled, Compensate: true, Interrupts: true},

		{From: simUnpaid, On: simSuccess, Policy: saga.Buffer},
		{From: saga.Any, On: simSuccess, Policy: saga.Ignore},
		{From: simPreShip, On: simValid, Policy: saga.Buffer},
		{From: simPreShip, On: simFraud, Policy: saga.Buffer},
		{From: simPreShip, On: simPacked, Policy: saga.Buffer},
		{From: simPreShip, On: simScan, Policy: saga.Buffer},
		{From: saga.Any, On: simPacked, Policy: saga.Ignore},
	}
	for _, state := range []simState{simFailed, simCancelled} { // late
		table = append(table, saga.Row[simState, simEvent, simData]{From: state, On: simSuccess, To: state, Run: giveBack})
	}
	for _, state := range []simState{simPaid, simConfirmed, simShipped, simInTransit} {
		table = append(table, saga.Row[simState, simEvent, simData]{From: state, On: simSuccess, If: another, To: state, Run: giveBack})
	}
	return saga.Define(saga.Spec[simState, simEvent, simData]{
		Name: "order", Initial: simCreated, Start: simCheckout, Succeeded: []simState{simInTransit}, Failed: []simState{simFailed, simCancelled},
		Groups: map[simState][]simState{
			simPreShip: {simCreated, simReserved, simPending, simPaid, simConfirmed}, simUnpaid: {simCreated, simReserved},
		},
		Events: []saga.Event[simEvent, simData]{
			saga.On(simSuccess, simData.paid), {Name: simPay}, {Name: simNoSuccess}, {Name: simValid}, {Name: simFraud},
			{Name: simPacked}, {Name: simScan}, {Name: simCancel},
		},
		Table: table, Otherwise: saga.Refuse,
	})
}

// simBooks are what the participants of the order saga own, and what they themselves must never see: pieces of stock, and
// money by its transaction.
type simBooks struct {
	sim                            *sim
	total, free, reserved, shipped int
	orders                         map[string]simData   // what was ordered
	holds                          map[string]int       // pieces reserved, by order
	parcels                        map[string]int       // pieces shipped, by order
	money                          map[string]*simMoney // by transaction
	captured                       map[string]*simMoney // by the capture's key
}

// simMoney is a payment: the gateway holds it, then either we have it or it is the customer's again.
type simMoney struct {
	transaction, order string
	amount             int
	where              string // held, captured, returned
	captures           int
}

func newSimBooks(s *sim) *simBooks {
	n := 2 + s.rng.IntN(3)
	return &simBooks{
		sim: s, total: n, free: n, orders: map[string]simData{},
		holds: map[string]int{}, parcels: map[string]int{}, money: map[string]*simMoney{}, captured: map[string]*simMoney{},
	}
}

// pay is what the customer does before the gateway tells of it.
func (b *simBooks) pay(in *simInput) {
	if b.money[in.payment] == nil {
		b.money[in.payment] = &simMoney{transaction: in.payment, order: in.key, amount: b.orders[in.key].Total, where: "held"}
	}
}

// handle does what a command of the order saga asks for, as far as stock and money go.
func (b *simBooks) handle(info saga.StepInfo, tx *memory.Tx, r simRequest) error {
	switch {
	case info.Step == "reserve" && !info.Undo:
		if b.free < r.Pieces {
			return saga.Reject("out of stock")
		}
		b.move(tx, r.Order, -r.Pieces, r.Pieces, 0)
	case info.Step == "reserve":
		n := r.Pieces
		if b.sim.commits.skipped[info.Instance] { // and the order may have been shipped without it
			n = min(n, b.holds[r.Order])
		}
		b.move(tx, r.Order, n, -n, 0)
	case info.Step == "commit":
		n := b.holds[r.Order] // none, if an operator went on without
		b.move(tx, r.Order, 0, -n, n)
	case info.Step == "authorize" && info.Undo: // void: whatever the gateway holds for the order
		for _, m := range b.payments(r.Order) {
			if m.where == "held" {
				b.pass(tx, m, "returned")
			}
		}
	case info.Step == "capture" && !info.Undo:
		return b.capture(info, tx, r)
	case info.Step == "capture":
		b.pass(tx, b.captured[info.ActionKey], "returned")
	case info.Step == "give-back":
		if m := b.money[r.Transaction]; m.where != "returned" {
			b.pass(tx, m, "returned")
		}
	}
	return nil
}

// move moves pieces, and checks that they add up.
func (b *simBooks) move(tx *memory.Tx, order string, free, reserved, shipped int) {
	put := func(sign int) {
		b.free, b.reserved, b.shipped = b.free+sign*free, b.reserved+sign*reserved, b.shipped+sign*shipped
		b.holds[order] += sign * reserved
		b.parcels[order] += sign * shipped
		if b.free < 0 || b.reserved < 0 || b.shipped < 0 || b.holds[order] < 0 || b.free+b.reserved+b.shipped != b.total {
			b.sim.violated("stock", "%s leaves %d free, %d reserved (%d by the order), %d shipped, of %d", order, b.free, b.reserved, b.holds[order], b.shipped, b.total)
		}
	}
	put(1)
	tx.OnRollback(func() { put(-1) })
}

func (b *simBooks) capture(info saga.StepInfo, tx *memory.Tx, r simRequest) error {
	m := b.money[r.Transaction]
	if m.where != "held" && b.sim.commits.skipped[info.Instance] {
		return saga.Reject("no such money") // an authorization that was skipped, and came late, was voided
	}
	before := b.captured[info.ActionKey]
	b.captured[info.ActionKey] = m
	m.captures++
	tx.OnRollback(func() { b.captured[info.ActionKey] = before; m.captures-- })
	if m.where != "held" {
		b.sim.violated("money", "%s is captured, and was %s", m.transaction, m.where)
	}
	b.pass(tx, m, "captured")
	captures := 0
	for _, m := range b.payments(r.Order) {
		captures += m.captures
	}
	if captures > 1 {
		b.sim.violated("capture", "%s has %d captures", r.Order, captures)
	}
	return nil
}

func (b *simBooks) pass(tx *memory.Tx, m *simMoney, to string) {
	from := m.where
	m.where = to
	tx.OnRollback(func() { m.where = from })
	b.sim.note("money: %s is %s", m.transaction, to)
}

// payments are those of an order, in order of their transactions.
func (b *simBooks) payments(order string) (all []*simMoney) {
	for _, m := range b.money {
		if m.order == order {
			all = append(all, m)
		}
	}
	slices.SortFunc(all, func(a, b *simMoney) int { return cmp.Compare(a.transaction, b.transaction) })
	return all
}

// settled checks a settled order: stock and money are where its end says. Where an operator skipped a step he
// sees to that. In the end, when each payment was told of, none is left with the gateway.
func (b *simBooks) settled(i saga.Instance, finally bool) {
	if b.sim.commits.skipped[i.ID] {
		return
	}
	net, pieces, total := 0, 0, 0
	for _, m := range b.payments(i.Key) {
		if m.where == "captured" {
			net += m.amount
		} else if m.where == "held" && finally {
			b.sim.violated("money", "%s is settled in %s, and nobody has given back %s", i.ID, i.State, m.transaction)
		}
	}
	if i.State == string(simInTransit) {
		pieces, total = b.orders[i.Key].Pieces, b.orders[i.Key].Total
	}
	if held, parcel := b.holds[i.Key], b.parcels[i.Key]; held != 0 || parcel != pieces {
		b.sim.violated("I6 (stock)", "%s is settled in %s with %d pieces reserved and %d shipped, not %d", i.ID, i.State, held, parcel, pieces)
	}
	if net != total {
		b.sim.violated("money", "%s is settled in %s, and we have %d, not %d", i.ID, i.State, net, total)
	}
}
