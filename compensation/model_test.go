package compensation_test

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	. "github.com/sagamill/sagamill/compensation"
)

// The books are a second ledger, written from the manual and not from the first one's code. It has no statuses: of each step it
// keeps what there is in the world (exists), whom one waits for (awaits) and whether it is to go (doomed). What is to be undone
// is found by asking of each step whether anything that was started later is at rest.

type books []*effectBook

type effectBook struct {
	step     string
	run      int
	order    int
	pivot    bool
	undoable bool

	exists  string // yes, perhaps, no
	awaits  string // the action, the undo, or nobody: ""
	doomed  bool
	undone  bool
	skipped bool
	stuck   bool
}

func (b *effectBook) name() string { return fmt.Sprint(b.step, b.run) }

// done: the action took effect. It answers whether that comes late.
func (b *effectBook) done() bool {
	switch {
	case b.awaits == "action":
		b.exists, b.awaits, b.stuck = "yes", "", false
		return false
	case b.exists == "yes", b.awaits == "undo", b.undone: // known, or dealt with
	default: // the saga went on without it; but who skips a pivot goes on as if it had succeeded
		b.exists, b.stuck = "yes", false
		b.doomed = !b.pivot || !b.skipped
	}
	return true
}

// refused: the action did not, and will not, take effect. It answers whether that is news.
func (b *effectBook) refused() bool {
	if b.exists != "perhaps" || b.awaits == "undo" {
		return false
	}
	b.exists, b.awaits, b.doomed, b.stuck = "no", "", false, false
	return true
}

// forgotten: the action is waited for no longer.
func (b *effectBook) forgotten() {
	if b.awaits == "action" {
		b.awaits, b.doomed, b.stuck = "", true, false
	}
}

// passedOver: an operator says that the action, or its undo, need not be waited for.
func (b *effectBook) passedOver() bool {
	if b.awaits == "" && b.exists != "perhaps" {
		return false
	}
	b.exists, b.awaits, b.doomed, b.skipped, b.stuck = "no", "", false, true, false
	return true
}

func (b *effectBook) takenBack() bool {
	if b.awaits != "undo" {
		return false
	}
	b.exists, b.awaits, b.undone, b.stuck = "no", "", true, false
	return true
}

func (b *effectBook) toUndo() bool {
	return b.doomed && b.undoable && b.exists != "no" && b.awaits == ""
}

func (b *effectBook) restless() bool {
	return b.toUndo() || b.awaits == "undo" || b.awaits == "action" && b.doomed
}

// next: what nothing restless was started after. Siblings do not wait for each other.
func (all books) next() (next []string) {
	for _, b := range all {
		later := func(o *effectBook) bool { return o.order > b.order && o.restless() }
		if b.toUndo() && !slices.ContainsFunc(all, later) {
			next = append(next, b.name())
		}
	}
	return next
}

func (all books) any(is func(*effectBook) bool) bool { return slices.ContainsFunc(all, is) }

func (all books) pivotPassed() bool {
	return all.any(func(b *effectBook) bool { return b.pivot && (b.exists == "yes" && !b.doomed || b.skipped) })
}

// wouldUndo: from the last order down to the first, what exists or may exist and can be undone.
func (all books) wouldUndo() (undo [][]string) {
	if all.pivotPassed() {
		return nil
	}
	for order := len(all); order > 0; order-- {
		var together []string
		for _, b := range all {
			if b.order == order && b.undoable && b.exists != "no" {
				together = append(together, b.step)
			}
		}
		if len(together) > 0 {
			undo = append(undo, together)
		}
	}
	return undo
}

// twoBooks are the ledger and the books, to which the same happens.
type twoBooks struct {
	*rapid.T
	ledger Ledger
	books  books
	orders int
}

// TestLedgerAgainstTheBooks lets anything happen to steps at any time: late answers, doubts, operators, a compensation, steps that
// begin while others are being undone.
func TestLedgerAgainstTheBooks(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		two := &twoBooks{T: rt}
		for range rapid.IntRange(1, 60).Draw(rt, "happenings") {
			two.happen()
			two.compare()
		}
		two.undoAll()
	})
}

func (two *twoBooks) happen() {
	what := rapid.SampledFrom([]string{
		"begin", "begin", "sibling", "done", "done", "refused", "forgotten", "passed over", "undo", "taken back", "taken back", "condemn", "stuck",
	}).Draw(two.T, "what")
	if len(two.books) == 0 {
		what = "begin"
	}
	switch what {
	case "begin":
		two.orders++
		two.begin()
	case "sibling":
		two.begin()
	case "condemn":
		two.condemn()
	case "undo":
		two.undo()
	default:
		two.answer(what, rapid.IntRange(0, len(two.books)-1).Draw(two.T, "step"))
	}
}

func (two *twoBooks) begin() {
	class := rapid.SampledFrom([]Class{Compensatable, Compensatable, Compensatable, Retriable, Pivot}).Draw(two.T, "class")
	b := &effectBook{order: two.orders, pivot: class == Pivot, exists: "perhaps", awaits: "action"}
	b.undoable = !b.pivot && rapid.IntRange(0, 3).Draw(two.T, "harmless") > 0
	b.step, b.run = rapid.SampledFrom([]string{"a", "b", "c"}).Draw(two.T, "name"), 1
	for _, o := range two.books {
		if o.step == b.step {
			b.run++
		}
	}
	two.books = append(two.books, b)
	if next := two.ledger.NextOrder(); b.order != next && b.order != next-1 {
		two.Fatalf("the next order is %d, and %d have begun", next, two.orders)
	}
	e := two.ledger.Begin(Entry{Step: b.step, Class: class, Order: b.order, Undoable: b.undoable})
	if e.Run != b.run || two.ledger.Latest(b.step) != e || two.ledger.Find(b.step, b.run) != e {
		two.Fatalf("%s is %v", b.name(), e)
	}
}

func (two *twoBooks) condemn() {
	two.ledger.Condemn()
	for _, b := range two.books {
		b.doomed = b.doomed || b.exists != "no" && !b.pivot
	}
}

// undo begins the undos whose turn it is; not always all of them.
func (two *twoBooks) undo() {
	for _, e := range two.ledger.Next() {
		if rapid.IntRange(0, 3).Draw(two.T, "held back") == 0 {
			continue
		}
		e.BeginUndo()
		for _, b := range two.books {
			if b.name() == nameOf(e) {
				b.awaits, b.stuck = "undo", false
			}
		}
	}
}

func (two *twoBooks) answer(what string, k int) {
	e, b := &two.ledger[k], two.books[k]
	var got, want bool
	switch what {
	case "done":
		got, want = e.Succeed(), b.done()
	case "refused":
		got, want = e.Reject("no"), b.refused()
	case "passed over":
		got, want = e.Skip("so"), b.passedOver()
	case "taken back":
		got, want = e.Undo(), b.takenBack()
	case "forgotten":
		e.Doubt()
		b.forgotten()
	case "stuck":
		if e.InFlight() {
			e.Stuck, b.stuck = true, true
		}
	}
	if got != want {
		two.Fatalf("%s is %s: answered %v", b.name(), what, got)
	}
}

func nameOf(e *Entry) string { return fmt.Sprint(e.Step, e.Run) }

func (two *twoBooks) compare() {
	var next []string
	for _, e := range two.ledger.Next() {
		next = append(next, nameOf(e))
	}
	two.same("next", two.books.next(), next)
	two.same("compensating", two.books.any(func(b *effectBook) bool { return b.awaits == "undo" || b.toUndo() }), two.ledger.Compensating())
	two.same("open", two.books.any(func(b *effectBook) bool { return b.awaits != "" || b.toUndo() }), two.ledger.Open())
	two.same("pivot passed", two.books.pivotPassed(), two.ledger.PivotPassed())
	two.same("would undo", two.books.wouldUndo(), two.ledger.WouldUndo())
	for k := range two.ledger {
		e, b := &two.ledger[k], two.books[k]
		two.same(b.name()+" in flight", b.awaits != "", e.InFlight())
		two.same(b.name()+" may exist", b.exists != "no", e.MayExist())
		two.same(b.name()+" condemned", b.doomed, e.Condemned)
		two.same(b.name()+" stuck", b.stuck, e.Stuck)
	}
}

func (two *twoBooks) same(what string, want, got any) {
	if fmt.Sprint(want) != fmt.Sprint(got) {
		two.Fatalf("%s: by the books %v, by the ledger %v: %+v", what, want, got, two.ledger)
	}
}

// undoAll lets nothing stay: every action is answered, or given up, and every undo succeeds. In the end there is left only what
// nobody can take back.
func (two *twoBooks) undoAll() {
	two.condemn()
	for k, b := range two.books {
		if b.awaits == "action" {
			two.answer(rapid.SampledFrom([]string{"done", "refused", "forgotten"}).Draw(two.T, "at last"), k)
		}
	}
	two.condemn()
	for range 2 * len(two.books) {
		two.compare()
		for _, e := range two.ledger.Next() {
			e.BeginUndo()
		}
		for k := range two.ledger {
			if e := &two.ledger[k]; e.Status == Undoing {
				two.books[k].awaits = "undo"
				two.answer("taken back", k)
			}
		}
	}
	two.compare()
	for _, b := range two.books {
		if b.exists != "no" && b.undoable {
			two.Fatalf("%s stays", b.name())
		}
	}
	if two.ledger.Open() {
		two.Fatalf("all is done, and the ledger is open: %+v", two.ledger)
	}
}
