package order_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/examples/ordersaga/order"
)

func lifecycle() *order.Definition {
	return order.Lifecycle(order.Times{ReserveTTL: 15 * time.Minute, PaymentTimeout: 10 * time.Minute}, nil)
}

func TestLifecycleHasNoFaults(t *testing.T) {
	t.Parallel()
	require.NoError(t, lifecycle().Validate())
}

// The diagram in the README is drawn from the table.
func TestDiagramInTheReadme(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../README.md")
	require.NoError(t, err)
	require.True(t, strings.Contains(string(readme), "```mermaid\n"+lifecycle().Mermaid()+"```"), "the README should have:\n%s", lifecycle().Mermaid())
}
