package saga

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// Retention says what Clean removes, and how gently.
type Retention struct {
	// KeepFor is how long a settled instance is kept after its last transition. It must be longer than a broker may take to
	// deliver a message again, and than anybody may take to start the same saga once more: when an instance is removed its
	// business key is free, and what comes for it is a dead letter.
	KeepFor time.Duration
	// Definition limits it to the instances of one; empty: all.
	Definition string
	// KeepLetters is how long dead letters are kept. Zero: until they are removed by hand.
	KeepLetters time.Duration
	// Archive gets what is about to be removed. If it returns an error nothing of that is, and Clean ends. What it has got may
	// come again, if the process dies in between. Nil: nothing is archived.
	Archive func(ctx context.Context, instances []Archived) error
	// Batch is how many instances are removed in one transaction. Default 100.
	Batch int
	// Pause is how long Clean waits between two batches, so that others have the database meanwhile. Default 20ms.
	Pause time.Duration
}

// Archived is all that is known of an instance. Its JSON is what the store keeps: the history's entries as they are.
type Archived struct {
	Instance
	History []json.RawMessage
}

// Clean removes settled instances, the longest started first, with their history and their start keys, and returns how many; then dead
// letters that are old, which it does not count. An instance stays that a person should look at, and one whose start key is still kept
// (RequestKey.TTL). It ends when none is left that may go; call it now and then. Several processes may do that at once. When ctx is done
// it returns how far it came.
func Clean(ctx context.Context, store Store, r Retention) (removed int, err error) {
	if store == nil {
		return 0, fmt.Errorf("%w: the store is nil", ErrInvalid)
	}
	if r.KeepFor <= 0 || r.KeepLetters < 0 || r.Batch < 0 || r.Pause < 0 {
		return 0, fmt.Errorf("%w: KeepFor (%s) must be positive, KeepLetters (%s), Batch (%d) and Pause (%s) not negative",
			ErrInvalid, r.KeepFor, r.KeepLetters, r.Batch, r.Pause)
	}
	if r.Batch == 0 {
		r.Batch = 100
	}
	if r.Pause == 0 {
		r.Pause = 20 * time.Millisecond
	}
	removed, err = r.cleanInstances(ctx, store)
	if err == nil && r.KeepLetters > 0 {
		err = r.cleanLetters(ctx, store)
	}
	return removed, err
}

func (r *Retention) cleanLetters(ctx context.Context, store Store) error {
	for {
		n, err := store.Unbury(ctx, Unburial{OlderThan: r.KeepLetters, Limit: r.Batch})
		if err != nil || n < r.Batch {
			return wrap(err, "saga: clean dead letters")
		}
		if !pause(ctx, r.Pause) {
			return context.Cause(ctx)
		}
	}
}

func (r *Retention) cleanInstances(ctx context.Context, store Store) (removed int, err error) {
	query := Query{Definition: r.Definition, Settled: true, IdleFor: r.KeepFor, Limit: r.Batch}
	for {
		records, err := store.List(ctx, query)
		if err != nil || len(records) == 0 {
			return removed, wrap(err, "saga: clean")
		}
		last := len(records) < r.Batch
		query.After = records[len(records)-1].ID
		records = slices.DeleteFunc(records, func(i Record) bool { return i.Attention != "" })
		if r.Archive != nil && len(records) > 0 {
			if err := archive(ctx, store, records, r.Archive); err != nil {
				return removed, fmt.Errorf("saga: clean: archive: %w", err)
			}
		}
		deletions := make([]Deletion, len(records))
		for k := range records {
			deletions[k] = Deletion{records[k].ID, records[k].Revision}
		}
		gone, err := store.Delete(ctx, deletions)
		removed += len(gone)
		if err != nil {
			return removed, fmt.Errorf("saga: clean: %w", err)
		}
		if last {
			return removed, nil
		}
		if !pause(ctx, r.Pause) {
			return removed, context.Cause(ctx)
		}
	}
}

func wrap(err error, what string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

func archive(ctx context.Context, store Store, records []Record, put func(context.Context, []Archived) error) error {
	all := make([]Archived, len(records))
	for k, r := range records {
		i, err := viewOf(fromRecord(r))
		if err != nil {
			return err
		}
		all[k].Instance = i
		for after := uint64(0); after < r.Revision; {
			page, err := store.History(ctx, r.ID, after, 0)
			if err != nil {
				return err
			}
			if len(page) == 0 {
				break
			}
			for _, h := range page {
				all[k].History = append(all[k].History, h.Entry)
			}
			after = page[len(page)-1].Revision
		}
	}
	return put(ctx, all)
}
