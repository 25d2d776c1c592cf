package postgres

import (
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sagamill/sagamill/saga"
)

// Suspect makes the store believe that somebody else has these locked.
func (s *Store) Suspect(transitions []saga.Transition) {
	for i := range transitions {
		s.suspects.add(&transitions[i])
	}
}

// Pool is the user's.
func (s *Store) Pool() *pgxpool.Pool { return s.db.pool }

// Grown tells whether plans are made once and for all.
func (db *DB) Grown() bool { return db.grown.Load() }

// Settings is what is run before the statements.
func (db *DB) Settings() string { return settings }

// Statements are all that look rows up, and how the rows are to be found.
func (db *DB) Statements() map[string][]string {
	const byID, byBusinessKey = "Index Scan using sagamill_instances_pkey", "Index Scan using sagamill_instances_key"
	const byRequestKey = "Index Scan using sagamill_idempotency_pkey"
	all := map[string][]string{
		updateAll:      {byID, "using sagamill_history_inputs"},
		updateOne:      {byID},
		updateFree:     {byID, "using sagamill_history_inputs"},
		takeStartKeys:  {byID, "using sagamill_instances_key", "using sagamill_instances_pkey"},
		insertNew:      {"using sagamill_start_keys_pkey"},
		selectExisting: {byID, byBusinessKey, "using sagamill_start_keys_pkey"},
		selectByIDs:    {byID}, selectByKey: {byBusinessKey}, selectHistory: {"using sagamill_history_pkey"},
		claimDue: {"using sagamill_instances_due", byID}, selectNextDue: {"using sagamill_instances_due"},
		touchAll: {byID}, touchFree: {byID}, deleteSettled: {byID, "using sagamill_start_keys_instance", "using sagamill_history_pkey"},
		selectClaim: {byRequestKey}, drawToken: {byRequestKey}, replaceClaim: {byRequestKey}, renewClaim: {byRequestKey}, completeClaim: {byRequestKey},
		releaseClaim: {byRequestKey}, deleteOver: {byRequestKey},
		selectUnheld: {"using sagamill_idempotency_until"}, selectHeld: {"using sagamill_idempotency_until"},
	}
	for _, q := range []struct {
		query saga.Query
		by    string
	}{
		{saga.Query{}, byID},
		{saga.Query{Definition: "d", Unsettled: true}, "using sagamill_instances_unsettled"},
		{saga.Query{NeedsAttention: true}, "using sagamill_instances_attention"},
	} {
		statement, _ := listStatement(q.query)
		all[statement] = []string{q.by}
	}
	expanded := map[string][]string{}
	for statement, by := range all {
		expanded[db.sql(statement)] = by
	}
	return expanded
}
