package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/metrics"
	"time"

	"github.com/sagamill/sagamill/saga"
)

// What instances cost that do nothing: sagas that wait for an event or a time-out, and those that a crash has left behind.

type (
	state string
	event string
)

// lull is a saga that waits: for a day, unless somebody comes.
var lull = saga.Define(saga.Spec[state, event, cargo]{
	Name: "lull", Initial: "WAITING", Succeeded: []state{"SERVED"}, Failed: []state{"LEFT"},
	Events:    []saga.Event[event, cargo]{{Name: "come"}},
	Otherwise: saga.Refuse,
	Table: saga.Table[state, event, cargo]{
		{From: "WAITING", On: "come", To: "SERVED"},
		{From: "WAITING", After: 24 * time.Hour, To: "LEFT"},
	},
})

// firstOf records the transition that starts a saga.
func firstOf(ctx context.Context, db *database, start func(context.Context, *saga.Orchestrator) error, d saga.AnyDefinition) (saga.Transition, error) {
	r := &recorder{Store: db.store, seen: map[string][]saga.Transition{}}
	err := orchestrate(ctx, r, []saga.AnyDefinition{d}, start)
	for _, all := range r.seen {
		return all[0], errors.Join(err, db.empty(ctx))
	}
	return saga.Transition{}, errors.Join(err, errors.New("nothing was recorded"))
}

// fill writes many instances that look as the template does.
func fill(ctx context.Context, db *database, template saga.Transition, n int) error {
	f := (&floor{template: []saga.Transition{template}}).byStore(db.store)
	for done := 0; done < n; {
		size := min(500, n-done)
		if err := f.writeAll(ctx, f.sagas(size)); err != nil {
			return err
		}
		if done += size; done%100_000 == 0 {
			fmt.Fprintf(os.Stderr, "%d of %d instances are there\n", done, n)
		}
	}
	return nil
}

// waitingResult is what a table full of waiting instances costs those that work.
type waitingResult struct {
	Instances int           `json:"instances"`
	Empty     float64       `json:"sagas_per_second_beside_none"`
	Full      float64       `json:"sagas_per_second_beside_all"`
	Ratio     float64       `json:"ratio"`
	Sweep     time.Duration `json:"sweep_ns"` // that finds nothing due
	Memory    uint64        `json:"peak_memory_bytes"`
}

func (r waitingResult) String() string {
	return fmt.Sprintf("%d waiting instances: %.0f sagas/s beside them, %.0f beside none (%.2fx); a sweep that finds nothing due takes %s; memory at most %d MB",
		r.Instances, r.Full, r.Empty, r.Ratio, r.Sweep.Round(10*time.Microsecond), r.Memory>>20)
}

// measureWaiting measures local steps beside waiting instances, and beside none, in turns.
func measureWaiting(ctx context.Context, o options) (r waitingResult, err error) {
	r.Instances = o.instances
	full, err := open(ctx, o.store)
	if err != nil {
		return r, err
	}
	defer full.close()
	empty, err := open(ctx, o.store)
	if err != nil {
		return r, err
	}
	defer empty.close()
	template, err := firstOf(ctx, full, func(ctx context.Context, e *saga.Orchestrator) error {
		_, err := lull.Start(ctx, e, saga.StartParams[cargo]{Key: newKey(0), Data: anOrder})
		return err
	}, lull)
	if err != nil {
		return r, err
	}
	if err := fill(ctx, full, template, o.instances); err != nil {
		return r, err
	}
	local := workloads(o.steps)[0]
	speed := func(db *database) (perSecond float64, err error) {
		err = orchestrate(ctx, db.store, []saga.AnyDefinition{local.definition, lull}, func(ctx context.Context, e *saga.Orchestrator) error {
			began := time.Now()
			_, err := together(ctx, o.sagas, o.inflight, func(ctx context.Context) error { return local.one(ctx, e) })
			perSecond = float64(o.sagas) / time.Since(began).Seconds()
			r.Memory = max(r.Memory, memory())
			return err
		})
		return perSecond, err
	}
	var fulls, empties, ratios []float64
	for round := range o.rounds + 1 { // the first one warms up
		e, err := speed(empty)
		if err != nil {
			return r, err
		}
		f, err := speed(full)
		if err != nil {
			return r, err
		}
		if round > 0 {
			fulls, empties, ratios = append(fulls, f), append(empties, e), append(ratios, f/e)
		}
	}
	r.Full, r.Empty, r.Ratio = median(fulls), median(empties), median(ratios)
	sweep := saga.Claim{Definitions: []saga.DefinitionVersion{{Name: "lull", Version: 1}}, Limit: 100, Hold: time.Second}
	sweeps, err := inTurns(ctx, 50, func(ctx context.Context) error {
		_, _, err := full.store.Claim(ctx, sweep)
		return err
	})
	if err == nil {
		r.Sweep = sweeps[0].P50
	}
	return r, err
}

// memory is what the process has of the machine.
func memory() uint64 {
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(samples)
	return samples[0].Value.Uint64() - samples[1].Value.Uint64()
}

// recoveryResult is how a process that starts finds what another one has left behind.
type recoveryResult struct {
	Instances int           `json:"instances"`
	UnderWay  time.Duration `json:"all_under_way_ns"` // all have been taken over
	Settled   time.Duration `json:"all_settled_ns"`
	Memory    uint64        `json:"peak_memory_bytes"`
}

func (r recoveryResult) String() string {
	return fmt.Sprintf("recovery of %d instances: all under way after %s, all settled after %s; memory at most %d MB",
		r.Instances, r.UnderWay.Round(100*time.Millisecond), r.Settled.Round(100*time.Millisecond), r.Memory>>20)
}

// measureRecovery writes instances whose process died in their first step, waits for their leases to end, and starts an orchestrator.
func measureRecovery(ctx context.Context, o options) (r recoveryResult, err error) {
	r.Instances = o.unfinished
	db, err := open(ctx, o.store)
	if err != nil {
		return r, err
	}
	defer db.close()
	local := workloads(o.steps)[0]
	template, err := firstOf(ctx, db, func(ctx context.Context, e *saga.Orchestrator) error { return local.one(ctx, e) }, local.definition)
	if err != nil {
		return r, err
	}
	if err := fill(ctx, db, template, o.unfinished); err != nil {
		return r, err
	}
	time.Sleep(template.Lease + time.Second)
	runtime.GC()
	return r, orchestrate(ctx, db.store, []saga.AnyDefinition{local.definition}, func(ctx context.Context, _ *saga.Orchestrator) error {
		began := time.Now()
		for ; ; time.Sleep(500 * time.Millisecond) {
			left, begun, err := unsettled(ctx, db.store)
			if err != nil {
				return err
			}
			r.Memory = max(r.Memory, memory())
			if begun == 0 && r.UnderWay == 0 {
				r.UnderWay = time.Since(began)
			}
			if left == 0 {
				r.Settled = time.Since(began)
				return nil
			}
			if time.Since(began) > 10*time.Minute {
				return fmt.Errorf("%d instances are not settled after 10 minutes, %d not taken over", left, begun)
			}
		}
	})
}

// unsettled counts instances that are not settled, and those of them that nobody has taken over.
func unsettled(ctx context.Context, store saga.Store) (left, untouched int, err error) {
	query := saga.Query{Unsettled: true, Limit: 1000}
	for {
		page, err := store.List(ctx, query)
		if err != nil {
			return 0, 0, err
		}
		for _, r := range page {
			if left++; r.Revision == 1 {
				untouched++
			}
		}
		if len(page) < query.Limit {
			return left, untouched, nil
		}
		query.After = page[len(page)-1].ID
		if left >= 5000 { // they are many: no need to know how many
			return left, max(untouched, 1), nil
		}
	}
}
