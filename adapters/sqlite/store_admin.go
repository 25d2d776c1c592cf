package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/sagamill/sagamill/adapters/internal/batch"
	"github.com/sagamill/sagamill/saga"
)

// Register implements saga.Store.
func (s *Store) Register(ctx context.Context, shape saga.Shape, replace bool) (before []byte, live int, err error) {
	err = s.db.Write(ctx, func(tx *sql.Tx) error {
		const count = `SELECT count(*) FROM sagamill_instances WHERE definition = ? AND version = ? AND settled = 0`
		if err := tx.QueryRowContext(ctx, count, shape.Definition, shape.Version).Scan(&live); err != nil {
			return err
		}
		before = nil
		const kept = `SELECT names FROM sagamill_shapes WHERE definition = ? AND version = ?`
		err := tx.QueryRowContext(ctx, kept, shape.Definition, shape.Version).Scan(&before)
		known := !errors.Is(err, sql.ErrNoRows)
		if err != nil && known {
			return err
		}
		if known && before == nil {
			before = []byte{} // an empty shape is one
		}
		if known && live > 0 && !replace {
			return nil
		}
		const put = `INSERT INTO sagamill_shapes (definition, version, names) VALUES (?, ?, ?)
			ON CONFLICT DO UPDATE SET names = excluded.names`
		_, err = tx.ExecContext(ctx, put, shape.Definition, shape.Version, blob(shape.Names))
		return err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("sqlite: register %s version %d: %w", shape.Definition, shape.Version, err)
	}
	return before, live, nil
}

// Delete implements saga.Store.
func (s *Store) Delete(ctx context.Context, deletions []saga.Deletion) (removed []string, err error) {
	if len(deletions) == 0 {
		return nil, ctx.Err()
	}
	err = s.db.Write(ctx, func(tx *sql.Tx) error {
		removed = nil
		x, now, ctx := &statements{db: s.db, tx: tx}, s.clock(), context.WithoutCancel(ctx)
		for _, d := range deletions {
			n, err := x.exec(ctx, deleteInstance, d.ID, int64(d.Revision), int64(now))
			if err != nil {
				return err
			}
			if n == 0 {
				continue
			}
			_, err = x.exec(ctx, deleteHistory, d.ID)
			if err == nil {
				_, err = x.exec(ctx, deleteStartKeys, d.ID)
			}
			if err != nil {
				return err
			}
			removed = append(removed, d.ID)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("sqlite: delete: %w", err)
	}
	return removed, nil
}

// Bury implements saga.Store.
func (s *Store) Bury(ctx context.Context, letter saga.DeadLetter) error {
	metadata, err := json.Marshal(letter.Metadata)
	if err != nil {
		return fmt.Errorf("sqlite: bury %s: %w", letter.ID, err)
	}
	err = s.db.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO sagamill_dead_letters (id, topic, reason, metadata, payload, at)
			VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
			letter.ID, letter.Topic, letter.Reason, string(metadata), blob(letter.Payload), int64(s.clock()))
		return err
	})
	if err != nil {
		return fmt.Errorf("sqlite: bury %s: %w", letter.ID, err)
	}
	return nil
}

// Unbury implements saga.Store.
func (s *Store) Unbury(ctx context.Context, u saga.Unburial) (removed int, err error) {
	statement := `DELETE FROM sagamill_dead_letters WHERE id IN (SELECT id FROM sagamill_dead_letters
		WHERE (? = '' OR topic = ?) AND at <= ? LIMIT ?)`
	args := []any{u.Topic, u.Topic, int64(s.clock().add(-u.OlderThan)), batch.Limit(u.Limit)}
	if len(u.IDs) > 0 {
		ids, err := json.Marshal(u.IDs)
		if err != nil {
			return 0, fmt.Errorf("sqlite: unbury: %w", err)
		}
		statement, args = `DELETE FROM sagamill_dead_letters WHERE id IN (SELECT value FROM json_each(?))`, []any{string(ids)}
	}
	err = s.db.Write(ctx, func(tx *sql.Tx) error {
		result, err := tx.ExecContext(ctx, statement, args...)
		if err != nil {
			return err
		}
		n, err := result.RowsAffected()
		removed = int(n)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("sqlite: unbury: %w", err)
	}
	return removed, nil
}

// DeadLetters implements saga.Store.
func (s *Store) DeadLetters(ctx context.Context, after string, limit int) ([]saga.DeadLetter, error) {
	const query = `SELECT id, topic, reason, metadata, payload, at FROM sagamill_dead_letters WHERE id > ? ORDER BY id LIMIT ?`
	var letters []saga.DeadLetter
	err := s.query(ctx, query, []any{after, batch.Limit(limit)}, func(rows *sql.Rows) error {
		var l saga.DeadLetter
		var metadata []byte
		var at micros
		if err := rows.Scan(&l.ID, &l.Topic, &l.Reason, &metadata, &l.Payload, &at); err != nil {
			return err
		}
		l.At = at.time()
		letters = append(letters, l)
		return json.Unmarshal(metadata, &letters[len(letters)-1].Metadata)
	})
	if err != nil {
		return nil, fmt.Errorf("sqlite: dead letters: %w", err)
	}
	return letters, nil
}
