package mysql

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

// IdempotencyStore is an idempotency.Store in a [DB]. All time in it is the server's. The fencing tokens are the table's
// AUTO_INCREMENT, which no deletion sets back. It takes one server that writes: the servers of a cluster count apart.
type IdempotencyStore struct{ db *DB }

var _ idempotency.Store = (*IdempotencyStore)(nil)

// NewIdempotencyStore makes a store in db. Any number of them, in any number of processes, are one store.
func NewIdempotencyStore(db *DB) *IdempotencyStore { return &IdempotencyStore{db} }

const (
	insertClaim = `INSERT INTO {{idempotency}} (tenant, route, request_key, fingerprint, until) VALUES (?, ?, ?, ?, {{now}} + ?)`

	whereKey   = ` WHERE tenant = ? AND route = ? AND request_key = ?`
	whereToken = whereKey + ` AND token = ?`

	selectClaim = `SELECT fingerprint, token, completed, until, holds, status, header, body, {{now}} FROM {{idempotency}}` + whereKey
	deleteClaim = `DELETE FROM {{idempotency}}` + whereKey

	// deleteOver removes a record that is still what was found.
	deleteOver = `DELETE FROM {{idempotency}}` + whereToken + ` AND completed = ? AND until = ?`

	// whereHeld is [idempotency.Record.Holder] in SQL.
	whereHeld = whereToken + ` AND completed = 0`

	renewClaim    = `UPDATE {{idempotency}} SET until = {{now}} + ?` + whereHeld
	completeClaim = `UPDATE {{idempotency}} SET completed = 1, until = {{now}} + ?, holds = ?, status = ?, header = ?, body = ?` + whereHeld
	releaseClaim  = `DELETE FROM {{idempotency}}` + whereHeld

	isClaim = `SELECT EXISTS (SELECT 1 FROM {{idempotency}}` + whereToken + ` AND completed = ?)`
)

func keyArgs(key idempotency.Key, more ...any) []any {
	return append([]any{text(key.Tenant), text(key.Route), text(key.Key)}, more...)
}

// Begin implements [idempotency.Store].
func (s *IdempotencyStore) Begin(ctx context.Context, key idempotency.Key, f idempotency.Fingerprint, lease time.Duration) (idempotency.Claim, error) {
	if err := cmp.Or(ctx.Err(), key.Validate(), idempotency.ValidateLease(lease)); err != nil {
		return idempotency.Claim{}, err
	}
	for {
		claim, err := s.begin(ctx, key, f, lease)
		if err != nil {
			return idempotency.Claim{}, fmt.Errorf("mysql: begin: %w", err)
		}
		if claim.State != 0 {
			return claim, nil
		} // else somebody else has changed the record since it was read
	}
}

func (s *IdempotencyStore) begin(ctx context.Context, key idempotency.Key, f idempotency.Fingerprint, lease time.Duration) (claim idempotency.Claim, err error) {
	err = s.db.write(ctx, func(ctx context.Context, tx *sql.Tx) (err error) {
		claim, err = s.insert(ctx, tx, key, f, lease)
		return err
	})
	if !isTaken(err) {
		return claim, err
	}
	record, now, err := s.record(ctx, key)
	if errors.Is(err, sql.ErrNoRows) {
		return idempotency.Claim{}, nil
	}
	if err != nil {
		return idempotency.Claim{}, err
	}
	if claim, free := record.Judge(f, now); !free {
		return claim, nil
	}
	f = record.Claimed(f, 0, time.Time{}).Fingerprint
	err = s.db.write(ctx, func(ctx context.Context, tx *sql.Tx) error {
		deleted, err := exec(ctx, tx, s.db.sql(deleteOver), keyArgs(key, int64(record.Token), record.Completed, record.Until.UnixMicro())...)
		if err != nil || deleted == 0 {
			claim = idempotency.Claim{}
			return err
		}
		claim, err = s.insert(ctx, tx, key, f, lease)
		return err
	})
	if isTaken(err) {
		return idempotency.Claim{}, nil
	}
	return claim, err
}

// insert takes a key that is free. The server draws the number before it has the key, so that it may be older than one that another
// claim has had meanwhile, and given up: the record is inserted again under its own lock.
func (s *IdempotencyStore) insert(ctx context.Context, tx *sql.Tx, key idempotency.Key, f idempotency.Fingerprint, lease time.Duration) (idempotency.Claim, error) {
	args := keyArgs(key, f[:], microseconds(lease))
	if _, err := exec(ctx, tx, s.db.sql(insertClaim), args...); err != nil {
		return idempotency.Claim{}, err
	}
	if _, err := exec(ctx, tx, s.db.sql(deleteClaim), keyArgs(key)...); err != nil {
		return idempotency.Claim{}, err
	}
	result, err := tx.ExecContext(ctx, s.db.sql(insertClaim), args...)
	if err != nil {
		return idempotency.Claim{}, err
	}
	token, err := result.LastInsertId()
	return idempotency.Claim{State: idempotency.Acquired, Token: idempotency.Token(token)}, err
}

// record reads the record of a key, and the server's time.
func (s *IdempotencyStore) record(ctx context.Context, key idempotency.Key) (r idempotency.Record, now time.Time, err error) {
	type claim struct {
		record idempotency.Record
		now    time.Time
	}
	found, err := readRows(ctx, s.db, func(row scanner) (c claim, err error) {
		c.record, c.now, err = scanClaim(row)
		return c, err
	}, selectClaim, keyArgs(key)...)
	if err != nil {
		return r, now, err
	}
	if len(found) == 0 {
		return r, now, sql.ErrNoRows
	}
	return found[0].record, found[0].now, nil
}

func scanClaim(row scanner) (r idempotency.Record, now time.Time, err error) {
	var (
		fingerprint []byte
		headers     []byte
		token       int64
		until, read micros
	)
	err = row.Scan(&fingerprint, &token, &r.Completed, &until, &r.Holds, &r.Response.Status, &headers, &r.Response.Body, &read)
	if err != nil {
		return r, now, err
	}
	if n := copy(r.Fingerprint[:], fingerprint); n != len(r.Fingerprint) {
		return r, now, fmt.Errorf("fingerprint of %d bytes", n)
	}
	if r.Response.Header, err = header.Decode(string(headers)); err != nil {
		return r, now, fmt.Errorf("header: %w", err)
	}
	r.Token, r.Until = idempotency.Token(token), until.time()
	return r, read.time(), nil
}

// Renew implements [idempotency.Store].
func (s *IdempotencyStore) Renew(ctx context.Context, key idempotency.Key, token idempotency.Token, lease time.Duration) error {
	if err := cmp.Or(ctx.Err(), idempotency.ValidateLease(lease)); err != nil {
		return err
	}
	// The server counts what it changes: a lease that ends when it did before is no change.
	return s.held(ctx, "renew", renewClaim, key, token, false, microseconds(lease))
}

// Release implements [idempotency.Store].
func (s *IdempotencyStore) Release(ctx context.Context, key idempotency.Key, token idempotency.Token) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	changed, err := s.change(ctx, releaseClaim, keyArgs(key, int64(token))...)
	if err == nil && changed == 0 {
		err = idempotency.ErrFenced
	}
	if err != nil {
		return fmt.Errorf("mysql: release: %w", err)
	}
	return nil
}

// Complete implements [idempotency.Store].
func (s *IdempotencyStore) Complete(ctx context.Context, key idempotency.Key, token idempotency.Token, c idempotency.Completion) error {
	if err := cmp.Or(ctx.Err(), c.Validate()); err != nil {
		return err
	}
	headers, err := header.Encode(c.Response.Header)
	if err != nil {
		return fmt.Errorf("mysql: complete: %w", err)
	}
	// Perhaps the answer to an earlier call with this token was lost.
	return s.held(ctx, "complete", completeClaim, key, token, true,
		microseconds(c.TTL), text(c.Holds), c.Response.Status, []byte(headers), c.Response.Body)
}

// held runs a statement that ends in whereHeld. If it changes no record, it answers ErrFenced unless there is one as it would
// have left it.
func (s *IdempotencyStore) held(ctx context.Context, op, statement string, key idempotency.Key, token idempotency.Token, completed bool, args ...any) error {
	changed, err := s.change(ctx, statement, append(args, keyArgs(key, int64(token))...)...)
	if err == nil && changed == 0 {
		var there []bool
		there, err = readRows(ctx, s.db, func(row scanner) (there bool, err error) { return there, row.Scan(&there) },
			isClaim, keyArgs(key, int64(token), completed)...)
		if err == nil && !there[0] {
			err = idempotency.ErrFenced
		}
	}
	if err != nil {
		return fmt.Errorf("mysql: %s: %w", op, err)
	}
	return nil
}

func (s *IdempotencyStore) change(ctx context.Context, statement string, args ...any) (changed int64, err error) {
	err = s.db.write(ctx, func(ctx context.Context, tx *sql.Tx) (err error) {
		changed, err = exec(ctx, tx, s.db.sql(statement), args...)
		return err
	})
	return changed, err
}

const (
	selectUnheld = `SELECT tenant, route, request_key, token, completed, until, holds FROM {{idempotency}}
		WHERE until <= {{now}} AND holds = '' AND (completed = 1 OR until <= {{now}} - ?) ORDER BY until LIMIT ?`

	selectHeld = `SELECT tenant, route, request_key, token, completed, until, holds FROM {{idempotency}}
		WHERE until <= {{now}} AND until >= ? AND completed = 1 AND holds <> '' AND (until > ? OR token > ?) ORDER BY until, token LIMIT ?`
)

// Expire implements [idempotency.Store].
func (s *IdempotencyStore) Expire(ctx context.Context, limit int, live idempotency.Live) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if limit <= 0 {
		return 0, fmt.Errorf("idempotency: limit must be positive, not %d", limit)
	}
	unheld, err := s.over(ctx, selectUnheld, microseconds(idempotency.AbandonedAfter), limit)
	if err != nil {
		return 0, err
	}
	removed, err := s.remove(ctx, unheld)
	if err != nil || live == nil {
		return removed, err
	}
	held, err := expiry.Held(ctx, limit-removed, live, func(r overRecord) string { return r.holds },
		func(ctx context.Context, last *overRecord) ([]overRecord, error) {
			if last == nil {
				last = &overRecord{}
			}
			return s.over(ctx, selectHeld, last.until, last.until, last.token, limit)
		}, s.remove)
	return removed + held, err
}

// overRecord is a record that is over. Token and time tell whether it is still the same later.
type overRecord struct {
	key          idempotency.Key
	token, until int64
	completed    bool
	holds        string
}

func scanOver(row scanner) (r overRecord, err error) {
	err = row.Scan(&r.key.Tenant, &r.key.Route, &r.key.Key, &r.token, &r.completed, &r.until, &r.holds)
	return r, err
}

// over lists records that are over, the longest first.
func (s *IdempotencyStore) over(ctx context.Context, statement string, args ...any) ([]overRecord, error) {
	page, err := readRows(ctx, s.db, scanOver, statement, args...)
	if err != nil {
		return nil, fmt.Errorf("mysql: expire: %w", err)
	}
	return page, nil
}

// remove removes those records that nobody has removed or claimed anew since they were found.
func (s *IdempotencyStore) remove(ctx context.Context, records []overRecord) (removed int, err error) {
	if len(records) == 0 {
		return 0, nil
	}
	err = s.db.write(ctx, func(ctx context.Context, tx *sql.Tx) error {
		removed = 0
		for _, r := range records {
			n, err := exec(ctx, tx, s.db.sql(deleteOver), keyArgs(r.key, r.token, r.completed, r.until)...)
			if err != nil {
				return err
			}
			removed += int(n)
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("mysql: expire: %w", err)
	}
	return removed, nil
}
