package mysql

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/sagamill/sagamill/adapters/internal/batch"
	"github.com/sagamill/sagamill/saga"
)

// Register implements saga.Store.
func (s *Store) Register(ctx context.Context, shape saga.Shape, replace bool) (before []byte, live int, err error) {
	err = s.db.write(ctx, func(ctx context.Context, tx *sql.Tx) (err error) {
		before, live, err = s.register(ctx, tx, shape, replace)
		return err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("mysql: register %s version %d: %w", shape.Definition, shape.Version, err)
	}
	return before, live, nil
}

func (s *Store) register(ctx context.Context, tx *sql.Tx, shape saga.Shape, replace bool) (before []byte, live int, err error) {
	definition, version := text(shape.Definition), shape.Version
	const lock = `INSERT INTO {{shapes}} (definition, version) VALUES (?, ?) ON DUPLICATE KEY UPDATE version = version`
	if _, err := exec(ctx, tx, s.db.sql(lock), definition, version); err != nil {
		return nil, 0, err
	}
	const count = `SELECT COUNT(*) FROM {{instances}} WHERE definition = ? AND version = ? AND settled = 0`
	if err := tx.QueryRowContext(ctx, s.db.sql(count), definition, version).Scan(&live); err != nil {
		return nil, 0, err
	}
	const kept = `SELECT names FROM {{shapes}} WHERE definition = ? AND version = ?`
	if err := tx.QueryRowContext(ctx, s.db.sql(kept), definition, version).Scan(&before); err != nil {
		return nil, 0, err
	}
	if before != nil && live > 0 && !replace {
		return before, live, nil
	}
	const put = `UPDATE {{shapes}} SET names = ? WHERE definition = ? AND version = ?`
	_, err = exec(ctx, tx, s.db.sql(put), blob(shape.Names), definition, version)
	return before, live, err
}

// Delete implements saga.Store. It passes over what somebody else has locked.
func (s *Store) Delete(ctx context.Context, deletions []saga.Deletion) (removed []string, err error) {
	deletions = slices.Clone(deletions)
	slices.SortFunc(deletions, func(a, b saga.Deletion) int { return strings.Compare(a.ID, b.ID) })
	for page := range slices.Chunk(deletions, maxRows) {
		var gone []string
		err := s.db.write(ctx, func(ctx context.Context, tx *sql.Tx) (err error) {
			gone, err = s.delete(ctx, tx, page)
			return err
		})
		if err != nil {
			return removed, fmt.Errorf("mysql: delete: %w", err)
		}
		removed = append(removed, gone...)
	}
	return removed, ctx.Err()
}

func (s *Store) delete(ctx context.Context, tx *sql.Tx, deletions []saga.Deletion) (gone []string, err error) {
	revisions, ids := map[string]uint64{}, make([]string, len(deletions))
	for k, d := range deletions {
		revisions[d.ID], ids[k] = d.Revision, d.ID
	}
	settled := `SELECT id, revision FROM {{instances}} WHERE settled = 1 AND id IN ` + list(len(ids)) + ` ORDER BY id FOR UPDATE SKIP LOCKED`
	err = query(ctx, tx, s.db.sql(settled), texts(ids), func(row scanner) error {
		var id string
		var revision uint64
		err := row.Scan(&id, &revision)
		if revision == revisions[id] {
			gone = append(gone, id)
		}
		return err
	})
	if err != nil || len(gone) == 0 {
		return nil, err
	}
	kept := `SELECT instance_id FROM {{start_keys}} WHERE expires_at > {{now}} AND instance_id IN ` + list(len(gone)) + ` FOR UPDATE`
	err = query(ctx, tx, s.db.sql(kept), texts(gone), func(row scanner) error {
		var id string
		err := row.Scan(&id)
		gone = slices.DeleteFunc(gone, func(g string) bool { return g == id })
		return err
	})
	if err != nil || len(gone) == 0 {
		return nil, err
	}
	for _, statement := range []string{
		`DELETE FROM {{start_keys}} WHERE instance_id IN `, `DELETE FROM {{history}} WHERE instance_id IN `, `DELETE FROM {{instances}} WHERE id IN `,
	} {
		if _, err := exec(ctx, tx, s.db.sql(statement)+list(len(gone)), texts(gone)...); err != nil {
			return nil, err
		}
	}
	return gone, nil
}

// Bury implements saga.Store.
func (s *Store) Bury(ctx context.Context, letter saga.DeadLetter) error {
	metadata, err := json.Marshal(letter.Metadata)
	if err != nil {
		return fmt.Errorf("mysql: bury %s: %w", letter.ID, err)
	}
	const insert = `INSERT INTO {{dead_letters}} (id, topic, reason, metadata, payload, at)
		VALUES (?, ?, ?, ?, ?, {{now}}) ON DUPLICATE KEY UPDATE at = at`
	err = s.db.write(ctx, func(ctx context.Context, tx *sql.Tx) error {
		_, err := exec(ctx, tx, s.db.sql(insert), text(letter.ID), text(letter.Topic), text(letter.Reason), metadata, blob(letter.Payload))
		return err
	})
	if err != nil {
		return fmt.Errorf("mysql: bury %s: %w", letter.ID, err)
	}
	return nil
}

// Unbury implements saga.Store.
func (s *Store) Unbury(ctx context.Context, u saga.Unburial) (removed int, err error) {
	statement := `DELETE FROM {{dead_letters}} WHERE (? = '' OR topic = ?) AND at <= {{now}} - ? LIMIT ?`
	args := []any{text(u.Topic), text(u.Topic), microseconds(u.OlderThan), batch.Limit(u.Limit)}
	if len(u.IDs) > 0 {
		statement, args = `DELETE FROM {{dead_letters}} WHERE id IN `+list(len(u.IDs)), texts(u.IDs)
	}
	err = s.db.write(ctx, func(ctx context.Context, tx *sql.Tx) error {
		n, err := exec(ctx, tx, s.db.sql(statement), args...)
		removed = int(n)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("mysql: unbury: %w", err)
	}
	return removed, nil
}

// DeadLetters implements saga.Store.
func (s *Store) DeadLetters(ctx context.Context, after string, limit int) ([]saga.DeadLetter, error) {
	const statement = `SELECT id, topic, reason, metadata, payload, at FROM {{dead_letters}} WHERE id > ? ORDER BY id LIMIT ?`
	letters, err := readRows(ctx, s.db, scanLetter, statement, text(after), batch.Limit(limit))
	if err != nil {
		return nil, fmt.Errorf("mysql: dead letters: %w", err)
	}
	return letters, nil
}

func scanLetter(row scanner) (saga.DeadLetter, error) {
	var l saga.DeadLetter
	var metadata []byte
	var at micros
	if err := row.Scan(&l.ID, &l.Topic, &l.Reason, &metadata, &l.Payload, &at); err != nil {
		return l, err
	}
	l.At = at.time()
	return l, json.Unmarshal(metadata, &l.Metadata)
}
