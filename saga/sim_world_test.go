package saga_test

import (
	"context"
	"fmt"

	"github.com/sagamill/sagamill/compensation"
	"github.com/sagamill/sagamill/saga"
)

// simWorld is everybody outside. It remembers each effect under its key.
type simWorld struct {
	sim     *sim
	applied map[string]int    // effects, and how often they were applied
	undone  map[string]int    // and undone
	refused map[string]bool   // local pivots that an attempt was told "no" of
	heard   map[string]int    // events, by their identity
	answers map[string]string // of participants, by effect
}

func newSimWorld(s *sim) *simWorld {
	return &simWorld{sim: s, applied: map[string]int{}, undone: map[string]int{}, refused: map[string]bool{}, heard: map[string]int{}, answers: map[string]string{}}
}

// local applies or undoes a local step's effect. The world outside knows its key, and does it once. A zombie it turns away if
// the effect was undone, or refused to another attempt.
func (w *simWorld) local(info saga.StepInfo, zombie bool) (accepted bool) {
	w.begun(info)
	key, count := info.ActionKey, w.counts(info)
	switch {
	case !info.Undo && zombie && (w.undone[key] > 0 || w.refused[key]):
		w.sim.note("effect: %s comes too late", key)
		return false
	case !info.Undo && w.undone[key] > 0:
		w.sim.violated("I4", "%s takes effect after it was undone", key)
	}
	w.sim.note("effect: %s (undo %t)", key, info.Undo)
	count[key] = 1
	return true
}

// handled applies or undoes a command's effect, in a transaction. The barrier sees to it that it is done once, and knows what
// was undone.
func (w *simWorld) handled(info saga.StepInfo) (takeBack func()) {
	w.begun(info)
	key, count := info.ActionKey, w.counts(info)
	switch {
	case count[key] > 0:
		w.sim.violated("I5", "%s (undo %t) is handled twice", key, info.Undo)
	case info.Undo && w.applied[key] == 0:
		w.sim.violated("I5", "the compensation of %s is handled, whose action never came", key)
	case !info.Undo && w.undone[key] > 0:
		w.sim.violated("I5", "%s is handled after it was undone", key)
	}
	w.sim.note("effect: %s (undo %t)", key, info.Undo)
	count[key]++
	return func() { count[key]-- }
}

func (w *simWorld) counts(info saga.StepInfo) map[string]int {
	if info.Undo {
		return w.undone
	}
	return w.applied
}

// begun checks that the saga has committed to an effect before it comes, and undoes nothing before what was started later.
func (w *simWorld) begun(info saga.StepInfo) {
	i, why := w.uncommitted(info.Instance, info.ActionKey, info.Undo)
	if why != "" {
		w.sim.violated("I1", "%s (undo %t) takes effect, but %s", info.ActionKey, info.Undo, why)
		return
	}
	if !info.Undo || w.sim.commits.skipped[info.Instance] {
		return
	}
	order := compensation.Ledger(i.Steps).Find(info.Step, info.Run).Order
	for _, e := range i.Steps {
		key := effectKey(i, e)
		if e.Order > order && e.Undoable && (e.MayExist() || w.applied[key] > w.undone[key]) {
			w.sim.violated("I4", "%s is undone before %s, which was started after it, and is %s", info.ActionKey, key, e.Status)
		}
	}
}

// uncommitted tells why an effect, or a message that asks for it, must not be: no commit says that it has begun.
func (w *simWorld) uncommitted(instance, key string, undo bool) (i saga.Instance, why string) {
	records, err := w.sim.store.Load(context.Background(), instance)
	if err != nil || len(records) != 1 {
		return i, fmt.Sprintf("the store has no instance %s", instance)
	}
	if i, err = saga.ReadInstance(records[0]); err != nil {
		return i, err.Error()
	}
	for _, e := range i.Steps {
		if effectKey(i, e) == key {
			if undo && e.Undos == 0 {
				return i, "no commit has begun its compensation"
			}
			return i, ""
		}
	}
	return i, "no commit has begun it"
}

// effectKey names the effect of a ledger's entry, as the world outside knows it.
func effectKey(i saga.Instance, e compensation.Entry) string {
	if e.Key != "" {
		return i.Definition + "/" + e.Step + "/" + e.Key
	}
	return fmt.Sprintf("%s/%s/%d", i.ID, e.Step, e.Run)
}
