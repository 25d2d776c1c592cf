package mysql_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	sagamysql "github.com/sagamill/sagamill/adapters/mysql"
	"github.com/sagamill/sagamill/saga"
	"github.com/sagamill/sagamill/saga/storetest"
)

// The rules hold for transitions in somebody's own transaction, too, whatever its isolation.
func TestStoreInUsersTransactions(t *testing.T) {
	t.Parallel()
	for _, isolation := range []sql.IsolationLevel{sql.LevelDefault, sql.LevelReadCommitted, sql.LevelSerializable} {
		t.Run(isolation.String(), func(t *testing.T) {
			t.Parallel()
			d := newDatabase(t).withClocks()
			d.run(t, rulesOfCommit, func(tb testing.TB) storetest.Harness {
				h := d.harness(tb, badState, param("innodb_lock_wait_timeout", "2"))
				reopen := h.Reopen
				h.Store = users{h.Store.(*sagamysql.Store), isolation}
				h.Reopen = func() saga.Store { return users{reopen().(*sagamysql.Store), isolation} }
				return h
			})
		})
	}
}

// users is a store whose every transition comes in a transaction of a user's own, which is run again if it was rolled back.
type users struct {
	*sagamysql.Store
	isolation sql.IsolationLevel
}

func (u users) Commit(ctx context.Context, transitions []saga.Transition) (verdicts []saga.Verdict, err error) {
	for {
		verdicts, err = u.commit(ctx, transitions)
		if !errors.Is(err, sagamysql.ErrRolledBack) {
			return verdicts, err
		}
	}
}

func (u users) commit(ctx context.Context, transitions []saga.Transition) ([]saga.Verdict, error) {
	tx, err := u.Pool().BeginTx(ctx, &sql.TxOptions{Isolation: u.isolation})
	if err != nil {
		return nil, err
	}
	verdicts, err := u.In(tx).Commit(ctx, transitions)
	if err != nil {
		return nil, errors.Join(err, tx.Rollback())
	}
	return verdicts, tx.Commit()
}

// inTransaction runs f in a transaction of the pool's.
func (d *database) inTransaction(ctx context.Context, f func(*sql.Tx) error) error {
	tx, err := d.pool.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := f(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

// A saga begins exactly if the transaction does that wants it.
func TestStartInUsersTransaction(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	store := sagamysql.NewStore(d.open())
	d.exec(`CREATE TABLE ` + d.table("orders") + ` (id VARCHAR(64) PRIMARY KEY)`)
	placeOrder := func(id string, failure error) error {
		return d.inTransaction(t.Context(), func(tx *sql.Tx) error {
			if _, err := tx.ExecContext(t.Context(), `INSERT INTO `+d.table("orders")+` VALUES (?)`, id); err != nil {
				return err
			}
			refused, twice := start("refused "+id), start("twice "+id)
			twice.Start.Key = "key of " + id
			badState(&refused)
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
	store := sagamysql.NewStore(d.open())
	first, err := d.pool.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	defer func() { _ = first.Rollback() }()
	require.Equal(t, []saga.Outcome{saga.Committed}, outcomes(t, store.In(first), start("a")))
	err = d.inTransaction(t.Context(), func(second *sql.Tx) error {
		_, err := second.ExecContext(t.Context(), `SET SESSION innodb_lock_wait_timeout = 1`)
		require.NoError(t, err)
		same := start("b")
		same.Start.Key = "key of a"
		require.Equal(t, []saga.Outcome{saga.Busy}, outcomes(t, store.In(second), same))
		require.Equal(t, []saga.Outcome{saga.Committed}, outcomes(t, store.In(second), start("c")))
		require.NoError(t, first.Commit())
		require.Equal(t, []saga.Outcome{saga.Exists}, outcomes(t, store.In(second), same))
		return nil
	})
	require.NoError(t, err)
}

// A transaction that the server has given up has to be run again as a whole. It is not taken for one that goes on.
func TestDeadlockInUsersTransaction(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	store := sagamysql.NewStore(d.open())
	outcomes(t, store, start("z"))
	heavy := d.foreign()
	var many []saga.Transition
	for i := range 200 {
		many = append(many, start(fmt.Sprintf("heavy%03d", i)))
	}
	outcomes(t, store.In(heavy), many...)
	err := d.inTransaction(t.Context(), func(tx *sql.Tx) error {
		require.Equal(t, []saga.Outcome{saga.Committed}, outcomes(t, store.In(tx), start("a")))
		same := start("b")
		same.Start.Key = "key of a"
		waits := make(chan []saga.Outcome, 1)
		go func() { waits <- outcomes(t, store.In(heavy), same) }()
		require.Eventually(t, func() bool { return d.waiting() > 0 }, 30*time.Second, lockTick)
		other := start("c")
		other.Start.Key = "key of heavy000"
		_, err := store.In(tx).Commit(t.Context(), []saga.Transition{other})
		require.ErrorIs(t, err, sagamysql.ErrRolledBack)
		require.Equal(t, []saga.Outcome{saga.Committed}, <-waits)
		return err
	})
	require.ErrorIs(t, err, sagamysql.ErrRolledBack)
	require.NoError(t, heavy.Commit())
	records, err := store.Load(t.Context(), "a", "b", "c")
	require.NoError(t, err)
	require.Len(t, records, 1)
	require.Equal(t, "b", records[0].ID)
}

func TestUsersTransactionThatIsOver(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	store := sagamysql.NewStore(d.open())
	tx, err := d.pool.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	require.NoError(t, tx.Rollback())
	_, err = store.In(tx).Commit(t.Context(), []saga.Transition{start("a")})
	require.ErrorIs(t, err, sql.ErrTxDone)

	over, cancel := context.WithTimeout(t.Context(), -time.Second)
	defer cancel()
	_, err = store.In(tx).Commit(over, []saga.Transition{start("a")})
	require.ErrorIs(t, err, context.DeadlineExceeded)
}
