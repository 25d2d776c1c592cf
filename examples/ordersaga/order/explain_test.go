package order_test

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
)

var rewrite = flag.Bool("rewrite", false, "rewrite what the lifecycle explains in testdata")

// What a cancel or a failure undoes in each state is not written anywhere in the lifecycle: it follows from the table. Here it can
// be read, and a change of it is seen in review.
func TestExplainedLifecycle(t *testing.T) {
	t.Parallel()
	const file = "testdata/explained.txt"
	got := lifecycle().Explain()
	if *rewrite {
		require.NoError(t, os.WriteFile(file, []byte(got), 0o600))
		return
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("it explains something else (-want +got); go test ./examples/ordersaga/order -run TestExplainedLifecycle -rewrite\n%s", diff)
	}
}
