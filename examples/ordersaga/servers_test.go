package main

import (
	"bytes"
	"context"
	"database/sql"
	"net"
	"net/url"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/examples/ordersaga/app"
	"github.com/sagamill/sagamill/examples/ordersaga/client"
	"github.com/sagamill/sagamill/examples/ordersaga/order"
	"github.com/sagamill/sagamill/examples/ordersaga/outside"
	"github.com/sagamill/sagamill/examples/ordersaga/payment"
	"github.com/sagamill/sagamill/examples/ordersaga/torture"
	"github.com/sagamill/sagamill/internal/services"
	"github.com/sagamill/sagamill/internal/services/mariadbtest"
)

// The shop on the servers that people have.

// newDatabase makes a database of the test's own, and answers its URL.
func newDatabase(t *testing.T) string {
	t.Helper()
	server, name := services.Postgres.URL(t), services.Name()
	do := func(sql string) {
		conn, err := pgx.Connect(context.Background(), server)
		require.NoError(t, err)
		_, err = conn.Exec(context.Background(), sql)
		require.NoError(t, err)
		require.NoError(t, conn.Close(context.Background()))
	}
	do("CREATE DATABASE " + name)
	t.Cleanup(func() { do("DROP DATABASE " + name + " WITH (FORCE)") })
	u, err := url.Parse(server)
	require.NoError(t, err)
	u.Path, u.RawQuery = "/"+name, "pool_max_conns=5"
	return u.String()
}

// newMySQL names databases of the test's own, and answers the URL.
func newMySQL(t *testing.T) string {
	t.Helper()
	u, err := url.Parse(services.MySQL.URL(t))
	require.NoError(t, err)
	name := services.Name()
	t.Cleanup(func() {
		pool, err := sql.Open("mysql", mariadbtest.Config(t).FormatDSN())
		require.NoError(t, err)
		for _, of := range []string{"order", "inventory", "payment", "fulfillment", "outside", "messages"} {
			_, err = pool.ExecContext(context.Background(), "DROP DATABASE IF EXISTS "+name+"_"+of)
			require.NoError(t, err)
		}
		require.NoError(t, pool.Close())
	})
	u.Path = "/" + name
	return u.String()
}

// newRedis starts a server of the test's own, and answers its URL. It ends with the test, or with this process.
func newRedis(t *testing.T) string {
	t.Helper()
	program := services.Program(t, "redis-server")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := l.Addr().String()
	require.NoError(t, l.Close())
	_, port, err := net.SplitHostPort(address)
	require.NoError(t, err)
	server := exec.Command("sh", "-c", `"$@" & read line; kill -9 $!; wait`, "sh", program, "--port", port, "--dir", t.TempDir(),
		"--appendonly", "yes", "--appendfsync", "always", "--loglevel", "warning")
	life, err := server.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, server.Start())
	t.Cleanup(func() {
		require.NoError(t, life.Close())
		_ = server.Wait() // it was killed
	})
	c := goredis.NewClient(&goredis.Options{Addr: address, MaxRetries: -1})
	defer func() { require.NoError(t, c.Close()) }()
	require.Eventually(t, func() bool { return c.Ping(t.Context()).Err() == nil }, 30*time.Second, 20*time.Millisecond)
	return "redis://" + address
}

// Each service has a process's worth of its own: two run orders, and nobody shares anything but the servers.
func TestServicesApartOnServers(t *testing.T) {
	t.Parallel()
	for name, servers := range map[string]func(t *testing.T) (store, broker string){
		"PostgreSQL alone":     func(t *testing.T) (string, string) { d := newDatabase(t); return d, d },
		"PostgreSQL and Redis": func(t *testing.T) (string, string) { return newDatabase(t), newRedis(t) },
		"MariaDB alone":        func(t *testing.T) (string, string) { d := newMySQL(t); return d, d },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			database, on := servers(t)
			run := func(service string) *shop {
				return open(t, func(c *app.Config) {
					c.Store, c.Broker, c.Services, c.Simulate = database, on, service, true
					if strings.HasPrefix(on, "redis://") {
						c.Idempotency = on
					}
				})
			}
			inventory, payment := run(app.Inventory), run(app.Payment)
			run(app.Fulfillment)
			one, two := run(app.Order), run(app.Order)
			require.NoError(t, inventory.Restock(inventory.ctx(), "phone", 10))

			bought, err := one.Place(one.ctx(), "k1", phone(outside.Visa))
			require.NoError(t, err)
			again, err := two.Place(two.ctx(), "k1", phone(outside.Visa))
			require.NoError(t, err)
			require.Equal(t, bought.ID, again.ID)
			_, err = two.Pay(two.ctx(), "k2", bought.ID)
			require.NoError(t, err)
			refused, err := two.Place(two.ctx(), "k3", phone(outside.ChargeDecline))
			require.NoError(t, err)
			_, err = one.Pay(one.ctx(), "k4", refused.ID)
			require.NoError(t, err)

			require.NotEmpty(t, two.until(bought.ID, order.InTransit).TrackingNumber)
			one.until(refused.ID, order.Failed)
			stock, err := inventory.Stock(inventory.ctx(), "phone")
			require.NoError(t, err)
			require.EqualValues(t, 9, stock.Available)
			ledger, err := payment.Ledger(payment.ctx(), bought.ID)
			require.NoError(t, err)
			require.EqualValues(t, 79900, ledger.Net)
		})
	}
}

// The torture's own test: it is quick, and finds nothing where nothing is wrong.
func TestTorture(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts and kills many processes")
	}
	for name, args := range map[string]func(t *testing.T) []string{
		"one process on a file":    func(*testing.T) []string { return nil },
		"six processes on MariaDB": func(t *testing.T) []string { d := newMySQL(t); return []string{"--store", d, "--broker", d} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			args := append([]string{"--minutes", "0.1", "--kill-every", "1s", "--customers", "4"}, args(t)...)
			err := torture.Run(t.Context(), args, nil, &out)
			require.NoError(t, err, out.String())
			require.Regexp(t, `[1-9]\d* kills .* 0 violations`, out.String())
		})
	}
}

// What somebody else does to the money is noticed.
func TestTortureFindsWhatIsWrong(t *testing.T) {
	t.Parallel()
	s, b := openAudited(t, func(c *app.Config) { c.Simulate = true })
	require.NoError(t, s.Restock(s.ctx(), "phone", 10))
	v, err := s.Place(s.ctx(), "k1", phone(outside.Visa))
	require.NoError(t, err)
	_, err = s.Pay(s.ctx(), "k2", v.ID)
	require.NoError(t, err)
	s.until(v.ID, order.InTransit)
	b.untilAllEnd(t)
	b.audit(t, s.Client, map[string]int64{"phone": 10})

	_, violations := b.Check(s.ctx(), s.Client, map[string]int64{"phone": 11})
	require.Len(t, violations, 1)
	require.ErrorContains(t, violations[0], "stock of phone: there were 11; it is {Available:9")
	_, violations = b.Check(s.ctx(), deafShop{s.Client}, map[string]int64{"phone": 10})
	require.Len(t, violations, 1)
	require.ErrorContains(t, violations[0], "payment has []")
}

// deafShop is one whose payment has written nothing down.
type deafShop struct{ *client.Client }

func (deafShop) Ledger(context.Context, string) (l payment.Ledger, err error) { return l, nil }
