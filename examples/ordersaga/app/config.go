// Package app puts the shop together: it opens stores and broker, and runs the services of this process.
package app

import (
	"cmp"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sagamill/sagamill/examples/ordersaga/data"
	"github.com/sagamill/sagamill/idempotency"
)

// Config says what a process runs, and on what.
type Config struct {
	Listen      string
	Store       string
	Broker      string
	Idempotency string
	Services    string

	Simulate       bool
	ReserveTTL     time.Duration
	PaymentTimeout time.Duration
	IdempotencyTTL time.Duration
	WebhookSecret  string
	AdminToken     string

	// What only tests and the tour set.
	Resend time.Duration     // before a command is sent again at first; 0: the engine's default
	Lease  time.Duration     // how long a crashed process' steps and requests are left alone; 0: the defaults
	Pace   time.Duration     // how long the simulated world takes for anything
	Keys   idempotency.Store // instead of the store's own idempotency keys
	Commit func(of string)   // called after each commit of a saga, or of a service's command
}

// The services.
const (
	Order       = data.Main
	Inventory   = "inventory"
	Payment     = "payment"
	Fulfillment = "fulfillment"
)

var allServices = []string{Order, Inventory, Payment, Fulfillment}

// Parse reads the flags of serve. Each is also an environment variable: ORDERSAGA_ and the flag in capitals, with underscores.
func Parse(args []string, getenv func(string) string) (Config, error) {
	c := Config{Pace: 200 * time.Millisecond}
	f := flag.NewFlagSet("ordersaga serve", flag.ContinueOnError)
	f.StringVar(&c.Listen, "listen", "127.0.0.1:8080", "HTTP `address`")
	f.StringVar(&c.Store, "store", "sqlite:ordersaga.db", "where sagas and services keep their data: memory: or sqlite:`PATH`")
	f.StringVar(&c.Broker, "broker", "gochannel:", "what carries the messages: gochannel:")
	f.StringVar(&c.Idempotency, "idempotency", "", "where idempotency keys are kept: empty means the store's own")
	f.StringVar(&c.Services, "services", strings.Join(allServices, ","), "the services that this process runs")
	f.BoolVar(&c.Simulate, "simulate", true, "the world outside acts by itself; false: all of it comes in by webhooks")
	f.DurationVar(&c.ReserveTTL, "reserve-ttl", 15*time.Minute, "how long stock is reserved for an order that is not paid")
	f.DurationVar(&c.PaymentTimeout, "payment-timeout", 10*time.Minute, "how long the outcome of a payment is waited for")
	f.DurationVar(&c.IdempotencyTTL, "idempotency-ttl", 24*time.Hour, "how long idempotency keys are kept")
	f.StringVar(&c.WebhookSecret, "webhook-secret", "", "key of the webhooks' signatures; generated if empty")
	f.StringVar(&c.AdminToken, "admin-token", "", "bearer token of the admin calls; without it they are served on loopback only")
	var faults []error
	f.VisitAll(func(fl *flag.Flag) {
		key := "ORDERSAGA_" + strings.ToUpper(strings.ReplaceAll(fl.Name, "-", "_"))
		if value := getenv(key); value != "" {
			if err := fl.Value.Set(value); err != nil {
				faults = append(faults, fmt.Errorf("%s is %q: %w", key, value, err))
			}
		}
	})
	if err := f.Parse(args); err != nil {
		return c, err
	}
	if f.NArg() > 0 {
		faults = append(faults, fmt.Errorf("serve takes flags only, not %q", f.Args()))
	}
	return c, errors.Join(append(faults, c.check())...)
}

// check says what is wrong with the configuration; all of it.
func (c Config) check() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if err := data.Check(c.Store); err != nil && c.Store != "memory:" {
		faults = append(faults, err)
	}
	if c.Broker != "gochannel:" {
		fault("--broker is %q: it is gochannel:", c.Broker)
	}
	if c.Idempotency != "" {
		fault("--idempotency is %q: it is empty, the store's own", c.Idempotency)
	}
	for _, s := range c.services() {
		if !slices.Contains(allServices, s) {
			fault("--services has %q: there are %s", s, strings.Join(allServices, ", "))
		}
	}
	if c.Broker == "gochannel:" && len(c.services()) != len(allServices) {
		fault("--services leaves some out, but gochannel: carries messages within one process only: run them all")
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"reserve-ttl", c.ReserveTTL}, {"payment-timeout", c.PaymentTimeout}, {"idempotency-ttl", c.IdempotencyTTL}} {
		if d.value <= 0 {
			fault("--%s is %s: it must be positive", d.name, d.value)
		}
	}
	return errors.Join(faults...)
}

func (c Config) services() []string {
	var list []string
	for s := range strings.SplitSeq(c.Services, ",") {
		if s = strings.TrimSpace(s); s != "" && !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	return list
}

func (c Config) runs(service string) bool { return slices.Contains(c.services(), service) }

// secret is the webhooks' key. One that is generated is known to nobody else: then only the simulated world can sign.
func (c Config) secret() []byte { return []byte(cmp.Or(c.WebhookSecret, rand.Text())) }
