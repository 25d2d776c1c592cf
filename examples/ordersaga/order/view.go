package order

import (
	"strings"
	"time"

	"github.com/sagamill/sagamill/saga"
)

// View is an order as its customer sees it.
type View struct {
	ID             string `json:"id"`
	Tenant         string `json:"tenant"`
	State          State  `json:"state"`
	Status         string `json:"status"` // coarser than the state
	Reason         string `json:"reason"` // why it failed or was cancelled
	Currency       string `json:"currency"`
	Total          int64  `json:"total"`
	Lines          []Line `json:"lines"`
	PaymentURL     string `json:"payment_url"`
	TransactionID  string `json:"transaction_id"`
	InvoiceNumber  string `json:"invoice_number"`
	TrackingNumber string `json:"tracking_number"`
	CompensatingTo string `json:"compensating_to"` // what is being undone ends there
	NeedsAttention bool   `json:"needs_attention"`
	Attention      string `json:"attention,omitempty"` // why
	History        []Move `json:"history"`
	Steps          []Step `json:"steps"`
}

// Move is a line of an order's history.
type Move struct {
	At    time.Time `json:"at"`
	Event string    `json:"event"`
	From  State     `json:"from"`
	To    State     `json:"to"`
}

// Step is what was done for an order.
type Step struct {
	Name     string `json:"name"`
	Status   string `json:"status"`
	Attempts int    `json:"attempts"`
}

func viewOf(i saga.Instance, o Order, history []saga.Entry) View {
	v := View{
		ID: o.ID, Tenant: o.Tenant, State: State(i.State), Status: status(State(i.State)), Reason: reason(i), Currency: o.Currency,
		Total: o.Total, Lines: o.Lines, PaymentURL: o.PaymentURL, TransactionID: o.Transaction, InvoiceNumber: o.InvoiceNumber,
		TrackingNumber: o.TrackingNumber, CompensatingTo: i.CompensatingTo, NeedsAttention: i.Attention != "", Attention: i.Attention,
		History: []Move{}, Steps: []Step{},
	}
	for _, e := range history {
		for _, m := range e.Moves {
			v.History = append(v.History, Move{At: e.At, Event: m.Event, From: State(m.From), To: State(m.To)})
		}
	}
	for _, e := range i.Steps {
		v.Steps = append(v.Steps, Step{Name: e.Step, Status: string(e.Status), Attempts: e.Attempts})
	}
	return v
}

// status is what a customer is shown.
func status(s State) string {
	switch s {
	case Created, Reserved, PaymentPending, Paid:
		return "PENDING"
	default:
		return string(s)
	}
}

// reason says in words why an order left its path.
func reason(i saga.Instance) string {
	switch Event(i.Cause) {
	case CancelClicked:
		return "cancelled by the customer"
	case PaymentFailed:
		return "the payment failed"
	case FraudFailed:
		return "the fraud check failed"
	case FraudPassed: // and we do not deliver there
		return "we do not deliver there"
	}
	if strings.HasPrefix(i.Cause, string(saga.ForceCompensate)) { // who did it, and why, is not for customers
		return "cancelled by the shop"
	}
	if strings.HasPrefix(i.Cause, "after ") {
		if Failed == State(i.State) || i.CompensatingTo == string(Failed) {
			return "the payment did not come in time"
		}
		return "not paid in time"
	}
	for _, e := range i.Steps { // a participant's "no" is told without the step's name
		if why, ok := strings.CutPrefix(i.Cause, e.Step+": "); ok {
			if strings.HasPrefix(why, "given up after ") || strings.HasPrefix(why, string(saga.MarkRejected)) {
				return "a service of ours did not answer"
			}
			return why
		}
	}
	return i.Cause
}

// Known tells whether there is such a state.
func Known(s State) bool {
	switch s {
	case Created, Reserved, PaymentPending, Paid, Confirmed, Shipped, InTransit, Failed, Cancelled:
		return true
	}
	return false
}
