// Package tour plays every path of an order against the real shop, prints what happens, and checks how it ends. It is the
// customer and the world outside: it clicks, and sends webhooks, over HTTP.
package tour

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/sagamill/sagamill/examples/ordersaga/app"
	"github.com/sagamill/sagamill/examples/ordersaga/client"
)

const secret = "whsec_tour"

// Run plays all scenes, and then the one in which the process is killed. It returns what did not end as it should.
func Run(ctx context.Context, out io.Writer) (err error) {
	began := time.Now()
	dir, err := os.MkdirTemp("", "ordersaga-tour")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	t := &tour{out: out, dir: dir}
	defer func() { err = errors.Join(err, t.close()) }()

	t.say("An order and everything that can happen to it. Each line is a transition that\nis durable; on the right is what the shop was told.\n")
	for _, s := range scenes {
		t.play(ctx, s)
	}
	t.playKilled(ctx)
	t.say("%d scenes, %d checks, %d failed, in %s", t.played, t.checks, len(t.failures), time.Since(began).Round(100*time.Millisecond))
	if len(t.failures) > 0 {
		return fmt.Errorf("not as expected (%d):\n%w", len(t.failures), errors.Join(t.failures...))
	}
	return nil
}

// tour is the stage: the shops that scenes play in, and the record of what went wrong.
type tour struct {
	out   io.Writer
	dir   string
	shops map[bool]*stage // by whether the customers' time runs fast

	played, checks int
	failures       []error
}

// stage is a shop, and a gate that can be shut before a service tells of what it has done.
type stage struct {
	*client.Client
	app  *app.App
	gate *gate
}

// line prints what happened, and what the shop had been told before.
func (t *tour) line(what, why, told string) {
	t.say("%s", strings.TrimRight(fmt.Sprintf("  %-28s %-22s %s", what, why, told), " "))
}

func (t *tour) say(format string, args ...any) { _, _ = fmt.Fprintf(t.out, format+"\n", args...) }

// stage opens a shop when it is first needed.
func (t *tour) stage(ctx context.Context, hasty bool) (*stage, error) {
	if s := t.shops[hasty]; s != nil {
		return s, nil
	}
	g := &gate{}
	config := config(filepath.Join(t.dir, fmt.Sprintf("shop-%t.db", hasty)))
	config.Commit = g.pass
	if hasty {
		config.ReserveTTL, config.PaymentTimeout = 300*time.Millisecond, 300*time.Millisecond
	}
	a, err := app.Start(ctx, config, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	s := &stage{Client: &client.Client{URL: a.URL, Secret: secret}, app: a, gate: g}
	if t.shops == nil {
		t.shops = map[bool]*stage{}
	}
	t.shops[hasty] = s
	return s, nil
}

func (t *tour) close() error {
	var errs []error
	for _, s := range t.shops {
		s.gate.open("")
		errs = append(errs, s.app.Close())
	}
	return errors.Join(errs...)
}

// config is that of a shop on a file, in which nothing happens by itself.
func config(file string) app.Config {
	return app.Config{
		Listen: "127.0.0.1:0", Store: "sqlite:" + file, Broker: "gochannel:", Services: "order,inventory,payment,fulfillment",
		ReserveTTL: 15 * time.Minute, PaymentTimeout: 10 * time.Minute, IdempotencyTTL: 24 * time.Hour, WebhookSecret: secret,
		Resend: 100 * time.Millisecond, Lease: 300 * time.Millisecond,
	}
}

// gate stands between a service's commit and what follows from it.
type gate struct {
	mu   sync.Mutex
	shut map[string]chan struct{}
}

func (g *gate) pass(of string) {
	g.mu.Lock()
	shut := g.shut[of]
	g.mu.Unlock()
	if shut != nil {
		<-shut
	}
}

// close keeps a service's answers back until open.
func (g *gate) close(of string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut == nil {
		g.shut = map[string]chan struct{}{}
	}
	g.shut[of] = make(chan struct{})
}

// open lets go of a service's answers; of all services' if none is named.
func (g *gate) open(of string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for name, c := range g.shut {
		if of == "" || name == of {
			close(c)
			delete(g.shut, name)
		}
	}
}
