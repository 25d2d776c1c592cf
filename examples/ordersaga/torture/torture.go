// Package torture runs the shop in many processes, and does to them what can happen: it kills them (SIGKILL) at random and right
// after commits, restarts database and broker under them, and lets messages come twice and late. Customers buy meanwhile. In the
// end each of them has one order, each order has come to an end, and all books fit; otherwise it fails.
package torture

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sagamill/sagamill/examples/ordersaga/app"
	"github.com/sagamill/sagamill/examples/ordersaga/audit"
	"github.com/sagamill/sagamill/examples/ordersaga/client"
	"github.com/sagamill/sagamill/examples/ordersaga/inventory"
	"github.com/sagamill/sagamill/examples/ordersaga/payment"
)

// options are the flags.
type options struct {
	store, broker, idempotency  string
	minutes                     float64
	orchestrators, services     int
	customers                   int
	killEvery, restartEvery     time.Duration
	restartStore, restartBroker string
	seed                        uint64
	logs                        string
}

func parse(args []string) (o options, err error) {
	f := flag.NewFlagSet("ordersaga torture", flag.ContinueOnError)
	f.StringVar(&o.store, "store", "", "as of serve; empty: a scratch file")
	f.StringVar(&o.broker, "broker", "gochannel:", "as of serve; with gochannel: there is one process that runs all services")
	f.StringVar(&o.idempotency, "idempotency", "", "as of serve")
	f.Float64Var(&o.minutes, "minutes", 1, "how long customers come and processes are killed")
	f.IntVar(&o.orchestrators, "orchestrators", 3, "how many processes run the order service")
	f.IntVar(&o.services, "services", 1, "how many processes run each of the other services")
	f.IntVar(&o.customers, "customers", 8, "how many customers buy at the same time")
	f.DurationVar(&o.killEvery, "kill-every", 2*time.Second, "how long a process lives, on average, for each process that there is")
	f.StringVar(&o.restartStore, "restart-store", "", "a shell `command` that restarts the database; empty: it is left alone")
	f.StringVar(&o.restartBroker, "restart-broker", "", "a shell `command` that restarts the broker")
	f.DurationVar(&o.restartEvery, "restart-every", time.Minute, "how often either is restarted")
	f.Uint64Var(&o.seed, "seed", 0, "of the dice; 0: another one each time")
	f.StringVar(&o.logs, "logs", "", "a `file` for what the processes log; empty: the last of it is shown when something is wrong")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("torture takes flags only, not %q", f.Args())
	}
	if o.minutes <= 0 || o.orchestrators < 1 || o.services < 1 || o.customers < 1 || o.killEvery <= 0 || o.restartEvery <= 0 {
		return o, errors.New("--minutes, --orchestrators, --services, --customers, --kill-every and --restart-every must be positive")
	}
	if o.seed == 0 {
		o.seed = mathrand.Uint64N(1 << 32)
	}
	if o.store == "memory:" {
		return o, errors.New("--store memory: does not survive a kill: take sqlite:PATH, postgres://... or mysql://...")
	}
	return o, nil
}

// serve is the flags of a process.
func (o options) serve(services, secret string) []string {
	if o.broker == "gochannel:" {
		services = strings.Join([]string{app.Order, app.Inventory, app.Payment, app.Fulfillment}, ",")
	}
	return []string{"--listen", "127.0.0.1:0", "--store", o.store, "--broker", o.broker, "--idempotency", o.idempotency, "--services", services,
		"--webhook-secret", secret, "--reserve-ttl", "10s", "--payment-timeout", "10s"}
}

// torture is a run.
type torture struct {
	options
	out       io.Writer
	run       string // its name: that of the tenant, and part of its articles' names
	processes []*process
	shop      shop

	kills, stillborn, suicides, broken, restarts atomic.Int64
	placed                                       atomic.Int64

	mu         sync.Mutex
	violations []error
	dice       *mathrand.Rand
}

// shop is the services, each through the processes that run it.
type shop struct{ orders, inventory, payment *client.Client }

// Ledger is empty for an order of which payment has never heard.
func (s shop) Ledger(ctx context.Context, order string) (payment.Ledger, error) {
	l, err := s.payment.Ledger(ctx, order)
	if refused := (*client.Error)(nil); errors.As(err, &refused) && refused.Status == http.StatusNotFound {
		return payment.Ledger{}, nil
	}
	return l, err
}

func (s shop) Stock(ctx context.Context, sku string) (inventory.Stock, error) {
	return s.inventory.Stock(ctx, sku)
}

// Run tortures. What it returns is what was wrong.
func Run(ctx context.Context, args []string, brokers map[string]app.OpenBroker, out io.Writer) (err error) {
	o, err := parse(args)
	if err != nil {
		return err
	}
	t := &torture{options: o, out: out, run: "torture-" + strings.ToLower(rand.Text()[:10]), dice: mathrand.New(mathrand.NewPCG(o.seed, 1))}
	dir, err := os.MkdirTemp("", "ordersaga-torture")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if t.store == "" {
		t.store = "sqlite:" + filepath.Join(dir, "shop.db")
	}
	if _, err := app.Parse(t.serve(app.Order, "x"), func(string) string { return "" }, brokers); err != nil {
		return err
	}
	name := t.logs
	if name == "" {
		name = filepath.Join(dir, "log")
	}
	log, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	t.place(log)
	err = t.play(ctx)
	if err != nil && t.logs == "" {
		t.showLog(name)
	}
	return err
}

// place makes the places of the processes.
func (t *torture) place(log io.Writer) {
	secret, of := rand.Text(), map[string][]*process{}
	add := func(service string, n int) {
		for range n {
			p := &process{service: service, args: t.serve(service, secret), log: log}
			t.processes, of[service] = append(t.processes, p), append(of[service], p)
		}
	}
	if t.broker == "gochannel:" {
		add(app.Order, 1)
		of[app.Inventory], of[app.Payment] = of[app.Order], of[app.Order]
	} else {
		add(app.Order, t.orchestrators)
		for _, s := range []string{app.Inventory, app.Payment, app.Fulfillment} {
			add(s, t.services)
		}
	}
	to := func(service string) *client.Client {
		h, _ := clientOf(of[service]) // its connections end with the process
		return &client.Client{URL: "http://localhost", Secret: secret, Tenant: t.run, HTTP: h, Patience: 5 * time.Minute}
	}
	t.shop = shop{to(app.Order), to(app.Inventory), to(app.Payment)}
}

func (t *torture) say(format string, args ...any) { _, _ = fmt.Fprintf(t.out, format+"\n", args...) }

func (t *torture) violation(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.violations = append(t.violations, err)
}

// random is a duration of that mean.
func (t *torture) random(mean time.Duration) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return min(time.Duration(t.dice.ExpFloat64()*float64(mean)), 5*mean)
}

func (t *torture) chance(n int) bool { return t.number(n) == 0 }

func (t *torture) number(n int) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.dice.IntN(n)
}

const common = 1_000_000 // pieces of the article of which there is plenty

func (t *torture) play(ctx context.Context) (err error) {
	t.say("%d processes for %.1f minutes; seed %d, tenant %s", len(t.processes), t.minutes, t.seed, t.run)
	defer func() {
		for _, p := range t.processes {
			err = errors.Join(err, p.finish())
		}
	}()
	for _, p := range t.processes {
		if err := p.start(""); err != nil {
			return err
		}
	}
	phones, rare := t.run+"-phone", t.run+"-rare"
	stock := map[string]int64{phones: common, rare: 20}
	for sku, n := range stock {
		if err := t.shop.inventory.Restock(ctx, sku, int(n)); err != nil {
			return err
		}
	}
	t.torment(ctx, phones, rare)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return t.judge(ctx, stock)
}

// torment lets customers buy and processes die until the time is over, and then the customers finish.
func (t *torture) torment(ctx context.Context, phones, rare string) {
	during, cancel := context.WithTimeout(ctx, time.Duration(t.minutes*float64(time.Minute)))
	defer cancel()
	var customers, tormentors sync.WaitGroup
	for range t.customers {
		customers.Go(func() {
			for during.Err() == nil {
				number := int(t.placed.Add(1) - 1)
				who := Customer{Number: number, Common: phones, Rare: rare, Regret: t.random(300 * time.Millisecond)}
				if err := Buy(ctx, t.shop.orders, who); err != nil {
					t.violation(fmt.Errorf("customer %d: %w", number, err))
				}
			}
		})
	}
	for _, p := range t.processes {
		tormentors.Go(func() { t.killAgainAndAgain(during, p) })
	}
	for what, command := range map[string]string{"store": t.restartStore, "broker": t.restartBroker} {
		if command != "" {
			tormentors.Go(func() { t.restartAgainAndAgain(during, what, command) })
		}
	}
	tormentors.Go(func() { t.tell(during) })
	tormentors.Wait()
	t.say("%s: no more kills; what is under way is waited for", t.progress())
	customers.Wait()
}

func (t *torture) killAgainAndAgain(ctx context.Context, p *process) {
	for {
		how, err := p.live(ctx, t.random(t.killEvery*time.Duration(len(t.processes))), t.chance(10))
		switch how {
		case killed:
			t.kills.Add(1)
		case stillborn:
			t.kills.Add(1)
			t.stillborn.Add(1)
		case suicide:
			t.kills.Add(1)
			t.suicides.Add(1)
		case broken:
			t.broken.Add(1)
			if t.restartStore == "" && t.restartBroker == "" {
				t.violation(err)
			}
			time.Sleep(500 * time.Millisecond) // as whoever starts processes again does
		}
		at := ""
		if ctx.Err() == nil && t.chance(2) {
			at = t.suicide(p)
		}
		if err := p.start(at); err != nil {
			t.violation(err)
			return
		}
		if ctx.Err() != nil && at == "" {
			return // this one stays
		}
	}
}

// suicide says after which commit a process ends by itself.
func (t *torture) suicide(p *process) string {
	service := p.service
	if t.broker == "gochannel:" {
		service = []string{app.Order, app.Inventory, app.Payment, app.Fulfillment}[t.number(4)]
	}
	return fmt.Sprint(service, " ", 1+t.number(40))
}

func (t *torture) restartAgainAndAgain(ctx context.Context, what, command string) {
	for {
		select {
		case <-time.After(t.random(t.restartEvery)):
		case <-ctx.Done():
			return
		}
		output, err := exec.Command("sh", "-c", command).CombinedOutput()
		if err != nil {
			t.violation(fmt.Errorf("restart the %s: %w: %s", what, err, output))
			return
		}
		t.restarts.Add(1)
	}
}

// tell tells how it goes.
func (t *torture) tell(ctx context.Context) {
	tick := time.NewTicker(10 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			t.say("%s", t.progress())
		case <-ctx.Done():
			return
		}
	}
}

func (t *torture) progress() string {
	return fmt.Sprintf("%d kills (%d right after a commit, %d before it served), %d restarts of servers (%d processes gave up), %d customers",
		t.kills.Load(), t.suicides.Load(), t.stillborn.Load(), t.restarts.Load(), t.broken.Load(), t.placed.Load())
}

// judge waits for the end of all orders, and checks the books.
func (t *torture) judge(ctx context.Context, stock map[string]int64) (err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	books, err := audit.Open(ctx, t.store, t.run)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, books.Close()) }()
	if err := books.UntilEnd(ctx); err != nil {
		t.violation(err)
	}
	count, violations := books.Check(ctx, t.shop, stock)
	for _, v := range violations {
		t.violation(v)
	}
	orders := 0
	for _, n := range count {
		orders += n
	}
	if int64(orders) != t.placed.Load() {
		t.violation(fmt.Errorf("%d customers have %d orders", t.placed.Load(), orders))
	}
	for k, v := range t.violations {
		if k == 20 {
			t.say("... and %d more", len(t.violations)-k)
			break
		}
		t.say("VIOLATION: %v", v)
	}
	t.say("%s, %d orders %v, %d violations", t.progress(), orders, count, len(t.violations))
	if len(t.violations) > 0 {
		return errors.New("not all is as it should be")
	}
	return nil
}

func (t *torture) showLog(name string) {
	text, err := os.ReadFile(name)
	if err != nil {
		return
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	lines = slices.DeleteFunc(lines, func(l string) bool { return strings.Contains(l, "level=INFO") })
	t.say("the last that the processes logged:\n%s", strings.Join(lines[max(0, len(lines)-40):], "\n"))
}
