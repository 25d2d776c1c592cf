package main

import (
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/examples/ordersaga/app"
	"github.com/sagamill/sagamill/examples/ordersaga/client"
	"github.com/sagamill/sagamill/examples/ordersaga/order"
	"github.com/sagamill/sagamill/examples/ordersaga/outside"
)

const secret = "whsec_test"

// shop is a running shop, with a client of it.
type shop struct {
	*client.Client
	*app.App
	t   *testing.T
	log *logged
}

// logged is what a shop has logged.
type logged struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// open opens a shop on a file of its own. Nothing happens outside by itself, unless the configuration is changed.
func open(t *testing.T, change ...func(*app.Config)) *shop {
	t.Helper()
	config := app.Config{
		Listen: "127.0.0.1:0", Store: "sqlite:" + filepath.Join(t.TempDir(), "shop.db"), Broker: "gochannel:",
		Services: "order,inventory,payment,fulfillment", ReserveTTL: 15 * time.Minute, PaymentTimeout: 10 * time.Minute,
		IdempotencyTTL: 24 * time.Hour, WebhookSecret: secret, Resend: 100 * time.Millisecond, Lease: time.Second,
	}
	for _, c := range change {
		c(&config)
	}
	log := &logged{}
	a, err := app.Start(t.Context(), config, slog.New(slog.NewTextHandler(log, nil)))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, a.Close()) })
	return &shop{Client: &client.Client{URL: a.URL, Secret: secret}, App: a, t: t, log: log}
}

func (s *shop) ctx() context.Context {
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	s.t.Cleanup(cancel)
	return ctx
}

func phone(method string) client.Basket {
	return client.Basket{Lines: []order.Line{{SKU: "phone", Quantity: 1, UnitPrice: 79900}}, Method: method}
}

// until waits until an order is in a state.
func (s *shop) until(id string, state order.State) order.View {
	s.t.Helper()
	v, err := s.Until(s.ctx(), id, client.In(state))
	require.NoError(s.t, err)
	return v
}

func TestHappyPathByItself(t *testing.T) {
	t.Parallel()
	s := open(t, func(c *app.Config) { c.Simulate = true })
	require.NoError(t, s.Restock(s.ctx(), "phone", 10))
	v, err := s.Place(s.ctx(), "k1", phone(outside.Visa))
	require.NoError(t, err)
	v, err = s.Pay(s.ctx(), "k2", v.ID)
	require.NoError(t, err)
	require.NotEmpty(t, v.PaymentURL)
	v = s.until(v.ID, order.InTransit)
	require.NotEmpty(t, v.TrackingNumber)
	t.Logf("%+v", v)
	l, err := s.Ledger(s.ctx(), v.ID)
	require.NoError(t, err)
	t.Logf("%+v", l)
}
