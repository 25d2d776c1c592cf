package compensation_test

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	. "github.com/sagamill/sagamill/compensation"
)

// model is the ledger's meaning, written down naively: what exists in the world, in order of start.
type model struct {
	effects []effect
	undone  []int // orders, as the undos began
}

type effect struct {
	entry  int // index into the ledger
	order  int
	exists bool // for certain, or perhaps
	doomed bool // it must not stay
}

// TestLedgerAgainstModel begins steps, answers them in any way, condemns them at some moment, and undoes what the ledger says,
// until nothing is left to be done.
func TestLedgerAgainstModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		var l Ledger
		var m model
		for range rapid.IntRange(1, 6).Draw(rt, "groups") {
			order := l.NextOrder()
			for range rapid.IntRange(1, 3).Draw(rt, "siblings") {
				undoable := rapid.Bool().Draw(rt, "undoable")
				l.Begin(Entry{Step: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(rt, "step"), Order: order, Undoable: undoable})
				m.effects = append(m.effects, effect{entry: len(l) - 1, order: order, exists: undoable})
			}
		}
		for i := range m.effects {
			answer(rt, &l[i], &m.effects[i])
		}
		if rapid.Bool().Draw(rt, "fails") {
			l.Condemn()
			for i := range m.effects {
				m.effects[i].doomed = true
			}
		}
		undoAll(rt, l, &m)
		for _, e := range m.effects {
			if e.exists && e.doomed {
				rt.Fatalf("the effect of %v stays", l[e.entry])
			}
		}
		if l.Compensating() || !slices.IsSortedFunc(m.undone, func(a, b int) int { return b - a }) {
			rt.Fatalf("undone in the order %v, compensating %v", m.undone, l.Compensating())
		}
	})
}

// answer lets a step succeed, be rejected, be given up, and perhaps succeed after that.
func answer(rt *rapid.T, e *Entry, m *effect) {
	switch rapid.IntRange(0, 4).Draw(rt, "answer") {
	case 0:
		e.Succeed()
	case 1:
		e.Reject("no")
		m.exists = false
	case 2:
		e.Doubt()
		m.doomed = true
	case 3:
		e.Doubt()
		e.Reject("no")
		m.exists, m.doomed = false, false
	case 4:
		e.Reject("no")
		e.Succeed()
		m.doomed = true
	}
}

// undoAll undoes what is next, in any order among those that are next at one time, until nothing is.
func undoAll(rt *rapid.T, l Ledger, m *model) {
	var undoing []*Entry
	for {
		for _, e := range l.Next() {
			for _, o := range m.effects {
				if o.exists && o.doomed && o.order > e.Order {
					rt.Fatalf("%v is undone before order %d", e, o.order)
				}
			}
			e.BeginUndo()
			m.undone = append(m.undone, e.Order)
			undoing = append(undoing, e)
		}
		if len(undoing) == 0 {
			return
		}
		i := rapid.IntRange(0, len(undoing)-1).Draw(rt, "done")
		e := undoing[i]
		undoing = slices.Delete(undoing, i, i+1)
		if !l.Compensating() || !l.Open() {
			rt.Fatalf("%v is being undone, and the ledger does not say so", e)
		}
		if e.Succeed(); e.Status != Undoing {
			rt.Fatalf("a late success changed %v", e)
		}
		if !e.Undo() || e.Undo() {
			rt.Fatalf("%v is not undone once", e)
		}
		for k := range m.effects {
			if &l[m.effects[k].entry] == e {
				if !m.effects[k].exists || !m.effects[k].doomed {
					rt.Fatalf("%v is undone for no reason", e)
				}
				m.effects[k].exists = false
			}
		}
	}
}
