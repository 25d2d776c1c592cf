// Package api serves the shop over HTTP: JSON in and out, strictly read, problems told as RFC 9457 says.
package api

import (
	"cmp"
	"context"
	"crypto/subtle"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/sagamill/sagamill/examples/ordersaga/inventory"
	"github.com/sagamill/sagamill/examples/ordersaga/order"
	"github.com/sagamill/sagamill/examples/ordersaga/payment"
	"github.com/sagamill/sagamill/idempotency"
	"github.com/sagamill/sagamill/saga"
	"github.com/sagamill/sagamill/saga/operator"
)

// Services are what there is to serve. What this process does not run is nil; calls for it are answered 404.
type Services struct {
	Orders    *order.Service
	Sagas     *saga.Orchestrator // the orders', for operators
	Inventory *inventory.Inventory
	Payment   *payment.Payment
	Metrics   http.Handler

	Keys           idempotency.Store
	IdempotencyTTL time.Duration
	Lease          time.Duration // how long a crashed process' requests are left alone; 0: the default
	WebhookSecret  []byte
	AdminToken     string // empty: the admin calls are served on loopback only
	Ready          func(context.Context) error
	Logger         *slog.Logger
}

const maxBody = 1 << 20

// api is the handlers.
type api struct{ Services }

// handle is a call that may fail.
type handle func(w http.ResponseWriter, r *http.Request) error

// Handler serves the API and the page.
func Handler(s Services) (http.Handler, error) {
	a := &api{s}
	mux := http.NewServeMux()
	route := func(pattern string, h handle) { mux.Handle(pattern, a.serve(h)) }
	if s.Orders != nil {
		once, err := idempotency.Middleware(s.Keys, idempotency.Config{
			Tenant: tenant, TTL: s.IdempotencyTTL, Lease: s.Lease, MaxBody: maxBody, Logger: s.Logger,
		})
		if err != nil {
			return nil, err
		}
		mux.Handle("POST /v1/orders", once(a.serve(a.place)))
		mux.Handle("POST /v1/orders/{id}/pay", once(a.serve(a.click(order.PayClicked))))
		mux.Handle("POST /v1/orders/{id}/cancel", once(a.serve(a.click(order.CancelClicked))))
		route("GET /v1/orders", a.list)
		route("GET /v1/orders/{id}", a.get)
		route("GET /v1/orders/{id}/notifications", a.notifications)
		route("POST /webhooks/payment", a.paymentWebhook)
		route("POST /webhooks/fraud", a.fraudWebhook)
		route("POST /webhooks/warehouse", a.warehouseWebhook)
		route("POST /webhooks/carrier", a.carrierWebhook)
	}
	if s.Sagas != nil {
		desk, err := operator.Handler(s.Sagas, operator.Config{Who: operatorOf, Logger: s.Logger})
		if err != nil {
			return nil, err
		}
		desk = http.StripPrefix("/admin", desk)
		route("/admin/", func(w http.ResponseWriter, r *http.Request) error {
			if err := a.admin(w, r); err != nil {
				return err
			}
			desk.ServeHTTP(w, r)
			return nil
		})
	}
	if s.Payment != nil {
		route("GET /v1/orders/{id}/payment", a.ledger)
	}
	if s.Inventory != nil {
		route("GET /v1/stock/{sku}", a.stock)
		route("PUT /v1/stock/{sku}", a.restock)
	}
	mux.Handle("GET /metrics", s.Metrics)
	route("GET /healthz", func(w http.ResponseWriter, _ *http.Request) error { return ok(w, map[string]string{"status": "alive"}) })
	route("GET /readyz", a.ready)
	mux.Handle("GET /{$}", page())
	route("/", func(_ http.ResponseWriter, r *http.Request) error {
		return fault(http.StatusNotFound, "There is no %s %s here.", r.Method, r.URL.Path)
	})
	origins := http.NewCrossOriginProtection()
	origins.SetDenyHandler(a.serve(func(http.ResponseWriter, *http.Request) error {
		return fault(http.StatusForbidden, "A page of another origin may not do this.")
	}))
	return origins.Handler(methods(mux)), nil
}

// serve makes problems of errors.
func (a *api) serve(h handle) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := h(w, r)
		if err == nil {
			return
		}
		p := problemOf(err)
		if p.Status >= 500 && r.Context().Err() == nil {
			a.Logger.ErrorContext(r.Context(), "request failed", "method", r.Method, "path", r.URL.Path, "error", err)
		} else if strings.HasPrefix(r.URL.Path, "/webhooks/") { // whoever sends them is not at a screen
			a.Logger.WarnContext(r.Context(), "webhook refused", "path", r.URL.Path, "status", p.Status, "error", err)
		}
		if p.Status == http.StatusServiceUnavailable {
			w.Header().Set("Retry-After", "1")
		}
		writeJSON(w, p.Status, "application/problem+json", p)
	})
}

// methods answers calls with a method that their path does not have, which ServeMux would tell in plain text.
func methods(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, pattern := mux.Handler(r); pattern == "/" {
			var allowed []string
			for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut} {
				probe := &http.Request{Method: method, URL: r.URL, Host: r.Host}
				if _, p := mux.Handler(probe); p != "/" {
					allowed = append(allowed, method)
				}
			}
			if len(allowed) > 0 {
				w.Header().Set("Allow", strings.Join(allowed, ", "))
				p := fault(http.StatusMethodNotAllowed, "%s takes %s.", r.URL.Path, strings.Join(allowed, " or "))
				writeJSON(w, p.Status, "application/problem+json", p)
				return
			}
		}
		mux.ServeHTTP(w, r)
	})
}

func ok(w http.ResponseWriter, v any) error {
	writeJSON(w, http.StatusOK, "application/json", v)
	return nil
}

var tenantName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// tenant says whose request it is.
func tenant(r *http.Request) (string, error) {
	switch values := r.Header.Values("Tenant-ID"); {
	case len(values) == 0:
		return "default", nil
	case len(values) == 1 && tenantName.MatchString(values[0]):
		return values[0], nil
	}
	return "", badRequest("Tenant-ID is one header of 1 to 64 letters, digits, dots, hyphens and underscores.")
}

// readBody reads a request's body.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return nil, fault(http.StatusRequestEntityTooLarge, "A body has at most %d bytes.", maxBody)
	}
	if err != nil {
		return nil, badRequest("The body ended early.")
	}
	return body, nil
}

// read reads a request's body strictly into v.
func read(w http.ResponseWriter, r *http.Request, v any) error {
	body, err := readBody(w, r)
	if err != nil {
		return err
	}
	if err := decode(body, v); err != nil {
		return badRequest("The body cannot be read: %s.", err)
	}
	return nil
}

// operatorOf names the person who looks after sagas: whoever has the admin token says who it is. To look, nobody needs a name.
func operatorOf(r *http.Request) (string, error) {
	name := r.Header.Get("Operator")
	if name == "" && r.Method != http.MethodGet {
		return "", errors.New("say who you are, for the history: Operator: your name")
	}
	return cmp.Or(name, "somebody"), nil
}

// admin tells whether the caller may change the stock, and see to sagas.
func (a *api) admin(w http.ResponseWriter, r *http.Request) error {
	if a.AdminToken == "" {
		// A proxy, or a page whose name was rebound, comes from loopback as well; neither calls us by that name.
		proxied := r.Header.Get("X-Forwarded-For") != "" || r.Header.Get("Forwarded") != ""
		if proxied || !loopback(r.RemoteAddr) || !loopback(r.Host) {
			return fault(http.StatusForbidden, "Without --admin-token this call is served on loopback only.")
		}
		return nil
	}
	token, found := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !found || subtle.ConstantTimeCompare([]byte(token), []byte(a.AdminToken)) != 1 {
		w.Header().Set("WWW-Authenticate", "Bearer")
		return fault(http.StatusUnauthorized, "This call needs the admin token: Authorization: Bearer ...")
	}
	return nil
}

// loopback tells whether an address, with or without a port, is this machine's own.
func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = address
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (a *api) ready(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	if err := a.Ready(ctx); err != nil {
		a.Logger.WarnContext(ctx, "not ready", "error", err)
		return fault(http.StatusServiceUnavailable, "Something this process depends on does not answer.")
	}
	return ok(w, map[string]string{"status": "ready"})
}
