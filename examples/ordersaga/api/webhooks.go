package api

import (
	"net/http"
	"time"

	"github.com/sagamill/sagamill/examples/ordersaga/order"
	"github.com/sagamill/sagamill/examples/ordersaga/signature"
)

// Webhooks: the world outside tells its news. A 2xx means that they are recorded for good; what is not is sent again.

// webhook reads a signed body. The signature is checked before anything is made of the body.
func (a *api) webhook(w http.ResponseWriter, r *http.Request, v any) error {
	body, err := readBody(w, r)
	if err != nil {
		return err
	}
	if err := signature.Verify(a.WebhookSecret, r.Header.Get(signature.Header), body, time.Now()); err != nil {
		return err
	}
	if err := decode(body, v); err != nil {
		return badRequest("The body cannot be read: %s.", err)
	}
	return nil
}

func (a *api) receive(w http.ResponseWriter, r *http.Request, news order.Webhook) error {
	if news.ID == "" || len(news.ID) > maxText {
		return badRequest("id has 1 to %d bytes.", maxText)
	}
	if news.Order == "" {
		return badRequest("order_id is missing.")
	}
	if err := a.Orders.Receive(r.Context(), news); err != nil {
		return err
	}
	return ok(w, map[string]bool{"received": true})
}

func (a *api) paymentWebhook(w http.ResponseWriter, r *http.Request) error {
	var body struct {
		ID            string `json:"id"`
		Type          string `json:"type"`
		OrderID       string `json:"order_id"`
		TransactionID string `json:"transaction_id"`
		Amount        int64  `json:"amount"`
		Currency      string `json:"currency"`
	}
	if err := a.webhook(w, r, &body); err != nil {
		return err
	}
	event, known := map[string]order.Event{"payment.succeeded": order.PaymentSucceeded, "payment.failed": order.PaymentFailed}[body.Type]
	if !known {
		return badRequest("type is payment.succeeded or payment.failed.")
	}
	if body.TransactionID == "" || len(body.TransactionID) > maxText {
		return badRequest("transaction_id has 1 to %d bytes.", maxText)
	}
	return a.receive(w, r, order.Webhook{
		Source: "gateway", ID: body.ID, Order: body.OrderID, Event: event,
		Payment: &order.Payment{Transaction: body.TransactionID}, Amount: body.Amount, Currency: body.Currency,
	})
}

func (a *api) fraudWebhook(w http.ResponseWriter, r *http.Request) error {
	var body struct {
		ID       string `json:"id"`
		OrderID  string `json:"order_id"`
		Decision string `json:"decision"`
	}
	if err := a.webhook(w, r, &body); err != nil {
		return err
	}
	event, known := map[string]order.Event{"pass": order.FraudPassed, "fail": order.FraudFailed}[body.Decision]
	if !known {
		return badRequest("decision is pass or fail.")
	}
	return a.receive(w, r, order.Webhook{Source: "fraud", ID: body.ID, Order: body.OrderID, Event: event})
}

func (a *api) warehouseWebhook(w http.ResponseWriter, r *http.Request) error {
	return a.simpleWebhook(w, r, "warehouse", "packed", order.Packed)
}

func (a *api) carrierWebhook(w http.ResponseWriter, r *http.Request) error {
	return a.simpleWebhook(w, r, "carrier", "scan", order.CarrierScanned)
}

// simpleWebhook is one whose sender has one thing to say.
func (a *api) simpleWebhook(w http.ResponseWriter, r *http.Request, source, kind string, event order.Event) error {
	var body struct {
		ID      string `json:"id"`
		Type    string `json:"type"`
		OrderID string `json:"order_id"`
	}
	if err := a.webhook(w, r, &body); err != nil {
		return err
	}
	if body.Type != kind {
		return badRequest("type is %s.", kind)
	}
	return a.receive(w, r, order.Webhook{Source: source, ID: body.ID, Order: body.OrderID, Event: event})
}
