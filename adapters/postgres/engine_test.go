package postgres_test

import (
	"bytes"
	"context"
	"net/url"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/internal/baddaytest"
	"github.com/sagamill/sagamill/adapters/postgres"
	"github.com/sagamill/sagamill/saga"
)

// newProxy stands between pools and the server.
func (d *database) newProxy() *baddaytest.Proxy {
	d.tb.Helper()
	u, err := url.Parse(d.url)
	require.NoError(d.tb, err)
	ready := []byte{'Z', 0, 0, 0, 5} // and whether it is in a transaction
	return baddaytest.NewProxy(d.tb, u.Host, func(sent []byte) bool { return len(sent) > 0 && bytes.HasSuffix(sent[:len(sent)-1], ready) })
}

// through configures a pool so that it goes through the proxy.
func through(p *baddaytest.Proxy) func(*pgxpool.Config) {
	return func(c *pgxpool.Config) {
		c.ConnConfig.Host, c.ConnConfig.Port = p.Addr().IP.String(), uint16(p.Addr().Port)
		c.ConnConfig.TLSConfig, c.ConnConfig.Fallbacks = nil, nil // so that each answer ends with "ready"
	}
}

// The engine on the store, while the database is badly treated.
func (d *database) runJourneys(t *testing.T, pools []*pgxpool.Pool, journeys int, treat func(n int)) {
	t.Helper()
	var stores []saga.Store
	for _, pool := range pools {
		stores = append(stores, postgres.NewStore(d.openOn(pool)))
	}
	baddaytest.Run(t, stores, journeys, treat)
}

func TestServerRestartedUnderLoad(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	victims := d.newPool(func(c *pgxpool.Config) { c.ConnConfig.RuntimeParams["application_name"] = d.schema + " victim" })
	const end = `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = $1`
	ended := 0
	d.runJourneys(t, []*pgxpool.Pool{victims}, 60, func(int) { ended += scan[int](d, end, d.schema+" victim") })
	require.NotZero(t, ended)
}

// Connections break before and after what they carry is done, the answers to commits included; and the server is away now and then.
func TestConnectionsLostUnderLoad(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	p := d.newProxy()
	d.runJourneys(t, []*pgxpool.Pool{d.newPool(through(p)), d.newPool(through(p))}, 60, func(n int) {
		switch n % 4 {
		case 0:
			p.SetDown(true)
			p.SetDown(false)
		case 1:
			p.CutIn(n%3, baddaytest.Before)
		default:
			p.CutIn(n%5, baddaytest.After)
		}
	})
	require.NotZero(t, p.Cuts.Load())
}

// The least pool that there is.
func TestOneConnection(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.runJourneys(t, []*pgxpool.Pool{d.newPool(func(c *pgxpool.Config) { c.MaxConns = 1 })}, 40, func(int) {})
}

// Somebody locks what runs, again and again.
func TestForeignLocksUnderLoad(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.open()
	locker := d.newPool()
	d.runJourneys(t, []*pgxpool.Pool{d.newPool()}, 40, func(n int) {
		tx, err := locker.Begin(context.Background())
		if !assert.NoError(t, err) {
			return
		}
		_, err = tx.Exec(context.Background(), `SELECT FROM `+d.table("instances")+` WHERE NOT settled ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED`)
		assert.NoError(t, err)
		time.AfterFunc(300*time.Millisecond, func() { _ = tx.Rollback(context.Background()) })
	})
}
