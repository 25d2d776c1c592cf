package saga

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// lockOf writes the lock file of definitions, and returns its path.
func lockOf(t *testing.T, definitions ...AnyDefinition) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "testdata", "some.lock") // in a folder that is made
	require.NoError(t, checkLock(path, true, definitions))
	require.NoError(t, CheckLock(path, definitions...), "what was written fits")
	return path
}

func readLock(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(text)
}

func TestLockFileIsReadable(t *testing.T) {
	t.Parallel()
	d := Linear("job", undoable("one"), Parallel(undoable("two"), undoable("three")), do("four").Pivot())
	second := Linear("job", do("only").Pivot()).WithVersion(2)
	path := lockOf(t, second, d)
	require.Equal(t, lockHeader+`
definition job version 1
  event cancel
  row running/begin running one, two & three, four
  row running/begin to completed
  row running/cancel to cancelled
  row running/four.rejected to failed
  row running/one.rejected to failed
  row running/three.rejected to failed
  row running/two.rejected to failed
  state cancelled
  state completed
  state failed
  state running
  step four as pivot local, undone by nothing
  step one as compensatable local, undone by local
  step three as compensatable local, undone by local
  step two as compensatable local, undone by local

definition job version 2
  event cancel
  row running/begin running only
  row running/begin to completed
  row running/cancel to cancelled
  row running/only.rejected to failed
  state cancelled
  state completed
  state failed
  state running
  step only as pivot local, undone by nothing
`, readLock(t, path))
}

func TestLock(t *testing.T) {
	t.Parallel()
	work := choreRow{From: "new", On: "go", To: "done", Run: Run(undoable("work"))}
	with := func(change func(*choreSpec)) AnyDefinition {
		s := chore()
		s.Table[0] = work
		change(&s)
		return Define(s)
	}
	before := with(func(*choreSpec) {})
	for name, c := range map[string]struct {
		now         []AnyDefinition
		gone, added []string // nil and nil: nothing has changed
		tells       []string
	}{
		"the same": {now: []AnyDefinition{before}},
		"what functions and guards do, and durations, are not looked at": {now: []AnyDefinition{with(func(s *choreSpec) {
			s.Table = append(s.Table, choreRow{From: Any, On: "stop", Policy: Ignore})
		})}},
		"more of all": {
			now: []AnyDefinition{with(func(s *choreSpec) {
				s.Table[0].Run = Run(work.Run[0], retriable("tell"))
				s.Table = append(s.Table, choreRow{From: "new", On: "wait", To: "late"}, choreRow{From: "late", On: "go", To: "done"})
				s.Events = append(s.Events, Event[string, int]{Name: "wait"})
			})},
			added: []string{
				"event wait", "row late/go to done", "row new/go running work, tell", "row new/wait to late", "state late",
				"step tell as retriable local, undone by nothing",
			},
			tells: []string{"job version 1 has gained", "  + state late\n", "SAGAMILL_UPDATE_LOCK=1"},
		},
		"another version beside it": {
			now:   []AnyDefinition{before, Linear("job", do("one").NoUndo("x")).WithVersion(2)},
			added: Linear("job", do("one").NoUndo("x")).compiled().names(),
			tells: []string{"job version 2 is new", "  + state running\n", "SAGAMILL_UPDATE_LOCK=1"},
		},
		"a step before another": {
			now:  []AnyDefinition{with(func(s *choreSpec) { s.Table[0].Run = Run(retriable("tell"), work.Run[0]) })},
			gone: []string{"row new/go running work"}, added: []string{"row new/go running tell, work", "step tell as retriable local, undone by nothing"},
			tells: []string{
				"job version 1 has lost", "  - row new/go running work\n  + row new/go running tell, work\n", "give the changed definition Version 2",
				"If version 1 was never deployed, delete its section", "SAGAMILL_UPDATE_LOCK=1",
			},
		},
		"another kind of step": {
			now:  []AnyDefinition{with(func(s *choreSpec) { s.Table[0].Run = Run(do("work").NoUndo("x")) })},
			gone: []string{"step work as compensatable local, undone by local"}, added: []string{"step work as compensatable local, undone by nothing"},
			tells: []string{"- step work as compensatable local, undone by local"},
		},
		"another to-state": {
			now:  []AnyDefinition{with(func(s *choreSpec) { s.Succeeded = []string{"over"}; s.Table[0].To = "over" })},
			gone: []string{"row new/go to done", "state done"}, added: []string{"row new/go to over", "state over"},
			tells: []string{"- state done"},
		},
		"a version that is gone": {
			now:   []AnyDefinition{Linear("job", do("one").NoUndo("x")).WithVersion(2)},
			gone:  before.compiled().names(),
			added: Linear("job", do("one").NoUndo("x")).compiled().names(),
			tells: []string{
				"job version 1 is in the file and not in the code", "saga.CheckStore", `saga.Query{Definition: "job", Unsettled: true}`,
				"delete its section from the file", "job version 2 is new",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := lockOf(t, before)
			err := CheckLock(path, c.now...)
			if c.tells == nil {
				require.NoError(t, err)
				return
			}
			var differs *LockError
			require.ErrorAs(t, err, &differs)
			var gone, added []string
			for _, change := range differs.Changes {
				gone, added = append(gone, change.Gone...), append(added, change.Added...)
			}
			require.Equal(t, c.gone, gone)
			require.Equal(t, c.added, added)
			for _, words := range c.tells {
				require.ErrorContains(t, err, words)
			}
			if c.gone == nil {
				require.ErrorIs(t, err, ErrLockOutdated)
				require.NotErrorIs(t, err, ErrIncompatible)
				require.NoError(t, checkLock(path, true, c.now), "an update adds it")
				require.NoError(t, CheckLock(path, c.now...))
				return
			}
			require.ErrorIs(t, err, ErrIncompatible)
			require.NotErrorIs(t, err, ErrLockOutdated)
			require.ErrorIs(t, checkLock(path, true, c.now), ErrIncompatible, "an update does not hide it")
			require.ErrorIs(t, CheckLock(path, c.now...), ErrIncompatible)
			require.Contains(t, readLock(t, path), "state done\n", "what is gone goes by hand")
		})
	}
}

// A change of a version that nobody runs is written after its section was deleted.
func TestSectionIsDeletedByHand(t *testing.T) {
	t.Parallel()
	path := lockOf(t, trip, tour)
	changed := Linear("trip", undoable("fly"))
	require.ErrorIs(t, checkLock(path, true, []AnyDefinition{changed, tour}), ErrIncompatible)
	text := readLock(t, path)
	begin := strings.Index(text, "definition trip")
	require.NoError(t, os.WriteFile(path, []byte(text[:begin]), 0o600))
	require.NoError(t, checkLock(path, true, []AnyDefinition{changed, tour}))
	require.NoError(t, CheckLock(path, changed, tour))
}

// Not parallel: it sets the environment.
func TestLockIsUpdatedWhenTheEnvironmentSaysSo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "trip.lock")
	for _, no := range []string{"", "0", "perhaps"} {
		t.Setenv("SAGAMILL_UPDATE_LOCK", no)
		err := CheckLock(path, trip)
		require.ErrorIs(t, err, ErrLockOutdated)
		require.ErrorContains(t, err, "SAGAMILL_UPDATE_LOCK=1")
		require.NoFileExists(t, path)
	}
	t.Setenv("SAGAMILL_UPDATE_LOCK", "1")
	require.NoError(t, CheckLock(path, trip))
	t.Setenv("SAGAMILL_UPDATE_LOCK", "")
	require.NoError(t, CheckLock(path, trip))
}

func TestLockOfWhatCannotBeLocked(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "some.lock")
	var faults *DefinitionError
	require.ErrorAs(t, checkLock(path, true, []AnyDefinition{trip, Linear[int]("none")}), &faults)
	require.ErrorIs(t, checkLock(path, true, []AnyDefinition{trip, nil}), ErrInvalid)
	require.ErrorIs(t, checkLock(path, true, []AnyDefinition{trip, trip}), ErrInvalid)
	require.ErrorIs(t, checkLock(path, true, nil), ErrInvalid)
	require.NoFileExists(t, path)
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	require.Error(t, checkLock(filepath.Join(path, "below", "a.lock"), true, []AnyDefinition{trip}), "a file is no folder")
	require.Error(t, CheckLock(t.TempDir(), trip), "a directory")
}

func TestMalformedLockFiles(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ text, tells string }{
		"a name above":       {"# x\n\n  state a\n", `line 3: "state a" stands above the first definition`},
		"another form":       {"definition a\n", `line 1: "definition a" is neither`},
		"a merge":            {"definition a version 1\n  state a\n<<<<<<< HEAD\n  state b\n", `line 3: "<<<<<<< HEAD" is neither an indented name nor of the form: definition NAME version NUMBER (after a merge`},
		"no number":          {"definition a version one\n", `line 1: the version is "one"`},
		"version 0":          {"definition a version 0\n", `line 1: the version is "0"`},
		"too large a number": {"definition a version 99999999999999999999\n", "line 1: the version is"},
		"two sections":       {"definition a version 1\ndefinition a version 1\n", "line 2: definition a version 1 has a section above"},
		"twice":              {"definition a version 1\n  state a\n  state a\n", `line 3: "state a" stands in its section twice`},
		"nothing known":      {"definition a version 1\n  guard a\n", `line 2: "guard a" is no state, row, step or event`},
		"a broken quote":     {"definition a version 1\n  \"state a\n", `line 2: "state a is not quoted`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "some.lock")
			require.NoError(t, os.WriteFile(path, []byte(c.text), 0o600))
			for _, update := range []bool{false, true} {
				err := checkLock(path, update, []AnyDefinition{trip})
				require.ErrorIs(t, err, ErrInvalid)
				require.ErrorContains(t, err, "some.lock, "+c.tells)
				require.Equal(t, c.text, readLock(t, path))
			}
		})
	}
}

// States, groups and guards may be named as their users like, and files be checked out on Windows.
func TestLockOfOddNames(t *testing.T) {
	t.Parallel()
	guard := When("a\nb \"c\"", func(int) bool { return true })
	d := Define(chore(
		choreRow{From: "new", After: 1, If: guard, To: "Größe # 1, running"}, choreRow{From: "Größe # 1, running", On: "go", To: "late\t"},
		choreRow{From: "late\t", On: "go", To: "done"},
	))
	require.NoError(t, d.Validate())
	path := lockOf(t, d)
	text := readLock(t, path)
	require.Contains(t, text, "  state Größe # 1, running\n")
	require.Contains(t, text, `  "state late\t"`+"\n")
	require.Contains(t, text, `  "row new/after->Größe # 1, running[a\nb \"c\"] to Größe # 1, running"`+"\n")
	require.NoError(t, os.WriteFile(path, []byte(strings.ReplaceAll(text, "\n", "\r\n")), 0o600))
	require.NoError(t, CheckLock(path, d))
}

// Only a row may grow at its end: a state's name that another one begins with is another state.
func TestGone(t *testing.T) {
	t.Parallel()
	require.Equal(t, []string{"state a", "row x to a"}, gone(
		[]string{"state a", "row x to a", "row x running a", "event e"},
		[]string{"state a, b", "row x to a, b", "row x running a, b", "event e", "event f"}))
	require.Equal(t, []string{"row x running a"}, gone([]string{"row x running a"}, []string{"row x running a & b"}))
}

func FuzzLockFile(f *testing.F) {
	shapes := lockedShapes{}
	for name, d := range scripted {
		shapes[DefinitionVersion{name, 1}] = d.compiled().names()
	}
	f.Add(shapes.String())
	f.Add("definition a version 1\n  state a\r\n\t\"state \\n\"\n")
	f.Add("definition a version 2\n<<<<<<< HEAD\n  row b to \xff\n")
	f.Add("  state\n")
	f.Fuzz(func(t *testing.T, text string) {
		locked, err := parseLock("a.lock", text)
		if err != nil {
			require.ErrorIs(t, err, ErrInvalid)
			require.ErrorContains(t, err, "a.lock, line ")
			return
		}
		again, err := parseLock("a.lock", locked.String())
		require.NoError(t, err, "what is written can be read")
		require.Equal(t, locked, again)
	})
}
