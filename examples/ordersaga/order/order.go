package order

import (
	"cmp"
	"slices"

	"github.com/sagamill/sagamill/examples/ordersaga/contract"
	"github.com/sagamill/sagamill/saga"
)

// Order is the saga's data. What is known at the start comes first; the rest is written by the replies and events that bring
// it, through the pure functions below.
type Order struct {
	ID            string           `json:"id"`
	Tenant        string           `json:"tenant"`
	Customer      string           `json:"customer"`
	Currency      string           `json:"currency"`
	Total         int64            `json:"total"` // in minor units
	Lines         []Line           `json:"lines"`
	Address       contract.Address `json:"address"`
	PaymentMethod string           `json:"payment_method"`

	PaymentURL     string `json:"payment_url,omitempty"`
	Transaction    string `json:"transaction,omitempty"`  // the first payment's
	LastPayment    string `json:"last_payment,omitempty"` // the transaction of the last payment we heard of
	InvoiceNumber  string `json:"invoice_number,omitempty"`
	TrackingNumber string `json:"tracking_number,omitempty"`
}

// Line is a line of an order.
type Line struct {
	SKU       string `json:"sku"`
	Quantity  int64  `json:"quantity"`
	UnitPrice int64  `json:"unit_price"`
}

// Payment is what the gateway tells of a payment.
type Payment struct {
	Transaction string `json:"transaction"`
}

// What comes in.

func (o Order) withPayment(p Payment) Order {
	o.Transaction, o.LastPayment = cmp.Or(o.Transaction, p.Transaction), p.Transaction
	return o
}

func (o Order) withFailure(p Payment) Order {
	o.Transaction = cmp.Or(o.Transaction, p.Transaction)
	return o
}

func (o Order) withAuthorization(a contract.Authorization) Order { o.PaymentURL = a.URL; return o }
func (o Order) withLabel(l contract.Label) Order                 { o.TrackingNumber = l.TrackingNumber; return o }
func (o Order) withInvoice(number string) Order                  { o.InvoiceNumber = number; return o }

// What goes out.

// basket has one line for each SKU, in order: inventory locks its rows as they come.
func (o Order) basket() contract.Basket {
	pieces := map[string]int64{}
	for _, l := range o.Lines {
		pieces[l.SKU] += l.Quantity
	}
	b := contract.Basket{Order: o.ID}
	for sku, n := range pieces {
		b.Lines = append(b.Lines, contract.Line{SKU: sku, Quantity: n})
	}
	slices.SortFunc(b.Lines, func(x, y contract.Line) int { return cmp.Compare(x.SKU, y.SKU) })
	return b
}

func (o Order) charge() contract.Charge {
	return contract.Charge{Order: o.ID, Tenant: o.Tenant, Amount: o.Total, Currency: o.Currency, Method: o.PaymentMethod}
}

func (o Order) money(transaction string) contract.Money {
	return contract.Money{Order: o.ID, Tenant: o.Tenant, Transaction: transaction, Amount: o.Total, Currency: o.Currency}
}

func (o Order) authorized() contract.Money  { return o.money("") }
func (o Order) paid() contract.Money        { return o.money(o.Transaction) }
func (o Order) lastPayment() contract.Money { return o.money(o.LastPayment) }
func (o Order) parcel() contract.Parcel     { return contract.Parcel{Order: o.ID, Address: o.Address} }
func (o Order) event() contract.OrderEvent  { return contract.OrderEvent{Order: o.ID, Tenant: o.Tenant} }

// What the rows ask.

var (
	// deliverable: no carrier goes to Antarctica.
	deliverable = saga.When("we deliver there", func(o Order) bool { return o.Address.Country != "AQ" })
	another     = saga.When("another transaction", func(o Order) bool { return o.LastPayment != o.Transaction })
)
