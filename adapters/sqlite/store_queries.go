package sqlite

import (
	"context"
	"slices"
	"strings"
)

const columns = `id, definition, version, key, fingerprint, revision, state, settled, attention, engine, data,
	created_at, updated_at, wake_at, lease_till`

const (
	selectByID  = `SELECT ` + columns + ` FROM sagamill_instances WHERE id = ?`
	selectByIDs = `SELECT ` + columns + ` FROM sagamill_instances WHERE id IN (SELECT value FROM json_each(?))`
	selectByKey = `SELECT ` + columns + ` FROM sagamill_instances WHERE definition = ? AND key = ?`

	insertInstance = `INSERT INTO sagamill_instances (` + columns + `)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`

	// updateState leaves alone the columns that are indexed, as nearly all transitions do, and finds no row if one of them
	// has to change. updateAll writes them all.
	updateState = `UPDATE sagamill_instances
		SET revision = ?1, state = ?2, engine = ?3, data = coalesce(?4, data), updated_at = ?5, lease_till = coalesce(?6, lease_till)
		WHERE id = ?7 AND revision = ?8 AND settled = 0 AND attention = ?9 AND coalesce(wake_at, 9223372036854775807) <= ?10`
	updateAll = `UPDATE sagamill_instances
		SET revision = ?1, state = ?2, engine = ?3, data = coalesce(?4, data), updated_at = ?5, lease_till = coalesce(?6, lease_till),
			settled = ?9, attention = ?10, wake_at = iif(?9, NULL, nullif(min(coalesce(wake_at, ?11), ?11), 9223372036854775807))
		WHERE id = ?7 AND revision = ?8`

	selectInput = `SELECT 1 FROM sagamill_history WHERE instance_id = ? AND input = ?`

	selectStartKey = `SELECT k.fingerprint, k.response, k.instance_id FROM sagamill_start_keys k
		JOIN sagamill_instances i ON i.id = k.instance_id WHERE k.key = ? AND (k.expires_at > ? OR i.settled = 0)`
	upsertStartKey = `INSERT INTO sagamill_start_keys (key, fingerprint, response, instance_id, expires_at) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET fingerprint = excluded.fingerprint, response = excluded.response,
			instance_id = excluded.instance_id, expires_at = excluded.expires_at`

	deleteInstance = `DELETE FROM sagamill_instances WHERE id = ?1 AND revision = ?2 AND settled = 1
		AND NOT EXISTS (SELECT 1 FROM sagamill_start_keys WHERE instance_id = ?1 AND expires_at > ?3)`
	deleteHistory   = `DELETE FROM sagamill_history WHERE instance_id = ?`
	deleteStartKeys = `DELETE FROM sagamill_start_keys WHERE instance_id = ?`

	savepoint  = `SAVEPOINT sagamill`
	rollbackTo = `ROLLBACK TO sagamill`
	release    = `RELEASE sagamill`

	selectDue = `SELECT id, wake_at FROM sagamill_instances
		WHERE definition = ? AND version = ? AND wake_at <= ? ORDER BY wake_at LIMIT ?`
	selectNextDue = `SELECT min(wake_at) FROM sagamill_instances WHERE definition = ? AND version = ? AND wake_at IS NOT NULL`
	updateHold    = `UPDATE sagamill_instances SET wake_at = ? WHERE id = ? RETURNING ` + columns

	updateLease = `UPDATE sagamill_instances SET lease_till = coalesce(?, lease_till) WHERE id = ? AND ? IN (0, revision)`
	updateWake  = `UPDATE sagamill_instances SET lease_till = coalesce(?, lease_till), wake_at = ? WHERE id = ? AND ? IN (0, revision)`
)

// History rows are the most numerous, so they are written many to a statement.
const (
	historyColumns = 5
	maxHistoryRows = 8
)

// insertHistory has the statements that write 1, 2, 4, 8 rows.
var insertHistory = func() (queries []string) {
	for rows := 1; rows <= maxHistoryRows; rows *= 2 {
		queries = append(queries, `INSERT INTO sagamill_history (instance_id, revision, input, entry, at) VALUES (?, ?, ?, ?, ?)`+
			strings.Repeat(`, (?, ?, ?, ?, ?)`, rows-1))
	}
	return queries
}()

// prepareAll parses what is run in transactions. To parse a statement for the first time takes another connection, which
// must not be waited for while a transaction holds the write lock that all the others wait for.
func (s *Store) prepareAll() {
	for _, query := range slices.Concat([]string{
		selectByID, selectByKey, insertInstance, updateState, updateAll, selectInput, selectStartKey, upsertStartKey,
		savepoint, rollbackTo, release, selectDue, selectNextDue, updateHold, updateLease, updateWake,
		deleteInstance, deleteHistory, deleteStartKeys,
	}, insertHistory) {
		_, _ = s.db.prepare(context.Background(), query) // what is wrong with it shows when it is run
	}
}
