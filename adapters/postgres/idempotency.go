package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sagamill/sagamill/adapters/internal/header"
	"github.com/sagamill/sagamill/idempotency"
)

// IdempotencyStore is an idempotency.Store in a [DB]. All time in it is the server's.
type IdempotencyStore struct{ db *DB }

var _ idempotency.Store = (*IdempotencyStore)(nil)

// NewIdempotencyStore makes a store in db. Any number of them, in any number of processes, are one store.
func NewIdempotencyStore(db *DB) *IdempotencyStore { return &IdempotencyStore{db: db} }

const (
	// insertClaim takes a key that is free.
	insertClaim = `INSERT INTO {{idempotency}} (tenant, route, key, fingerprint, token, until)
		VALUES ($1, $2, $3, $4, 0, clock_timestamp() + $5::bigint * interval '1 microsecond') ON CONFLICT DO NOTHING`

	// drawToken gives a key that was taken just now its token. A token drawn before the key was held could be older than one that
	// another claim had meanwhile, and has given up.
	drawToken = `UPDATE {{idempotency}} SET token = nextval($4::text::regclass)
		WHERE tenant = $1 AND route = $2 AND key = $3 AND token = 0 RETURNING token`

	selectClaim = `SELECT fingerprint, token, completed, until, holds, status, header, body, clock_timestamp()
		FROM {{idempotency}} WHERE tenant = $1 AND route = $2 AND key = $3`

	// replaceClaim claims a record that is still what was judged. It is found by its key: no index is used for the last condition.
	replaceClaim = `UPDATE {{idempotency}} SET fingerprint = $4, token = nextval($5::text::regclass),
			until = clock_timestamp() + $6::bigint * interval '1 microsecond',
			completed = false, holds = '', status = 0, header = '', body = NULL
		WHERE tenant = $1 AND route = $2 AND key = $3 AND token = $7 AND completed = $8 AND until IS NOT DISTINCT FROM $9 RETURNING token`

	// whereHeld is [idempotency.Record.Holder] in SQL.
	whereHeld = ` WHERE tenant = $1 AND route = $2 AND key = $3 AND token = $4 AND NOT completed`

	renewClaim = `UPDATE {{idempotency}} SET until = clock_timestamp() + $5::bigint * interval '1 microsecond'` + whereHeld

	completeClaim = `UPDATE {{idempotency}} SET completed = true, until = clock_timestamp() + $5::bigint * interval '1 microsecond',
		holds = $6, status = $7, header = $8, body = $9` + whereHeld

	isCompleted = `SELECT EXISTS (SELECT FROM {{idempotency}} WHERE tenant = $1 AND route = $2 AND key = $3 AND token = $4 AND completed)`

	releaseClaim = `DELETE FROM {{idempotency}}` + whereHeld
)

// Begin implements [idempotency.Store].
func (s *IdempotencyStore) Begin(ctx context.Context, key idempotency.Key, f idempotency.Fingerprint, lease time.Duration) (idempotency.Claim, error) {
	if err := cmp.Or(ctx.Err(), key.Validate(), idempotency.ValidateLease(lease)); err != nil {
		return idempotency.Claim{}, err
	}
	for {
		claim, err := s.begin(ctx, key, f, lease)
		if err != nil {
			return idempotency.Claim{}, fmt.Errorf("postgres: begin: %w", err)
		}
		if claim.State != 0 {
			return claim, nil
		} // else somebody else has changed the record since it was read
	}
}

func (s *IdempotencyStore) begin(ctx context.Context, key idempotency.Key, f idempotency.Fingerprint, lease time.Duration) (idempotency.Claim, error) {
	var token *int64
	var record *idempotency.Record
	var now time.Time
	err := s.write(ctx, func(b *pgx.Batch) {
		token, record = nil, nil
		b.Queue(s.db.sql(insertClaim), key.Tenant, key.Route, key.Key, f[:], micros(lease))
		b.Queue(s.db.sql(drawToken), key.Tenant, key.Route, key.Key, s.sequence()).Query(readToken(&token))
		b.Queue(s.db.sql(selectClaim), key.Tenant, key.Route, key.Key).Query(func(rows pgx.Rows) (err error) {
			for rows.Next() {
				if record, now, err = scanClaim(rows); err != nil {
					return err
				}
			}
			return rows.Err()
		})
	})
	if err != nil || record == nil {
		return idempotency.Claim{}, err
	}
	if token == nil {
		claim, free := record.Judge(f, now)
		if !free {
			return claim, nil
		}
		f := record.Claimed(f, 0, time.Time{}).Fingerprint
		err = s.write(ctx, func(b *pgx.Batch) {
			token = nil
			b.Queue(s.db.sql(replaceClaim), key.Tenant, key.Route, key.Key, f[:], s.sequence(), micros(lease),
				int64(record.Token), record.Completed, record.Until).Query(readToken(&token))
		})
	}
	if err != nil || token == nil {
		return idempotency.Claim{}, err
	}
	return idempotency.Claim{State: idempotency.Acquired, Token: idempotency.Token(*token)}, nil
}

func (s *IdempotencyStore) sequence() string { return s.db.sql("{{idempotency_token}}") }

func readToken(token **int64) func(pgx.Rows) error {
	return func(rows pgx.Rows) error {
		for rows.Next() {
			if err := rows.Scan(token); err != nil {
				return err
			}
		}
		return rows.Err()
	}
}

func scanClaim(row scanner) (*idempotency.Record, time.Time, error) {
	var (
		r           idempotency.Record
		fingerprint []byte
		headers     string
		token       int64
		now         time.Time
	)
	if err := row.Scan(&fingerprint, &token, &r.Completed, &r.Until, &r.Holds, &r.Response.Status, &headers, &r.Response.Body, &now); err != nil {
		return nil, now, err
	}
	if n := copy(r.Fingerprint[:], fingerprint); n != len(r.Fingerprint) {
		return nil, now, fmt.Errorf("fingerprint of %d bytes", n)
	}
	var err error
	if r.Response.Header, err = header.Decode(headers); err != nil {
		return nil, now, fmt.Errorf("header: %w", err)
	}
	r.Token = idempotency.Token(token)
	return &r, now, nil
}

// Renew implements [idempotency.Store].
func (s *IdempotencyStore) Renew(ctx context.Context, key idempotency.Key, token idempotency.Token, lease time.Duration) error {
	if err := cmp.Or(ctx.Err(), idempotency.ValidateLease(lease)); err != nil {
		return err
	}
	return s.held(ctx, "renew", renewClaim, key, token, micros(lease))
}

// Release implements [idempotency.Store].
func (s *IdempotencyStore) Release(ctx context.Context, key idempotency.Key, token idempotency.Token) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.held(ctx, "release", releaseClaim, key, token)
}

// held runs a statement that ends in whereHeld, and answers ErrFenced if it met no record.
func (s *IdempotencyStore) held(ctx context.Context, op, statement string, key idempotency.Key, token idempotency.Token, args ...any) error {
	var met int64
	err := s.write(ctx, func(b *pgx.Batch) {
		args := append([]any{key.Tenant, key.Route, key.Key, int64(token)}, args...)
		b.Queue(s.db.sql(statement), args...).Exec(func(tag pgconn.CommandTag) error {
			met = tag.RowsAffected()
			return nil
		})
	})
	if err == nil && met == 0 {
		err = idempotency.ErrFenced
	}
	if err != nil {
		return fmt.Errorf("postgres: %s: %w", op, err)
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
		return fmt.Errorf("postgres: complete: %w", err)
	}
	err = s.held(ctx, "complete", completeClaim, key, token, micros(c.TTL), c.Holds, c.Response.Status, headers, c.Response.Body)
	if !errors.Is(err, idempotency.ErrFenced) {
		return err
	}
	// Perhaps the answer to an earlier call with this token was lost.
	var completed bool
	readErr := s.db.read(ctx, func(b *pgx.Batch) {
		b.Queue(s.db.sql(isCompleted), key.Tenant, key.Route, key.Key, int64(token)).QueryRow(func(row pgx.Row) error {
			return row.Scan(&completed)
		})
	})
	switch {
	case readErr != nil:
		return fmt.Errorf("postgres: complete: %w", readErr)
	case completed:
		return nil
	}
	return err
}

func (s *IdempotencyStore) write(ctx context.Context, queue func(*pgx.Batch)) error {
	return s.db.writeAgain(ctx, keyWait, queue)
}

// keyWait is how long a call waits for others that are at the same key.
const keyWait = 5 * time.Second
