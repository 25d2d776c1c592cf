package saga_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/sagamill/sagamill"

type listedPackage struct {
	ImportPath string
	Imports    []string
}

// TestArrows keeps the directions of imports: adapters -> saga, idempotency; saga -> statemachine, compensation, idempotency,
// watermill; nothing -> adapters but examples, bench and test kits; statemachine and compensation know nobody. What is in internal is for
// tests.
func TestArrows(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", "./...")
	cmd.Dir = ".."
	out, err := cmd.Output()
	require.NoError(t, err)
	var all []listedPackage
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listedPackage
		err := d.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		p.ImportPath = strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		all = append(all, p)
	}
	for _, known := range []string{"statemachine", "compensation", "idempotency", "saga", "adapters/memory", "examples/trip", "saga/storetest"} {
		require.True(t, slices.ContainsFunc(all, func(p listedPackage) bool { return p.ImportPath == known }), "no package %s", known)
	}
	for _, p := range all {
		for _, imported := range p.Imports {
			require.True(t, mayImport(p.ImportPath, imported), "%s must not import %s", p.ImportPath, imported)
		}
	}
}

func mayImport(from, to string) bool {
	if standard(to) {
		return true
	}
	to, ours := strings.CutPrefix(to, module+"/")
	top, _, _ := strings.Cut(from, "/")
	switch {
	case top == "examples" || top == "bench" || top == "internal" || testKit(from):
		return true
	case ours && testKit(to):
		return false
	case top == "statemachine" || top == "compensation" || top == "idempotency":
		return false
	case from == "saga/operator":
		return ours && to == "saga"
	case top == "saga" && ours:
		return slices.Contains([]string{"statemachine", "compensation", "idempotency"}, to) || strings.HasPrefix(to, "saga/internal/")
	case top == "saga":
		return strings.HasPrefix(to, "github.com/ThreeDotsLabs/watermill") || to == "github.com/google/uuid"
	case top == "adapters" && ours:
		return to == "saga" || to == "idempotency" || strings.HasPrefix(to, "adapters/internal/")
	case top == "adapters":
		return true // what they adapt
	}
	return false
}

// standard tells whether an import path is one of the standard library: its first element has no dot.
func standard(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return !strings.Contains(first, ".")
}

// testKit tells whether a package is for tests, and so only imported by tests, examples and other kits.
func testKit(path string) bool { return strings.HasSuffix(path, "test") }

// The test of the test: each kind of arrow that must not be.
func TestArrowsThatAreRefused(t *testing.T) {
	t.Parallel()
	for from, to := range map[string]string{
		"statemachine":          module + "/compensation",
		"compensation":          "github.com/google/uuid",
		"idempotency":           module + "/saga",
		"saga":                  module + "/adapters/memory",
		"adapters/memory":       module + "/adapters/sqlite",
		"adapters/sqlite":       module + "/saga/storetest",
		"adapters/internal/sql": module + "/statemachine",
		"cmd":                   module + "/saga",
	} {
		require.False(t, mayImport(from, to), "%s -> %s", from, to)
	}
	require.False(t, mayImport("saga", "github.com/stretchr/testify/require"))
	require.True(t, mayImport("saga", "github.com/ThreeDotsLabs/watermill/message"))
	require.True(t, mayImport("examples/trip", module+"/adapters/sqlite"))
	require.True(t, mayImport("saga/storetest", "github.com/google/go-cmp/cmp"))
}
