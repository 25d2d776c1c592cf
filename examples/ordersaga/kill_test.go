package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/examples/ordersaga/app"
	"github.com/sagamill/sagamill/examples/ordersaga/client"
	"github.com/sagamill/sagamill/examples/ordersaga/order"
	"github.com/sagamill/sagamill/examples/ordersaga/torture"
)

// A shop in a process of its own is killed (SIGKILL) again and again while customers buy, and started again on the same files.
// Some lives end while the process starts, some after a random time, and some right after a commit of one of the services. The
// customers know nothing of that: they say the same thing under the same key until they are answered. In the end each has
// exactly one order, each order has ended, and all books fit.

const (
	storeVariable   = "ORDERSAGA_TEST_STORE"   // makes the test binary a shop on that store
	suicideVariable = "ORDERSAGA_TEST_SUICIDE" // kills it: "inventory 3" is after inventory's third commit
	announcement    = "the shop is open at "
)

func TestShopIsKilledAgainAndAgain(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts and kills many processes")
	}
	kills := max(size(t, "ORDERSAGA_KILLS", 100), 5)
	const customersPerLife, phones, rare = 6, 1_000_000, 10
	began := time.Now()
	v := newVictim(t)
	shop := &client.Client{URL: "http://localhost", Secret: secret, HTTP: v.http(t), Patience: 3 * time.Minute}
	v.start("")
	require.NoError(t, shop.Restock(t.Context(), "phone", phones))
	require.NoError(t, shop.Restock(t.Context(), "rare", rare))

	var customers sync.WaitGroup
	errs := make([]error, kills*customersPerLife)
	for life := range kills {
		for k := range customersPerLife {
			job := life*customersPerLife + k
			pause, regret := v.upTo(200*time.Millisecond), v.upTo(500*time.Millisecond)
			customers.Go(func() {
				time.Sleep(pause)
				errs[job] = torture.Buy(t.Context(), shop, torture.Customer{Number: job, Common: "phone", Rare: "rare", Regret: regret})
			})
		}
		v.live()
		v.start(v.suicide())
	}
	v.kill()
	v.start("")
	customers.Wait()
	require.NoError(t, errors.Join(errs...))

	b := openBooks(t, v.store)
	b.untilAllEnd(t)
	count := b.audit(t, shop, map[string]int64{"phone": phones, "rare": rare})
	orders, err := b.Orders(t.Context())
	require.NoError(t, err)
	require.Len(t, orders, len(errs), "each customer has one order")
	require.Equal(t, len(errs), count[order.InTransit]+count[order.Failed]+count[order.Cancelled], "%v", count)
	require.NotZero(t, count[order.InTransit])
	v.closeDown()
	t.Logf("%d kills (%d of them after a commit, %d before the shop was open), %d orders (%v), %s",
		v.kills, v.suicides, v.stillborn, len(orders), count, time.Since(began).Round(time.Millisecond))
}

// victim is the shop, as a process that is killed. Each life has another address; http finds the present one.
type victim struct {
	t       *testing.T
	store   string
	log     *os.File // of all lives
	dice    *rand.Rand
	address atomic.Pointer[string] // nil: nobody is at home

	command *exec.Cmd
	doomed  bool // it is to end by itself
	stdin   io.Closer
	open    chan struct{} // closed when it serves
	ended   chan struct{} // closed when it has ended, with
	err     error

	kills, suicides, stillborn int
}

func newVictim(t *testing.T) *victim {
	dir := t.TempDir()
	log, err := os.Create(filepath.Join(dir, "shop.log"))
	require.NoError(t, err)
	v := &victim{t: t, store: "sqlite:" + filepath.Join(dir, "shop.db"), log: log, dice: rand.New(rand.NewPCG(4, 2))}
	t.Cleanup(func() {
		if v.command != nil {
			_ = v.command.Process.Kill()
			<-v.ended
		}
		if text, err := os.ReadFile(log.Name()); err == nil && t.Failed() {
			t.Logf("the last words of the shop: %s", text[max(0, len(text)-10_000):])
		}
		require.NoError(t, log.Close())
	})
	return v
}

// http dials wherever the shop is now. Its customers do not come back at once when they are told to wait.
func (v *victim) http(t *testing.T) *http.Client {
	transport := &http.Transport{
		MaxIdleConnsPerHost: 100,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			address := v.address.Load()
			if address == nil {
				return nil, errors.New("nobody is at home")
			}
			return (&net.Dialer{}).DialContext(ctx, network, *address)
		},
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: heeding{transport}}
}

type heeding struct{ http.RoundTripper }

func (h heeding) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := h.RoundTripper.RoundTrip(r)
	if err == nil && response.Header.Get("Retry-After") != "" {
		time.Sleep(200 * time.Millisecond)
	}
	return response, err
}

// start starts a life.
func (v *victim) start(suicide string) {
	v.t.Helper()
	v.command = exec.Command(os.Args[0], "-test.run=^TestShopThatIsKilled$", "-test.timeout=10m")
	v.command.Env = append(os.Environ(), storeVariable+"="+v.store, suicideVariable+"="+suicide)
	v.command.Stderr, v.doomed = v.log, suicide != ""
	stdout, err := v.command.StdoutPipe()
	require.NoError(v.t, err)
	v.stdin, err = v.command.StdinPipe()
	require.NoError(v.t, err)
	v.open, v.ended = make(chan struct{}), make(chan struct{})
	require.NoError(v.t, v.command.Start())
	go v.watch(v.command, stdout, v.open, v.ended)
}

// watch hears where the process serves, and when it ends.
func (v *victim) watch(command *exec.Cmd, stdout io.Reader, open, ended chan struct{}) {
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		if url, ok := strings.CutPrefix(lines.Text(), announcement); ok {
			address := strings.TrimPrefix(url, "http://")
			v.address.Store(&address)
			close(open)
		}
	}
	v.address.Store(nil)
	v.err = command.Wait()
	close(ended)
}

// suicide says after which commit the next life ends by itself: half of them do.
func (v *victim) suicide() string {
	if v.dice.IntN(2) == 0 {
		return ""
	}
	services := []string{app.Order, app.Order, app.Inventory, app.Payment, app.Fulfillment}
	return services[v.dice.IntN(len(services))] + " " + strconv.Itoa(1+v.dice.IntN(6))
}

func (v *victim) upTo(d time.Duration) time.Duration { return time.Duration(v.dice.Int64N(int64(d))) }

// live lets the process live for a while, and kills it unless it has done so itself. One in ten does not get to serve.
func (v *victim) live() {
	v.t.Helper()
	early := v.dice.IntN(10) == 0
	if !early {
		select {
		case <-v.open:
		case <-v.ended:
		case <-time.After(time.Minute):
			v.t.Fatal("the shop does not open")
		}
	}
	span := v.upTo(500 * time.Millisecond)
	if v.doomed {
		span = time.Second
	}
	select {
	case <-v.ended:
		v.suicides++
	case <-time.After(span):
	}
	v.kill()
}

// kill ends the life.
func (v *victim) kill() {
	v.t.Helper()
	select {
	case <-v.open:
	default:
		v.stillborn++
	}
	_ = v.command.Process.Kill() // it may have been quicker
	<-v.ended
	var exit *exec.ExitError
	require.ErrorAs(v.t, v.err, &exit)
	require.Equal(v.t, syscall.SIGKILL, exit.Sys().(syscall.WaitStatus).Signal(), "it ended otherwise: %s", v.err)
	v.kills++
}

// closeDown ends the last life in order.
func (v *victim) closeDown() {
	v.t.Helper()
	require.NoError(v.t, v.stdin.Close())
	<-v.ended
	require.NoError(v.t, v.err)
}

// TestShopThatIsKilled is the process that is killed. It serves until its standard input ends: with its parent, at the latest.
func TestShopThatIsKilled(t *testing.T) {
	store := os.Getenv(storeVariable)
	if store == "" {
		t.Skip("runs as a child of TestShopIsKilledAgainAndAgain")
	}
	a, err := app.Start(t.Context(), app.Config{
		Listen: "127.0.0.1:0", Store: store, Broker: "gochannel:", Services: "order,inventory,payment,fulfillment", Simulate: true,
		ReserveTTL: 4 * time.Second, PaymentTimeout: 4 * time.Second, IdempotencyTTL: 24 * time.Hour, WebhookSecret: secret,
		Resend: 100 * time.Millisecond, Lease: 300 * time.Millisecond, Commit: suicidal(os.Getenv(suicideVariable)),
	}, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	require.NoError(t, err)
	fmt.Println(announcement + a.URL)
	_, _ = io.Copy(io.Discard, os.Stdin)
	require.NoError(t, a.Close())
}

// suicidal kills the process after a service's n-th commit.
func suicidal(at string) func(of string) {
	service, text, _ := strings.Cut(at, " ")
	n, _ := strconv.ParseInt(text, 10, 64)
	var commits atomic.Int64
	return func(of string) {
		if of == service && commits.Add(1) == n {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
}
