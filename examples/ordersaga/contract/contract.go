// Package contract is all that the services know of each other: topics, commands and events. None of them calls another or
// reads another's tables.
package contract

import "github.com/sagamill/sagamill/saga"

// Topics. Commands go to a service's own topic. What became of them goes to the service's events, where the orchestrator
// listens, and anybody else may.
const (
	OrderEvents       = "order-events"
	InventoryEvents   = "inventory-events"
	PaymentEvents     = "payment-events"
	FulfillmentEvents = "fulfillment-events"

	inventoryCommands   = "inventory-commands"
	paymentCommands     = "payment-commands"
	fulfillmentCommands = "fulfillment-commands"
)

// Inventory, "the vault".
var (
	ReserveStock = saga.Command[Basket, Nothing]{Name: "reserveStock", Topic: inventoryCommands, Replies: InventoryEvents}
	ReleaseStock = saga.Command[Basket, Nothing]{Name: "releaseStock", Topic: inventoryCommands, Replies: InventoryEvents}
	CommitStock  = saga.Command[Basket, Nothing]{Name: "commitStock", Topic: inventoryCommands, Replies: InventoryEvents}
)

// Payment, "the cashier".
var (
	Authorize = saga.Command[Charge, Authorization]{Name: "authorize", Topic: paymentCommands, Replies: PaymentEvents}
	Capture   = saga.Command[Money, Nothing]{Name: "capture", Topic: paymentCommands, Replies: PaymentEvents}
	Refund    = saga.Command[Money, Nothing]{Name: "refund", Topic: paymentCommands, Replies: PaymentEvents}
)

// Fulfillment, "the worker".
var (
	CreateShipment = saga.Command[Parcel, Nothing]{Name: "createShipment", Topic: fulfillmentCommands, Replies: FulfillmentEvents}
	GenerateLabel  = saga.Command[Parcel, Label]{Name: "generateLabel", Topic: fulfillmentCommands, Replies: FulfillmentEvents}
)

// Nothing is the reply of a command whose success says it all.
type Nothing struct{}

// Basket is what inventory keeps for an order.
type Basket struct {
	Order string `json:"order"`
	Lines []Line `json:"lines"`
}

// Line is a number of pieces of one article. In a Basket each SKU has one line.
type Line struct {
	SKU      string `json:"sku"`
	Quantity int64  `json:"quantity"`
}

// Charge is what a customer is to pay, and how.
type Charge struct {
	Order    string `json:"order"`
	Tenant   string `json:"tenant"`
	Amount   int64  `json:"amount"` // in minor units
	Currency string `json:"currency"`
	Method   string `json:"method"`
}

// Authorization is the gateway's answer to a Charge.
type Authorization struct {
	URL string `json:"url"` // where the customer confirms it
}

// Money is an amount of an order's. An empty Transaction stands for whatever was authorized for the order.
type Money struct {
	Order       string `json:"order"`
	Tenant      string `json:"tenant"`
	Transaction string `json:"transaction"`
	Amount      int64  `json:"amount"`
	Currency    string `json:"currency"`
}

// Parcel is what goes to the customer.
type Parcel struct {
	Order   string  `json:"order"`
	Address Address `json:"address"`
}

// Address is where a parcel goes.
type Address struct {
	Name       string `json:"name"`
	Line1      string `json:"line1"`
	City       string `json:"city"`
	PostalCode string `json:"postal_code"`
	Country    string `json:"country"`
}

// Label is what the carrier answers.
type Label struct {
	TrackingNumber string `json:"tracking_number"`
}

// Events on OrderEvents, in the life of an order. The metadata says of which order (saga.MetaInstance) and at which revision
// (saga.MetaRevision): a consumer drops what is older than what it has seen.
const (
	OrderCreated   = "ORDER_CREATED"
	OrderPaid      = "ORDER_PAID"
	OrderConfirmed = "ORDER_CONFIRMED"
	OrderShipped   = "ORDER_SHIPPED"
	OrderInTransit = "ORDER_IN_TRANSIT"
	OrderFailed    = "ORDER_FAILED"
	OrderCancelled = "ORDER_CANCELLED"
)

// OrderEvent is the payload of an event on OrderEvents.
type OrderEvent struct {
	Order  string `json:"order"`
	Tenant string `json:"tenant"`
}
