package mysql_test

import (
	"context"
	"database/sql"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	sagamysql "github.com/sagamill/sagamill/adapters/mysql"
	"github.com/sagamill/sagamill/saga"
)

// foreign begins a transaction of somebody's who then goes for lunch.
func (d *database) foreign(statements ...string) *sql.Tx {
	d.tb.Helper()
	tx, err := d.newPool().BeginTx(context.Background(), nil)
	require.NoError(d.tb, err)
	d.tb.Cleanup(func() { _ = tx.Rollback() })
	for _, s := range statements {
		_, err := tx.ExecContext(context.Background(), s)
		require.NoError(d.tb, err)
	}
	return tx
}

// A row that somebody keeps locked is Busy, and nobody else waits for it.
func TestForeignLockOfARow(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	store := sagamysql.NewStore(d.open(sagamysql.WithLockTimeout(20 * time.Millisecond)))
	outcomes(t, store, start("a"), start("b"), start("c"), start("d"))
	lunch := d.foreign(`SELECT id FROM ` + d.table("instances") + ` WHERE id = 'b' FOR UPDATE`)

	want := []saga.Outcome{saga.Committed, saga.Busy, saga.Committed, saga.Conflict, saga.Committed}
	for round := range uint64(3) { // from the second on it is known
		ahead := next("d", 7)
		require.Equal(t, want, outcomes(t, store, next("a", round+1), next("b", 1), next("c", round+1), ahead, start(fmt.Sprint("e", round))))
	}
	// What is due behind the lock is left to later sweeps, and does not make them come all the time.
	claim := saga.Claim{Definitions: []saga.DefinitionVersion{{Name: "order", Version: 1}}, Limit: 10, Hold: time.Hour}
	records, after, err := store.Claim(t.Context(), claim)
	require.NoError(t, err)
	require.Len(t, records, 6)
	require.Zero(t, after, "one more is due")
	records, after, err = store.Claim(t.Context(), claim)
	require.NoError(t, err)
	require.Empty(t, records)
	require.Positive(t, after)
	// Leases of the others are renewed.
	require.NoError(t, store.Touch(t.Context(), []saga.Touch{{ID: "c", Wake: saga.NoWake}, {ID: "b", Wake: saga.NoWake}, {ID: "a", Wake: saga.NoWake}}))
	require.Equal(t, []string{"a", "c"}, d.strings(`SELECT id FROM `+d.table("instances")+` WHERE wake_at IS NULL ORDER BY id`))

	require.NoError(t, lunch.Commit())
	require.Equal(t, []saga.Outcome{saga.Committed}, outcomes(t, store, next("b", 1)))
	records, _, err = store.Claim(t.Context(), claim)
	require.NoError(t, err)
	require.Len(t, records, 1)
}

// A key that somebody's open transaction has taken is Busy, until that has ended one way or the other.
func TestForeignLockOfAKey(t *testing.T) {
	t.Parallel()
	for _, byStartKey := range []bool{false, true} {
		for _, commits := range []bool{false, true} {
			t.Run(fmt.Sprintf("start key %t, commits %t", byStartKey, commits), func(t *testing.T) {
				t.Parallel()
				d := newDatabase(t)
				store := sagamysql.NewStore(d.open(sagamysql.WithLockTimeout(20 * time.Millisecond)))
				outcomes(t, store, start("z"))
				named := func(id string) saga.Transition {
					s := start(id)
					if byStartKey {
						s.Start.StartKey = &saga.StartKey{Key: "sk", TTL: time.Hour}
					} else {
						s.Start.Key = "k"
					}
					return s
				}
				lunch := d.foreign()
				require.Equal(t, []saga.Outcome{saga.Committed}, outcomes(t, store.In(lunch), named("theirs")))

				want := []saga.Outcome{saga.Committed, saga.Committed, saga.Busy, saga.Committed, saga.Committed}
				for round := range uint64(3) {
					require.Equal(t, want, outcomes(t, store, start(fmt.Sprint("a", round)), start(fmt.Sprint("b", round)),
						named("ours"), start(fmt.Sprint("p", round)), next("z", round+1)))
				}
				if commits {
					require.NoError(t, lunch.Commit())
					verdicts, err := store.Commit(t.Context(), []saga.Transition{named("ours")})
					require.NoError(t, err)
					require.Equal(t, saga.Exists, verdicts[0].Outcome)
					require.Equal(t, "theirs", verdicts[0].Existing.ID)
					require.Equal(t, byStartKey, verdicts[0].StartKey != nil)
				} else {
					require.NoError(t, lunch.Rollback())
					require.Equal(t, []saga.Outcome{saga.Committed}, outcomes(t, store, named("ours")))
				}
			})
		}
	}
}

// Somebody has taken many keys: none of them is waited for.
func TestForeignLockOfManyKeys(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	store := sagamysql.NewStore(d.open())
	var theirs, ours []saga.Transition
	for i := range 300 {
		s := start(fmt.Sprintf("theirs%03d", i))
		theirs = append(theirs, s)
		s.ID = fmt.Sprintf("ours%03d", i)
		ours = append(ours, s)
	}
	lunch := d.foreign()
	outcomes(t, store.In(lunch), theirs...)
	began := time.Now()
	for _, o := range outcomes(t, store, ours...) {
		require.Equal(t, saga.Busy, o)
	}
	require.Less(t, time.Since(began), 20*time.Second, "not the 50 seconds that MySQL would wait for one")
	require.NoError(t, lunch.Rollback())
	for _, o := range outcomes(t, store, ours...) {
		require.Equal(t, saga.Committed, o)
	}
}

// Two batches that want the same rows in another order than somebody's transaction do not wait for it, so there is no deadlock.
func TestForeignLocksInAnotherOrder(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	store := sagamysql.NewStore(d.open())
	outcomes(t, store, start("a"), start("b"))
	lock := `SELECT id FROM ` + d.table("instances") + ` WHERE id = '%s' FOR UPDATE`
	foreign := d.foreign(fmt.Sprintf(lock, "b"))
	require.Equal(t, []saga.Outcome{saga.Committed, saga.Busy}, outcomes(t, store, next("a", 1), next("b", 1)))
	_, err := foreign.ExecContext(t.Context(), fmt.Sprintf(lock, "a"))
	require.NoError(t, err)
	require.NoError(t, foreign.Rollback())
	require.Equal(t, []saga.Outcome{saga.Committed, saga.Committed}, outcomes(t, store, next("a", 2), next("b", 1)))
}

// Somebody's open transaction has written a transition of the same input: that is not waited for.
func TestForeignTransitionOfTheSameInput(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	store := sagamysql.NewStore(d.open())
	outcomes(t, store, start("a"), start("b"))
	same := next("a", 1)
	same.History[0].Input = "click"
	lunch := d.foreign()
	require.Equal(t, []saga.Outcome{saga.Committed}, outcomes(t, store.In(lunch), same))
	began := time.Now()
	require.Equal(t, []saga.Outcome{saga.Busy, saga.Committed}, outcomes(t, store, same, next("b", 1)))
	require.Less(t, time.Since(began), 20*time.Second, "not the 50 seconds that MySQL would wait")
	require.NoError(t, lunch.Commit())
	require.Equal(t, []saga.Outcome{saga.Duplicate}, outcomes(t, store, same))
}
