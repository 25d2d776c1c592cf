package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sagamill/sagamill/adapters/internal/expiry"
	"github.com/sagamill/sagamill/idempotency"
)

const (
	selectUnheld = `WITH ` + clock + ` SELECT r.* FROM clock, LATERAL (
		SELECT tenant, route, key, token, until, holds FROM {{idempotency}}
		WHERE until <= clock.now AND holds = '' AND (completed OR until <= clock.now - $1::bigint * interval '1 microsecond')
		ORDER BY until LIMIT $2) r`

	selectHeld = `WITH ` + clock + ` SELECT r.* FROM clock, LATERAL (
		SELECT tenant, route, key, token, until, holds FROM {{idempotency}}
		WHERE until <= clock.now AND completed AND holds <> '' AND (until, token) > ($1, $2) ORDER BY until, token LIMIT $3) r`

	// deleteOver removes a record that is still what was found.
	deleteOver = `DELETE FROM {{idempotency}} WHERE tenant = $1 AND route = $2 AND key = $3 AND token = $4 AND until IS NOT DISTINCT FROM $5`
)

// Expire implements [idempotency.Store].
func (s *IdempotencyStore) Expire(ctx context.Context, limit int, live idempotency.Live) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if limit <= 0 {
		return 0, fmt.Errorf("idempotency: limit must be positive, not %d", limit)
	}
	unheld, err := s.find(ctx, selectUnheld, micros(idempotency.AbandonedAfter), limit)
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
			return s.find(ctx, selectHeld, last.until, last.token, limit)
		}, s.remove)
	return removed + held, err
}

// overRecord is a record that is over, the longest first. Token and time tell whether it is still the same later.
type overRecord struct {
	key   idempotency.Key
	token int64
	until time.Time
	holds string
}

func scanOver(row scanner) (r overRecord, err error) {
	err = row.Scan(&r.key.Tenant, &r.key.Route, &r.key.Key, &r.token, &r.until, &r.holds)
	return r, err
}

func (s *IdempotencyStore) find(ctx context.Context, statement string, args ...any) (page []overRecord, err error) {
	err = s.db.read(ctx, func(b *pgx.Batch) { queueRows(b, &page, scanOver, s.db.sql(statement), args...) })
	if err != nil {
		return nil, fmt.Errorf("postgres: expire: %w", err)
	}
	return page, nil
}

// remove removes those records that nobody has removed or claimed anew since they were found.
func (s *IdempotencyStore) remove(ctx context.Context, records []overRecord) (removed int, err error) {
	if len(records) == 0 {
		return 0, nil
	}
	err = s.write(ctx, func(b *pgx.Batch) {
		removed = 0
		for _, r := range records {
			b.Queue(s.db.sql(deleteOver), r.key.Tenant, r.key.Route, r.key.Key, r.token, r.until).Exec(func(tag pgconn.CommandTag) error {
				removed += int(tag.RowsAffected())
				return nil
			})
		}
	})
	if err != nil {
		return 0, fmt.Errorf("postgres: expire: %w", err)
	}
	return removed, nil
}
