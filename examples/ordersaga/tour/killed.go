package tour

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sagamill/sagamill/examples/ordersaga/app"
	"github.com/sagamill/sagamill/examples/ordersaga/client"
	"github.com/sagamill/sagamill/examples/ordersaga/order"
)

// The last scene: another process runs the shop, and is killed (SIGKILL) after its first commit, then after its second, and
// so on through a whole order. Each time a new one finds in the files what the one before it left.

// Victim is the argument that makes a process the one that is killed.
const Victim = "victim"

// RunVictim runs a shop on a file at an address. It says where on out. For each number that it reads it is killed after so
// many more commits.
func RunVictim(ctx context.Context, args []string, out io.Writer) error {
	if len(args) != 2 {
		return errors.New("victim takes a file and an address: it is for the tour's own use")
	}
	var left atomic.Int64
	config := config(args[0])
	config.Listen = args[1]
	config.Commit = func(of string) {
		if left.Add(-1) == 0 {
			_, _ = fmt.Fprintln(out, "killed", of)
			self, err := os.FindProcess(os.Getpid())
			if err == nil {
				err = self.Kill()
			}
			if err == nil {
				select {} // nothing happens after the commit
			}
		}
	}
	a, err := app.Start(ctx, config, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintln(out, "serving", a.URL)
	go func() {
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			if n, err := strconv.ParseInt(in.Text(), 10, 64); err == nil {
				left.Store(n)
				_, _ = fmt.Fprintln(out, "armed")
			}
		}
	}()
	<-ctx.Done()
	return a.Close()
}

// victims are the processes, one after the other: when one ends the next begins, at the same address.
type victims struct {
	dir string

	mu      sync.Mutex
	address string
	process *exec.Cmd
	stdin   io.WriteCloser
	armed   chan struct{}
	kills   []string // whose commit each was killed after
	err     error
	closing bool
	ended   chan struct{}
}

func newVictims(dir string) *victims {
	return &victims{dir: dir, address: "127.0.0.1:0", armed: make(chan struct{}, 1), ended: make(chan struct{})}
}

// start starts the next process, and returns when it serves.
func (v *victims) start(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, self, Victim, filepath.Join(v.dir, "killed.db"), v.address)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	serving := make(chan string, 1)
	v.mu.Lock()
	v.process, v.stdin = cmd, stdin
	v.mu.Unlock()
	go v.watch(ctx, cmd, stdout, serving)
	url, ok := <-serving
	if !ok {
		return errors.New("the process that is to be killed did not begin")
	}
	v.address = strings.TrimPrefix(url, "http://")
	return nil
}

// watch reads what a process says, and starts the next one when it has been killed.
func (v *victims) watch(ctx context.Context, cmd *exec.Cmd, stdout io.Reader, serving chan<- string) {
	defer close(serving)
	for in := bufio.NewScanner(stdout); in.Scan(); {
		word, rest, _ := strings.Cut(in.Text(), " ")
		switch word {
		case "serving":
			serving <- rest
		case "armed":
			v.armed <- struct{}{}
		case "killed":
			v.mu.Lock()
			v.kills = append(v.kills, rest)
			v.mu.Unlock()
		}
	}
	_ = cmd.Wait() // it was killed, or is closed
	v.mu.Lock()
	closing := v.closing
	v.mu.Unlock()
	if closing {
		close(v.ended)
		return
	}
	if err := v.start(ctx); err != nil {
		v.mu.Lock()
		v.err = err
		v.mu.Unlock()
	}
}

// killAfter lets the process be killed after so many more commits.
func (v *victims) killAfter(ctx context.Context, n int) error {
	v.mu.Lock()
	stdin := v.stdin
	v.mu.Unlock()
	if _, err := fmt.Fprintln(stdin, n); err != nil {
		return err
	}
	select {
	case <-v.armed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (v *victims) killed() (kills []string, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.kills, v.err
}

func (v *victims) close() {
	v.mu.Lock()
	v.closing = true
	v.mu.Unlock()
	_ = v.process.Process.Signal(os.Interrupt)
	<-v.ended
}

// playKilled plays an order for each commit of its path, and has the process killed after that commit.
func (t *tour) playKilled(ctx context.Context) {
	t.played++
	t.say("The process is killed (SIGKILL) after each commit in turn, and recovers")
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	v := newVictims(t.dir)
	err := v.start(ctx)
	if err == nil {
		err = t.killEach(ctx, v)
		v.close()
	}
	if err != nil {
		t.say("  FAILED  %v\n", err)
		t.failures = append(t.failures, fmt.Errorf("killed after each commit: %w", err))
	}
}

func (t *tour) killEach(ctx context.Context, v *victims) error {
	c := &client.Client{URL: "http://" + v.address, Secret: secret, Patience: 10 * time.Second}
	const sku = "phone"
	if err := c.Restock(ctx, sku, 100); err != nil {
		return err
	}
	n := 1
	for ; ; n++ {
		if err := v.killAfter(ctx, n); err != nil {
			return err
		}
		began := time.Now()
		err := t.playThrough(ctx, c, sku, n)
		kills, broken := v.killed()
		if err = errors.Join(err, broken); err != nil {
			return fmt.Errorf("the order whose process is killed after commit %d: %w", n, err)
		}
		if len(kills) < n {
			break // the path has no more commits
		}
		t.say("  killed after commit %2d, of %-12s  the order arrived in %4d ms", n, kills[n-1]+";", time.Since(began).Milliseconds())
	}
	s, err := c.Stock(ctx, sku)
	if err != nil {
		return err
	}
	t.checks++
	if s.Available != int64(100-n) || s.Reserved != 0 || s.Committed != int64(n) {
		return fmt.Errorf("%d orders were sold, and the stock of 100 is %+v", n, s)
	}
	t.say("  ok      %d kills, %d orders in transit, each paid once; stock %d/%d/%d\n", n-1, n, s.Available, s.Reserved, s.Committed)
	return nil
}

// playThrough plays the happy path as a customer and a world who know nothing of kills: they only ask again.
func (t *tour) playThrough(ctx context.Context, c *client.Client, sku string, n int) error {
	key := func(what string) string { return fmt.Sprintf("%s-%d", what, n) }
	v, err := c.Place(ctx, key("place"), client.Basket{Lines: []order.Line{{SKU: sku, Quantity: 1, UnitPrice: price}}, Method: "pm_card_visa"})
	if err != nil {
		return err
	}
	for _, step := range []struct {
		state order.State
		do    func() error
	}{
		{order.Reserved, func() error { return nil }},
		{order.PaymentPending, func() error { _, err := c.Pay(ctx, key("pay"), v.ID); return err }},
		{order.Paid, func() error {
			return c.Tell(ctx, "payment", client.PaymentOf(v, key("paid"), "payment.succeeded", "tx_"+v.ID))
		}},
		{order.Confirmed, func() error { return c.Tell(ctx, "fraud", client.FraudOf(v.ID, key("fraud"), "pass")) }},
		{order.Shipped, func() error { return c.Tell(ctx, "warehouse", client.PackedOf(v.ID, key("packed"))) }},
		{order.InTransit, func() error { return c.Tell(ctx, "carrier", client.ScanOf(v.ID, key("scan"))) }},
	} {
		if err := step.do(); err != nil {
			return err
		}
		if _, err := c.Until(ctx, v.ID, client.In(step.state)); err != nil {
			return fmt.Errorf("it should become %s: %w", step.state, err)
		}
	}
	l, err := c.Ledger(ctx, v.ID)
	if err != nil {
		return err
	}
	t.checks++
	if len(l.Entries) != 2 || l.Net != price {
		return fmt.Errorf("it should be paid once, and its ledger is %v", l.Entries)
	}
	return nil
}
