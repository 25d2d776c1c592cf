// Package app puts the shop together: it opens stores and broker, and runs the services of this process.
package app

import (
	"cmp"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"

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

	Trouble *Trouble // what the messages suffer

	// Brokers are those that --broker may name besides the program's own, by the scheme of their URLs.
	Brokers map[string]OpenBroker
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
func Parse(args []string, getenv func(string) string, brokers map[string]OpenBroker) (Config, error) {
	c := Config{Pace: 200 * time.Millisecond, Brokers: brokers}
	f := flag.NewFlagSet("ordersaga serve", flag.ContinueOnError)
	f.StringVar(&c.Listen, "listen", "127.0.0.1:8080", "HTTP `address`")
	f.StringVar(&c.Store, "store", "sqlite:ordersaga.db", "where sagas and services keep their data: memory:, sqlite:`PATH`, postgres://... or mysql://...")
	f.StringVar(&c.Broker, "broker", "gochannel:", "what carries the messages: `URL` of "+strings.Join(c.schemes(), ", "))
	f.StringVar(&c.Idempotency, "idempotency", "", "where idempotency keys are kept: `redis://...`, or empty for the store's own")
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
	if scheme, _, found := strings.Cut(c.Broker, ":"); !found || c.brokers()[scheme] == nil {
		fault("--broker is %q: it is %s or a URL of %s", c.Broker, inProcess, strings.Join(c.schemes(), ", "))
	}
	if c.Idempotency != "" {
		if _, err := goredis.ParseURL(c.Idempotency); err != nil {
			fault("--idempotency is %q: it is redis://HOST:PORT/NUMBER, or empty for the store's own: %w", c.Idempotency, err)
		}
	}
	if len(c.services()) == 0 {
		fault("--services is empty: there are %s", strings.Join(allServices, ", "))
	}
	for _, s := range c.services() {
		if !slices.Contains(allServices, s) {
			fault("--services has %q: there are %s", s, strings.Join(allServices, ", "))
		}
	}
	if c.Broker == inProcess && len(c.services()) != len(allServices) {
		fault("--services leaves some out, but gochannel: carries messages within one process only: run them all")
	}
	if c.Store == "memory:" && len(c.services()) != len(allServices) {
		fault("--services leaves some out, but memory: keeps the simulated world within one process: run them all")
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

// schemes are those of the brokers that there are.
func (c Config) schemes() []string { return slices.Sorted(maps.Keys(c.brokers())) }

func (c Config) runs(service string) bool { return slices.Contains(c.services(), service) }

// secret is the webhooks' key. One that is generated is known to nobody else: then only the simulated world can sign.
func (c Config) secret() []byte { return []byte(cmp.Or(c.WebhookSecret, rand.Text())) }
