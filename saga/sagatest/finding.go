package sagatest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// Finding is a run in which something did not hold.
type Finding struct {
	Violations []string
	Faults     string   // what -sagatest.replay takes: as few as are needed
	Trace      []string // what happened: all of it
	Test       string   // its name
}

// A trace that is longer is shown from its begin and its end only.
const (
	longTrace = 200
	traceEnd  = 40
)

// String shows the finding.
func (f *Finding) String() string {
	var b strings.Builder
	for _, v := range f.Violations {
		fmt.Fprintf(&b, "violated: %s\n", v)
	}
	fmt.Fprintf(&b, "with these faults: %s\n\n", strings.ReplaceAll(f.Faults, ",", ", "))
	for _, line := range shown(f.Trace, "Finding.Trace has them, and the replay shows them") {
		b.WriteString("  " + line + "\n")
	}
	fmt.Fprintf(&b, "\nto see it again: go test -run '^%s$' -sagatest.replay '%s'\n", strings.ReplaceAll(f.Test, "/", "$/^"), f.Faults)
	return b.String()
}

// shown leaves out what lies in the middle of a long trace.
func shown(trace []string, where string) []string {
	if len(trace) <= longTrace {
		return trace
	}
	cut := fmt.Sprintf("%9s  %d lines are left out here: %s", "...", len(trace)-2*traceEnd, where)
	return slices.Concat(trace[:traceEnd], []string{cut}, trace[len(trace)-traceEnd:])
}

// find takes away the faults that do not matter, and runs what is left once more, with its trace.
func (x *explorer) find(t *testing.T, p plan) *Finding {
	t.Helper()
	quiet := *x // what the search does is no part of the report
	quiet.coverage, quiet.offered, quiet.happened = newCoverage(x.shape), map[Fault]int{}, map[Fault]int{}
	found := p
	at := quiet.run(t, p, false).anchors()
	for k := 0; k < len(at); k++ {
		for _, without := range []chooser{newAnchors(slices.Delete(slices.Clone(at), k, k+1)), slices.Delete(slices.Clone(p), k, k+1)} {
			if less := quiet.run(t, without, false); len(less.violations) > 0 && len(less.happened) < len(p) {
				p, at, k = less.happened, less.anchors(), -1
				break
			}
		}
	}
	r := quiet.run(t, p, true)
	if len(r.violations) == 0 || len(p) == 0 && len(found) > 0 && len(x.counts) > 0 { // without faults nothing was wrong at first
		r.violated("two runs with the same faults differ (%s): is the world made anew by the script, or does something stay from one run to the next?", p)
	}
	return &Finding{Violations: r.violations, Faults: r.happened.String(), Trace: r.trace, Test: t.Name()}
}

// replay makes one run, and shows it.
func (x *explorer) replay(t *testing.T, faults string) {
	t.Helper()
	p, err := parsePlan(faults)
	if err != nil {
		t.Fatal(err)
	}
	r := x.run(t, p, true)
	t.Logf("\n%s", strings.Join(r.trace, "\n"))
	if !slices.Equal(r.happened, p) {
		t.Errorf("this is another run: %s was asked for, %s happened. Was the definition or the script changed meanwhile?", p, r.happened)
	}
	for _, v := range r.violations {
		t.Errorf("violated: %s", v)
	}
}

// report tells what was explored.
func (x *explorer) report() string {
	var b strings.Builder
	total := x.drawn
	for _, n := range x.counts {
		total += n
	}
	fmt.Fprintf(&b, "%s: %d runs\n", x.definition.Name(), total)
	for k, n := range x.counts {
		what := map[int]string{0: "without faults", 1: "with one fault"}[k]
		if what == "" {
			what = fmt.Sprintf("with %d faults", k)
		}
		fmt.Fprintf(&b, "  %s: %d of %d\n", what, n, x.possible[k])
	}
	fmt.Fprintf(&b, "  by seed, with up to 24 faults: %d\n", x.drawn)
	if x.unrest > 0 {
		fmt.Fprintf(&b, "  a saga asked for a person's attention in the end: %d times\n", x.unrest)
	}
	b.WriteString(x.coverage.String())
	var happened, missed, not []string
	for _, f := range allFaults {
		switch {
		case x.without[f]:
			not = append(not, string(f)+" (left out)")
		case x.offered[f] == 0:
			not = append(not, string(f))
		case x.happened[f] == 0:
			missed = append(missed, string(f))
		default:
			happened = append(happened, fmt.Sprintf("%s %d", f, x.happened[f]))
		}
	}
	fmt.Fprintf(&b, "  faults: %s\n", strings.Join(happened, ", "))
	if len(missed) > 0 {
		fmt.Fprintf(&b, "  possible after other faults, but not drawn: %s\n", strings.Join(missed, ", "))
	}
	if len(not) > 0 {
		fmt.Fprintf(&b, "  not possible here: %s\n", strings.Join(not, ", "))
	}
	return b.String()
}
