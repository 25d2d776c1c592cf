package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/sagamill/sagamill/adapters/internal/expiry"
	"github.com/sagamill/sagamill/adapters/internal/header"
	"github.com/sagamill/sagamill/idempotency"
)

// IdempotencyStore is an idempotency.Store in the file of a [DB]. Its clock is that of the process, as with [Store].
type IdempotencyStore struct {
	db  *DB
	now func() time.Time
}

var _ idempotency.Store = (*IdempotencyStore)(nil)

// NewIdempotencyStore makes a store in db. Any number of them, in any number of processes, are one store.
func NewIdempotencyStore(db *DB, opts ...Option) *IdempotencyStore {
	return &IdempotencyStore{db: db, now: newOptions(opts).now}
}

// clock is the time in the resolution of the table, so that what is read back is judged as what was written.
func (s *IdempotencyStore) clock() time.Time { return s.now().Truncate(time.Microsecond) }

// Begin implements [idempotency.Store].
func (s *IdempotencyStore) Begin(ctx context.Context, key idempotency.Key, f idempotency.Fingerprint, lease time.Duration) (idempotency.Claim, error) {
	if err := cmp.Or(ctx.Err(), key.Validate(), idempotency.ValidateLease(lease)); err != nil {
		return idempotency.Claim{}, err
	}
	var claim idempotency.Claim
	err := s.db.Write(ctx, func(tx *sql.Tx) (err error) {
		claim, err = s.begin(ctx, tx, key, f, lease)
		return err
	})
	if err != nil {
		return idempotency.Claim{}, fmt.Errorf("sqlite: begin: %w", err)
	}
	return claim, nil
}

func (s *IdempotencyStore) begin(ctx context.Context, tx *sql.Tx, key idempotency.Key, f idempotency.Fingerprint, lease time.Duration) (idempotency.Claim, error) {
	now := s.clock()
	record, err := readRecord(ctx, tx, key)
	switch {
	case errors.Is(err, sql.ErrNoRows):
	case err != nil:
		return idempotency.Claim{}, err
	default:
		if claim, free := record.Judge(f, now); !free {
			return claim, nil
		}
	}
	var token int64
	if err := tx.QueryRowContext(ctx, `UPDATE sagamill_idempotency_token SET last = last + 1 RETURNING last`).Scan(&token); err != nil {
		return idempotency.Claim{}, err
	}
	record = record.Claimed(f, idempotency.Token(token), now.Add(lease))
	_, err = tx.ExecContext(ctx, `
		INSERT INTO sagamill_idempotency (tenant, route, key, fingerprint, token, until) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT (tenant, route, key) DO UPDATE SET fingerprint = excluded.fingerprint, token = excluded.token,
			until = excluded.until, completed = 0, holds = '', status = 0, header = '', body = NULL`,
		key.Tenant, key.Route, key.Key, record.Fingerprint[:], token, record.Until.UnixMicro())
	return idempotency.Claim{State: idempotency.Acquired, Token: record.Token}, err
}

// Renew implements [idempotency.Store].
func (s *IdempotencyStore) Renew(ctx context.Context, key idempotency.Key, token idempotency.Token, lease time.Duration) error {
	if err := cmp.Or(ctx.Err(), idempotency.ValidateLease(lease)); err != nil {
		return err
	}
	return s.write(ctx, "renew", func(tx *sql.Tx) error {
		return held(tx.ExecContext(ctx, `UPDATE sagamill_idempotency SET until = ? `+whereHeld,
			s.clock().Add(lease).UnixMicro(), key.Tenant, key.Route, key.Key, int64(token)))
	})
}

// Complete implements [idempotency.Store].
func (s *IdempotencyStore) Complete(ctx context.Context, key idempotency.Key, token idempotency.Token, c idempotency.Completion) error {
	if err := cmp.Or(ctx.Err(), c.Validate()); err != nil {
		return err
	}
	headers, err := header.Encode(c.Response.Header)
	if err != nil {
		return fmt.Errorf("sqlite: complete: %w", err)
	}
	return s.write(ctx, "complete", func(tx *sql.Tx) error {
		err := held(tx.ExecContext(ctx, `UPDATE sagamill_idempotency
			SET completed = 1, until = ?, holds = ?, status = ?, header = ?, body = ? `+whereHeld,
			s.clock().Add(c.TTL).UnixMicro(), c.Holds, c.Response.Status, headers, c.Response.Body,
			key.Tenant, key.Route, key.Key, int64(token)))
		if !errors.Is(err, idempotency.ErrFenced) {
			return err
		}
		// Perhaps the answer to an earlier call with this token was lost.
		record, readErr := readRecord(ctx, tx, key)
		switch {
		case errors.Is(readErr, sql.ErrNoRows):
			return err
		case readErr != nil:
			return readErr
		case record.Completed && record.Token == token:
			return nil
		}
		return err
	})
}

// Release implements [idempotency.Store].
func (s *IdempotencyStore) Release(ctx context.Context, key idempotency.Key, token idempotency.Token) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.write(ctx, "release", func(tx *sql.Tx) error {
		return held(tx.ExecContext(ctx, `DELETE FROM sagamill_idempotency `+whereHeld, key.Tenant, key.Route, key.Key, int64(token)))
	})
}

// whereHeld is [idempotency.Record.Holder] in SQL.
const whereHeld = `WHERE tenant = ? AND route = ? AND key = ? AND token = ? AND completed = 0`

// held answers ErrFenced if the statement, which ends in whereHeld, met no row.
func held(result sql.Result, err error) error {
	if err != nil {
		return err
	}
	n, err := result.RowsAffected()
	if err == nil && n == 0 {
		err = idempotency.ErrFenced
	}
	return err
}

func (s *IdempotencyStore) write(ctx context.Context, op string, fn func(tx *sql.Tx) error) error {
	if err := s.db.Write(ctx, fn); err != nil {
		return fmt.Errorf("sqlite: %s: %w", op, err)
	}
	return nil
}

func readRecord(ctx context.Context, tx *sql.Tx, key idempotency.Key) (idempotency.Record, error) {
	var (
		r            idempotency.Record
		fingerprint  []byte
		headers      string
		token, until int64
	)
	row := tx.QueryRowContext(ctx, `SELECT fingerprint, token, completed, until, holds, status, header, body
		FROM sagamill_idempotency WHERE tenant = ? AND route = ? AND key = ?`, key.Tenant, key.Route, key.Key)
	if err := row.Scan(&fingerprint, &token, &r.Completed, &until, &r.Holds, &r.Response.Status, &headers, &r.Response.Body); err != nil {
		return idempotency.Record{}, err
	}
	if n := copy(r.Fingerprint[:], fingerprint); n != len(r.Fingerprint) {
		return idempotency.Record{}, fmt.Errorf("fingerprint of %d bytes", n)
	}
	var err error
	if r.Response.Header, err = header.Decode(headers); err != nil {
		return idempotency.Record{}, fmt.Errorf("header: %w", err)
	}
	r.Token, r.Until = idempotency.Token(token), time.UnixMicro(until)
	return r, nil
}

// Expire implements [idempotency.Store].
func (s *IdempotencyStore) Expire(ctx context.Context, limit int, live idempotency.Live) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if limit <= 0 {
		return 0, fmt.Errorf("idempotency: limit must be positive, not %d", limit)
	}
	removed, err := s.expireUnheld(ctx, limit)
	if err != nil || live == nil {
		return removed, err
	}
	held, err := expiry.Held(ctx, limit-removed, live, func(r heldRecord) string { return r.holds },
		func(ctx context.Context, last *heldRecord) ([]heldRecord, error) {
			if last == nil {
				last = &heldRecord{}
			}
			return s.heldAfter(ctx, *last, limit)
		}, s.expireHeld)
	return removed + held, err
}

// expireUnheld removes claims that were abandoned, and completed records that hold nothing.
func (s *IdempotencyStore) expireUnheld(ctx context.Context, limit int) (removed int, err error) {
	now := s.clock()
	err = s.write(ctx, "expire", func(tx *sql.Tx) error {
		result, err := tx.ExecContext(ctx, `DELETE FROM sagamill_idempotency WHERE rowid IN (
			SELECT rowid FROM sagamill_idempotency
			WHERE until <= ? AND holds = '' AND (completed = 1 OR until <= ?) ORDER BY until LIMIT ?)`,
			now.UnixMicro(), now.Add(-idempotency.AbandonedAfter).UnixMicro(), limit)
		if err != nil {
			return err
		}
		n, err := result.RowsAffected()
		removed = int(n)
		return err
	})
	if err != nil {
		return 0, err
	}
	return removed, nil
}

// heldRecord is a completed record that holds something. Its token tells whether it is still the same later.
type heldRecord struct {
	row, token, until int64
	holds             string
}

// heldAfter lists held records whose TTL is over, the longest first, from behind after on.
func (s *IdempotencyStore) heldAfter(ctx context.Context, after heldRecord, limit int) (page []heldRecord, err error) {
	rows, err := s.db.QueryContext(ctx, `SELECT rowid, token, until, holds FROM sagamill_idempotency
		WHERE until <= ? AND completed = 1 AND holds <> '' AND (until, token) > (?, ?) ORDER BY until, token LIMIT ?`,
		s.clock().UnixMicro(), after.until, after.token, limit)
	if err != nil {
		return nil, fmt.Errorf("sqlite: expire: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var r heldRecord
		if err := rows.Scan(&r.row, &r.token, &r.until, &r.holds); err != nil {
			return nil, fmt.Errorf("sqlite: expire: %w", err)
		}
		page = append(page, r)
	}
	return page, rows.Err()
}

// expireHeld removes those records that nobody removed or claimed anew since they were listed.
func (s *IdempotencyStore) expireHeld(ctx context.Context, records []heldRecord) (removed int, err error) {
	if len(records) == 0 {
		return 0, nil
	}
	err = s.write(ctx, "expire", func(tx *sql.Tx) error {
		removed = 0
		for _, r := range records {
			result, err := tx.ExecContext(ctx, `DELETE FROM sagamill_idempotency WHERE rowid = ? AND token = ? AND completed = 1`, r.row, r.token)
			if err != nil {
				return err
			}
			n, err := result.RowsAffected()
			if err != nil {
				return err
			}
			removed += int(n)
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return removed, nil
}
