package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sagamill/sagamill/saga"
)

// writeBatch writes the nth commit of some sagas in one transaction, by hand.
type writeBatch func(ctx context.Context, batch []saga.Transition) error

// floor is what is written for a saga, and by what.
type floor struct {
	template []saga.Transition
	write    writeBatch
}

// byStore is the floor that has the store write its batches: what is missing to the engine's figures then is the engine's own.
func (f floor) byStore(store saga.Store) *floor {
	f.write = func(ctx context.Context, batch []saga.Transition) error {
		verdicts, err := store.Commit(ctx, batch)
		for _, v := range verdicts {
			if v.Outcome != saga.Committed && err == nil {
				err = fmt.Errorf("a transition is %s", v.Outcome)
			}
		}
		return err
	}
	return &f
}

// sagas makes the commits of some sagas beforehand: [commit][saga].
func (f floor) sagas(n int) [][]saga.Transition {
	all := make([][]saga.Transition, len(f.template))
	for c, t := range f.template {
		all[c] = make([]saga.Transition, n)
		for k := range all[c] {
			all[c][k] = t
		}
	}
	for k := range n {
		number := keys.Add(1)
		id := newID(f.template[0].ID, number)
		start := *f.template[0].Start
		start.Key = newKey(number)
		for c := range all {
			t := &all[c][k]
			t.ID = id
			if t.Start != nil {
				t.Start = &start
			}
			t.Engine = renamed(t.Engine, f.template[0].ID, id)
		}
	}
	return all
}

// runFloor measures a round of the floor.
func runFloor(ctx context.Context, db *database, fl *floor, o options) (f figures, err error) {
	if err := db.empty(ctx); err != nil {
		return f, err
	}
	batches := make([][][]saga.Transition, (o.sagas+o.batch-1)/o.batch)
	for k := range batches {
		batches[k] = fl.sagas(min(o.batch, o.sagas-k*o.batch))
	}
	took := make([]time.Duration, len(batches))
	err = f.measure(ctx, db, o.sagas, func() error {
		var next atomic.Int64
		var all sync.WaitGroup
		errs := make(chan error, o.writers)
		for range o.writers {
			all.Go(func() {
				for k := next.Add(1) - 1; int(k) < len(batches); k = next.Add(1) - 1 {
					began := time.Now()
					if err := fl.writeAll(ctx, batches[k]); err != nil {
						errs <- err
						return
					}
					took[k] = time.Since(began)
				}
			})
		}
		all.Wait()
		close(errs)
		return <-errs
	})
	f.Saturated = latencyOf(took) // a saga takes as long as its batch
	return f, err
}

// writeAll takes some sagas from their start to their end, all of them in step.
func (f *floor) writeAll(ctx context.Context, commits [][]saga.Transition) error {
	for n, batch := range commits {
		if err := f.write(ctx, batch); err != nil {
			return fmt.Errorf("commit %d: %w", n+1, err)
		}
	}
	return nil
}
