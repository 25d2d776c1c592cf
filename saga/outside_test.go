package saga_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

// A module outside of this repository uses exported API only, and that is enough to bring a step, a store and a transport of
// one's own.
func TestModuleOutsideOfTheRepository(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("builds a module")
	}
	root, err := filepath.Abs("..")
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS("testdata/outside")))
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join(root, name))
		require.NoError(t, err)
		return string(b)
	}
	write := func(name, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	mod := regexp.MustCompile(`(?m)^module .*$`).ReplaceAllString(read("go.mod"), "module example.com/outside")
	write("go.mod", mod+"\nrequire github.com/sagamill/sagamill v0.0.0\n\nreplace github.com/sagamill/sagamill => "+root+"\n")
	write("go.sum", read("go.sum"))

	cmd := exec.Command("go", "run", ".")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	for _, line := range []string{ // those of its observer come when they come
		"reserve of 1: <nil>",
		"reserve of 2: rejected: there are none",
		"order 1 is sent: {Item:book Parcel:parcel with a book Bill:100}",
		"order 2 is cancelled: {Item:unicorn Parcel: Bill:0}",
		"commits were counted: true",
	} {
		require.Contains(t, string(out), line+"\n")
	}
}
