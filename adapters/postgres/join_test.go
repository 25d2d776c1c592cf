package postgres_test

import (
	"context"
	"database/sql"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/postgres"
	"github.com/sagamill/sagamill/saga"
	"github.com/sagamill/sagamill/saga/storetest"
)

// The rules hold for transitions in somebody's own transaction, too.
func TestStoreInUsersTransactions(t *testing.T) {
	t.Parallel()
	d := newDatabase(t).withClocks()
	d.run(t, rulesOfCommit, func(tb testing.TB) storetest.Harness {
		h := d.harness(tb, badState)
		reopen := h.Reopen
		h.Store = users{h.Store.(*postgres.Store)}
		h.Reopen = func() saga.Store { return users{reopen().(*postgres.Store)} }
		return h
	})
}

// users is a store whose every transition comes in a transaction of a user's own.
type users struct{ *postgres.Store }

func (u users) Commit(ctx context.Context, transitions []saga.Transition) (verdicts []saga.Verdict, err error) {
	err = pgx.BeginFunc(ctx, u.Store.Pool(), func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SET LOCAL lock_timeout = '1s'`); err != nil {
			return err
		}
		verdicts, err = u.Store.In(tx).Commit(ctx, transitions)
		return err
	})
	return verdicts, err
}

// The same through database/sql.
func TestStoreInUsersSQLTransactions(t *testing.T) {
	t.Parallel()
	d := newDatabase(t).withClocks()
	d.run(t, []string{"commit/", "compare-and-set/", "inputs/", "batch/", "business key/", "start key/"}, func(tb testing.TB) storetest.Harness {
		h := d.harness(tb, badState)
		open := func(store saga.Store) saga.Store {
			s := store.(*postgres.Store)
			db := stdlib.OpenDBFromPool(s.Pool())
			tb.Cleanup(func() { require.NoError(tb, db.Close()) })
			return sqlUsers{s, db}
		}
		reopen := h.Reopen
		h.Store = open(h.Store)
		h.Reopen = func() saga.Store { return open(reopen()) }
		return h
	})
}

type sqlUsers struct {
	*postgres.Store
	db *sql.DB
}

func (u sqlUsers) Commit(ctx context.Context, transitions []saga.Transition) ([]saga.Verdict, error) {
	tx, err := u.db.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	verdicts, err := u.InSQL(tx).Commit(ctx, transitions)
	if err != nil {
		return nil, errors.Join(err, tx.Rollback())
	}
	return verdicts, tx.Commit()
}

// A saga begins exactly if the transaction does that wants it.
func TestStartInUsersTransaction(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	store := postgres.NewStore(d.open())
	d.exec(`CREATE TABLE ` + d.table("orders") + ` (id text PRIMARY KEY)`)
	placeOrder := func(id string, failure error) error {
		return pgx.BeginFunc(t.Context(), d.pool, func(tx pgx.Tx) error {
			if _, err := tx.Exec(t.Context(), `INSERT INTO `+d.table("orders")+` VALUES ($1)`, id); err != nil {
				return err
			}
			refused, twice := start("refused "+id), start("twice "+id)
			refused.State, twice.Start.Key = "\x00", "key of "+id
			require.Equal(t, []saga.Outcome{saga.Committed}, outcomes(t, store.In(tx), start(id)))
			require.Equal(t, []saga.Outcome{saga.Unwritable}, outcomes(t, store.In(tx), refused))
			require.Equal(t, []saga.Outcome{saga.Exists}, outcomes(t, store.In(tx), twice))
			return failure
		})
	}
	require.NoError(t, placeOrder("kept", nil))
	declined := errors.New("card declined")
	require.ErrorIs(t, placeOrder("rolled back", declined), declined)

	records, err := store.List(t.Context(), saga.Query{})
	require.NoError(t, err)
	require.Len(t, records, 1)
	require.Equal(t, "kept", records[0].ID)
	require.Equal(t, "kept", scan[string](d, `SELECT id FROM `+d.table("orders")))
}

// Two transactions that want the same key: the second waits as long as it likes to, and is still good then.
func TestBusyInUsersTransaction(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	store := postgres.NewStore(d.open())
	first, err := d.pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = first.Rollback(context.Background()) }()
	require.Equal(t, []saga.Outcome{saga.Committed}, outcomes(t, store.In(first), start("a")))
	err = pgx.BeginFunc(t.Context(), d.pool, func(second pgx.Tx) error {
		_, err := second.Exec(t.Context(), `SET LOCAL lock_timeout = '10ms'`)
		require.NoError(t, err)
		same := start("b")
		same.Start.Key = "key of a"
		require.Equal(t, []saga.Outcome{saga.Busy}, outcomes(t, store.In(second), same))
		require.Equal(t, []saga.Outcome{saga.Committed}, outcomes(t, store.In(second), start("c")))
		require.NoError(t, first.Commit(t.Context()))
		require.Equal(t, []saga.Outcome{saga.Exists}, outcomes(t, store.In(second), same))
		return nil
	})
	require.NoError(t, err)
}

// A transaction of serializable isolation that fails for that reason has to be run again as a whole.
func TestSerializationFailureInUsersTransaction(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	store := postgres.NewStore(d.open())
	run := func(between func()) error {
		return pgx.BeginTxFunc(t.Context(), d.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, func(tx pgx.Tx) error {
			if _, err := tx.Exec(t.Context(), `SELECT 1`); err != nil {
				return err
			}
			between()
			_, err := store.In(tx).Commit(t.Context(), []saga.Transition{start("a")})
			return err
		})
	}
	err := run(func() { require.Equal(t, []saga.Outcome{saga.Committed}, outcomes(t, store, start("a"))) })
	require.ErrorContains(t, err, "40001")
	require.NoError(t, run(func() {}))
}

func TestUsersTransactionThatIsOver(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	store := postgres.NewStore(d.open())
	tx, err := d.pool.Begin(t.Context())
	require.NoError(t, err)
	require.NoError(t, tx.Rollback(t.Context()))
	_, err = store.In(tx).Commit(t.Context(), []saga.Transition{start("a")})
	require.ErrorIs(t, err, pgx.ErrTxClosed)

	over, cancel := context.WithTimeout(t.Context(), -time.Second)
	defer cancel()
	_, err = store.In(tx).Commit(over, []saga.Transition{start("a")})
	require.ErrorIs(t, err, context.DeadlineExceeded)
}
