package statemachine_test

import (
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sagamill/sagamill/statemachine"
)

var update = flag.Bool("update", false, "rewrite the diagrams in testdata")

// awkward has names that neither language takes as they are.
var awkward = table{
	Initial: "in transit",
	Final:   []string{"state", "Größe: 5; \"x\" & <y>"},
	Groups:  group{"moving": {"in transit", "s0", "end"}},
	Rows: []row{
		{From: "in transit", On: "go-on", To: "s0"},
		{From: "in transit", On: "go on", If: when("50% {of} it"), To: "s0", Because: `a "second"` + "\nway"},
		{From: "s0", On: "go-on", To: "end"},
		{From: "s0", On: "a\nb\\c", To: "s0"},
		{From: "end", On: "x#1", To: "state"},
		{From: "moving", After: 36*time.Hour + 30*time.Second, If: when("paid"), To: "state"},
		{From: "moving", After: 48 * time.Hour, To: "Größe: 5; \"x\" & <y>"},
		{From: "s0", On: Any, Policy: ignore},
	},
	Otherwise: refuse,
}

func TestDiagrams(t *testing.T) {
	t.Parallel()
	labels := func(row int) string {
		return []string{"", "", "one line", "two\n\nlines: <b>", "", "", "", ""}[row]
	}
	simple, err := orders.Build()
	if err != nil {
		t.Fatal(err)
	}
	type machine interface {
		Mermaid(...statemachine.DiagramOption) string
		DOT(...statemachine.DiagramOption) string
	}
	for _, c := range []struct {
		name    string
		machine machine
		options []statemachine.DiagramOption
	}{
		{"orders", simple, nil},
		{"orders_live", simple, []statemachine.DiagramOption{
			statemachine.Title(`Order "4711"`), statemachine.Highlight(Paid),
		}},
		{"orders_elsewhere", simple, []statemachine.DiagramOption{statemachine.Highlight("lost")}},
		{"awkward", build(t, awkward), []statemachine.DiagramOption{
			statemachine.Title("a: b"), statemachine.Highlight("in transit"), statemachine.Label(labels),
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			golden(t, c.name+".mmd", c.machine.Mermaid(c.options...))
			golden(t, c.name+".dot", c.machine.DOT(c.options...))
		})
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (rewrite with -update): %s", name, diff)
	}
}
