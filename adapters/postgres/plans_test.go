package postgres_test

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/postgres"
	"github.com/sagamill/sagamill/internal/services"
	"github.com/sagamill/sagamill/saga"
)

// No statement may walk through a table, however small that was when its plan was made; and rows are locked in the order of the
// batch, which is that of the outer side of the join.
func TestPlans(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	db := d.open()
	store := postgres.NewStore(db)
	for round, rows := range []int{0, 1, 2, 10, 1000} {
		var batch []saga.Transition
		for i := range rows {
			s := start(services.Name())
			s.Settled = i%10 > 0
			s.Engine = bytes.Repeat([]byte("e"), 600)
			s.History[0].Input = []string{"", "in"}[round%2]
			if round < 2 { // no more keys: all other tables may be small when that of the instances is large
				s.Start.StartKey = &saga.StartKey{Key: services.Name()}
			}
			batch = append(batch, s)
		}
		slices.SortFunc(batch, func(a, b saga.Transition) int { return strings.Compare(a.ID, b.ID) })
		outcomes(t, store, batch...)
		for _, table := range []string{"instances", "history", "start_keys", "idempotency", "inbox"} {
			d.exec(`VACUUM ANALYZE ` + d.table(table))
		}
		require.NoError(t, store.Touch(t.Context(), []saga.Touch{{ID: "none"}})) // notices how large the table is
		require.Equal(t, rows == 1000, db.Grown())
		for statement, by := range db.Statements() {
			plan := d.plan(db, statement)
			require.NotContains(t, plan, "Seq Scan", "%d rows: %s", rows, statement)
			if !db.Grown() {
				continue // the plan is made anew for each batch
			}
			require.NotContains(t, plan, "Join Filter", "not looked up by the arrays: %s", statement)
			for _, how := range by {
				require.Contains(t, plan, how, statement)
			}
		}
	}
}

// plan explains a statement as it is run.
func (d *database) plan(db *postgres.DB, statement string) string {
	d.tb.Helper()
	tx, err := d.pool.Begin(context.Background())
	require.NoError(d.tb, err)
	defer func() { require.NoError(d.tb, tx.Rollback(context.Background())) }()
	mode := "force_custom_plan"
	if db.Grown() {
		mode = "force_generic_plan"
	}
	_, err = tx.Exec(context.Background(), db.Settings(), "1s", mode, true, "")
	require.NoError(d.tb, err)
	name := services.Name()
	prepared, err := tx.Prepare(context.Background(), name, statement)
	require.NoError(d.tb, err)
	args := make([]string, len(prepared.ParamOIDs))
	for i, oid := range prepared.ParamOIDs {
		t, ok := tx.Conn().TypeMap().TypeForOID(oid)
		require.True(d.tb, ok)
		args[i] = "NULL::" + t.Name
		if element, array := strings.CutPrefix(t.Name, "_"); array {
			args[i] = "'{}'::" + element + "[]"
		}
	}
	rows, err := tx.Query(context.Background(), `EXPLAIN (COSTS OFF) EXECUTE `+name+`(`+strings.Join(args, ", ")+`)`, pgx.QueryExecModeSimpleProtocol)
	require.NoError(d.tb, err)
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(d.tb, err)
	require.NoError(d.tb, tx.Conn().Deallocate(context.Background(), name))
	return strings.Join(lines, "\n")
}

// Most transitions write no index at all.
func TestUpdatesAreHOT(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	store := postgres.NewStore(d.open())
	var starts, nexts []saga.Transition
	for i := range 9 {
		s := start(string(rune('a' + i)))
		s.Wake = time.Minute
		starts = append(starts, s)
		n := next(s.ID, 1)
		n.Wake = 2 * time.Minute // later: the wake-up time is a lower bound, and stays
		nexts = append(nexts, n)
	}
	outcomes(t, store, starts...)
	err := pgx.BeginFunc(t.Context(), d.pool, func(tx pgx.Tx) error {
		outcomes(t, store.In(tx), nexts...)
		var updated, hot int
		err := tx.QueryRow(t.Context(), `SELECT pg_stat_get_xact_tuples_updated($1::text::regclass), pg_stat_get_xact_tuples_hot_updated($1::text::regclass)`,
			d.table("instances")).Scan(&updated, &hot)
		require.Equal(t, []int{9, 9}, []int{updated, hot})
		return err
	})
	require.NoError(t, err)
}
