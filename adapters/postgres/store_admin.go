package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/sagamill/sagamill/adapters/internal/batch"
	"github.com/sagamill/sagamill/saga"
)

// Register implements saga.Store.
func (s *Store) Register(ctx context.Context, shape saga.Shape, replace bool) (before []byte, live int, err error) {
	err = s.db.transaction(ctx, func(tx pgx.Tx) (err error) {
		before, live, err = s.register(ctx, tx, shape, replace)
		return err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("postgres: register %s version %d: %w", shape.Definition, shape.Version, err)
	}
	return before, live, nil
}

func (s *Store) register(ctx context.Context, tx pgx.Tx, shape saga.Shape, replace bool) (before []byte, live int, err error) {
	const lock = `SELECT pg_advisory_xact_lock(hashtextextended($1, $2))`
	if _, err := tx.Exec(ctx, lock, s.db.sql("{{shapes}} ")+shape.Definition, shape.Version); err != nil {
		return nil, 0, err
	}
	const count = `SELECT count(*) FROM {{instances}} WHERE definition = $1 AND version = $2 AND NOT settled`
	if err := tx.QueryRow(ctx, s.db.sql(count), shape.Definition, shape.Version).Scan(&live); err != nil {
		return nil, 0, err
	}
	const kept = `SELECT names FROM {{shapes}} WHERE definition = $1 AND version = $2`
	err = tx.QueryRow(ctx, s.db.sql(kept), shape.Definition, shape.Version).Scan(&before)
	known := !errors.Is(err, pgx.ErrNoRows)
	if err != nil && known {
		return nil, 0, err
	}
	if known {
		before = blob(before) // an empty shape is one
		if live > 0 && !replace {
			return before, live, nil
		}
	}
	const put = `INSERT INTO {{shapes}} (definition, version, names) VALUES ($1, $2, $3)
		ON CONFLICT (definition, version) DO UPDATE SET names = excluded.names`
	_, err = tx.Exec(ctx, s.db.sql(put), shape.Definition, shape.Version, blob(shape.Names))
	return before, live, err
}

// deleteSettled passes over what somebody else has locked.
const deleteSettled = `WITH d AS (SELECT * FROM unnest($1::text[], $2::bigint[]) AS d (id, revision)), settled AS MATERIALIZED (
		SELECT i.id FROM d JOIN {{instances}} i ON i.id = d.id AND i.revision = d.revision AND i.settled
		WHERE NOT EXISTS (SELECT FROM {{start_keys}} k WHERE k.instance_id = i.id AND k.expires_at > clock_timestamp())
		ORDER BY i.id FOR UPDATE OF i SKIP LOCKED
	), keys AS (
		DELETE FROM {{start_keys}} k WHERE k.instance_id = ANY (ARRAY(SELECT id FROM settled))
	), history AS (
		DELETE FROM {{history}} h USING settled WHERE h.instance_id = settled.id
	)
	DELETE FROM {{instances}} i USING settled WHERE i.id = settled.id RETURNING i.id`

// Delete implements saga.Store.
func (s *Store) Delete(ctx context.Context, deletions []saga.Deletion) (removed []string, err error) {
	if len(deletions) == 0 {
		return nil, ctx.Err()
	}
	ids, revisions := make([]string, len(deletions)), make([]int64, len(deletions))
	for k, d := range deletions {
		ids[k], revisions[k] = d.ID, int64(d.Revision)
	}
	err = s.db.writeAgain(ctx, s.db.lockTimeout, func(b *pgx.Batch) {
		queueRows(b, &removed, func(row scanner) (id string, err error) { return id, row.Scan(&id) }, s.db.sql(deleteSettled), ids, revisions)
	})
	if err != nil {
		return nil, fmt.Errorf("postgres: delete: %w", err)
	}
	return removed, nil
}

// Bury implements saga.Store.
func (s *Store) Bury(ctx context.Context, letter saga.DeadLetter) error {
	metadata, err := json.Marshal(letter.Metadata)
	if err != nil {
		return fmt.Errorf("postgres: bury %s: %w", letter.ID, err)
	}
	const query = `INSERT INTO {{dead_letters}} (id, topic, reason, metadata, payload, at)
		VALUES ($1, $2, $3, $4::text::json, $5, clock_timestamp()) ON CONFLICT DO NOTHING`
	err = s.db.writeAgain(ctx, keyWait, func(b *pgx.Batch) {
		b.Queue(s.db.sql(query), letter.ID, letter.Topic, letter.Reason, string(metadata), blob(letter.Payload))
	})
	if err != nil {
		return fmt.Errorf("postgres: bury %s: %w", letter.ID, err)
	}
	return nil
}

// Unbury implements saga.Store.
func (s *Store) Unbury(ctx context.Context, u saga.Unburial) (int, error) {
	const (
		named = `DELETE FROM {{dead_letters}} WHERE id = ANY ($1::text[]) RETURNING id`
		old   = `DELETE FROM {{dead_letters}} WHERE id IN (SELECT id FROM {{dead_letters}}
			WHERE ($1::text = '' OR topic = $1) AND at <= clock_timestamp() - $2::bigint * interval '1 microsecond' LIMIT $3 FOR UPDATE SKIP LOCKED) RETURNING id`
	)
	query, args := old, []any{u.Topic, micros(u.OlderThan), batch.Limit(u.Limit)}
	if len(u.IDs) > 0 {
		query, args = named, []any{u.IDs}
	}
	var removed []string
	err := s.db.writeAgain(ctx, s.db.lockTimeout, func(b *pgx.Batch) {
		queueRows(b, &removed, func(row scanner) (id string, err error) { return id, row.Scan(&id) }, s.db.sql(query), args...)
	})
	if err != nil {
		return 0, fmt.Errorf("postgres: unbury: %w", err)
	}
	return len(removed), nil
}

// DeadLetters implements saga.Store.
func (s *Store) DeadLetters(ctx context.Context, after string, limit int) (letters []saga.DeadLetter, err error) {
	const query = `SELECT id, topic, reason, metadata::text, payload, at FROM {{dead_letters}} WHERE id > $1 ORDER BY id LIMIT $2`
	err = s.db.browse(ctx, func(b *pgx.Batch) { queueRows(b, &letters, scanLetter, s.db.sql(query), after, batch.Limit(limit)) })
	if err != nil {
		return nil, fmt.Errorf("postgres: dead letters: %w", err)
	}
	return letters, nil
}

func scanLetter(row scanner) (saga.DeadLetter, error) {
	var l saga.DeadLetter
	var metadata string
	if err := row.Scan(&l.ID, &l.Topic, &l.Reason, &metadata, &l.Payload, &l.At); err != nil {
		return l, err
	}
	l.At = l.At.UTC()
	return l, json.Unmarshal([]byte(metadata), &l.Metadata)
}
