package saga

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/compensation"
)

func TestScriptedDefinitionsHaveNoFaults(t *testing.T) {
	t.Parallel()
	for name, d := range scripted {
		require.NoError(t, d.Validate(), name)
	}
}

type (
	choreSpec  = Spec[string, string, int]
	choreRow   = Row[string, string, int]
	choreTable = Table[string, string, int]
)

func do(name string) Step[int]       { return Do(name, nothing[int]) }
func undoable(name string) Step[int] { return do(name).Undo(nothing[int]) }
func retriable(name string) Step[int] {
	return do(name).Retriable().NoUndo("harmless")
}

// chore is a definition without faults, with which each case below does one thing wrong.
func chore(rows ...choreRow) choreSpec {
	return choreSpec{
		Name: "job", Initial: "new", Succeeded: []string{"done"}, Failed: []string{"failed"},
		Events: []Event[string, int]{{Name: "go"}, {Name: "stop"}},
		Table: append(choreTable{
			{From: "new", On: "go", To: "done", Run: Run(undoable("work"))},
			{From: "new", On: "work.rejected", To: "failed", Compensate: true},
			{From: "new", On: "stop", To: "failed", Compensate: true, Interrupts: true},
		}, rows...),
		Otherwise: Refuse,
	}
}

// with changes the job's first row.
func with(change func(*choreRow), more ...choreRow) choreSpec {
	s := chore(more...)
	change(&s.Table[0])
	return s
}

func steps(steps ...Step[int]) choreSpec { return with(func(r *choreRow) { r.Run = steps }) }

func faultsOf(s choreSpec) []string {
	var e *DefinitionError
	if errors.As(Define(s).Validate(), &e) {
		return e.Faults
	}
	return nil
}

type faultCase struct {
	name string
	spec choreSpec
	want []string
}

func checkFaults(t *testing.T, cases []faultCase) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(c.want, faultsOf(c.spec)); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
		})
	}
}

func TestFaultsOfNames(t *testing.T) {
	t.Parallel()
	require.Empty(t, faultsOf(chore()))
	changed := func(change func(*choreSpec)) choreSpec {
		s := chore()
		change(&s)
		return s
	}
	const visible = ": a name has 1 to 100 visible ASCII characters"
	checkFaults(t, []faultCase{
		{"definition without a name", changed(func(s *choreSpec) { s.Name = "" }), []string{`a definition is named ""` + visible}},
		{"name that cannot be a message's metadata", changed(func(s *choreSpec) { s.Name = "my job" }), []string{`a definition is named "my job"` + visible}},
		{"name that is too long", changed(func(s *choreSpec) { s.Name = strings.Repeat("n", 101) }),
			[]string{`a definition is named "` + strings.Repeat("n", 101) + `"` + visible}},
		{"version below 1", changed(func(s *choreSpec) { s.Version = -1 }), []string{"Version is -1: versions count from 1"}},
		{"step without a name", steps(do("").Retriable()), []string{
			`a step is named ""` + visible,
			`Table[1] (from "new" on "work.rejected"): Events does not list "work.rejected": correct it, or add it there`,
		}},
		{"event without a name", changed(func(s *choreSpec) { s.Events[0].Name = "" }), []string{
			`an event is named ""` + visible,
			`Events[0] is empty: name an event`,
			`Table[0] (from "new" on "go"): Events does not list "go": correct it, or add it there`,
		}},
		{"event declared twice", changed(func(s *choreSpec) { s.Events[0].Name = "stop" }), []string{
			`event "stop" is declared twice`,
			`Table[0] (from "new" on "go"): Events does not list "go": correct it, or add it there`,
		}},
		{"two steps of one name", steps(undoable("work"), undoable("work")), []string{
			`two steps are named "work": names are stored, so each step needs one of its own`,
			`row new/go runs step "work" twice: a step's run is known by its row, so declare a step for each`,
		}},
		{"a step changed on the way", with(func(*choreRow) {}, choreRow{From: "new", On: "go2", To: "done", Run: Run(do("work").Retriable())}), []string{
			`two steps are named "work": names are stored, so each step needs one of its own`,
			`Table[3] (from "new" on "go2"): Events does not list "go2": correct it, or add it there`,
		}},
		{"outside event named like a rejection", changed(func(s *choreSpec) { s.Events = append(s.Events, Event[string, int]{Name: "work.rejected"}) }), []string{
			`event "work.rejected" is declared as one from outside, but the engine raises it by itself: name the outside event differently`,
		}},
		{"outside event named like the start", changed(func(s *choreSpec) { s.Start = "go" }), []string{
			`event "go" is declared as one from outside, but the engine raises it by itself: it is the Start event, take it out of Events`,
		}},
		{"event that nobody declared", choreSpec{
			Name: "job", Initial: "new", Succeeded: []string{"done"}, Otherwise: Refuse, Table: choreTable{{From: "new", On: "go", To: "done"}},
		}, []string{`row new/go: there is no event "go": name it in Events`}},
	})
}

func TestFaultsOfSteps(t *testing.T) {
	t.Parallel()
	request := func(int) int { return 0 }
	checkFaults(t, []faultCase{
		{"no action", steps(Do[int]("work", nil).NoUndo("harmless")), []string{`step "work" has no action: its function is nil`}},
		{"undone in two ways", steps(undoable("work").NoUndo("harmless")), []string{`step "work" says more than once how it is undone: one of Undo, UndoBy and NoUndo`}},
		{"empty compensation", steps(do("work").Undo(nil)), []string{
			`step "work" has an empty compensation`,
			`step "work" may have taken effect when the saga fails (new/work.rejected, new/stop): say how it is undone (Undo, UndoBy), or why it need not be (NoUndo)`,
		}},
		{"no undo and no reason", steps(do("work").NoUndo("")), []string{
			`step "work": NoUndo needs a reason`,
			`step "work" may have taken effect when the saga fails (new/work.rejected, new/stop): say how it is undone (Undo, UndoBy), or why it need not be (NoUndo)`,
		}},
		{"pivot that would be undone", steps(undoable("work").Pivot()), []string{`step "work" is the pivot and has a compensation, which would never run: drop one of the two`}},
		{"pivot and retriable", steps(do("work").Pivot().Retriable().NoUndo("harmless")), []string{
			`step "work": a step is either pivot or retriable, and said so once`,
			`Table[1] (from "new" on "work.rejected"): Events does not list "work.rejected": correct it, or add it there`,
		}},
		{"event as the pivot", steps(Emit("say", "news", "SAID", request).Pivot(), retriable("work")), []string{
			`step "say" is an event and cannot be the pivot: nobody answers it`,
			`Table[1] (from "new" on "work.rejected"): Events does not list "work.rejected": correct it, or add it there`,
		}},
		{"own key and a compensation", steps(undoable("work").Key(func(int) string { return "k" })), []string{
			`step "work" names a Key of its own and has a compensation: under that key it is done once, and would not be done again after it was undone; drop one of the two`,
		}},
		{"time-out of a command", steps(Ask("work", Command[int, int]{Name: "work", Topic: "w"}, func(int) int { return 1 }, nil).NoUndo("test").Timeout(time.Second)), []string{
			`step "work" has a Timeout, which bounds local attempts, and none of its own: Retry says when a command is sent again`,
		}},
		{"time-out that is not positive", steps(undoable("work").Timeout(-time.Second)), []string{`step "work": Timeout(-1s) must be positive`}},
		{"retry policies that make no sense", steps(undoable("work").Retry(compensation.Retry{Factor: 0.5, Jitter: 2}).UndoRetry(compensation.Retry{First: -1})), []string{
			`step "work": retry: Factor must be at least 1; retry: Jitter must be between 0 and 1`,
			`step "work": retry: First must not be negative, nor longer than Max`,
		}},
		{"command without a topic", steps(Ask("work", Command[int, int]{Name: "work"}, request, nil).NoUndo("harmless")), []string{
			`step "work": a command needs a name, a topic and a function that makes it`,
		}},
		{"command of an undo that nobody makes", steps(do("work").UndoBy(RequestOf[int](Command[int, int]{Name: "undo", Topic: "t"}, nil))), []string{
			`step "work": a command needs a name, a topic and a function that makes it`,
		}},
		{"group that is empty", steps(undoable("work"), Parallel[int]()), []string{`row new/go: Parallel without steps`}},
		{"group in a group", steps(Parallel(undoable("work"), Parallel(undoable("play")))), []string{`row new/go: Parallel inside of Parallel: list all siblings in one`}},
		{"what belongs to a step said of a group", steps(Parallel(undoable("work")).Retriable()), []string{
			`row new/go: Retriable belongs to a step, not to the group that Parallel makes`,
		}},
		{"parallel steps of two classes", steps(Parallel(undoable("work"), retriable("play"))), []string{
			`row new/go: step "play" cannot run beside the others: parallel steps are of one class, and a pivot stands alone`,
		}},
		{"pivots side by side", with(func(r *choreRow) {
			r.Run, r.Rejected = Run(Parallel(do("work").Pivot(), do("play").Pivot())), "work.rejected"
		}), []string{
			`row new/go: step "work" cannot run beside the others: parallel steps are of one class, and a pivot stands alone`,
			`row new/go: step "play" cannot run beside the others: parallel steps are of one class, and a pivot stands alone`,
		}},
	})
}

func TestFaultsOfRows(t *testing.T) {
	t.Parallel()
	checkFaults(t, []faultCase{
		{"policy that runs steps", chore(choreRow{From: "done", On: "go", Policy: Ignore, Interrupts: true}), []string{
			"row done/go has a Policy, so it takes no transition: Run, Rejected, Compensate and Interrupts have no meaning in it",
		}},
		{"time-out that interrupts", chore(choreRow{From: "new", After: time.Hour, To: "failed", Compensate: true, Interrupts: true}), []string{
			"row new/after->failed: a time-out never interrupts; drop Interrupts",
			`row new/after->failed interrupts, but "" is not an event from outside`,
		}},
		{"rejection of what cannot be rejected", with(func(r *choreRow) { r.Run, r.Rejected = Run(retriable("work")), "work.rejected" }), []string{
			`row new/go names the event Rejected: "work.rejected", but none of its steps can be rejected`,
			`Table[1] (from "new" on "work.rejected"): Events does not list "work.rejected": correct it, or add it there`,
		}},
		{"rejection that nobody answers", with(func(r *choreRow) { r.Rejected = "refused" }), []string{
			`Table[1] (from "new" on "work.rejected"): Events does not list "work.rejected": correct it, or add it there`,
		}},
		{"rejection answered under a guard only", with(func(r *choreRow) { r.Run = Run(undoable("work"), undoable("play")) },
			choreRow{From: "new", On: "play.rejected", To: "failed", Compensate: true, If: When("x", func(int) bool { return true })}), []string{
			`step "play" of row new/go may be rejected, but state "new" has no row (without a guard) on "play.rejected"`,
		}},
		{"step that may be rejected while its row compensates", chore(choreRow{From: "new", After: time.Hour, To: "failed", Compensate: true, Run: Run(undoable("play"))}), []string{
			`row new/after->failed: step "play" runs while the row compensates, so it must be Retriable`,
		}},
		{"retriable that would never be undone", with(func(r *choreRow) {
			r.Run = Run(undoable("work"), do("play").Pivot(), undoable("tell").Retriable())
		}, choreRow{From: "new", On: "play.rejected", To: "failed", Compensate: true}), []string{
			`row new/go: step "tell" comes after the pivot and has a compensation, which would never run: drop it`,
		}},
		{"retriable that is undone", with(func(r *choreRow) { r.Run = Run(undoable("play").Retriable(), undoable("work")) }), nil},
		{"compensating into a success", chore(choreRow{From: "new", After: time.Hour, To: "done", Compensate: true}), []string{
			`row new/after->done undoes everything and ends in "done", which is in Succeeded: lead it to a state of Failed, or drop Compensate`,
		}},
		{"two faults of one row", with(func(r *choreRow) { r.Run = Run(undoable("work"), do("work2").Pivot(), undoable("play")) }), []string{
			`row new/go: step "play" comes after the pivot, where nothing is undone any more: make it Retriable, or move it before the pivot`,
			`step "work2" of row new/go may be rejected, but state "new" has no row (without a guard) on "work2.rejected"`,
			`step "play" of row new/go may be rejected, but state "new" has no row (without a guard) on "play.rejected"`,
		}},
	})
}

func TestRejectedRowOfSeveralStepsMustCompensate(t *testing.T) {
	t.Parallel()
	s := steps(undoable("work"), retriable("play"))
	s.Table[1].Compensate = false
	require.Equal(t, []string{
		"row new/work.rejected answers a rejection in row new/go, which has several steps: some may have taken effect, so it must Compensate",
	}, faultsOf(s))
}

// The state machine's own faults come through in its words; its own tests have them all.
func TestFaultsOfTheGraph(t *testing.T) {
	t.Parallel()
	silent := chore()
	silent.Otherwise = 0
	endless := chore()
	endless.Succeeded, endless.Failed = nil, nil
	both := chore()
	both.Failed = append(both.Failed, "done")
	checkFaults(t, []faultCase{
		{"unreachable state", chore(choreRow{From: "attic", On: "go", To: "done"}), []string{
			`state "attic" is never entered from "new": write a row that leads to it, correct the name, or declare it in Groups if a group is meant`,
		}},
		{"trap", chore(choreRow{From: "new", After: time.Hour, To: "pit"}), []string{
			`state "pit" is a trap, since no way leads from it to a final state: write a row that does, or name it in Succeeded or Failed`,
		}},
		{"trap behind guards", chore(
			choreRow{From: "new", After: time.Hour, To: "pit"},
			choreRow{From: "pit", After: time.Hour, To: "failed", Compensate: true, If: When("perhaps", func(int) bool { return false })},
		), []string{
			`state "pit" is left by time-outs with guards only: if none holds when it is due, nothing ever leaves it; give one of the longest no guard`,
		}},
		{"cell that nobody decided", silent, []string{
			`state "done": nobody decided what becomes of "go", "stop": write a row for each, a policy on Any, or Otherwise`,
			`state "failed": nobody decided what becomes of "go", "stop": write a row for each, a policy on Any, or Otherwise`,
		}},
		{"no end", endless, []string{
			"there is no end: name the final states in Succeeded and Failed",
			`state "done" is a trap, since no row leaves it: write one, or name it in Succeeded or Failed`,
			`state "failed" is a trap, since no row leaves it: write one, or name it in Succeeded or Failed`,
		}},
		{"end of both kinds", both, []string{
			`state "done" is in Succeeded and in Failed: it is one or the other`,
			`Final[2] lists "done" again: take it out`,
		}},
	})
}

func TestStartMustBeAnswered(t *testing.T) {
	t.Parallel()
	s := chore(choreRow{From: "new", On: "begin", If: When("maybe", func(int) bool { return true }), To: "new"})
	s.Start = "begin"
	require.Equal(t, []string{`the start event "begin" has no row (without a guard) in the initial state "new"`}, faultsOf(s))
	s.Table = append(s.Table, choreRow{From: "new", On: "begin", To: "new"})
	require.Empty(t, faultsOf(s))
}

func TestOnlyEventsFromOutsideInterrupt(t *testing.T) {
	t.Parallel()
	s := chore()
	s.Table[1].Interrupts = true
	require.Equal(t, []string{`row new/work.rejected interrupts, but "work.rejected" is not an event from outside`}, faultsOf(s))
}

// decided is a job with a pivot on the way from new to shipped.
func decided(rows ...choreRow) choreSpec {
	s := chore(append(rows, choreRow{From: "shipped", On: "go", To: "done"})...)
	s.Table[0] = choreRow{From: "new", On: "go", To: "shipped", Run: Run(undoable("work"), do("decide").Pivot(), retriable("label")), Rejected: "work.rejected"}
	return s
}

func TestAfterThePivotASagaOnlyGoesForward(t *testing.T) {
	t.Parallel()
	require.Empty(t, faultsOf(decided()))
	either := decided(choreRow{From: "new", After: time.Hour, To: "shipped"}, choreRow{From: "shipped", On: "stop", To: "failed", Compensate: true})
	checkFaults(t, []faultCase{
		{"step that may be rejected", decided(
			choreRow{From: "shipped", After: time.Hour, To: "shipped", Run: Run(undoable("more"))},
			choreRow{From: "shipped", On: "more.rejected", To: "shipped"}), []string{
			`step "more" of row shipped/after->shipped may come after the pivot, where nothing is undone any more: make it Retriable`,
		}},
		{"compensation", decided(choreRow{From: "shipped", On: "stop", To: "failed", Compensate: true}), []string{
			`row shipped/stop compensates, but state "shipped" is only reached after the pivot, where nothing is undone any more`,
		}},
		{"failed end", decided(choreRow{From: "shipped", On: "stop", To: "failed"}), []string{
			`row shipped/stop may end in "failed" after the pivot, where nothing is undone any more: lead it to a state of Succeeded`,
		}},
		{"compensation in a state that is also reached without the pivot is refused when it comes to that", either, nil},
		{"what late events bring about in an end is no way on", decided(choreRow{From: "failed", On: "go", To: "failed", Run: Run(retriable("refund"))}), nil},
	})
}

func TestNoPathToAFailedEndLeavesAnEffect(t *testing.T) {
	t.Parallel()
	// worked is a job that works on the way from new to open, and may fail there.
	worked := func(work Step[int], rows ...choreRow) choreSpec {
		s := chore(append(rows, choreRow{From: "open", On: "go", To: "done"})...)
		s.Table[0].To, s.Table[0].Run = "open", Run(work)
		return s
	}
	looped := worked(undoable("work"), choreRow{From: "open", After: time.Hour, To: "again"}, choreRow{From: "again", On: "go", To: "open"}, choreRow{From: "again", On: "stop", To: "failed"})
	back := worked(do("work"), choreRow{From: "new", After: time.Hour, To: "failed"})
	back.Table = append(choreTable{back.Table[0], {From: "new", On: "work.rejected", To: "new"}}, back.Table[3:]...)
	abandoned := worked(undoable("work"), choreRow{From: "parked", On: "stop", To: "failed"})
	abandoned.Table[2].To, abandoned.Table[2].Compensate = "parked", false
	undone := worked(do("work"), choreRow{From: "open", On: "stop", To: "undone", Compensate: true}, choreRow{From: "undone", On: "stop", To: "failed"})
	checkFaults(t, []faultCase{
		{"step that says nothing", worked(do("work"), choreRow{From: "open", On: "stop", To: "failed", Compensate: true}), []string{
			`step "work" may have taken effect when the saga fails (new/work.rejected, new/stop, open/stop): say how it is undone (Undo, UndoBy), or why it need not be (NoUndo)`,
		}},
		{"step that says why it needs no compensation", worked(do("work").NoUndo("harmless"), choreRow{From: "open", On: "stop", To: "failed"}), nil},
		{"row that forgets to compensate", worked(undoable("work"), choreRow{From: "open", On: "stop", To: "failed"}), []string{
			`row open/stop ends in "failed", but leaves what step "work" did: it must Compensate`,
		}},
		{"further on", looped, []string{
			`row again/stop ends in "failed", but leaves what step "work" did: it must Compensate`,
		}},
		{"step that is given up, then a failed end", back, []string{
			`step "work" may have taken effect when the saga fails (new/after->failed): say how it is undone (Undo, UndoBy), or why it need not be (NoUndo)`,
		}},
		{"row that is abandoned without compensation, then a failed end", abandoned, []string{
			`row parked/stop ends in "failed", but leaves what step "work" did: it must Compensate`,
		}},
		{"what a compensation on the way could not undo", undone, []string{
			`step "work" may have taken effect when the saga fails (new/work.rejected, new/stop, undone/stop): say how it is undone (Undo, UndoBy), or why it need not be (NoUndo)`,
		}},
		{"group row that a more specific row hides", worked(undoable("work"),
			choreRow{From: Any, After: time.Hour, To: "failed"}, choreRow{From: "open", After: time.Hour, To: "failed", Compensate: true}), nil},
	})
}

func TestSeveralFaultsAreAllReported(t *testing.T) {
	t.Parallel()
	s := steps(do("work").Timeout(-1), undoable("play"))
	s.Name, s.Version = "my job", -2
	s.Table = append(s.Table, choreRow{From: "attic", After: time.Hour, To: "done", Interrupts: true})
	err := Define(s).Validate()
	require.EqualError(t, err, `saga: definition "my job" cannot be used:
  - a definition is named "my job": a name has 1 to 100 visible ASCII characters
  - Version is -2: versions count from 1
  - step "work": Timeout(-1ns) must be positive
  - row attic/after->done: a time-out never interrupts; drop Interrupts
  - state "attic" is never entered from "new": write a row that leads to it, correct the name, or declare it in Groups if a group is meant`)

	s.Table = s.Table[:3]
	require.EqualError(t, Define(s).Validate(), `saga: definition "my job" cannot be used:
  - a definition is named "my job": a name has 1 to 100 visible ASCII characters
  - Version is -2: versions count from 1
  - step "work": Timeout(-1ns) must be positive
  - step "play" of row new/go may be rejected, but state "new" has no row (without a guard) on "play.rejected"
  - step "work" may have taken effect when the saga fails (new/work.rejected, new/stop): say how it is undone (Undo, UndoBy), or why it need not be (NoUndo)`)
}

// caption is a func that can be stored.
type caption func() string

func (c caption) MarshalText() ([]byte, error) { return []byte(c()), nil }

func TestLinearFindsFaultsToo(t *testing.T) {
	t.Parallel()
	require.EqualError(t, Linear[int]("empty").Validate(), "saga: definition \"empty\" cannot be used:\n  - a linear saga needs a step")
	require.ErrorContains(t, Linear("job", retriable("a")).WithVersion(0).Validate(), "version 0: versions count from 1")
	require.Equal(t, 2, Linear("job", retriable("a")).WithVersion(2).Version())
	require.EqualError(t, Linear("job", undoable("a"), undoable("a")).Validate(), `saga: definition "job" cannot be used:
  - two steps are named "a": names are stored, so each step needs one of its own
  - row running/begin runs step "a" twice: a step's run is known by its row, so declare a step for each`)
	type odd struct {
		Amount, price int
		Notify        func()
		cache         map[string]int `json:"-"`
		Watch         chan int       `json:"-"`
		Caption       caption
	}
	_ = odd{price: 1, cache: nil}
	require.EqualError(t, Linear("job", Do("a", func(context.Context, odd) error { return nil }).Retriable().NoUndo("harmless")).Validate(), `saga: definition "job" cannot be used:
  - the data type saga.odd has the field price, which is not exported and would not be stored: export it
  - the data type saga.odd has the field Notify, and a func cannot be stored: tag it `+"`json:\"-\"`, or drop it")
	require.NoError(t, Linear("job", Do("a", func(context.Context, time.Time) error { return nil }).Retriable().NoUndo("harmless")).Validate())
	require.EqualError(t, Linear("loop", undoable("a"), do("p").Pivot(), undoable("a2"), do("q").Pivot(), do("b")).Validate(), `saga: definition "loop" cannot be used:
  - row running/begin: step "a2" comes after the pivot, where nothing is undone any more: make it Retriable, or move it before the pivot
  - row running/begin has two pivots, "q" is the second: what decides is decided once; make it Retriable
  - row running/begin: step "b" comes after the pivot, where nothing is undone any more: make it Retriable, or move it before the pivot`)
	require.EqualError(t, Linear("once", do("a")).Validate(), `saga: definition "once" cannot be used:
  - step "a" may have taken effect when the saga fails (running/cancel, running/a.rejected): say how it is undone (Undo, UndoBy), or why it need not be (NoUndo)`)
}

// A step is a value: it can be declared once and refined where it is used, and the declaration does not change.
func TestStepsAreValues(t *testing.T) {
	t.Parallel()
	base := undoable("work")
	_ = base.Timeout(-1)
	_ = base.Pivot()
	require.Empty(t, faultsOf(steps(base)))
	shared := chore(choreRow{From: "new", On: "again", To: "done", Run: Run(base)})
	shared.Table[0].Run = Run(base)
	shared.Events = append(shared.Events, Event[string, int]{Name: "again"})
	require.Empty(t, faultsOf(shared), "one declaration may stand in several rows")
}

// Names of rows are stored: they are made of state, event and guard, without durations and indices.
func TestNamesOfRows(t *testing.T) {
	t.Parallel()
	is := When("is", func(int) bool { return true })
	s := chore(
		choreRow{From: "new", After: time.Hour, If: is, To: "failed", Compensate: true}, choreRow{From: "new", After: 2 * time.Hour, To: "new"},
		choreRow{From: "new", After: 3 * time.Hour, To: "new"}, choreRow{From: "done", On: Any, Policy: Ignore},
	)
	d := Define(s)
	require.NoError(t, d.Validate())
	var names []string
	for _, r := range d.compiled().rows {
		names = append(names, r.name)
	}
	require.Equal(t, []string{
		"new/go", "new/work.rejected", "new/stop", "new/after->failed[is]", "new/after->new", "new/after->new#2", "done/*",
	}, names)
	require.Equal(t, "job", d.Name())
	require.Equal(t, 1, d.Version())
}

// The functions of a definition are called with data that the codec wrote.
func TestFunctionsSayWhatTheyCannotRead(t *testing.T) {
	t.Parallel()
	p := trip.compiled()
	_, err := p.steps["charge-card"].action.local(context.Background(), JSON{}, documentOf([]byte("x")))
	require.ErrorContains(t, err, "saga: decode saga.tripData")
	_, err = p.steps["book-hotel"].action.local(context.Background(), JSON{}, documentOf([]byte("x")))
	require.ErrorContains(t, err, "saga: decode saga.tripData")
	_, err = p.steps["book-hotel"].action.local(context.Background(), JSON{}, document{})
	require.EqualError(t, err, "never called")
	_, err = p.steps["book-hotel"].undo.local(context.Background(), JSON{}, document{})
	require.NoError(t, err)
	_, err = p.steps["book-hotel"].fold(JSON{}, documentOf([]byte("x")), nil)
	require.Error(t, err)
	o := order.compiled()
	_, err = o.steps["capture"].action.command.request(JSON{}, documentOf([]byte("x")))
	require.Error(t, err)
	_, err = o.steps["refund-late"].key(JSON{}, documentOf([]byte("x")))
	require.Error(t, err)
	ok, want := o.events["payment-succeeded"].accepts(payment{})
	require.True(t, ok)
	require.Equal(t, "saga.payment", want)
	ok, _ = o.events["payment-succeeded"].accepts(7)
	require.False(t, ok)
}
