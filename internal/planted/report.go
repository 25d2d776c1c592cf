package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sagamill/sagamill/internal/leaktest"
)

// report is what a test binary has said, with -test.v.
type report struct {
	output   string
	passed   bool
	began    []string // tests
	failed   []string
	running  []string // begun, and neither ended nor paused when the output ended
	panicked string   // with what; empty: nothing did
	hung     bool
	leaked   bool
}

// read reads the output.
func read(output string) report {
	r := report{output: output}
	for line := range strings.Lines(output) {
		line = strings.TrimSpace(line)
		if what, found := strings.CutPrefix(line, "panic: "); found && r.panicked == "" {
			r.panicked = what
		}
		if strings.HasPrefix(line, "fatal error: ") && r.panicked == "" {
			r.panicked = line
		}
		r.hung = r.hung || strings.HasPrefix(line, "panic: test timed out")
		r.leaked = r.leaked || strings.HasPrefix(line, leaktest.Message)
		words := strings.Fields(line)
		if len(words) < 3 {
			continue
		}
		name := words[2]
		switch words[0] + " " + words[1] {
		case "=== RUN":
			r.began = append(r.began, name)
			r.running = append(r.running, name)
		case "=== CONT":
			r.running = append(r.running, name)
		case "=== PAUSE", "--- PASS:", "--- SKIP:":
			r.ended(name)
		case "--- FAIL:":
			r.ended(name)
			r.failed = append(r.failed, name)
		}
	}
	return r
}

func (r *report) ended(name string) {
	r.running = slices.DeleteFunc(r.running, func(n string) bool { return n == name })
}

// ran tells whether a test has run, or one below it.
func (r report) ran(name string) bool {
	return slices.ContainsFunc(r.began, func(n string) bool { return n == name || strings.HasPrefix(n, name+"/") })
}

// blame says which tests failed, or why the binary did.
func (r report) blame() string {
	switch {
	case r.hung:
		return "hung: " + few(r.running)
	case len(r.failed) > 0 && r.panicked != "":
		return few(r.failed) + " (panic)"
	case len(r.failed) > 0:
		return few(r.failed)
	case r.panicked != "" && len(r.running) > 0:
		return fmt.Sprintf("%s (panic: %s)", few(r.running), r.panicked)
	case r.panicked != "":
		return "panic: " + r.panicked
	case r.leaked:
		return "goroutines that are left after the tests"
	case r.passed:
		return "nobody: SURVIVED"
	}
	return few(r.running) + " (exit without a word)"
}

// few names the innermost of the tests, two of them at most. Tests that ran side by side come in any order.
func few(tests []string) string {
	inner := slices.DeleteFunc(slices.Clone(tests), func(name string) bool {
		return slices.ContainsFunc(tests, func(n string) bool { return strings.HasPrefix(n, name+"/") })
	})
	slices.Sort(inner)
	inner = slices.Compact(inner)
	const most = 2
	if len(inner) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(inner[:most], ", "), len(inner)-most)
	}
	return strings.Join(inner, ", ")
}
