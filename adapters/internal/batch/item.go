package batch

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/sagamill/sagamill/saga"
)

// Item is a transition on its way into a database, and the place for its verdict.
type Item struct {
	*saga.Transition
	Verdict *saga.Verdict
}

// Items returns those transitions that can be tried, and answers the others. check finds what this database cannot take; nil:
// nothing.
func Items(transitions []saga.Transition, verdicts []saga.Verdict, check func(*saga.Transition) error) []Item {
	items := make([]Item, 0, len(transitions))
	for i := range transitions {
		t := &transitions[i]
		err := CheckTransition(t)
		if err == nil && check != nil {
			err = check(t)
		}
		if err != nil {
			verdicts[i] = saga.Verdict{Outcome: saga.Unwritable, Err: err}
		} else if repeated := Repeated(t); repeated != nil {
			verdicts[i] = saga.Verdict{Outcome: saga.Duplicate, Duplicates: repeated}
		} else {
			items = append(items, Item{t, &verdicts[i]})
		}
	}
	return items
}

// IsStart tells whether the item is a new instance.
func (it Item) IsStart() bool { return it.Start != nil }

// Answer sets the verdict.
func (it Item) Answer(o saga.Outcome) { *it.Verdict = saga.Verdict{Outcome: o} }

// AnswerAll gives all items the same verdict.
func AnswerAll(items []Item, o saga.Outcome) {
	for _, it := range items {
		it.Answer(o)
	}
}

// Unanswered returns the items that have no verdict yet.
func Unanswered(items []Item) (open []Item) {
	for _, it := range items {
		if it.Verdict.Outcome == 0 {
			open = append(open, it)
		}
	}
	return open
}

// Split divides the items, in their order. If none is first, as mostly, it copies nothing: no is items itself.
func Split(items []Item, first func(Item) bool) (yes, no []Item) {
	if !slices.ContainsFunc(items, first) {
		return nil, items
	}
	no = make([]Item, 0, len(items))
	for _, it := range items {
		if first(it) {
			yes = append(yes, it)
		} else {
			no = append(no, it)
		}
	}
	return yes, no
}

// ByKey brings new instances into the order in which all batches take keys.
func ByKey(starts []Item) {
	slices.SortFunc(starts, func(a, b Item) int {
		return cmp.Or(strings.Compare(a.Start.Definition, b.Start.Definition), strings.Compare(a.Start.Key, b.Start.Key))
	})
}

// Keys are the names, besides its ID, that a new instance claims: its business key, and its start key if it has one.
func Keys(s *saga.Start) []string {
	names := []string{"k" + s.Definition + "\x00" + s.Key}
	if s.StartKey != nil {
		names = append(names, "s"+s.StartKey.Key)
	}
	return names
}

// WithoutNamesakes leaves out new instances that have a name of one before them.
func WithoutNamesakes(items []Item) []Item {
	seen := map[string]bool{}
	return slices.DeleteFunc(slices.Clone(items), func(it Item) bool {
		if !it.IsStart() {
			return false
		}
		names := Keys(it.Start)
		if slices.ContainsFunc(names, func(name string) bool { return seen[name] }) {
			return true
		}
		for _, name := range names {
			seen[name] = true
		}
		return false
	})
}

// Fitting returns how many of the items, at least one, have no more than so many bytes together.
func Fitting(items []Item, bytes int) int {
	size := 0
	for n, it := range items {
		size += Size(it.Transition)
		if size > bytes && n > 0 {
			return n
		}
	}
	return len(items)
}

// Size is about how many bytes t has.
func Size(t *saga.Transition) int {
	size := len(t.Engine) + len(t.Data)
	for i := range t.History {
		size += len(t.History[i].Entry)
	}
	if t.Start != nil {
		size += len(t.Start.Fingerprint)
		if t.Start.StartKey != nil {
			size += len(t.Start.StartKey.Response)
		}
	}
	return size
}

// Named begins the error of an Unwritable verdict with the name of the store.
func Named(store string, verdicts []saga.Verdict) {
	for i := range verdicts {
		if err := verdicts[i].Err; err != nil {
			verdicts[i].Err = fmt.Errorf("%s: %w", store, err)
		}
	}
}
