package statemachine_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sagamill/sagamill/statemachine"
)

func build(t testing.TB, table table) *statemachine.Machine[string, string, int] {
	t.Helper()
	machine, err := table.Build()
	if err != nil {
		t.Fatal(err)
	}
	return machine
}

func atLeast(name string, least int) guard {
	return guard{Name: name, Holds: func(n int) bool { return n >= least }}
}

// layered has a row on every level of precedence. In state a the event "x"
// meets all of them; the other states and events lack some.
var layered = table{
	Initial: "a",
	Final:   []string{"z"},
	Groups:  group{"early": {"a", "b"}, "ours": {"early", "c", "z"}},
	Rows: []row{
		0:  {From: Any, On: Any, Policy: refuse},
		1:  {From: "early", On: Any, Policy: buffer},
		2:  {From: "a", On: Any, Policy: ignore},
		3:  {From: Any, On: "x", To: "c"},
		4:  {From: "ours", On: "x", If: atLeast("hundreds", 100), To: "z"},
		5:  {From: "a", On: "x", If: atLeast("thousands", 1000), To: "b"},
		6:  {From: "a", On: "x", If: atLeast("five hundreds", 500), To: "a"},
		7:  {From: "a", On: "y", To: "b"},
		8:  {From: "z", On: "x", If: atLeast("hundreds", 100), To: "z"},
		9:  {From: "c", On: "w", Policy: buffer},
		10: {From: "a", On: "v", If: atLeast("hundreds", 100), To: "z"},
	},
}

func TestTheMostSpecificRowWins(t *testing.T) {
	t.Parallel()
	const (
		transition = statemachine.Transition
		ignored    = statemachine.Ignored
		buffered   = statemachine.Buffered
		refused    = statemachine.Refused
	)
	type answer = statemachine.Answer[string]
	machine := build(t, layered)
	for _, c := range []struct {
		name, state, event string
		data               int
		want               answer
	}{
		{"own row, first guard", "a", "x", 1000, answer{transition, 5, "b"}},
		{"own row, second guard, stays", "a", "x", 500, answer{transition, 6, "a"}},
		{"group's row, no own guard holds", "a", "x", 100, answer{transition, 4, "z"}},
		{"row from Any, no other guard holds", "a", "x", 0, answer{transition, 3, "c"}},
		{"group's row, no own one", "b", "x", 100, answer{transition, 4, "z"}},
		{"group in group", "c", "x", 100, answer{transition, 4, "z"}},
		{"row from Any, to the state itself", "c", "x", 0, answer{transition, 3, "c"}},
		{"own row without guard", "a", "y", 0, answer{transition, 7, "b"}},
		{"own policy on Any event", "a", "w", 0, answer{ignored, 2, ""}},
		{"own policy on Any event, no guard holds", "a", "v", 0, answer{ignored, 2, ""}},
		{"group's policy on Any event", "b", "y", 0, answer{buffered, 1, ""}},
		{"policy from Any on Any event", "c", "y", 0, answer{refused, 0, ""}},
		{"own policy for the event", "c", "w", 0, answer{buffered, 9, ""}},
		{"final state stays", "z", "x", 100, answer{transition, 8, "z"}},
		{"final state is not left by group or Any", "z", "x", 0, answer{refused, 0, ""}},
		{"unknown state", "early", "x", 0, answer{statemachine.NoState, -1, ""}},
		{"unknown event", "a", "u", 0, answer{statemachine.NoEvent, -1, ""}},
		{"unknown both", "", "", 0, answer{statemachine.NoState, -1, ""}},
		{"Any is no event", "a", Any, 0, answer{statemachine.NoEvent, -1, ""}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(c.want, machine.Find(c.state, c.event, c.data)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestOtherwiseDecidesTheRest(t *testing.T) {
	t.Parallel()
	for policy, want := range map[statemachine.Policy]statemachine.Kind{
		ignore: statemachine.Ignored,
		buffer: statemachine.Buffered,
		refuse: statemachine.Refused,
	} {
		machine := build(t, with(func(t *table) { t.Otherwise = policy; t.Events = []string{"stop", "go", "x"} },
			row{From: "a", On: "x", If: atLeast("one", 1), To: "b"}))
		for _, event := range []string{"stop", "x"} { // no row, and one whose guard does not hold
			if diff := cmp.Diff(statemachine.Answer[string]{Kind: want, Row: -1}, machine.Find("a", event, 0)); diff != "" {
				t.Errorf("%v: %s", policy, diff)
			}
		}
	}
}

func TestTimeouts(t *testing.T) {
	t.Parallel()
	type timeouts = []statemachine.Timeout
	machine := build(t, with(func(t *table) { t.Groups = group{"g": {"b", "z"}} },
		row{From: Any, After: time.Minute, To: "z"},                         // 2
		row{From: "g", After: time.Minute, If: atLeast("one", 1), To: "a"},  // 3
		row{From: "b", After: time.Hour, If: atLeast("ten", 10), To: "b"},   // 4
		row{From: "b", After: time.Hour, To: "z"},                           // 5
		row{From: Any, After: time.Hour, To: "z"},                           // 6
		row{From: "b", After: time.Second, If: atLeast("one", 1), To: "a"},  // 7
		row{From: "b", After: time.Second, If: atLeast("ten", 10), To: "a"}, // 8
	))
	for state, want := range map[string]timeouts{
		"a": {{2, time.Minute}, {6, time.Hour}},
		"b": {{7, time.Second}, {8, time.Second}, {3, time.Minute}, {2, time.Minute}, {4, time.Hour}, {5, time.Hour}},
		"z": nil, // final
		"y": nil, // unknown
	} {
		if diff := cmp.Diff(want, machine.Timeouts(state)); diff != "" {
			t.Errorf("%s: %s", state, diff)
		}
	}
	if machine.Holds(3, 0) || !machine.Holds(3, 1) || !machine.Holds(2, 0) {
		t.Error("Holds: row 3 asks for at least 1, row 2 for nothing")
	}
}

func TestMachineDescribesItsTable(t *testing.T) {
	t.Parallel()
	machine := build(t, layered)
	for _, c := range []struct {
		what      string
		got, want any
	}{
		{"initial", machine.Initial(), "a"},
		{"states", machine.States(), []string{"a", "c", "z", "b"}},
		{"events", machine.Events(), []string{"x", "y", "w", "v"}},
		{"rows", machine.Rows(), 11},
		{"a row", machine.Row(7), row{From: "a", On: "y", To: "b"}},
		{"final", []bool{machine.IsFinal("z"), machine.IsFinal("a"), machine.IsFinal("")}, []bool{true, false, false}},
		{"has state", []bool{machine.HasState("b"), machine.HasState("early"), machine.HasState("")}, []bool{true, false, false}},
		{"has event", []bool{machine.HasEvent("v"), machine.HasEvent(Any)}, []bool{true, false}},
		{"a state's members", machine.Members("b"), []string{"b"}},
		{"a group's members", machine.Members("ours"), []string{"a", "b", "c", "z"}},
		{"all members", machine.Members(Any), machine.States()},
		{"nobody's members", machine.Members("y"), []string{}},
		{"where a final member is left out", machine.Where(4), []string{"a", "c", "b"}},
		{"where a policy stands", machine.Where(0), []string{"c", "z"}},
		{"where all is taken before", machine.Where(1), []string{"b"}},
	} {
		if diff := cmp.Diff(c.want, c.got); diff != "" {
			t.Errorf("%s: %s", c.what, diff)
		}
	}
}

func TestEventsAreListedOrInferred(t *testing.T) {
	t.Parallel()
	listed := build(t, with(func(t *table) { t.Events = []string{"stop", "go"} }))
	if diff := cmp.Diff([]string{"stop", "go"}, listed.Events()); diff != "" {
		t.Error(diff)
	}
	none := build(t, table{
		Initial: "a", Final: []string{"z"}, Rows: []row{{From: "a", After: time.Second, To: "z"}},
	})
	if got := none.Find("a", "go", 0); got.Kind != statemachine.NoEvent {
		t.Errorf("a machine of time-outs found %v", got)
	}
}

func TestInitialStateMayLeadOnFromAnyOnly(t *testing.T) {
	t.Parallel()
	machine := build(t, table{
		Initial: "new", Final: []string{"z"}, Rows: []row{{From: Any, On: "go", To: "z"}}, Otherwise: ignore,
	})
	if got := machine.Find("new", "go", 0).To; got != "z" {
		t.Errorf("new leads to %q", got)
	}
}

func TestMachineKeepsNothingOfTheCaller(t *testing.T) {
	t.Parallel()
	changed := sound()
	machine := build(t, changed)
	changed.Rows[0].To = "z"
	changed.Final[0] = "a"
	machine.States()[0] = "y"
	machine.Events()[0] = "y"
	machine.Members(Any)[0] = "y"
	if machine.Row(0).To != "b" || !machine.IsFinal("z") || machine.States()[0] != "a" ||
		machine.Events()[0] != "go" || machine.Members(Any)[0] != "a" {
		t.Error("the machine changed with slices that are the caller's")
	}
}

func TestNamesOfPoliciesAndKinds(t *testing.T) {
	t.Parallel()
	var got []string
	for p := range statemachine.Policy(5) {
		got = append(got, p.String())
	}
	for k := range statemachine.Kind(8) {
		got = append(got, k.String())
	}
	want := []string{
		"undecided", "ignore", "buffer", "refuse", "Policy(4)",
		"Kind(0)", "transition", "ignored", "buffered", "refused", "no such state", "no such event", "Kind(7)",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// Not parallel: AllocsPerRun counts what the whole process allocates, and
// panics in a parallel test.
func TestFindingAllocatesNothing(t *testing.T) {
	machine := build(t, with(func(t *table) {}, row{From: "a", After: time.Hour, To: "b"}))
	layers := build(t, layered)
	for what, find := range map[string]func(){
		"Find":             func() { machine.Find("a", "go", 0) },
		"Find with guards": func() { layers.Find("a", "x", 0) },
		"Find, unknown":    func() { machine.Find("y", "go", 0) },
		"Timeouts":         func() { machine.Timeouts("a") },
		"Holds":            func() { layers.Holds(5, 0) },
	} {
		if allocs := testing.AllocsPerRun(100, find); allocs != 0 {
			t.Errorf("%s: %v allocations", what, allocs)
		}
	}
}

func BenchmarkFind(b *testing.B) {
	machine, err := orders.Build()
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		state State
		event Event
	}{
		{"row", Paid, Ship},
		{"guards", Placed, Pay},
		{"policy", Cancelled, Pay},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			order := Order{Due: 30}
			for b.Loop() {
				machine.Find(c.state, c.event, order)
			}
		})
	}
}

func BenchmarkBuild(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := orders.Build(); err != nil {
			b.Fatal(err)
		}
	}
}

// However many names there are, each is found, and no other.
func TestFindAmongFewAndMany(t *testing.T) {
	t.Parallel()
	for _, n := range []int{2, 11, 12, 13, 100} {
		table := statemachine.Table[string, string, int]{Initial: "0", Otherwise: statemachine.Refuse}
		for k := range n {
			table.Rows = append(table.Rows, statemachine.Row[string, string, int]{
				From: strconv.Itoa(k), On: "leave " + strconv.Itoa(k), To: strconv.Itoa((k + 1) % n),
			})
		}
		machine, err := table.Build()
		if err != nil {
			t.Fatal(err)
		}
		for k := range n {
			for other := range n {
				want := statemachine.Answer[string]{Kind: statemachine.Refused, Row: -1}
				if k == other {
					want = statemachine.Answer[string]{Kind: statemachine.Transition, Row: k, To: strconv.Itoa((k + 1) % n)}
				}
				if diff := cmp.Diff(want, machine.Find(strconv.Itoa(k), "leave "+strconv.Itoa(other), 0)); diff != "" {
					t.Fatalf("%d of %d, event %d: %s", k, n, other, diff)
				}
			}
		}
		if got := machine.Find(strconv.Itoa(n), "leave 0", 0).Kind; got != statemachine.NoState {
			t.Errorf("among %d: %v", n, got)
		}
		if got := machine.Find("0", "leave", 0).Kind; got != statemachine.NoEvent {
			t.Errorf("among %d: %v", n, got)
		}
	}
}
