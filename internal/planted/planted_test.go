package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/internal/leaktest"
)

// A mutant whose place has gone is noticed here, with all the other tests, and not when mutants are next planted.
func TestMutantsFindTheirPlaces(t *testing.T) {
	t.Parallel()
	root, err := moduleRoot(t.Context())
	require.NoError(t, err)
	patched, err := patch(root, mutants(true))
	require.NoError(t, err)
	for _, f := range patched {
		require.Equal(t, filepath.Base(f.path) != switchFile, exists(f.path), f.path)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// in makes a file, and a mutant of it.
func in(t *testing.T, text string, edits ...edit) (root string, m mutant) {
	t.Helper()
	root = t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(root, "a.go"), []byte(text), 0o600))
	return root, mutant{name: "lid off", breaks: "it spills", file: "a.go", edits: edits, in: ".", tests: "TestLid"}
}

func TestPatch(t *testing.T) {
	t.Parallel()
	root, m := in(t, "package pot\n\nfunc lid() bool { return true }\n", edit{"return true", "return !PLANTED"})
	patched, err := patch(root, []mutant{m})
	require.NoError(t, err)
	require.Len(t, patched, 2)
	require.Equal(t, "package pot\n\nfunc lid() bool { return !planted(\"lid off\") }\n", patched[0].text)
	require.Equal(t, filepath.Join(root, switchFile), patched[1].path)
	require.Contains(t, patched[1].text, "package pot\n")
}

func TestMutantsThatCannotBePlanted(t *testing.T) {
	t.Parallel()
	const pot = "package pot\n\nfunc lid() bool { return true && true }\n"
	for want, edits := range map[string][]edit{
		"needs re-anchoring: in a.go there is 0 times:\nreturn false": {{"return false", "return PLANTED"}},
		"needs re-anchoring: in a.go there is 2 times:\ntrue":         {{"true", "PLANTED"}},
		`mutants "lid off" and "lid off" want the same place`:         {{"return true", "return PLANTED"}, {"true &&", "PLANTED &&"}},
		"never asks whether it is PLANTED":                            {{"return true", "return false"}},
		"with its mutants this is no Go":                              {{"return true", "return PLANTED)"}},
	} {
		root, m := in(t, pot, edits...)
		_, err := patch(root, []mutant{m})
		require.ErrorContains(t, err, want)
	}
	root, m := in(t, pot, edit{"return true", "return !PLANTED"})
	_, err := patch(root, []mutant{m, m})
	require.ErrorContains(t, err, `there are two mutants "lid off"`)
	m.tests = " "
	_, err = patch(root, []mutant{m})
	require.ErrorContains(t, err, "lacks a name")
	require.NoError(t, os.WriteFile(filepath.Join(root, switchFile), nil, 0o600))
	_, err = patch(root, []mutant{m})
	require.ErrorContains(t, err, "is in the way")
}

func TestReports(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		output string
		passed bool
		blame  string
	}{
		"the innermost tests that failed": {
			output: "=== RUN   TestA\n=== RUN   TestA/x\n--- FAIL: TestA (0.00s)\n    --- FAIL: TestA/x (0.00s)\n--- FAIL: TestB (1s)\nFAIL\n",
			blame:  "TestA/x, TestB",
		},
		"not all of many": {
			output: "--- FAIL: TestA (0.00s)\n--- FAIL: TestB (0.00s)\n--- FAIL: TestC (0.00s)\n--- FAIL: TestD (0.00s)\n",
			blame:  "TestA, TestB and 2 more",
		},
		"a panic in a test": {
			output: "=== RUN   TestA\n--- FAIL: TestA (0.00s)\npanic: oh [recovered]\n\tpanic: oh\n",
			blame:  "TestA (panic)",
		},
		"a panic elsewhere": {
			output: "=== RUN   TestA\n=== PAUSE TestA\n=== RUN   TestB\n--- PASS: TestB (0.00s)\n=== CONT  TestA\npanic: oh\n",
			blame:  "TestA (panic: oh)",
		},
		"a fatal error": {
			output: "=== RUN   TestA\nfatal error: all goroutines are asleep - deadlock!\n",
			blame:  "TestA (panic: fatal error: all goroutines are asleep - deadlock!)",
		},
		"time that is over": {
			output: "=== RUN   TestA\n=== RUN   TestA/x\npanic: test timed out after 1m0s\n\trunning tests:\n\t\tTestA/x (1m0s)\n",
			blame:  "hung: TestA/x",
		},
		"goroutines that are left": {
			output: "=== RUN   TestA\n--- PASS: TestA (0.00s)\nPASS\n" + leaktest.Message + "[Goroutine 7]\n",
			blame:  "goroutines that are left after the tests",
		},
		"success":          {output: "=== RUN   TestA\n--- PASS: TestA (0.00s)\nPASS\n", passed: true, blame: "nobody: SURVIVED"},
		"an end by itself": {output: "=== RUN   TestA\n", blame: "TestA (exit without a word)"},
	} {
		r := read(c.output)
		r.passed = c.passed
		require.Equal(t, c.blame, r.blame(), name)
	}
}

func TestReportKnowsWhichTestsRan(t *testing.T) {
	t.Parallel()
	r := read("=== RUN   TestA\n=== RUN   TestA/inputs/once\n")
	for name, want := range map[string]bool{"TestA": true, "TestA/inputs": true, "TestA/inputs/once": true, "TestA/input": false, "TestB": false} {
		require.Equal(t, want, r.ran(name), name)
	}
}

func TestPattern(t *testing.T) {
	t.Parallel()
	names := []string{"TestB", "TestA/x-y/1+1", "TestB"}
	before := slices.Clone(names)
	require.Equal(t, `^TestA$/^x-y$/^1\+1$|^TestB$`, pattern(names))
	require.Equal(t, before, names)
}
