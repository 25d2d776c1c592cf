package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/ThreeDotsLabs/watermill"

	"github.com/sagamill/sagamill/saga"
)

// cargo is the data of the measured sagas: what an order of a shop may have.
type cargo struct {
	Customer string   `json:"customer"`
	Items    []string `json:"items"`
	Total    int64    `json:"total"`

	Transaction string `json:"transaction,omitempty"` // of the order saga
}

var anOrder = cargo{Customer: "ada-lovelace", Items: []string{"phone", "case", "charger"}, Total: 129_900}

// workload is a kind of saga.
type workload struct {
	name       string
	definition saga.AnyDefinition
	one        func(context.Context, *saga.Orchestrator) error // runs one from its start to its end
	steps      bool                                            // it has local steps that succeed, and nothing else
}

// linear is a workload of linear sagas.
func linear(name string, d *saga.LinearDefinition[cargo], end saga.LinearState) workload {
	return workload{name: name, definition: d, steps: end == saga.Completed, one: func(ctx context.Context, o *saga.Orchestrator) error {
		key := nextKey()
		if _, err := d.Start(ctx, o, saga.StartParams[cargo]{Key: key, Data: anOrder}); err != nil {
			return err
		}
		s, err := d.Wait(ctx, o, key)
		if err == nil && s.State != end {
			err = fmt.Errorf("%s ended in %s, not in %s", key, s.State, end)
		}
		return err
	}}
}

func workloads(steps int) []workload {
	work := func(context.Context, cargo) error { return nil }
	refuse := func(context.Context, cargo) error { return saga.Reject("no") }
	var happy, third []saga.Step[cargo]
	for n := range steps {
		name := fmt.Sprint("step-", n+1)
		happy = append(happy, saga.Do(name, work).Undo(work))
		if n == steps-2 {
			third = append(third, saga.Do(name, refuse).Undo(work))
		} else {
			third = append(third, saga.Do(name, work).Undo(work))
		}
	}
	all := []workload{linear("local steps", saga.Linear("happy", happy...), saga.Completed)}
	if steps > 1 {
		all = append(all, linear("local steps, compensating", saga.Linear("compensating", third...), saga.Failed))
	}
	return all
}

// orchestrate runs an orchestrator on a store while do works with it.
func orchestrate(ctx context.Context, store saga.Store, definitions []saga.AnyDefinition, do func(context.Context, *saga.Orchestrator) error) error {
	return orchestrateWith(ctx, store, saga.OrchestratorConfig{Definitions: definitions}, do)
}

func orchestrateWith(ctx context.Context, store saga.Store, config saga.OrchestratorConfig, do func(context.Context, *saga.Orchestrator) error) (err error) {
	o, err := saga.NewOrchestrator(store, config, watermill.NopLogger{})
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- o.Run(ctx) }()
	defer func() { err = errors.Join(err, o.Close(), <-ended) }()
	select {
	case <-o.Running():
	case <-ctx.Done():
		return ctx.Err()
	}
	return do(ctx, o)
}

var keys atomic.Int64

func nextKey() string { return fmt.Sprintf("order-%09d", keys.Add(1)) }

// runEngine measures a round of the engine.
func runEngine(ctx context.Context, db *database, w workload, o options) (f figures, err error) {
	if err := db.empty(ctx); err != nil {
		return f, err
	}
	err = orchestrate(ctx, db.store, []saga.AnyDefinition{w.definition}, func(ctx context.Context, engine *saga.Orchestrator) error {
		one := func(ctx context.Context) error { return w.one(ctx, engine) }
		return f.measure(ctx, db, o.sagas, func() error {
			f.Saturated, err = together(ctx, o.sagas, o.inflight, one)
			return err
		})
	})
	return f, err
}

// profileEngine runs rounds of the engine, and writes profiles.
func profileEngine(ctx context.Context, o options, w workload) error {
	db, err := open(ctx, o.store)
	if err != nil {
		return err
	}
	defer db.close()
	for round := range o.rounds {
		stop := func() error { return nil }
		if round == o.rounds-1 && o.profile != "" {
			if stop, err = profileCPU(o.profile); err != nil {
				return err
			}
		}
		f, err := runEngine(ctx, db, w, o)
		if err := errors.Join(err, stop()); err != nil {
			return err
		}
		fmt.Printf("%s: %.0f sagas/s, %.0f us of CPU a saga\n", w.name, f.PerSecond, f.CPU*1000)
	}
	if o.allocations == "" {
		return nil
	}
	file, err := os.Create(o.allocations)
	if err != nil {
		return err
	}
	return errors.Join(pprof.Lookup("allocs").WriteTo(file, 0), file.Close())
}

// profileCPU writes a CPU profile until it is stopped.
func profileCPU(path string) (stop func() error, err error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() error { pprof.StopCPUProfile(); return f.Close() }, nil
}

// inTurns runs n of each, one at a time, as the machine's mood changes, and answers how long they took. Each time they come in another
// order: who follows whom makes a difference of its own.
func inTurns(ctx context.Context, n int, contestants ...func(context.Context) error) ([]latency, error) {
	took := make([][]time.Duration, len(contestants))
	for range n {
		for _, k := range rand.Perm(len(contestants)) {
			began := time.Now()
			if err := contestants[k](ctx); err != nil {
				return nil, err
			}
			took[k] = append(took[k], time.Since(began))
		}
	}
	latencies := make([]latency, len(contestants))
	for k := range took {
		latencies[k] = latencyOf(took[k])
	}
	return latencies, nil
}

// runAlone measures sagas that have the machine for themselves, in tables that others have filled before: by the engine, by the store's
// Commit, and by the floor.
func runAlone(ctx context.Context, db *database, w workload, floor *floor, o options) (engine, store, bare latency, err error) {
	err = orchestrate(ctx, db.store, []saga.AnyDefinition{w.definition}, func(ctx context.Context, e *saga.Orchestrator) error {
		byStore := floor.byStore(db.store)
		each, err := inTurns(ctx, o.alone,
			func(ctx context.Context) error { return w.one(ctx, e) },
			func(ctx context.Context) error { return byStore.writeAll(ctx, byStore.sagas(1)) },
			func(ctx context.Context) error { return floor.writeAll(ctx, floor.sagas(1)) })
		if err == nil {
			engine, store, bare = each[0], each[1], each[2]
		}
		return err
	})
	return engine, store, bare, err
}

// together runs n of them, so many at one time, and answers how long they took.
func together(ctx context.Context, n, inflight int, one func(context.Context) error) (latency, error) {
	took := make([]time.Duration, n)
	var next atomic.Int64
	var all sync.WaitGroup
	errs := make([]error, inflight)
	for k := range inflight {
		all.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				began := time.Now()
				if errs[k] = one(ctx); errs[k] != nil {
					return
				}
				took[i] = time.Since(began)
			}
		})
	}
	all.Wait()
	return latencyOf(took), errors.Join(errs...)
}

// measure fills in what n sagas cost.
func (f *figures) measure(ctx context.Context, db *database, n int, do func() error) error {
	before, err := db.counters(ctx)
	if err != nil {
		return err
	}
	forgetPeak()
	cpu, began := cpuTime(), time.Now()
	if err := do(); err != nil {
		return err
	}
	took := time.Since(began)
	f.PerSecond, f.CPU = float64(n)/took.Seconds(), (cpuTime()-cpu).Seconds()*1000/float64(n)
	f.Peak = peak()
	after, err := db.counters(ctx)
	of := func(total int64) float64 { return float64(total) / float64(n) }
	f.Commits, f.Rows, f.Bytes = of(after.commits-before.commits), of(after.rows-before.rows), of(after.bytes-before.bytes)
	f.ServerCPU = (after.cpu - before.cpu).Seconds() * 1000 / float64(n)
	return err
}

// forgetPeak lets the peak of this process's memory be measured anew. Only Linux can.
func forgetPeak() {
	runtime.GC()
	debug.FreeOSMemory()
	_ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0)
}

// peak is how many MB of memory this process has had at most; 0: the system does not tell.
func peak() float64 {
	status, err := os.ReadFile("/proc/self/status")
	_, rest, ok := strings.Cut(string(status), "VmHWM:")
	var kilobytes float64
	if err != nil || !ok {
		return 0
	}
	_, _ = fmt.Sscan(rest, &kilobytes)
	return kilobytes / 1024
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// recorder keeps what one saga commits.
type recorder struct {
	saga.Store
	mu   sync.Mutex
	seen map[string][]saga.Transition
}

func (r *recorder) Commit(ctx context.Context, transitions []saga.Transition) ([]saga.Verdict, error) {
	verdicts, err := r.Store.Commit(ctx, transitions)
	r.mu.Lock()
	defer r.mu.Unlock()
	for k, v := range verdicts {
		if t := transitions[k]; v.Outcome == saga.Committed {
			r.seen[t.ID] = append(r.seen[t.ID], ownCopy(t))
		}
	}
	return verdicts, err
}

// ownCopy is a transition whose slices the engine does not use again.
func ownCopy(t saga.Transition) saga.Transition {
	t.Engine, t.Data, t.History = bytes.Clone(t.Engine), bytes.Clone(t.Data), slices.Clone(t.History)
	for k := range t.History {
		t.History[k].Entry = bytes.Clone(t.History[k].Entry)
	}
	return t
}

// record runs a saga, and answers what it commits, one transition for each commit.
func record(ctx context.Context, db *database, w workload) ([]saga.Transition, error) {
	if err := db.empty(ctx); err != nil {
		return nil, err
	}
	r := &recorder{Store: db.store, seen: map[string][]saga.Transition{}}
	err := orchestrate(ctx, r, []saga.AnyDefinition{w.definition}, func(ctx context.Context, o *saga.Orchestrator) error { return w.one(ctx, o) })
	if err != nil {
		return nil, err
	}
	if len(r.seen) != 1 {
		return nil, fmt.Errorf("one saga has committed as %d", len(r.seen))
	}
	for _, template := range r.seen {
		return template, nil
	}
	return nil, nil
}

// newID makes an ID as long as the engine's.
func newID(template string, n int64) string {
	digits := fmt.Sprintf("%012x", n)
	return template[:max(0, len(template)-len(digits))] + digits
}

func newKey(n int64) string { return fmt.Sprintf("order-%09d", n) }

// renamed puts another name into the bytes of a template.
func renamed(b []byte, from, to string) []byte {
	if b == nil {
		return nil
	}
	return []byte(strings.ReplaceAll(string(b), from, to))
}
