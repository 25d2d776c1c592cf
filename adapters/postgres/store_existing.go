package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/sagamill/sagamill/adapters/internal/batch"
	"github.com/sagamill/sagamill/saga"
)

// selectExisting finds the instances that have the names of new ones: by start key (1), business key (2) or ID (3).
const selectExisting = `WITH t AS (
		SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bool[], $5::text[])
			AS t (own_id, own_definition, own_key, keyed, start_key)
	), taken AS (
		SELECT 1 AS by, t.own_id, k.instance_id, k.fingerprint AS kept_fingerprint, k.response FROM t,
			LATERAL (SELECT * FROM {{start_keys}} k WHERE k.key = t.start_key OFFSET 0) k,
			LATERAL (SELECT i.settled FROM {{instances}} i WHERE i.id = k.instance_id OFFSET 0) owner
			WHERE t.keyed AND (k.expires_at > clock_timestamp() OR NOT owner.settled)
		UNION ALL SELECT 2, t.own_id, i.id, '', '' FROM t,
			LATERAL (SELECT i.id FROM {{instances}} i WHERE i.definition = t.own_definition AND i.key = t.own_key OFFSET 0) i
		UNION ALL SELECT 3, t.own_id, t.own_id, '', '' FROM t
	)
	SELECT ` + columns + `, taken.by, taken.own_id, taken.kept_fingerprint, taken.response
	FROM taken, LATERAL (SELECT * FROM {{instances}} i WHERE i.id = taken.instance_id OFFSET 0) i ORDER BY taken.by`

const byStartKey = 1

// tellExisting answers those of the items that have no verdict with the instances that are in their way.
func (c *committing) tellExisting(ctx context.Context, items []batch.Item) error {
	open := batch.Unanswered(items)
	if len(open) == 0 {
		return nil
	}
	var rows []inTheWay
	err := c.store.db.read(ctx, func(b *pgx.Batch) {
		queueRows(b, &rows, scanInTheWay, c.store.db.sql(selectExisting), existingArgs(open)...)
	})
	if err != nil {
		return err
	}
	answerExisting(open, rows)
	return nil
}

func existingArgs(items []batch.Item) []any {
	var ids, definitions, keys, startKeys []string
	var keyed []bool
	for _, it := range items {
		s := it.Start
		startKey := ""
		if s.StartKey != nil {
			startKey = s.StartKey.Key
		}
		ids, definitions, keys = append(ids, it.ID), append(definitions, s.Definition), append(keys, s.Key)
		keyed, startKeys = append(keyed, s.StartKey != nil), append(startKeys, startKey)
	}
	return []any{ids, definitions, keys, keyed, startKeys}
}

// inTheWay is an instance that has a name of a new one.
type inTheWay struct {
	by     int
	id     string // of the new one
	record saga.Record
	kept   saga.StartKey
}

func scanInTheWay(row scanner) (w inTheWay, err error) {
	w.record, err = scanRecordAnd(row, &w.by, &w.id, &w.kept.Fingerprint, &w.kept.Response)
	return w, err
}

// answerExisting makes verdicts of the rows of selectExisting, of which the first for an instance counts. There is none if what was
// in the way is gone.
func answerExisting(items []batch.Item, rows []inTheWay) {
	first := map[string]*inTheWay{}
	for i := range rows {
		if w := &rows[i]; first[w.id] == nil {
			first[w.id] = w
		}
	}
	for _, it := range items {
		w := first[it.ID]
		if w == nil {
			continue
		}
		*it.Verdict = saga.Verdict{Outcome: saga.Exists, Existing: &w.record}
		if w.by == byStartKey {
			w.kept.Key = it.Start.StartKey.Key
			it.Verdict.StartKey = &w.kept
		}
	}
}
