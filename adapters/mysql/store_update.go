package mysql

import (
	"context"
	"fmt"
	"slices"

	"github.com/sagamill/sagamill/adapters/internal/batch"
	"github.com/sagamill/sagamill/saga"
)

const (
	lockFree = `SELECT id, revision, {{now}} FROM {{instances}} WHERE id IN %s ORDER BY id FOR UPDATE SKIP LOCKED`

	selectRevisions = `SELECT id, revision FROM {{instances}} WHERE id IN `

	// The index is named since the server may not trust it while the table is small, and lock all rows.
	selectConsumed = `SELECT instance_id, input FROM {{history}} FORCE INDEX (by_input) WHERE `

	// updateInstances writes rows that are there and locked: none is inserted. VALUES is the only form of it that both MySQL and
	// MariaDB know.
	updateInstances = `INSERT INTO {{instances}} (id, definition, version, business_key, fingerprint, revision, state, settled, attention,
			created_at, updated_at, wake_at, lease_till, engine, data) VALUES `
	ofUpdatedInstance     = `(?, '', 0, ?, '', ?, ?, ?, ?, 0, ?, ?, ?, ?, ?)`
	updateInstancesValues = ` ON DUPLICATE KEY UPDATE revision = VALUES(revision), state = VALUES(state), attention = VALUES(attention),
			updated_at = VALUES(updated_at), engine = VALUES(engine), data = COALESCE(VALUES(data), data),
			lease_till = COALESCE(VALUES(lease_till), lease_till),
			wake_at = IF(VALUES(settled), NULL, LEAST(COALESCE(wake_at, VALUES(wake_at)), COALESCE(VALUES(wake_at), wake_at))),
			settled = VALUES(settled)`
)

// updates writes the transitions of existing instances, and leaves out those that somebody else has locked.
func (w *writing) updates(ctx context.Context, items []batch.Item) error {
	locked, err := w.lock(ctx, items)
	if err != nil {
		return err
	}
	free, missing := batch.Split(items, func(it batch.Item) bool { _, free := locked[it.ID]; return free })
	consumed, err := w.consumed(ctx, free) // of the others somebody else may be writing the history
	if err != nil {
		return err
	}
	var ready []batch.Item
	for _, it := range free {
		revision := locked[it.ID]
		switch {
		case consumed[it.ID] != nil:
			w.say(it, saga.Verdict{Outcome: saga.Duplicate, Duplicates: consumed[it.ID]})
		case revision != it.Expect:
			w.say(it, saga.Verdict{Outcome: saga.Conflict})
		default:
			ready = append(ready, it)
		}
	}
	if err := w.missing(ctx, missing); err != nil || len(ready) == 0 {
		return err
	}
	if err := w.update(ctx, ready); err != nil {
		return err
	}
	return w.committed(ctx, ready)
}

// lock returns the revisions of the instances that are there and free.
func (w *writing) lock(ctx context.Context, items []batch.Item) (map[string]uint64, error) {
	return w.revisions(ctx, fmt.Sprintf(w.db.sql(lockFree), list(len(items))), items, &w.now)
}

func (w *writing) revisions(ctx context.Context, statement string, items []batch.Item, more ...any) (map[string]uint64, error) {
	found := make(map[string]uint64, len(items))
	err := query(ctx, w.tx, statement, idsOf(items), func(row scanner) error {
		var id string
		var revision uint64
		err := row.Scan(append([]any{&id, &revision}, more...)...)
		found[id] = revision
		return err
	})
	return found, err
}

func idsOf(items []batch.Item) []any {
	ids := make([]any, len(items))
	for i, it := range items {
		ids[i] = text(it.ID)
	}
	return ids
}

// consumed returns those inputs of the items that their instances had before.
func (w *writing) consumed(ctx context.Context, items []batch.Item) (map[string][]string, error) {
	const pair = `instance_id = ? AND input = ?`
	var args []any
	for _, it := range items {
		for i := range it.History {
			if input := it.History[i].Input; input != "" {
				args = append(args, text(it.ID), text(input))
			}
		}
	}
	found := map[string][]string{}
	for page := range slices.Chunk(args, 2*maxRows) {
		// A locking read sees what is committed also in a user's transaction that began before.
		statement := w.db.sql(selectConsumed) + repeated(pair, ` OR `, len(page)/2) + ` LOCK IN SHARE MODE`
		err := query(ctx, w.tx, statement, page, func(row scanner) error {
			var id, input string
			err := row.Scan(&id, &input)
			found[id] = append(found[id], input)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

// missing answers those that are not there, and leaves those unanswered that are locked.
func (w *writing) missing(ctx context.Context, items []batch.Item) error {
	if len(items) == 0 {
		return nil
	}
	there, err := w.revisions(ctx, w.db.sql(selectRevisions)+list(len(items)), items)
	for _, it := range items {
		if revision, ok := there[it.ID]; !ok || revision != it.Expect {
			w.say(it, saga.Verdict{Outcome: saga.Conflict})
		}
	}
	return err
}

// update writes instances that are locked.
func (w *writing) update(ctx context.Context, items []batch.Item) error {
	var args []any
	for _, it := range items {
		var wake, lease any
		if it.Wake >= 0 {
			wake = int64(w.now.add(it.Wake))
		}
		if it.Lease != 0 {
			lease = int64(w.now.add(it.Lease))
		}
		id := text(it.ID)
		args = append(args, id, id, it.Revision(), text(it.State), it.Settled, text(it.Attention), int64(w.now), wake, lease,
			blob(it.Engine), it.Data)
	}
	statement := w.db.sql(updateInstances) + repeated(ofUpdatedInstance, `, `, len(items)) + updateInstancesValues
	changed, err := exec(ctx, w.tx, statement, args...)
	if err == nil && changed != 2*int64(len(items)) { // as it counts a row that was there
		err = fmt.Errorf("%d instances were locked, and the server counts %d changes: is a trigger in the way?", len(items), changed)
	}
	return err
}
