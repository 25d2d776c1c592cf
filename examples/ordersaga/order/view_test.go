package order

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/compensation"
	"github.com/sagamill/sagamill/saga"
)

func TestOperatorsWordsAreNotForCustomers(t *testing.T) {
	t.Parallel()
	require.Equal(t, "cancelled by the shop", reason(saga.Instance{State: string(Cancelled), Cause: "force-compensate: ann: INC-1"}))
	require.Equal(t, "a service of ours did not answer", reason(saga.Instance{
		State: string(Failed), Cause: "authorize: mark-rejected: ann: INC-2", Steps: []compensation.Entry{{Step: "authorize"}},
	}))
}
