package mysql_test

import (
	"context"
	"database/sql"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/internal/baddaytest"
	sagamysql "github.com/sagamill/sagamill/adapters/mysql"
	"github.com/sagamill/sagamill/saga"
)

// newProxy stands between pools and the server, which answers each thing that it is told.
func (d *database) newProxy() *baddaytest.Proxy {
	d.tb.Helper()
	return baddaytest.NewProxy(d.tb, d.server.Addr, func(sent []byte) bool { return len(sent) > 0 })
}

// through configures a pool so that it goes through the proxy.
func through(p *baddaytest.Proxy) func(*mysql.Config) {
	return func(c *mysql.Config) { c.Addr = p.Addr().String() }
}

// The engine on the store, while the database is badly treated.
func (d *database) runJourneys(t *testing.T, pools []*sql.DB, journeys int, treat func(n int)) {
	t.Helper()
	var stores []saga.Store
	for _, pool := range pools {
		stores = append(stores, sagamysql.NewStore(d.openOn(pool)))
	}
	baddaytest.Run(t, stores, journeys, treat)
}

func TestServerRestartedUnderLoad(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.open()
	victims := d.newPool(func(c *mysql.Config) { c.DBName = d.schema })
	ended := 0
	d.runJourneys(t, []*sql.DB{victims}, 60, func(int) {
		for _, id := range d.strings(`SELECT id FROM information_schema.processlist WHERE db = ?`, d.schema) {
			_, err := d.pool.ExecContext(context.Background(), `KILL `+id)
			if err == nil { // else it has just gone
				ended++
			}
		}
	})
	require.NotZero(t, ended)
}

// Connections break before and after what they carry is done, the answers to commits included; and the server is away now and then.
func TestConnectionsLostUnderLoad(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	p := d.newProxy()
	d.runJourneys(t, []*sql.DB{d.newPool(through(p)), d.newPool(through(p))}, 60, func(n int) {
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
	pool := d.newPool()
	pool.SetMaxOpenConns(1)
	d.runJourneys(t, []*sql.DB{pool}, 40, func(int) {})
}

// Somebody locks what runs, again and again.
func TestForeignLocksUnderLoad(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.open()
	locker := d.newPool()
	d.runJourneys(t, []*sql.DB{d.newPool()}, 40, func(n int) {
		tx, err := locker.BeginTx(context.Background(), nil)
		if !assert.NoError(t, err) {
			return
		}
		_, err = tx.ExecContext(context.Background(), `SELECT id FROM `+d.table("instances")+` WHERE settled = 0 ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED`)
		assert.NoError(t, err)
		time.AfterFunc(300*time.Millisecond, func() { _ = tx.Rollback() })
	})
}
