package mysql

import (
	"context"
	"crypto/sha256"
	"database/sql"

	"github.com/sagamill/sagamill/adapters/internal/batch"
	"github.com/sagamill/sagamill/saga"
)

const selectByStartKey = `SELECT ` + columns + `, k.hash, k.fingerprint, k.response FROM {{start_keys}} k JOIN {{instances}} i ON i.id = k.instance_id
	WHERE (k.expires_at > {{now}} OR i.settled = 0) AND k.hash IN `

// tellExisting answers those of the items that are new and have no verdict with the instances that are in their way, if there are.
func (c committing) tellExisting(ctx context.Context, items []batch.Item) error {
	open, _ := batch.Split(batch.Unanswered(items), batch.Item.IsStart)
	if len(open) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callWithin)
	defer cancel()
	return c.db.read(ctx, func(conn *sql.Conn) error { return c.db.tellExisting(ctx, conn, open, "") })
}

// tellExisting looks for start keys, then for business keys, then for IDs. The end of the statements says how rows are locked.
func (db *DB) tellExisting(ctx context.Context, on runner, items []batch.Item, locking string) error {
	if err := db.tellByStartKey(ctx, on, items, locking); err != nil {
		return err
	}
	if items = batch.Unanswered(items); len(items) == 0 {
		return nil
	}
	statement, args := byBusinessKey(selectInstances+`WHERE `, items)
	err := db.tell(ctx, on, statement+locking, args, func(r *saga.Record) []batch.Item {
		return having(items, func(it batch.Item) bool { return it.Start.Definition == r.Definition && it.Start.Key == r.Key })
	})
	if err != nil {
		return err
	}
	if items = batch.Unanswered(items); len(items) == 0 {
		return nil
	}
	return db.tell(ctx, on, selectInstances+`WHERE i.id IN `+list(len(items))+locking, idsOf(items), func(r *saga.Record) []batch.Item {
		return having(items, func(it batch.Item) bool { return it.ID == r.ID })
	})
}

func having(items []batch.Item, what func(batch.Item) bool) []batch.Item {
	yes, _ := batch.Split(items, what)
	return yes
}

// tell answers the items that a record is in the way of.
func (db *DB) tell(ctx context.Context, on runner, statement string, args []any, of func(*saga.Record) []batch.Item) error {
	return query(ctx, on, db.sql(statement), args, func(row scanner) error {
		r, err := scanRecord(row)
		for _, it := range of(&r) {
			*it.Verdict = saga.Verdict{Outcome: saga.Exists, Existing: new(r)}
		}
		return err
	})
}

func (db *DB) tellByStartKey(ctx context.Context, on runner, items []batch.Item, locking string) error {
	keyed, _ := batch.Split(items, func(it batch.Item) bool { return it.Start.StartKey != nil })
	if len(keyed) == 0 {
		return nil
	}
	args := make([]any, len(keyed))
	for i, it := range keyed {
		hash := hashOf(it)
		args[i] = hash[:]
	}
	return query(ctx, on, db.sql(selectByStartKey+list(len(keyed))+locking), args, func(row scanner) error {
		var hash []byte
		var kept saga.StartKey
		r, err := scanRecordAnd(row, &hash, &kept.Fingerprint, &kept.Response)
		if err != nil {
			return err
		}
		for _, it := range having(keyed, func(it batch.Item) bool { return hashOf(it) == [sha256.Size]byte(hash) }) {
			kept.Key = it.Start.StartKey.Key
			*it.Verdict = saga.Verdict{Outcome: saga.Exists, Existing: new(r), StartKey: new(kept)}
		}
		return nil
	})
}
