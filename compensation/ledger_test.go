package compensation_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	. "github.com/sagamill/sagamill/compensation"
)

// verbs are what may happen to an entry.
var verbs = map[string]func(*Entry){
	"succeed": func(e *Entry) { e.Succeed() },
	"reject":  func(e *Entry) { e.Reject("no") },
	"doubt":   func(e *Entry) { e.Doubt() },
	"skip":    func(e *Entry) { e.Skip("so") },
	"undo":    func(e *Entry) { e.Undo() },
}

// What each status becomes by each verb; what is missing stays as it is. "!" means that the effect is condemned then.
func TestEntryBecomes(t *testing.T) {
	t.Parallel()
	becomes := map[Status]map[string]string{
		Sent:      {"succeed": "succeeded", "reject": "rejected", "doubt": "unknown!", "skip": "skipped"},
		Succeeded: {},
		Rejected:  {"succeed": "succeeded!"},
		Unknown:   {"succeed": "succeeded!", "reject": "rejected", "skip": "skipped"},
		Undoing:   {"skip": "skipped", "undo": "undone"},
		Undone:    {},
		Skipped:   {"succeed": "succeeded!"},
	}
	for status, by := range becomes {
		for verb, apply := range verbs {
			e := Entry{Step: "s", Status: status, Condemned: status == Unknown || status == Undoing || status == Undone, Stuck: true}
			before := e
			apply(&e)
			want, changes := by[verb]
			if !changes {
				require.Empty(t, cmp.Diff(before, e), "%s by %s", status, verb)
				continue
			}
			got := string(e.Status)
			if e.Condemned && e.Status != Undone {
				got += "!"
			}
			require.Equal(t, want, got, "%s by %s", status, verb)
			require.False(t, e.Stuck, "%s by %s", status, verb)
		}
	}
}

func TestSucceedTellsWhetherItIsLate(t *testing.T) {
	t.Parallel()
	for _, s := range []Status{Succeeded, Rejected, Unknown, Undoing, Undone, Skipped} {
		require.True(t, (&Entry{Status: s}).Succeed(), s)
	}
	require.False(t, (&Entry{Status: Sent}).Succeed())
}

func TestReasonsAreOfTheLastFailure(t *testing.T) {
	t.Parallel()
	e := Entry{Status: Sent, Reason: "503"}
	e.Succeed()
	require.Empty(t, e.Reason)
	e = Entry{Status: Sent}
	require.True(t, e.Reject("sold out"))
	require.False(t, e.Reject("again"))
	require.Equal(t, "sold out", e.Reason)
	e = Entry{Status: Undoing, Reason: "503"}
	require.True(t, e.Undo())
	require.False(t, e.Undo(), "undone before")
	require.Equal(t, "503", e.Reason, "why it came to that is worth keeping")
	e = Entry{Status: Undoing}
	require.True(t, e.Skip("by hand"))
	require.False(t, e.Skip("again"))
	require.Equal(t, "by hand", e.Reason)
	e.Stuck = true
	e.BeginUndo()
	require.Equal(t, Entry{Status: Undoing, Undos: 1, Reason: "by hand"}, e)
}

func TestMayExist(t *testing.T) {
	t.Parallel()
	for s, want := range map[Status]bool{
		Never: false, Sent: true, Succeeded: true, Rejected: false, Unknown: true, Undoing: true, Undone: false, Skipped: false,
	} {
		require.Equal(t, want, (&Entry{Status: s}).MayExist(), "%q", s)
		require.Equal(t, s == Sent || s == Undoing, (&Entry{Status: s}).InFlight(), "%q", s)
	}
}

// A run counts the entries of a step, whatever else is between them.
func TestBeginCountsRuns(t *testing.T) {
	t.Parallel()
	var l Ledger
	require.Nil(t, l.Latest("a"))
	require.Equal(t, 1, l.NextOrder())
	l.Begin(Entry{Step: "a", Order: 1, Attempts: 7})
	l.Begin(Entry{Step: "b", Order: l.NextOrder()})
	e := l.Begin(Entry{Step: "a", Order: l.NextOrder(), Class: Retriable, Key: "k", Undoable: true})
	require.Equal(t, Entry{Step: "a", Run: 2, Order: 3, Status: Sent, Attempts: 1, Class: Retriable, Key: "k", Undoable: true}, *e)
	require.Same(t, e, l.Latest("a"))
	require.Same(t, e, l.Find("a", 2))
	require.Equal(t, 1, l.Find("a", 1).Attempts)
	require.Nil(t, l.Find("a", 3))
}

// Steps are undone in reverse order of their start, those that ran in parallel in parallel, and none before what was started
// after it is at rest.
func TestNext(t *testing.T) {
	t.Parallel()
	entry := func(step string, order int, s Status) Entry {
		return Entry{Step: step, Run: 1, Order: order, Status: s, Undoable: true, Condemned: true}
	}
	kept := entry("kept", 3, Succeeded)
	kept.Condemned = false
	harmless := entry("harmless", 3, Succeeded)
	harmless.Undoable = false
	for _, c := range []struct {
		name   string
		ledger Ledger
		want   []string
	}{
		{"nothing", nil, nil},
		{"the last one first", Ledger{entry("a", 1, Succeeded), entry("b", 2, Unknown)}, []string{"b"}},
		{"in parallel", Ledger{entry("a", 1, Succeeded), entry("b", 2, Succeeded), entry("c", 2, Unknown)}, []string{"b", "c"}},
		{"beside one that is being undone", Ledger{entry("a", 1, Succeeded), entry("b", 2, Succeeded), entry("c", 2, Undoing)}, []string{"b"}},
		{"not before a later one is undone", Ledger{entry("a", 1, Succeeded), entry("b", 2, Undoing)}, nil},
		{"not before a later one is known", Ledger{entry("a", 1, Succeeded), entry("b", 2, Sent)}, nil},
		{"after the later one is undone", Ledger{entry("a", 1, Succeeded), entry("b", 2, Undone)}, []string{"a"}},
		{"past what has no effect", Ledger{entry("a", 1, Succeeded), entry("b", 2, Rejected), entry("c", 3, Skipped)}, []string{"a"}},
		{"past what may stay", Ledger{entry("a", 1, Succeeded), kept, harmless}, []string{"a"}},
	} {
		var got []string
		for _, e := range c.ledger.Next() {
			got = append(got, e.Step)
		}
		require.Equal(t, c.want, got, c.name)
	}
}

// A pivot decides, and is never condemned.
func TestCondemn(t *testing.T) {
	t.Parallel()
	var l Ledger
	for _, s := range []Status{Sent, Succeeded, Rejected, Unknown, Undoing, Undone, Skipped} {
		for _, c := range []Class{Compensatable, Pivot, Retriable} {
			l = append(l, Entry{Step: string(s) + string(c), Class: c, Status: s})
		}
	}
	l.Condemn()
	var condemned []string
	for _, e := range l {
		if e.Condemned {
			condemned = append(condemned, e.Step)
		}
	}
	require.Equal(t, []string{
		"sent", "sentretriable", "succeeded", "succeededretriable", "unknown", "unknownretriable", "undoing", "undoingretriable",
	}, condemned)
}

func TestPivotPassed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		entry Entry
		want  bool
	}{
		{"in doubt", Entry{Class: Pivot, Status: Sent}, false},
		{"succeeded", Entry{Class: Pivot, Status: Succeeded}, true},
		{"rejected", Entry{Class: Pivot, Status: Rejected}, false},
		{"succeeded after the saga went on without it", Entry{Class: Pivot, Status: Succeeded, Condemned: true}, false},
		{"no pivot", Entry{Status: Succeeded}, false},
	} {
		require.Equal(t, c.want, Ledger{c.entry}.PivotPassed(), c.name)
	}
}

func TestWouldUndo(t *testing.T) {
	t.Parallel()
	l := Ledger{
		{Step: "a", Order: 1, Status: Succeeded, Undoable: true},
		{Step: "b", Order: 2, Status: Succeeded, Undoable: true},
		{Step: "c", Order: 2, Status: Sent, Undoable: true},
		{Step: "d", Order: 3, Status: Succeeded},
		{Step: "e", Order: 4, Status: Undone, Undoable: true},
		{Step: "p", Order: 5, Status: Sent, Class: Pivot},
	}
	require.Equal(t, [][]string{{"b", "c"}, {"a"}}, l.WouldUndo())
	l[5].Succeed()
	require.Empty(t, l.WouldUndo(), "after the pivot nothing is undone")
}

// An operator who skips the pivot sends the saga forward: nothing is undone any more.
func TestSkippedPivotIsPassed(t *testing.T) {
	t.Parallel()
	l := Ledger{{Step: "pay", Class: Pivot, Status: Skipped}}
	require.True(t, l.PivotPassed())
}
