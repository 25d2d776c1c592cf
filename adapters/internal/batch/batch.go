// Package batch holds what every store has to check before it writes transitions, whatever its database.
package batch

import (
	"errors"
	"fmt"
	"slices"

	"github.com/sagamill/sagamill/saga"
)

// DefaultLimit is how many records a page has whose limit is not given.
const DefaultLimit = 100

// Limit returns limit, or the default if it is none.
func Limit(limit int) int {
	if limit <= 0 {
		return DefaultLimit
	}
	return limit
}

// Check returns an error if the transitions are no batch: not sorted by ID, or two of one instance. It is a mistake of the
// caller, and nothing is written.
func Check(transitions []saga.Transition) error {
	for i := 1; i < len(transitions); i++ {
		if before, id := transitions[i-1].ID, transitions[i].ID; before >= id {
			return fmt.Errorf("transition of %q after that of %q: a batch is sorted by ID, with one transition of an instance", id, before)
		}
	}
	return nil
}

// CheckTransition returns an error if t contradicts itself, so that no store should write it.
func CheckTransition(t *saga.Transition) error {
	switch {
	case t.ID == "":
		return errors.New("transition without an instance ID")
	case (t.Expect == 0) != (t.Start != nil):
		return fmt.Errorf("transition of %q from revision %d: Start is set exactly for a new instance", t.ID, t.Expect)
	case len(t.History) == 0:
		return fmt.Errorf("transition of %q without history", t.ID)
	}
	for i, h := range t.History {
		if want := t.Expect + uint64(i) + 1; h.Revision != want {
			return fmt.Errorf("transition of %q: history record %d has revision %d instead of %d", t.ID, i, h.Revision, want)
		}
	}
	return nil
}

// Repeated returns the inputs that t itself brings more than once, each named once.
func Repeated(t *saga.Transition) []string {
	var repeated []string
	for i, h := range t.History {
		if h.Input == "" {
			continue
		}
		same := func(o saga.HistoryRecord) bool { return o.Input == h.Input }
		if slices.ContainsFunc(t.History[:i], same) && !slices.Contains(repeated, h.Input) {
			repeated = append(repeated, h.Input)
		}
	}
	return repeated
}
