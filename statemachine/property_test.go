package statemachine_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/sagamill/sagamill/statemachine"
)

// The rule of precedence, read from the package comment and written down as
// plainly as can be: no cells, no numbers, a scan of the table per question.

func inGroup(t table, state, name string) bool {
	for _, member := range t.Groups[name] {
		if member == state || inGroup(t, state, member) {
			return true
		}
	}
	return false
}

// applies reports whether a row speaks of the state on the given level of From:
// 0 by its own name, 1 by a group, 2 by Any.
func applies(t table, r row, state string, level int) bool {
	switch level {
	case 0:
		return r.From == state
	case 1:
		return inGroup(t, state, r.From) && !(r.To != "" && slices.Contains(t.Final, state))
	default:
		return r.From == Any && !(r.To != "" && slices.Contains(t.Final, state))
	}
}

func scan(t table, state, event string, data int) statemachine.Answer[string] {
	for _, on := range []string{event, Any} {
		for level := range 3 {
			for i, r := range t.Rows {
				if r.On != on || !applies(t, r, state, level) || r.If.Holds != nil && !r.If.Holds(data) {
					continue
				}
				if r.To != "" {
					return statemachine.Answer[string]{Kind: statemachine.Transition, Row: i, To: r.To}
				}
				return statemachine.Answer[string]{Kind: kinds[r.Policy], Row: i}
			}
		}
	}
	return statemachine.Answer[string]{Kind: kinds[t.Otherwise], Row: -1}
}

var kinds = map[statemachine.Policy]statemachine.Kind{
	ignore: statemachine.Ignored, buffer: statemachine.Buffered, refuse: statemachine.Refused,
}

// scanTimeout returns the row that is taken when the state has lasted so long.
func scanTimeout(t table, state string, after time.Duration, data int) int {
	for level := range 3 {
		for i, r := range t.Rows {
			if r.After == after && applies(t, r, state, level) && (r.If.Holds == nil || r.If.Holds(data)) {
				return i
			}
		}
	}
	return -1
}

var (
	someStates = []string{"a", "b", "c", "d", "z"}
	someEvents = []string{"x", "y", "w"}
	someTimes  = []time.Duration{time.Second, time.Minute}
	someGroups = group{"g": {"a", "b", "z"}, "h": {"c", "g"}, "i": {"b", "d"}}
)

// bit is a guard that holds if the data has the bit.
func bit(n int) guard {
	return guard{Name: fmt.Sprintf("bit %d", n), Holds: func(data int) bool { return data>>n&1 == 1 }}
}

func drawRow(t *rapid.T) row {
	r := row{From: rapid.SampledFrom([]string{"a", "b", "c", "d", "z", "g", "h", "i", Any}).Draw(t, "from")}
	switch rapid.IntRange(0, 3).Draw(t, "sort") {
	case 0:
		r.On = rapid.SampledFrom([]string{"x", "y", "w", Any}).Draw(t, "on")
		r.Policy = rapid.SampledFrom([]statemachine.Policy{ignore, buffer, refuse}).Draw(t, "policy")
		return r
	case 1:
		r.After = rapid.SampledFrom(someTimes).Draw(t, "after")
	default:
		r.On = rapid.SampledFrom(someEvents).Draw(t, "on")
	}
	r.To = rapid.SampledFrom(someStates).Draw(t, "to")
	if n := rapid.IntRange(-1, 2).Draw(t, "guard"); n >= 0 {
		r.If = bit(n)
	}
	return r
}

// drawTable returns a table without faults: a chain through all states, and of
// other random rows those that bring in no fault.
func drawTable(t *rapid.T) table {
	drawn := table{
		Initial: "a", Final: []string{"z"}, Groups: someGroups, Events: append([]string{"next"}, someEvents...),
		Otherwise: rapid.SampledFrom([]statemachine.Policy{ignore, buffer, refuse}).Draw(t, "otherwise"),
	}
	for i, state := range someStates[:len(someStates)-1] {
		drawn.Rows = append(drawn.Rows, row{From: state, On: "next", To: someStates[i+1]})
	}
	for _, r := range rapid.SliceOfN(rapid.Custom(drawRow), 0, 25).Draw(t, "rows") {
		before := drawn.Rows
		at := rapid.IntRange(0, len(before)).Draw(t, "at")
		drawn.Rows = slices.Insert(slices.Clone(before), at, r)
		if _, err := drawn.Build(); err != nil {
			drawn.Rows = before
		}
	}
	return drawn
}

func TestFindFollowsTheRule(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		drawn := drawTable(t)
		machine, err := drawn.Build()
		if err != nil {
			t.Fatal(err)
		}
		for _, state := range someStates {
			for data := range 8 {
				for _, event := range drawn.Events {
					if diff := cmp.Diff(scan(drawn, state, event, data), machine.Find(state, event, data)); diff != "" {
						t.Fatalf("%s on %s with %d: %s", state, event, data, diff)
					}
				}
				for _, after := range someTimes {
					if want, got := scanTimeout(drawn, state, after, data), taken(machine, state, after, data); want != got {
						t.Fatalf("%s after %v with %d: row %d, want %d", state, after, data, got, want)
					}
				}
			}
		}
	})
}

// taken does what the comment of Timeouts tells a caller to do.
func taken(machine *statemachine.Machine[string, string, int], state string, after time.Duration, data int) int {
	for _, timeout := range machine.Timeouts(state) {
		if timeout.After == after && machine.Holds(timeout.Row, data) {
			return timeout.Row
		}
	}
	return -1
}

// Where must name the states in which Find takes a row for some data, if all
// combinations of guards are tried.
func TestWhereIsWhatFindDoes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		drawn := drawTable(t)
		machine, err := drawn.Build()
		if err != nil {
			t.Fatal(err)
		}
		for _, state := range machine.States() {
			seen := map[int]bool{}
			for data := range 8 {
				for _, event := range drawn.Events {
					seen[machine.Find(state, event, data).Row] = true
				}
				for _, after := range someTimes {
					seen[taken(machine, state, after, data)] = true
				}
			}
			for i := range machine.Rows() {
				// A more specific row with the same guard leaves nothing to a
				// less specific one; Where does not look into guards.
				if seen[i] && !slices.Contains(machine.Where(i), state) {
					t.Fatalf("row %d is taken in %s, but Where says %v", i, state, machine.Where(i))
				}
				if !seen[i] && drawn.Rows[i].If.Holds == nil && slices.Contains(machine.Where(i), state) {
					t.Fatalf("row %d is never taken in %s, but Where says %v", i, state, machine.Where(i))
				}
			}
		}
	})
}

// Whatever the table, Build ends, says the same each time, and tells no fault
// twice.
func TestBuildTakesAnything(t *testing.T) {
	t.Parallel()
	name := rapid.SampledFrom([]string{"", Any, "a", "b", "z", "g", "h"})
	list := rapid.SliceOfN(name, 0, 3)
	anyRow := rapid.Custom(func(t *rapid.T) row {
		r := row{
			From:   name.Draw(t, "from"),
			On:     name.Draw(t, "on"),
			To:     name.Draw(t, "to"),
			After:  time.Duration(rapid.IntRange(-1, 2).Draw(t, "after")),
			Policy: statemachine.Policy(rapid.IntRange(0, 4).Draw(t, "policy")),
		}
		r.If.Name = rapid.SampledFrom([]string{"", "", "", "paid"}).Draw(t, "guard")
		return r
	})
	rapid.Check(t, func(t *rapid.T) {
		drawn := table{
			Initial:   name.Draw(t, "initial"),
			Final:     list.Draw(t, "final"),
			Groups:    rapid.MapOfN(name, list, 0, 3).Draw(t, "groups"),
			Events:    list.Draw(t, "events"),
			Rows:      rapid.SliceOfN(anyRow, 0, 6).Draw(t, "rows"),
			Otherwise: statemachine.Policy(rapid.IntRange(0, 4).Draw(t, "otherwise")),
		}
		machine, err := drawn.Build()
		if err == nil {
			machine.Mermaid()
			machine.DOT()
			return
		}
		_, again := drawn.Build()
		if diff := cmp.Diff(err.Error(), again.Error()); diff != "" {
			t.Fatal(diff)
		}
		faults := err.(*statemachine.FaultsError).Faults
		if len(faults) == 0 || len(slices.Compact(slices.Sorted(slices.Values(faults)))) < len(faults) {
			t.Fatalf("faults told twice, or none: %q", faults)
		}
	})
}
