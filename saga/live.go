package saga

import (
	"context"
	"fmt"
)

// Live answers which of the instances are not settled yet. It is made for idempotency.Store.Expire, so that the key of a
// request is kept as long as the saga that it began is alive.
func (o *Orchestrator) Live(ctx context.Context, ids []string) ([]string, error) {
	records, err := o.store.Load(ctx, ids...)
	if err != nil {
		return nil, fmt.Errorf("saga: which instances are live: %w", err)
	}
	var live []string
	for _, r := range records {
		if !r.Settled {
			live = append(live, r.ID)
		}
	}
	return live, nil
}
