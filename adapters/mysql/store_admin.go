package mysql

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"

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
