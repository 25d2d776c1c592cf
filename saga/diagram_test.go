package saga_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/statemachine"
)

func TestDiagramInReadmeIsGenerated(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../README.md")
	require.NoError(t, err)
	require.Contains(t, string(readme), "```mermaid\n"+OrderLifecycle.Mermaid()+"```")
}

func TestDiagramsShowWhatRunsAndWhereAnInstanceIs(t *testing.T) {
	t.Parallel()
	require.Contains(t, OrderLifecycle.Mermaid(statemachine.Highlight(Reserved)), "class RESERVED")
	require.Contains(t, OrderLifecycle.DOT(), "reserve-stock")
	require.Contains(t, OrderLifecycle.DOT(), "undo all")
}
