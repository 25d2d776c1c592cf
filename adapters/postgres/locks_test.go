package postgres_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/postgres"
	"github.com/sagamill/sagamill/saga"
)

// foreign begins a transaction of somebody's who then goes for lunch.
func (d *database) foreign(statements ...string) pgx.Tx {
	d.tb.Helper()
	tx, err := d.newPool().Begin(context.Background())
	require.NoError(d.tb, err)
	d.tb.Cleanup(func() { _ = tx.Rollback(context.Background()) })
	for _, s := range statements {
		_, err := tx.Exec(context.Background(), s)
		require.NoError(d.tb, err)
	}
	return tx
}

// A row that somebody keeps locked is Busy, and nobody else waits for it.
func TestForeignLockOfARow(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	store := postgres.NewStore(d.open(postgres.WithLockTimeout(20 * time.Millisecond)))
	outcomes(t, store, start("a"), start("b"), start("c"), start("d"))
	lunch := d.foreign(`SELECT FROM ` + d.table("instances") + ` WHERE id = 'b' FOR UPDATE`)

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
	require.Equal(t, []string{"a", "c"}, scan[[]string](d, `SELECT array_agg(id ORDER BY id) FROM `+d.table("instances")+` WHERE wake_at IS NULL`))

	require.NoError(t, lunch.Commit(t.Context()))
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
				store := postgres.NewStore(d.open(postgres.WithLockTimeout(20 * time.Millisecond)))
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
					require.NoError(t, lunch.Commit(t.Context()))
					verdicts, err := store.Commit(t.Context(), []saga.Transition{named("ours")})
					require.NoError(t, err)
					require.Equal(t, saga.Exists, verdicts[0].Outcome)
					require.Equal(t, "theirs", verdicts[0].Existing.ID)
					require.Equal(t, byStartKey, verdicts[0].StartKey != nil)
				} else {
					require.NoError(t, lunch.Rollback(t.Context()))
					require.Equal(t, []saga.Outcome{saga.Committed}, outcomes(t, store, named("ours")))
				}
			})
		}
	}
}

// Somebody has taken many keys: then not each is waited for.
func TestForeignLockOfManyKeys(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	store := postgres.NewStore(d.open(postgres.WithLockTimeout(20 * time.Millisecond)))
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
	require.Less(t, time.Since(began), 20*time.Second, "a second, and what a slow machine adds")
	require.NoError(t, lunch.Rollback(t.Context()))
	for _, o := range outcomes(t, store, ours...) {
		require.Equal(t, saga.Committed, o)
	}
}

// Somebody changes the table, and everybody waits for that. No verdict is made up meanwhile.
func TestForeignLockOfTheTable(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	store := postgres.NewStore(d.open(postgres.WithLockTimeout(20 * time.Millisecond)))
	outcomes(t, store, start("a"))
	alter := d.foreign(`LOCK TABLE ` + d.table("instances") + ` IN ACCESS EXCLUSIVE MODE`)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	verdicts, err := store.Commit(ctx, []saga.Transition{next("a", 1), start("b")})
	if err == nil {
		require.Equal(t, []saga.Outcome{saga.Busy, saga.Busy}, []saga.Outcome{verdicts[0].Outcome, verdicts[1].Outcome})
	}
	require.NoError(t, alter.Rollback(t.Context()))
	require.Equal(t, []saga.Outcome{saga.Committed, saga.Committed}, outcomes(t, store, next("a", 1), start("b")))
}

// A batch that has a row, and wants another, meets a transaction that has that and wants the first.
func TestForeignDeadlock(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	store := postgres.NewStore(d.open(postgres.WithLockTimeout(30 * time.Second))) // the server finds the deadlock first
	outcomes(t, store, start("a"), start("b"))
	// The server gives up who has waited for deadlock_timeout: that is the batch.
	foreign := d.foreign(`SET LOCAL deadlock_timeout = '60s'`, `SELECT FROM `+d.table("instances")+` WHERE id = 'b' FOR UPDATE`)
	wants := make(chan error, 1)
	committed := make(chan []saga.Outcome, 1)
	go func() { committed <- outcomes(t, store, next("a", 1), next("b", 1)) }()
	require.Eventually(t, func() bool { return d.waiting() == 1 }, 30*time.Second, 5*time.Millisecond)
	go func() {
		_, err := foreign.Exec(context.Background(), `SELECT FROM `+d.table("instances")+` WHERE id = 'a' FOR UPDATE`)
		wants <- err
	}()
	require.NoError(t, <-wants)
	require.NoError(t, foreign.Rollback(t.Context()))
	require.Equal(t, []saga.Outcome{saga.Committed, saga.Committed}, <-committed)
}

// waiting counts the sessions of the test that wait for a lock.
func (d *database) waiting() int {
	return scan[int](d, `SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND wait_event_type = 'Lock'`, d.schema)
}
