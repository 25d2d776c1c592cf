package sqlite_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/sqlite"
	"github.com/sagamill/sagamill/saga"
	"github.com/sagamill/sagamill/saga/storetest"
)

func start(id string) saga.Transition {
	return saga.Transition{
		ID: id, State: "new", Engine: []byte(`{"ledger":[]}`), Data: []byte(`{"amount":3}`), Wake: 0,
		Start: &saga.Start{Definition: "order", Version: 1, Key: "key of " + id}, History: []saga.HistoryRecord{{Revision: 1, Input: "in"}},
	}
}

// The suite with stores in several processes, so far as two handles to one file are that.
func TestStoreOfTwoProcesses(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "sagas.db")
	one, other := openDB(t, path), openDB(t, path)
	storetest.Run(t, func(testing.TB) storetest.Harness {
		clock := storetest.NewClock()
		withClock := sqlite.WithClock(clock.Now)
		return storetest.Harness{
			Store:   &processes{Store: sqlite.NewStore(one, withClock), other: sqlite.NewStore(other, withClock)},
			Advance: clock.Advance,
		}
	})
}

// processes lets two stores take turns.
type processes struct {
	*sqlite.Store
	other *sqlite.Store
	calls atomic.Int64
}

func (p *processes) next() *sqlite.Store {
	if p.calls.Add(1)%2 == 0 {
		return p.other
	}
	return p.Store
}

func (p *processes) Commit(ctx context.Context, transitions []saga.Transition) ([]saga.Verdict, error) {
	return p.next().Commit(ctx, transitions)
}

func (p *processes) Load(ctx context.Context, ids ...string) ([]saga.Record, error) {
	return p.next().Load(ctx, ids...)
}

func (p *processes) Claim(ctx context.Context, claim saga.Claim) ([]saga.Record, time.Duration, error) {
	return p.next().Claim(ctx, claim)
}

func TestCommitInUsersTransaction(t *testing.T) {
	t.Parallel()
	db := openDB(t, filepath.Join(t.TempDir(), "shop.db"))
	store := sqlite.NewStore(db)
	_, err := db.ExecContext(t.Context(), `CREATE TABLE orders (id TEXT PRIMARY KEY) STRICT`)
	require.NoError(t, err)

	placeOrder := func(id string, failure error) error {
		return db.Write(t.Context(), func(tx *sql.Tx) error {
			if _, err := tx.ExecContext(t.Context(), `INSERT INTO orders (id) VALUES (?)`, id); err != nil {
				return err
			}
			verdicts, err := store.In(tx).Commit(t.Context(), []saga.Transition{start(id)})
			if err != nil {
				return err
			}
			require.Equal(t, saga.Committed, verdicts[0].Outcome)
			return failure
		})
	}
	require.NoError(t, placeOrder("kept", nil))
	oops := errors.New("card declined")
	require.ErrorIs(t, placeOrder("rolled back", oops), oops)

	records, err := store.Load(t.Context(), "kept", "rolled back")
	require.NoError(t, err)
	require.Len(t, records, 1)
	require.Equal(t, "kept", records[0].ID)
	var orders int
	require.NoError(t, db.QueryRowContext(t.Context(), `SELECT count(*) FROM orders`).Scan(&orders))
	require.Equal(t, 1, orders)
}

// A refused transition leaves the user's transaction usable.
func TestRejectedInUsersTransaction(t *testing.T) {
	t.Parallel()
	db := openDB(t, filepath.Join(t.TempDir(), "shop.db"))
	store := sqlite.NewStore(db)
	_, err := db.ExecContext(t.Context(), limits)
	require.NoError(t, err)
	bad, worse := start("b"), start("c")
	tooLargeState(&bad)
	tooLargeEntry(&worse)
	err = db.Write(t.Context(), func(tx *sql.Tx) error {
		verdicts, err := store.In(tx).Commit(t.Context(), []saga.Transition{start("a"), bad, worse, start("d")})
		require.NoError(t, err)
		for i, want := range []saga.Outcome{saga.Committed, saga.Unwritable, saga.Unwritable, saga.Committed} {
			require.Equal(t, want, verdicts[i].Outcome)
		}
		return nil
	})
	require.NoError(t, err)
	records, err := store.List(t.Context(), saga.Query{})
	require.NoError(t, err)
	require.Len(t, records, 2)
}

// Users who hold all connections, with one of them writing, do not stand in the way of the first statements.
func TestManyUsersTransactions(t *testing.T) {
	t.Parallel()
	db := openDB(t, filepath.Join(t.TempDir(), "shop.db"))
	store := sqlite.NewStore(db)
	errs := make(chan error)
	for i := range 40 {
		go func() {
			tx, err := db.BeginTx(t.Context(), nil)
			if err != nil {
				errs <- err
				return
			}
			verdicts, err := store.In(tx).Commit(t.Context(), []saga.Transition{start(fmt.Sprint("i", i))})
			if err == nil && verdicts[0].Outcome != saga.Committed {
				err = fmt.Errorf("verdict %v", verdicts[0].Outcome)
			}
			errs <- errors.Join(err, tx.Commit())
		}()
	}
	for range 40 {
		require.NoError(t, <-errs)
	}
}

func TestNoBatch(t *testing.T) {
	t.Parallel()
	store := sqlite.NewStore(openDB(t, filepath.Join(t.TempDir(), "sagas.db")))
	for name, batch := range map[string][]saga.Transition{
		"unsorted":           {start("b"), start("a")},
		"one instance twice": {start("a"), start("a")},
	} {
		_, err := store.Commit(t.Context(), batch)
		require.Error(t, err, name)
	}
	gap := start("a")
	gap.History[0].Revision = 2
	verdicts, err := store.Commit(t.Context(), []saga.Transition{gap})
	require.NoError(t, err)
	require.Equal(t, saga.Unwritable, verdicts[0].Outcome)
}

// A caller that gives up while it waits, or before, leaves a store that works.
func TestCancelled(t *testing.T) {
	t.Parallel()
	db := openDB(t, filepath.Join(t.TempDir(), "sagas.db"))
	store := sqlite.NewStore(db)
	holding, release := make(chan struct{}), make(chan struct{})
	done := make(chan error, 1)
	go func() {
		done <- db.Write(context.WithoutCancel(t.Context()), func(*sql.Tx) error {
			close(holding)
			<-release
			return nil
		})
	}()
	<-holding
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := store.Commit(ctx, []saga.Transition{start("a")})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	close(release)
	require.NoError(t, <-done)
	_, err = store.Commit(ctx, []saga.Transition{start("a")})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	verdicts, err := store.Commit(t.Context(), []saga.Transition{start("a")})
	require.NoError(t, err)
	require.Equal(t, saga.Committed, verdicts[0].Outcome)
}

func TestViewForPeople(t *testing.T) {
	t.Parallel()
	db := openDB(t, filepath.Join(t.TempDir(), "sagas.db"))
	clock := storetest.NewClock()
	store := sqlite.NewStore(db, sqlite.WithClock(clock.Now))
	binary := start("b")
	binary.Data = []byte{0xff, 0}
	_, err := store.Commit(t.Context(), []saga.Transition{start("a"), binary})
	require.NoError(t, err)
	const query = `SELECT settled, created_at, wake_at, lease_till, engine ->> '$.ledger', data FROM sagamill_sagas WHERE id = ?`
	var settled, created, wake, ledger, data string
	var lease sql.NullString
	require.NoError(t, db.QueryRowContext(t.Context(), query, "a").Scan(&settled, &created, &wake, &lease, &ledger, &data))
	require.Equal(t, []string{"no", "2030-03-04T05:06:07.123Z", "2030-03-04T05:06:07.123Z", "[]", `{"amount":3}`},
		[]string{settled, created, wake, ledger, data})
	require.False(t, lease.Valid)
	require.NoError(t, db.QueryRowContext(t.Context(), query, "b").Scan(&settled, &created, &wake, &lease, &ledger, &data))
	require.Equal(t, "FF00", data)
}

// No statement of a sweep, a transition or a list may walk through all instances.
func TestQueryPlans(t *testing.T) {
	t.Parallel()
	db := openDB(t, filepath.Join(t.TempDir(), "sagas.db"))
	for query, index := range map[string]string{
		`SELECT id, wake_at FROM sagamill_instances WHERE definition = 'd' AND version = 1 AND wake_at <= 5 ORDER BY wake_at LIMIT 9`: "sagamill_instances_due (definition=? AND version=? AND wake_at<?)",
		`SELECT min(wake_at) FROM sagamill_instances WHERE definition = 'd' AND version = 1 AND wake_at IS NOT NULL`:                  "sagamill_instances_due (definition=? AND version=?",
		`SELECT count(*) FROM sagamill_instances WHERE definition = 'd' AND version = 1 AND settled = 0`:                              "sagamill_instances_unsettled (definition=?",
		`SELECT * FROM sagamill_instances WHERE id > 'a' AND definition = 'd' AND settled = 0 ORDER BY id LIMIT 9`:                    "sagamill_instances_unsettled (definition=? AND id>?)",
		`SELECT * FROM sagamill_instances WHERE id > 'a' AND attention <> '' ORDER BY id LIMIT 9`:                                     "sagamill_instances_attention (id>?)",
		`SELECT * FROM sagamill_instances WHERE id > 'a' ORDER BY id LIMIT 9`:                                                         "(id>?)",
		`SELECT 1 FROM sagamill_history WHERE instance_id = 'a' AND input = 'b'`:                                                      "sagamill_history_inputs (instance_id=? AND input=?)",
	} {
		rows, err := db.QueryContext(t.Context(), `EXPLAIN QUERY PLAN `+query)
		require.NoError(t, err)
		var plan string
		for rows.Next() {
			var id, parent, unused int
			var detail string
			require.NoError(t, rows.Scan(&id, &parent, &unused, &detail))
			plan += detail + "\n"
		}
		require.NoError(t, errors.Join(rows.Err(), rows.Close()))
		require.Contains(t, plan, index, query)
		require.NotContains(t, plan, "TEMP B-TREE", query)
	}
}

// Users begin transactions of their own on the embedded *sql.DB, until no connection is left and all of them wait for the write
// lock. Whoever holds that lock must get on: nothing it needs may wait for a connection.
func TestStoreBesideUsersTransactions(t *testing.T) {
	t.Parallel()
	db := openDB(t, filepath.Join(t.TempDir(), "shared.db"))
	store := sqlite.NewStore(db)
	db.SetMaxOpenConns(4)
	var others sync.WaitGroup
	err := db.Write(t.Context(), func(tx *sql.Tx) error {
		for range 3 {
			others.Go(func() {
				tx, err := db.BeginTx(t.Context(), nil) // has a connection, and waits for the lock
				if assert.NoError(t, err) {
					assert.NoError(t, tx.Rollback())
				}
			})
		}
		require.Eventually(t, func() bool { return db.Stats().InUse == 4 }, 5*time.Second, time.Millisecond)
		others.Go(func() { // waits for a connection, to parse a query that nobody has asked so far
			_, err := store.List(t.Context(), saga.Query{Definition: "order", NeedsAttention: true, State: "new"})
			assert.NoError(t, err)
		})
		require.Eventually(t, func() bool { return db.Stats().WaitCount > 0 }, 5*time.Second, time.Millisecond)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		done := make(chan error, 1)
		go func() {
			_, err := store.In(tx).Commit(ctx, []saga.Transition{start("a")})
			done <- err
		}()
		select {
		case err := <-done:
			return err
		case <-ctx.Done():
			return errors.New("the store waits for a connection while it holds the write lock")
		}
	})
	require.NoError(t, err)
	others.Wait()
}
