package memory_test

import (
	"testing"
	"time"

	"github.com/sagamill/sagamill/adapters/memory"
	"github.com/sagamill/sagamill/idempotency"
	"github.com/sagamill/sagamill/idempotency/idempotencytest"
)

func TestIdempotencyStore(t *testing.T) {
	t.Parallel()
	idempotencytest.Run(t, func(_ *testing.T, now func() time.Time) idempotency.Store {
		return memory.NewIdempotencyStore(memory.WithClock(now))
	})
}
