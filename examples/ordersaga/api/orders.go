package api

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"regexp"
	"strconv"

	"github.com/sagamill/sagamill/examples/ordersaga/contract"
	"github.com/sagamill/sagamill/examples/ordersaga/order"
	"github.com/sagamill/sagamill/idempotency"
	"github.com/sagamill/sagamill/saga"
)

// placement is the body of POST /v1/orders.
type placement struct {
	CustomerID      string           `json:"customer_id"`
	Currency        string           `json:"currency"`
	Lines           []order.Line     `json:"lines"`
	ShippingAddress contract.Address `json:"shipping_address"`
	PaymentMethod   string           `json:"payment_method"`
}

// What is asked of a placement. The limits keep every total within what JSON numbers hold exactly.
const (
	maxLines    = 100
	maxQuantity = 10_000
	maxPrice    = 1_000_000_000
	maxText     = 200
)

var (
	currency = regexp.MustCompile(`^[A-Z]{3}$`)
	country  = regexp.MustCompile(`^[A-Z]{2}$`)
	name     = regexp.MustCompile(`^[!-~]{1,64}$`) // of an article, a payment method
)

func (p *placement) check() error {
	switch {
	case p.CustomerID == "" || len(p.CustomerID) > maxText:
		return badRequest("customer_id has 1 to %d bytes.", maxText)
	case !currency.MatchString(p.Currency):
		return badRequest("currency is three capital letters, as EUR.")
	case len(p.Lines) == 0 || len(p.Lines) > maxLines:
		return badRequest("lines has 1 to %d lines.", maxLines)
	case !name.MatchString(p.PaymentMethod):
		return badRequest("payment_method has 1 to 64 visible ASCII characters.")
	}
	for k, l := range p.Lines {
		switch {
		case !name.MatchString(l.SKU):
			return badRequest("lines[%d].sku has 1 to 64 visible ASCII characters.", k)
		case l.Quantity < 1 || l.Quantity > maxQuantity:
			return badRequest("lines[%d].quantity is from 1 to %d.", k, maxQuantity)
		case l.UnitPrice < 0 || l.UnitPrice > maxPrice:
			return badRequest("lines[%d].unit_price is from 0 to %d, in minor units.", k, maxPrice)
		}
	}
	a := p.ShippingAddress
	for _, f := range []struct{ name, value string }{{"name", a.Name}, {"line1", a.Line1}, {"city", a.City}, {"postal_code", a.PostalCode}} {
		if f.value == "" || len(f.value) > maxText {
			return badRequest("shipping_address.%s has 1 to %d bytes.", f.name, maxText)
		}
	}
	if !country.MatchString(a.Country) {
		return badRequest("shipping_address.country is two capital letters, as DE.")
	}
	return nil
}

func (a *api) place(w http.ResponseWriter, r *http.Request) error {
	var p placement
	if err := read(w, r, &p); err != nil {
		return err
	}
	if err := p.check(); err != nil {
		return err
	}
	request, _ := idempotency.FromContext(r.Context())
	placed, err := a.Orders.Place(r.Context(), request.Key.Tenant, order.Placement{
		Customer: p.CustomerID, Currency: p.Currency, Lines: p.Lines, Address: p.ShippingAddress, PaymentMethod: p.PaymentMethod,
	}, saga.RequestKey{Key: request.Key.String(), Fingerprint: request.Fingerprint[:], TTL: a.IdempotencyTTL})
	if err != nil {
		return err
	}
	idempotency.Hold(r.Context(), placed.ID)
	w.Header().Set("Location", "/v1/orders/"+placed.ID)
	if placed.Replay { // the middleware had forgotten the request, the saga store had not
		w.Header().Set(idempotency.ReplayedHeader, "true")
	}
	writeBody(w, http.StatusCreated, "application/json", placed.Body)
	return nil
}

// click hands a click on to the order, under the request's key. These calls have no body, or an empty object.
func (a *api) click(event order.Event) handle {
	return func(w http.ResponseWriter, r *http.Request) error {
		if r.ContentLength != 0 {
			if err := read(w, r, &struct{}{}); err != nil {
				return err
			}
		}
		request, _ := idempotency.FromContext(r.Context())
		id := sha256.Sum256([]byte(request.Key.String()))
		v, err := a.Orders.Click(r.Context(), request.Key.Tenant, r.PathValue("id"), event, hex.EncodeToString(id[:]))
		if err != nil {
			return err
		}
		writeJSON(w, http.StatusAccepted, "application/json", v)
		return nil
	}
}

func (a *api) get(w http.ResponseWriter, r *http.Request) error {
	t, err := tenant(r)
	if err != nil {
		return err
	}
	v, err := a.Orders.Get(r.Context(), t, r.PathValue("id"))
	if err != nil {
		return err
	}
	return ok(w, v)
}

const maxPage = 200

func (a *api) list(w http.ResponseWriter, r *http.Request) error {
	t, err := tenant(r)
	if err != nil {
		return err
	}
	q := r.URL.Query()
	for name := range q {
		if name != "state" && name != "limit" && name != "after" {
			return badRequest("The query has %q; it takes state, limit and after.", name)
		}
	}
	limit := 50
	if text := q.Get("limit"); text != "" {
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > maxPage {
			return badRequest("limit is from 1 to %d.", maxPage)
		}
	}
	state := order.State(q.Get("state"))
	if state != "" && !order.Known(state) {
		return badRequest("There is no state %q.", state)
	}
	orders, next, err := a.Orders.List(r.Context(), t, state, limit, q.Get("after"))
	if err != nil {
		return err
	}
	return ok(w, map[string]any{"orders": orders, "next": next})
}

func (a *api) notifications(w http.ResponseWriter, r *http.Request) error {
	t, err := tenant(r)
	if err != nil {
		return err
	}
	list, err := a.Orders.Notifications(r.Context(), t, r.PathValue("id"))
	if err != nil {
		return err
	}
	return ok(w, list)
}

// ledger shows payment's own ledger. Where the order service runs beside it, an order without payments is known, too.
func (a *api) ledger(w http.ResponseWriter, r *http.Request) error {
	t, err := tenant(r)
	if err != nil {
		return err
	}
	if a.Orders != nil {
		if err := a.Orders.Exists(r.Context(), t, r.PathValue("id")); err != nil {
			return err
		}
	}
	l, err := a.Payment.Ledger(r.Context(), t, r.PathValue("id"))
	if err != nil {
		return err
	}
	if a.Orders == nil && len(l.Entries) == 0 {
		return fmt.Errorf("%w: %s", order.ErrNotFound, r.PathValue("id"))
	}
	return ok(w, l)
}

func (a *api) stock(w http.ResponseWriter, r *http.Request) error {
	s, err := a.Inventory.Stock(r.Context(), r.PathValue("sku"))
	if err != nil {
		return err
	}
	return ok(w, s)
}

const maxStock = 1_000_000_000

func (a *api) restock(w http.ResponseWriter, r *http.Request) error {
	if err := a.admin(w, r); err != nil {
		return err
	}
	var body struct {
		Available *int64 `json:"available"`
	}
	if err := read(w, r, &body); err != nil {
		return err
	}
	if body.Available == nil || *body.Available < 0 || *body.Available > maxStock {
		return badRequest("available is from 0 to %d.", maxStock)
	}
	if sku := r.PathValue("sku"); !name.MatchString(sku) {
		return badRequest("A SKU has 1 to 64 visible ASCII characters.")
	}
	s, err := a.Inventory.Restock(r.Context(), r.PathValue("sku"), *body.Available)
	if err != nil {
		return err
	}
	return ok(w, s)
}
