package order_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/saga"
)

// Orders that are under way rely on names of the lifecycle. The lock file beside it has them, so that a change which would strand
// an order fails here, and not in production.
func TestLifecycleFitsItsLock(t *testing.T) {
	t.Parallel()
	require.NoError(t, saga.CheckLock("testdata/lifecycle.lock", lifecycle()))
}
