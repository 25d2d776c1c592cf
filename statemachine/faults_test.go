package statemachine_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sagamill/sagamill/statemachine"
)

// Tables over plain strings keep the cases short.
type (
	table = statemachine.Table[string, string, int]
	row   = statemachine.Row[string, string, int]
	guard = statemachine.Guard[int]
	group = map[string][]string
)

const (
	Any    = statemachine.Any
	ignore = statemachine.Ignore
	buffer = statemachine.Buffer
	refuse = statemachine.Refuse
)

func when(name string) guard {
	return guard{Name: name, Holds: func(int) bool { return true }}
}

// sound has no faults; each case below spoils it in one way.
func sound(more ...row) table {
	return table{
		Initial: "a",
		Final:   []string{"z"},
		Rows: append([]row{
			{From: "a", On: "go", To: "b"},
			{From: "b", On: "go", To: "z"},
		}, more...),
		Otherwise: refuse,
	}
}

func with(change func(*table), more ...row) table {
	t := sound(more...)
	change(&t)
	return t
}

func TestFaults(t *testing.T) {
	t.Parallel()
	for _, part := range [][]faultCase{
		initialFaults, eventFaults, finalFaults, groupFaults, rowFaults, guardFaults,
		endFaults, clashFaults, timeoutClashFaults, pathFaults, cellFaults,
	} {
		for _, c := range part {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				machine, err := c.table.Build()
				var faults *statemachine.FaultsError
				if machine != nil || !errors.As(err, &faults) {
					t.Fatalf("Build returned %v and error %v, want a *FaultsError alone", machine, err)
				}
				if diff := cmp.Diff(c.faults, faults.Faults); diff != "" {
					t.Error(diff)
				}
			})
		}
	}
}

type faultCase struct {
	name   string
	table  table
	faults []string
}

var initialFaults = []faultCase{
	{
		"no rows",
		table{Initial: "a", Final: []string{"z"}},
		[]string{"there are no rows: write at least one that leads on from Initial"},
	},
	{
		"nothing at all",
		table{},
		[]string{
			"there are no rows: write at least one that leads on from Initial",
			"Initial is empty: name the state in which an instance begins",
		},
	},
	{
		"no initial state",
		with(func(t *table) { t.Initial = "" }),
		[]string{"Initial is empty: name the state in which an instance begins"},
	},
	{
		"unknown initial state",
		with(func(t *table) { t.Initial = "aa" }),
		[]string{`Initial "aa" is unknown: no row, group or Final names it; correct it, or write a row from it`},
	},
	{
		"initial state is a group",
		with(func(t *table) { t.Initial = "g"; t.Groups = group{"g": {"a", "b"}} }),
		[]string{`Initial "g" is a group: name one of its states, or rename the group`},
	},
	{
		"initial state is Any",
		with(func(t *table) { t.Initial = Any }),
		[]string{`Initial is "*", which no state can be named: name the one in which an instance begins`},
	},
	{
		"unknown policy for the rest",
		with(func(t *table) { t.Otherwise = 9 }),
		[]string{"Otherwise is Policy(9), which is no policy: use Ignore, Buffer or Refuse"},
	},
}

var eventFaults = []faultCase{
	{
		"event without a name",
		with(func(t *table) { t.Events = []string{"go", ""} }),
		[]string{"Events[1] is empty: name an event"},
	},
	{
		"event named Any",
		with(func(t *table) { t.Events = []string{"go", Any} }),
		[]string{`Events[1] is "*", which no event can be named: rename it`},
	},
	{
		"event listed again",
		with(func(t *table) { t.Events = []string{"go", "stop", "go"} }),
		[]string{`Events[2] lists "go" again: take it out`},
	},
	{
		"event of a row not listed",
		with(func(t *table) { t.Events = []string{"go"} }, row{From: "b", On: "og", To: "z"}),
		[]string{`Rows[2] (from "b" on "og"): Events does not list "og": correct it, or add it there`},
	},
}

var finalFaults = []faultCase{
	{
		"final state without a name",
		with(func(t *table) { t.Final = []string{"z", ""} }),
		[]string{"Final[1] is empty: name a state"},
	},
	{
		"final state named Any",
		with(func(t *table) { t.Final = []string{"z", Any} }),
		[]string{`Final[1] is "*", which no state can be named: list the final states`},
	},
	{
		"final state listed again",
		with(func(t *table) { t.Final = []string{"z", "z"} }),
		[]string{`Final[1] lists "z" again: take it out`},
	},
	{
		"final state is a group",
		with(func(t *table) { t.Final = []string{"ends"}; t.Groups = group{"ends": {"z"}} }),
		[]string{`Final[0] "ends" is a group: list its states, or rename the group`},
	},
}

var groupFaults = []faultCase{
	{
		"group without a name",
		with(func(t *table) { t.Groups = group{"": {"a"}} }),
		[]string{`Groups[""] has no name: name it`},
	},
	{
		"group named Any",
		with(func(t *table) { t.Groups = group{Any: {"a"}} }),
		[]string{`Groups["*"] has the name that means every state: rename it`},
	},
	{
		"empty group",
		with(func(t *table) { t.Groups = group{"g": nil} }),
		[]string{`Groups["g"] is empty: list its states, or take it out`},
	},
	{
		"member without a name",
		with(func(t *table) { t.Groups = group{"g": {"a", ""}} }),
		[]string{`Groups["g"][1] is empty: name a state or a group`},
	},
	{
		"member named Any",
		with(func(t *table) { t.Groups = group{"g": {Any}} }),
		[]string{`Groups["g"][0] is "*": list the states, or write rows from Any`},
	},
	{
		"member of itself",
		with(func(t *table) { t.Groups = group{"g": {"a", "g"}} }),
		[]string{`Groups["g"][1] is the group itself: take it out, or rename the group if a state is meant`},
	},
	{
		"member listed again",
		with(func(t *table) { t.Groups = group{"g": {"a", "b", "a"}} }),
		[]string{`Groups["g"][2] lists "a" again: take it out`},
	},
	{
		"groups in a circle",
		with(func(t *table) { t.Groups = group{"g": {"a", "i"}, "h": {"b", "g"}, "i": {"h"}, "j": {"g"}} }),
		[]string{`groups go round in a circle, "g" > "i" > "h" > "g": take one out of the other`},
	},
	{
		"two circles",
		with(func(t *table) { t.Groups = group{"g": {"h"}, "h": {"g", "i"}, "i": {"h", "a"}} }),
		[]string{
			`groups go round in a circle, "g" > "h" > "g": take one out of the other`,
			`groups go round in a circle, "h" > "i" > "h": take one out of the other`,
		},
	},
}

var rowFaults = []faultCase{
	{
		"from nowhere",
		sound(row{On: "go", To: "b"}),
		[]string{`Rows[2] (from "" on "go"): From is empty: name a state, a group or Any`},
	},
	{
		"neither event nor time-out",
		sound(row{From: "a", To: "z"}),
		[]string{`Rows[2] (from "a"): it has neither On nor After: name the event that takes it, or the time after which it is taken`},
	},
	{
		"both event and time-out",
		sound(row{From: "a", On: "x", After: time.Minute, To: "z"}),
		[]string{`Rows[2] (from "a" on "x" after 1m): it has both On and After: make two rows of it`},
	},
	{
		"negative time-out",
		sound(row{From: "a", After: -time.Hour, To: "z"}),
		[]string{`Rows[2] (from "a" after -1h): After is negative: give a time above zero`},
	},
	{
		"leads on at every event",
		sound(row{From: "a", On: Any, To: "z"}),
		[]string{`Rows[2] (from "a" on "*"): it leads to "z" on every event, which only a policy may take: name the event`},
	},
	{
		"neither state nor policy",
		sound(row{From: "a", On: "x"}),
		[]string{`Rows[2] (from "a" on "x"): it has neither To nor Policy: name the state to which it leads, or say what becomes of the event`},
	},
	{
		"both state and policy",
		sound(row{From: "a", On: "x", To: "z", Policy: ignore}),
		[]string{`Rows[2] (from "a" on "x"): it has both To "z" and Policy ignore: keep one`},
	},
	{
		"unknown policy",
		sound(row{From: "a", On: "x", Policy: 4}),
		[]string{`Rows[2] (from "a" on "x"): Policy(4) is no policy: use Ignore, Buffer or Refuse`},
	},
	{
		"policy with a time-out",
		sound(row{From: "a", After: 90 * time.Second, Policy: ignore}),
		[]string{`Rows[2] (from "a" after 1m30s): it has a policy for a time-out, but policies are about events: give To, or On instead of After`},
	},
	{
		"policy with a guard",
		sound(row{From: "a", On: "x", If: when("paid"), Policy: ignore}),
		[]string{`Rows[2] (from "a" on "x"): policy ignore has a guard: take it off, and give guards to the rows that lead on`},
	},
	{
		"to a group",
		with(func(t *table) { t.Groups = group{"g": {"a", "b"}} }, row{From: "a", On: "x", To: "g"}),
		[]string{`Rows[2] (from "a" on "x"): To "g" is a group: name one of its states, or rename the group`},
	},
	{
		"to Any",
		sound(row{From: "a", On: "x", To: Any}),
		[]string{`Rows[2] (from "a" on "x"): To is "*", which no state can be named: name the state to which it leads`},
	},
}

var guardFaults = []faultCase{
	{
		"guard without a name",
		sound(row{From: "a", On: "x", If: guard{Holds: func(int) bool { return true }}, To: "b"}),
		[]string{`Rows[2] (from "a" on "x"): its guard has no name: give it one, for diagrams and messages`},
	},
	{
		"guard without a function",
		sound(row{From: "a", On: "x", If: guard{Name: "paid"}, To: "b"}),
		[]string{`Rows[2] (from "a" on "x"): its guard "paid" has no function: set Holds`},
	},
}

var endFaults = []faultCase{
	{
		"final state left",
		sound(row{From: "z", On: "x", To: "a"}),
		[]string{`Rows[2] (from "z" on "x"): it leaves a final state: take the row out, or "z" out of Final`},
	},
	{
		"final state with a time-out",
		sound(row{From: "z", After: time.Hour, To: "a"}),
		[]string{`Rows[2] (from "z" after 1h): a final state has no time-outs: take the row out, or "z" out of Final`},
	},
	{
		"group of final states left",
		with(func(t *table) { t.Groups = group{"ends": {"z"}} }, row{From: "ends", On: "x", To: "a"}),
		[]string{`Rows[2] (from "ends" on "x"): it applies nowhere, since all states of "ends" are final: take the row out, or one of them out of Final`},
	},
}

var clashFaults = []faultCase{
	{
		"ambiguous",
		sound(row{From: "a", On: "go", Policy: ignore}),
		[]string{`Rows[2] (from "a" on "go"): it is ambiguous in "a", since Rows[0] (from "a" on "go") has no guard either: keep one, or give the first a guard`},
	},
	{
		"ambiguous through two groups",
		with(func(t *table) { t.Groups = group{"g": {"a", "b"}, "h": {"b", "a", "z"}} },
			row{From: "h", On: "x", To: "z"}, row{From: "g", On: "x", Policy: ignore}),
		[]string{`Rows[3] (from "g" on "x"): it is ambiguous in "a", "b", since Rows[2] (from "h" on "x") has no guard either: keep one, or decide in a row of the state itself`},
	},
	{
		"ambiguous policies on every event",
		sound(row{From: "a", On: Any, Policy: ignore}, row{From: "a", On: "x", Policy: ignore},
			row{From: "b", On: "y", Policy: ignore}, row{From: "a", On: Any, Policy: buffer}),
		[]string{`Rows[5] (from "a" on "*"): it is ambiguous in "a", since Rows[2] (from "a" on "*") has no guard either: keep one, or give the first a guard`},
	},
	{
		"guarded row too late",
		sound(row{From: "a", On: "go", If: when("paid"), To: "z"}),
		[]string{`Rows[2] (from "a" on "go"): it is never taken in "a", since Rows[0] (from "a" on "go") comes before it and has no guard: put the guarded row first`},
	},
	{
		"same guard again",
		sound(row{From: "a", On: "x", If: when("paid"), To: "z"}, row{From: "a", On: "x", If: when("paid"), To: "b"}),
		[]string{`Rows[3] (from "a" on "x"): it is never taken in "a", since Rows[2] (from "a" on "x") has the same guard "paid": keep one, or name another guard`},
	},
	{
		"several rows in the order of the table",
		sound(
			row{From: Any, On: "x", To: "z"}, row{From: Any, On: "x", To: "b"},
			row{From: "a", On: "go", To: "z"}, row{From: "a", On: "go", To: "a"}),
		[]string{
			`Rows[3] (from "*" on "x"): it is ambiguous in "a", "b", since Rows[2] (from "*" on "x") has no guard either: keep one, or decide in a row of the state itself`,
			`Rows[4] (from "a" on "go"): it is ambiguous in "a", since Rows[0] (from "a" on "go") has no guard either: keep one, or give the first a guard`,
			`Rows[5] (from "a" on "go"): it is ambiguous in "a", since Rows[0] (from "a" on "go") has no guard either: keep one, or give the first a guard`,
		},
	},
}

var timeoutClashFaults = []faultCase{
	{
		"time-out declared twice",
		sound(row{From: "a", After: time.Hour, To: "z"}, row{From: "a", After: time.Hour, To: "b"}),
		[]string{`Rows[3] (from "a" after 1h): it is ambiguous in "a", since Rows[2] (from "a" after 1h) has no guard either: keep one, or give the first a guard`},
	},
	{
		"time-out with the same guard",
		sound(row{From: Any, After: time.Hour, If: when("paid"), To: "z"}, row{From: Any, After: time.Hour, If: when("paid"), To: "b"}),
		[]string{`Rows[3] (from "*" after 1h): it is never taken in "a", "b", since Rows[2] (from "*" after 1h) has the same guard "paid": keep one, or name another guard`},
	},
	{
		"guarded time-out too late",
		sound(row{From: "a", After: time.Hour, To: "z"}, row{From: "a", After: time.Hour, If: when("paid"), To: "b"}),
		[]string{`Rows[3] (from "a" after 1h): it is never taken in "a", since Rows[2] (from "a" after 1h) comes before it and has no guard: put the guarded row first`},
	},
}

var pathFaults = []faultCase{
	{
		"state never entered",
		sound(row{From: "bb", On: "go", To: "z"}),
		[]string{`state "bb" is never entered from "a": write a row that leads to it, correct the name, or declare it in Groups if a group is meant`},
	},
	{
		"state never entered since more specific rows lead elsewhere",
		sound(row{From: Any, On: "go", To: "c"}, row{From: "c", On: "go", To: "z"}),
		[]string{`state "c" is never entered from "a": write a row that leads to it, correct the name, or declare it in Groups if a group is meant`},
	},
	{
		"member never entered",
		with(func(t *table) { t.Groups = group{"g": {"a", "y"}} }, row{From: "g", On: "x", To: "z"}),
		[]string{`state "y" is never entered from "a": write a row that leads to it, correct the name, or declare it in Groups if a group is meant`},
	},
	{
		"final state never entered",
		with(func(t *table) { t.Final = []string{"z", "y"} }),
		[]string{`state "y" is never entered from "a": write a row that leads to it, correct the name, or declare it in Groups if a group is meant`},
	},
	{
		"trap",
		sound(row{From: "a", On: "x", To: "c"}, row{From: "c", On: "x", To: "d"}, row{From: "d", On: "x", To: "c"}),
		[]string{
			`state "c" is a trap, since no way leads from it to a final state: write a row that does, or name it in Final`,
			`state "d" is a trap, since no way leads from it to a final state: write a row that does, or name it in Final`,
		},
	},
	{
		"trap without an end",
		table{
			Initial: "red",
			Rows: []row{
				{From: "red", On: "go", To: "green"},
				{From: "green", On: "go", To: "green"},
			},
		},
		[]string{`state "green" is a trap, since no row leaves it: write one, or name it in Final`},
	},
}

var cellFaults = []faultCase{
	{
		"undecided",
		with(func(t *table) { t.Otherwise = statemachine.Undecided; t.Events = []string{"go", "stop", "x"} },
			row{From: "b", On: "x", If: when("paid"), To: "z"},
			row{From: "b", On: "stop", If: when("paid"), To: "z"},
			row{From: "z", On: Any, Policy: ignore}),
		[]string{
			`state "a": nobody decided what becomes of "stop", "x": write a row for each, a policy on Any, or Otherwise`,
			`state "b": nobody decided what becomes of "stop", "x" when no guard holds: write a row without guard for each, a policy on Any, or Otherwise`,
		},
	},
	{
		"undecided at the end, which no row from Any leaves",
		with(func(t *table) { t.Otherwise = statemachine.Undecided }, row{From: Any, On: "x", To: "z"}),
		[]string{`state "z": nobody decided what becomes of "go", "x": write a row for each, a policy on Any, or Otherwise`},
	},
	{
		"a faulty row is not also undecided",
		with(func(t *table) { t.Otherwise = statemachine.Undecided },
			row{From: "z", On: "go"}, row{From: Any, On: "x", Policy: 7}),
		[]string{
			`Rows[2] (from "z" on "go"): it has neither To nor Policy: name the state to which it leads, or say what becomes of the event`,
			`Rows[3] (from "*" on "x"): Policy(7) is no policy: use Ignore, Buffer or Refuse`,
		},
	},
}

func TestFaultsAreToldAllAtOnce(t *testing.T) {
	t.Parallel()
	broken := table{
		Initial: "a",
		Final:   []string{"z", "z"},
		Groups:  group{"g": {"a", "b"}, "h": nil},
		Events:  []string{"go", "x"},
		Rows: []row{
			{From: "a", On: "go", To: "b"},
			{From: "g", On: "x", To: "z"},
			{From: "z", On: "go", To: "g", After: -time.Second},
			{From: "g", On: "x", To: "b"},
			{From: "y", On: "stop", If: guard{Name: "paid"}},
		},
	}
	expectError(t, broken, `statemachine: 14 faults in the table:
  - Final[1] lists "z" again: take it out
  - Groups["h"] is empty: list its states, or take it out
  - Rows[2] (from "z" on "go" after -1s): it has both On and After: make two rows of it
  - Rows[2] (from "z" on "go" after -1s): To "g" is a group: name one of its states, or rename the group
  - Rows[2] (from "z" on "go" after -1s): a final state has no time-outs: take the row out, or "z" out of Final
  - Rows[4] (from "y" on "stop"): Events does not list "stop": correct it, or add it there
  - Rows[4] (from "y" on "stop"): it has neither To nor Policy: name the state to which it leads, or say what becomes of the event
  - Rows[4] (from "y" on "stop"): its guard "paid" has no function: set Holds
  - Rows[3] (from "g" on "x"): it is ambiguous in "a", "b", since Rows[1] (from "g" on "x") has no guard either: keep one, or decide in a row of the state itself
  - state "y" is never entered from "a": write a row that leads to it, correct the name, or declare it in Groups if a group is meant
  - state "y" is a trap, since no way leads from it to a final state: write a row that does, or name it in Final
  - state "b": nobody decided what becomes of "go": write a row for each, a policy on Any, or Otherwise
  - state "z": nobody decided what becomes of "x": write a row for each, a policy on Any, or Otherwise
  - state "y": nobody decided what becomes of "go", "x": write a row for each, a policy on Any, or Otherwise`)

	expectError(t, with(func(t *table) { t.Initial = "" }), "statemachine: 1 fault in the table:\n  - Initial is empty: name the state in which an instance begins")
}

func expectError(t *testing.T, faulty table, want string) {
	t.Helper()
	_, err := faulty.Build()
	if err == nil {
		t.Fatal("Build found no fault")
	}
	if diff := cmp.Diff(want, err.Error()); diff != "" {
		t.Error(diff)
	}
}
