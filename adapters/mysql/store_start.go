package mysql

import (
	"context"
	"crypto/sha256"

	"github.com/sagamill/sagamill/adapters/internal/batch"
)

// New instances claim names: an ID, a business key, perhaps a start key. A name that another open transaction has claimed would
// have to be waited for, for as long as innodb_lock_wait_timeout says. So names are looked for first, and without waiting. What
// somebody claims in the moment between is waited for.

const (
	insertInstances = `INSERT INTO {{instances}} (id, definition, version, business_key, fingerprint, revision, state, settled, attention,
			created_at, updated_at, wake_at, lease_till, engine, data) VALUES `
	instanceColumns = 15

	insertStartKeys = `INSERT INTO {{start_keys}} (hash, start_key, fingerprint, response, instance_id, expires_at) VALUES `
	startKeyColumns = 6
	replaceStartKey = `UPDATE {{start_keys}} SET fingerprint = ?, response = ?, instance_id = ?, expires_at = ? WHERE hash = ?`
)

// starts writes new instances. Those whose names are taken are left unanswered.
func (w *writing) starts(ctx context.Context, items []batch.Item) error {
	if err := w.tx.QueryRowContext(ctx, w.db.sql(`SELECT {{now}}`)).Scan(&w.now); err != nil {
		return err
	}
	keyed, _ := batch.Split(items, func(it batch.Item) bool { return it.Start.StartKey != nil })
	kept, err := w.startKeys(ctx, keyed)
	if err != nil {
		return err
	}
	names, err := w.names(ctx, items)
	if err != nil {
		return err
	}
	free, _ := batch.Split(items, func(it batch.Item) bool {
		return !names[it.Start.Definition+"\x00"+it.Start.Key] && kept.of(it) != startKeyTaken
	})
	if len(free) == 0 {
		return nil
	}
	if err := w.insert(ctx, free, kept); err != nil {
		return err
	}
	return w.committed(ctx, free)
}

// insert writes new instances and their start keys.
func (w *writing) insert(ctx context.Context, items []batch.Item, kept startKeys) error {
	var instances, fresh []any
	for _, it := range items {
		instances = append(instances, w.instanceArgs(it)...)
		if k := it.Start.StartKey; k != nil && kept.of(it) == startKeyUnknown {
			hash := hashOf(it)
			fresh = append(fresh, hash[:], text(k.Key), blob(k.Fingerprint), blob(k.Response), text(it.ID), int64(w.now.add(k.TTL)))
		}
	}
	statement := w.db.sql(insertInstances) + repeated(list(instanceColumns), `, `, len(items))
	if _, err := exec(ctx, w.tx, statement, instances...); err != nil {
		return err
	}
	if n := len(fresh) / startKeyColumns; n > 0 {
		if _, err := exec(ctx, w.tx, w.db.sql(insertStartKeys)+repeated(list(startKeyColumns), `, `, n), fresh...); err != nil {
			return err
		}
	}
	for _, it := range items {
		if k := it.Start.StartKey; k != nil && kept.of(it) == startKeyOver {
			hash := hashOf(it)
			_, err := exec(ctx, w.tx, w.db.sql(replaceStartKey), blob(k.Fingerprint), blob(k.Response), text(it.ID), int64(w.now.add(k.TTL)), hash[:])
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *writing) instanceArgs(it batch.Item) []any {
	var wake, lease any
	if it.Wake >= 0 && !it.Settled {
		wake = int64(w.now.add(it.Wake))
	}
	if it.Lease != 0 {
		lease = int64(w.now.add(it.Lease))
	}
	s := it.Start
	return []any{
		text(it.ID), text(s.Definition), s.Version, text(s.Key), blob(s.Fingerprint), it.Revision(), text(it.State), it.Settled,
		text(it.Attention), int64(w.now), int64(w.now), wake, lease, blob(it.Engine), blob(it.Data),
	}
}

// names locks the instances that have the business key of one of the items, and returns which are taken.
func (w *writing) names(ctx context.Context, items []batch.Item) (map[string]bool, error) {
	taken := map[string]bool{}
	statement, args := byBusinessKey(`SELECT definition, business_key FROM {{instances}} FORCE INDEX (by_business_key) WHERE `, items)
	err := query(ctx, w.tx, w.db.sql(statement)+` FOR UPDATE NOWAIT`, args, func(row scanner) error {
		var definition, key string
		err := row.Scan(&definition, &key)
		taken[definition+"\x00"+key] = true
		return err
	})
	return taken, err
}

// byBusinessKey ends a statement with the condition that a row has the business key of one of the items.
func byBusinessKey(statement string, items []batch.Item) (string, []any) {
	var args []any
	for _, it := range items {
		args = append(args, text(it.Start.Definition), text(it.Start.Key))
	}
	return statement + repeated(`definition = ? AND business_key = ?`, ` OR `, len(items)), args
}

// hashOf is under what the item's start key is kept.
func hashOf(it batch.Item) [sha256.Size]byte { return sha256.Sum256([]byte(it.Start.StartKey.Key)) }

// startKeys are those that are on record.
type startKeys map[[sha256.Size]byte]startKeyState

type startKeyState int

const (
	startKeyUnknown startKeyState = iota
	startKeyTaken
	startKeyOver // its time is over, and its instance is settled
)

func (k startKeys) of(it batch.Item) startKeyState {
	if it.Start.StartKey == nil {
		return startKeyUnknown
	}
	return k[hashOf(it)]
}

// startKeys locks the start keys of the items that are on record, and finds out what they are.
func (w *writing) startKeys(ctx context.Context, items []batch.Item) (startKeys, error) {
	if len(items) == 0 {
		return nil, nil
	}
	args := make([]any, len(items))
	for i, it := range items {
		hash := hashOf(it)
		args[i] = hash[:]
	}
	kept := startKeys{}
	over := map[string][sha256.Size]byte{} // the instance -> its key
	const statement = `SELECT hash, instance_id, expires_at FROM {{start_keys}} WHERE hash IN `
	err := query(ctx, w.tx, w.db.sql(statement)+list(len(items))+` ORDER BY hash FOR UPDATE NOWAIT`, args, func(row scanner) error {
		var hash []byte
		var id string
		var expires micros
		if err := row.Scan(&hash, &id, &expires); err != nil {
			return err
		}
		kept[[sha256.Size]byte(hash)] = startKeyTaken
		if expires <= w.now {
			over[id] = [sha256.Size]byte(hash)
		}
		return nil
	})
	if err != nil || len(over) == 0 {
		return kept, err
	}
	settled, err := w.settled(ctx, over)
	for _, id := range settled {
		kept[over[id]] = startKeyOver
	}
	return kept, err
}

// settled returns which of the instances are settled. They stay so.
func (w *writing) settled(ctx context.Context, ids map[string][sha256.Size]byte) (settled []string, err error) {
	args := make([]any, 0, len(ids))
	for id := range ids {
		args = append(args, text(id))
	}
	const statement = `SELECT id FROM {{instances}} WHERE settled = 1 AND id IN `
	err = query(ctx, w.tx, w.db.sql(statement)+list(len(args)), args, func(row scanner) error {
		var id string
		err := row.Scan(&id)
		settled = append(settled, id)
		return err
	})
	return settled, err
}
