package sagatest_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/saga/sagatest"
)

// Of the many faults of a run that is found by seed only those are left that matter, though each happens at another moment when
// others are taken away. (None can be taken away from what is left. It need not be the shortest way to the same end.)
func TestFindingsOfSeedsAreShrunk(t *testing.T) {
	f := sagatest.Find(t, wrongStay, cancelledStay(wrongStay), rightStay, sagatest.Runs(1))
	require.NotNil(t, f)
	require.LessOrEqual(t, len(faultsOf(f)), 4, "%s", f)
}
