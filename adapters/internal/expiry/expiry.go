// Package expiry holds what all idempotency stores do to find out which of the records that are over may go.
package expiry

import (
	"context"
	"fmt"
	"slices"

	"github.com/sagamill/sagamill/idempotency"
)

// Held removes up to limit records that hold something of which live knows nothing, page by page, and returns how many.
func Held[R any](ctx context.Context, limit int, live idempotency.Live, holds func(R) string,
	after func(ctx context.Context, last *R) ([]R, error), remove func(context.Context, []R) (int, error),
) (removed int, err error) {
	for last := (*R)(nil); removed < limit; {
		page, err := after(ctx, last)
		if err != nil || len(page) == 0 {
			return removed, err
		}
		end := page[len(page)-1]
		last = &end
		if page, err = settled(ctx, page, holds, live); err != nil {
			return removed, err
		}
		n, err := remove(ctx, page[:min(len(page), limit-removed)])
		removed += n
		if err != nil {
			return removed, err
		}
	}
	return removed, nil
}

// settled leaves out the records of which live answers what they hold.
func settled[R any](ctx context.Context, records []R, holds func(R) string, live idempotency.Live) ([]R, error) {
	asked := make([]string, len(records))
	for i, r := range records {
		asked[i] = holds(r)
	}
	alive, err := live(ctx, asked)
	if err != nil {
		return nil, fmt.Errorf("idempotency: which of what is held is live: %w", err)
	}
	isLive := make(map[string]bool, len(alive))
	for _, h := range alive {
		isLive[h] = true
	}
	return slices.DeleteFunc(records, func(r R) bool { return isLive[holds(r)] }), nil
}
