// Package client talks to the shop as its customers and the world outside do: over HTTP. The tour and the tests use it.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/sagamill/sagamill/examples/ordersaga/inventory"
	"github.com/sagamill/sagamill/examples/ordersaga/order"
	"github.com/sagamill/sagamill/examples/ordersaga/payment"
	"github.com/sagamill/sagamill/examples/ordersaga/signature"
)

// Client is a customer, and the world outside, of the shop at URL.
type Client struct {
	URL    string
	Secret string // of webhooks
	Tenant string // empty: the default
	HTTP   *http.Client
	// Patience is how long a request is tried again, under the same key, while nobody answers or the answer is 409 or 5xx in
	// flight. 0: it is sent once.
	Patience time.Duration
}

// Answer is what the shop answered.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Error is an answer that is not what was asked for.
type Error struct {
	Answer
	Call string
}

func (e *Error) Error() string { return fmt.Sprintf("%s: %d %s", e.Call, e.Status, e.Body) }

// Do sends a request. A body that is not bytes is sent as JSON.
func (c *Client) Do(ctx context.Context, method, path string, body any, header ...string) (Answer, error) {
	content, isBytes := body.([]byte)
	if !isBytes && body != nil {
		var err error
		if content, err = json.Marshal(body); err != nil {
			return Answer{}, err
		}
	}
	deadline := time.Now().Add(c.Patience)
	for {
		a, err := c.once(ctx, method, path, content, header)
		transient := err != nil || a.Status >= 500 || a.Status == http.StatusConflict && a.Header.Get("Retry-After") != ""
		if !transient || time.Now().After(deadline) || ctx.Err() != nil {
			return a, err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (c *Client) once(ctx context.Context, method, path string, body []byte, header []string) (a Answer, err error) {
	r, err := http.NewRequestWithContext(ctx, method, c.URL+path, bytes.NewReader(body))
	if err != nil {
		return a, err
	}
	if c.Tenant != "" {
		r.Header.Set("Tenant-ID", c.Tenant)
	}
	for k := 0; k+1 < len(header); k += 2 {
		r.Header.Add(header[k], header[k+1])
	}
	h := c.HTTP
	if h == nil {
		h = http.DefaultClient
	}
	response, err := h.Do(r)
	if err != nil {
		return a, err
	}
	defer func() { _ = response.Body.Close() }()
	a.Status, a.Header = response.StatusCode, response.Header
	a.Body, err = io.ReadAll(response.Body)
	return a, err
}

// call sends a request, and reads its answer if it has the status that is wanted.
func (c *Client) call(ctx context.Context, want int, v any, method, path string, body any, header ...string) error {
	a, err := c.Do(ctx, method, path, body, header...)
	if err != nil {
		return err
	}
	if a.Status != want {
		return &Error{a, method + " " + path}
	}
	if v == nil {
		return nil
	}
	return json.Unmarshal(a.Body, v)
}

// Basket is what a customer buys: so many pieces of each article.
type Basket struct {
	Lines   []order.Line
	Method  string
	Country string // default DE
}

// Body is the body of the request that places an order for the basket.
func (b Basket) Body() map[string]any {
	country := b.Country
	if country == "" {
		country = "DE"
	}
	return map[string]any{
		"customer_id": "ada", "currency": "EUR", "lines": b.Lines, "payment_method": b.Method,
		"shipping_address": map[string]string{"name": "Ada", "line1": "Hauptstr. 1", "city": "Berlin", "postal_code": "10115", "country": country},
	}
}

// Place places an order, under a key.
func (c *Client) Place(ctx context.Context, key string, b Basket) (v order.View, err error) {
	err = c.call(ctx, http.StatusCreated, &v, http.MethodPost, "/v1/orders", b.Body(), "Idempotency-Key", key)
	return v, err
}

// Pay is a click on Pay.
func (c *Client) Pay(ctx context.Context, key, id string) (v order.View, err error) {
	err = c.call(ctx, http.StatusAccepted, &v, http.MethodPost, "/v1/orders/"+id+"/pay", nil, "Idempotency-Key", key)
	return v, err
}

// Cancel is a click on Cancel.
func (c *Client) Cancel(ctx context.Context, key, id string) (v order.View, err error) {
	err = c.call(ctx, http.StatusAccepted, &v, http.MethodPost, "/v1/orders/"+id+"/cancel", nil, "Idempotency-Key", key)
	return v, err
}

// Order reads an order.
func (c *Client) Order(ctx context.Context, id string) (v order.View, err error) {
	err = c.call(ctx, http.StatusOK, &v, http.MethodGet, "/v1/orders/"+id, nil)
	return v, err
}

// Ledger reads payment's ledger of an order.
func (c *Client) Ledger(ctx context.Context, id string) (l payment.Ledger, err error) {
	err = c.call(ctx, http.StatusOK, &l, http.MethodGet, "/v1/orders/"+id+"/payment", nil)
	return l, err
}

// Notifications reads what the customer was told.
func (c *Client) Notifications(ctx context.Context, id string) (list []order.Notification, err error) {
	err = c.call(ctx, http.StatusOK, &list, http.MethodGet, "/v1/orders/"+id+"/notifications", nil)
	return list, err
}

// Stock reads what there is of an article.
func (c *Client) Stock(ctx context.Context, sku string) (s inventory.Stock, err error) {
	err = c.call(ctx, http.StatusOK, &s, http.MethodGet, "/v1/stock/"+sku, nil)
	return s, err
}

// Restock says how many pieces of an article are available.
func (c *Client) Restock(ctx context.Context, sku string, n int) error {
	return c.call(ctx, http.StatusOK, nil, http.MethodPut, "/v1/stock/"+sku, map[string]int{"available": n})
}

// Webhook sends signed news. It is one of the Webhook functions' bodies.
func (c *Client) Webhook(ctx context.Context, from string, body any) (Answer, error) {
	content, isBytes := body.([]byte)
	if !isBytes {
		var err error
		if content, err = json.Marshal(body); err != nil {
			return Answer{}, err
		}
	}
	return c.Do(ctx, http.MethodPost, "/webhooks/"+from, content, signature.Header, signature.Sign([]byte(c.Secret), content, time.Now()))
}

// Tell sends signed news that have to be taken.
func (c *Client) Tell(ctx context.Context, from string, body any) error {
	a, err := c.Webhook(ctx, from, body)
	if err != nil {
		return err
	}
	if a.Status/100 != 2 {
		return &Error{a, "POST /webhooks/" + from}
	}
	return nil
}

// Bodies of webhooks.

// PaymentOf is the gateway's news of an order's payment.
func PaymentOf(v order.View, id, kind, transaction string) map[string]any {
	return map[string]any{"id": id, "type": kind, "order_id": v.ID, "transaction_id": transaction, "amount": v.Total, "currency": v.Currency}
}

// FraudOf is the fraud check's decision: pass or fail.
func FraudOf(order, id, decision string) map[string]any {
	return map[string]any{"id": id, "order_id": order, "decision": decision}
}

// PackedOf is the warehouse's news.
func PackedOf(order, id string) map[string]any {
	return map[string]any{"id": id, "type": "packed", "order_id": order}
}

// ScanOf is the carrier's news.
func ScanOf(order, id string) map[string]any {
	return map[string]any{"id": id, "type": "scan", "order_id": order}
}

// Until reads an order until it is as wanted, or ctx is done.
func (c *Client) Until(ctx context.Context, id string, as func(order.View) bool) (v order.View, err error) {
	for {
		if v, err = c.Order(ctx, id); err == nil && as(v) {
			return v, nil
		}
		if err != nil && c.Patience == 0 {
			return v, err
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return v, fmt.Errorf("order %s is %s (steps %v): %w", id, v.State, v.Steps, ctx.Err())
		}
	}
}

// In tells whether an order is in a state, with nothing being undone.
func In(s order.State) func(order.View) bool {
	return func(v order.View) bool { return v.State == s && v.CompensatingTo == "" }
}
