// Bench measures the engine beside its floor: the same rows, written to the same tables of the same store by hand, in batches as
// large as one likes, by a loop that knows beforehand all that a saga will do.
//
//	go run ./bench -store postgres://postgres@127.0.0.1:5432/postgres
//	go run ./bench -store sqlite:
//
// A third contestant is the floor's loop with the store's own Commit: what lies between it and the engine is the engine's.
//
// All are measured in turns, in one run, so that their ratio means something on a machine that is noisy. What the floor writes is
// recorded from the engine first: it commits as often for a saga, with the same columns, payloads and indexes, and its updates
// compare and set the revision. It does not decide anything, encodes nothing, runs no steps and waits for nobody.
//
// That is the workload local; order is the same of a table-driven saga with events and a time-out. Others have peers of their
// own: -workloads commands (raw Watermill with the same messages), statemachine (two other libraries), waiting and recovery
// (none). README.md has the figures; peers/ measures other engines.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"time"
)

type options struct {
	store  string
	broker string

	subscribers int
	sagas       int
	steps       int
	inflight    int
	batch       int
	writers     int
	rounds      int
	alone       int
	json        bool
	profile     string
	allocations string

	workloads  string
	least      float64
	instances  int
	unfinished int
}

func main() {
	var o options
	flag.StringVar(&o.store, "store", "sqlite:", "sqlite: (a scratch file), or postgres://...; a schema is made there, and dropped")
	flag.StringVar(&o.broker, "broker", "redis://127.0.0.1:6379/9", "redis://..., or sql: tables in the store's database (commands)")
	flag.IntVar(&o.subscribers, "subscribers", 16, "subscribers for each topic in each process (commands)")
	flag.IntVar(&o.sagas, "sagas", 5000, "how many sagas a round has")
	flag.IntVar(&o.steps, "steps", 4, "local steps of a saga")
	flag.IntVar(&o.inflight, "inflight", 2048, "sagas that are under way at one time")
	flag.IntVar(&o.batch, "batch", 256, "sagas that the floor writes in one transaction")
	flag.IntVar(&o.writers, "writers", 2, "connections that the floor writes on")
	flag.IntVar(&o.rounds, "rounds", 3, "rounds of each")
	flag.IntVar(&o.alone, "alone", 200, "sagas of a round that are run alone, one after the other")
	flag.StringVar(&o.workloads, "workloads", "local", "what is measured: local, order, commands, waiting, recovery, statemachine, several with commas, or all")
	flag.Float64Var(&o.least, "least", 0, "fail if the engine reaches less than this part of its floor (local, order), or of raw Watermill (commands)")
	flag.IntVar(&o.instances, "instances", 1_000_000, "how many instances wait (waiting)")
	flag.IntVar(&o.unfinished, "unfinished", 100_000, "how many instances a crash has left behind (recovery)")
	flag.BoolVar(&o.json, "json", false, "print the figures as JSON")
	flag.StringVar(&o.profile, "cpuprofile", "", "run the engine only, and write a CPU profile of its last round to this `file` (local, order)")
	flag.StringVar(&o.allocations, "memprofile", "", "run the engine only, and write what all its rounds have allocated to this `file` (local, order)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if o.allocations != "" {
		runtime.MemProfileRate = 4096
	}
	if setup := os.Getenv(childEnv); setup != "" {
		if err := participate(ctx, setup); err != nil {
			fmt.Fprintln(os.Stderr, "bench: participant:", err)
			os.Exit(1)
		}
		return
	}
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// result is a workload's figures.
type result struct {
	Workload string  `json:"workload"`
	Engine   figures `json:"engine"`
	Store    figures `json:"store"` // the floor's loop, with the store's Commit
	Floor    figures `json:"floor"`
	// PerTransaction commits each step by itself; of PostgreSQL only, and of sagas that succeed.
	PerTransaction *figures `json:"per_transaction,omitempty"`

	Ratio float64 `json:"ratio"`       // of sagas/s: the median of the rounds' ratios
	Alone float64 `json:"alone_ratio"` // of p50 alone: engine / floor
}

// figures are medians over the rounds.
type figures struct {
	PerSecond float64 `json:"sagas_per_second"`
	Alone     latency `json:"alone"`
	Saturated latency `json:"saturated"`
	Commits   float64 `json:"commits_per_saga"`
	Bytes     float64 `json:"log_bytes_per_saga"` // that the server wrote: WAL
	Rows      float64 `json:"rows_written_per_saga"`
	CPU       float64 `json:"client_cpu_seconds_per_1000_sagas"`
	ServerCPU float64 `json:"server_cpu_seconds_per_1000_sagas"`
	Peak      float64 `json:"client_peak_memory_mb"` // of the process; the floor's has all that it will write
}

// latency is how long sagas took.
type latency struct {
	P50 time.Duration `json:"p50_ns"`
	P99 time.Duration `json:"p99_ns"`
}

// latencyOf sorts what sagas took.
func latencyOf(took []time.Duration) latency {
	slices.Sort(took)
	return latency{took[len(took)/2], took[(len(took)*99+99)/100-1]}
}

func run(ctx context.Context, o options) error {
	if o.sagas < 1 || o.steps < 1 || o.inflight < 1 || o.batch < 1 || o.writers < 1 || o.rounds < 1 || o.alone < 1 || o.subscribers < 1 {
		return errors.New("all numbers must be positive")
	}
	wanted := strings.Split(o.workloads, ",")
	if o.workloads == "all" {
		wanted = []string{"local", "order", "commands", "waiting", "recovery", "statemachine"}
	}
	for _, name := range wanted {
		var err error
		switch name {
		case "local":
			err = runBesideFloor(ctx, o, workloads(o.steps))
		case "order":
			err = runBesideFloor(ctx, o, []workload{orderSaga()})
		case "waiting":
			err = report(o)(measureWaiting(ctx, o))
		case "recovery":
			err = report(o)(measureRecovery(ctx, o))
		case "commands":
			err = report(o)(measureCommands(ctx, o))
		case "statemachine":
			err = report(o)(measureTransitions(o))
		default:
			err = errors.New("there is no such workload: it is local, order, commands, waiting, recovery or statemachine")
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// report prints a result.
func report(o options) func(result any, err error) error {
	return func(result any, err error) error {
		switch {
		case err != nil:
		case o.json:
			err = json.NewEncoder(os.Stdout).Encode(result)
		default:
			fmt.Println(result)
		}
		return err
	}
}

// runBesideFloor measures kinds of sagas, each beside its floor.
func runBesideFloor(ctx context.Context, o options, all []workload) (err error) {
	if o.profile != "" || o.allocations != "" {
		return profileEngine(ctx, o, all[0])
	}
	var results []result
	for _, w := range all {
		r, err := measure(ctx, o, w)
		if err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
		results = append(results, r)
	}
	for _, r := range results {
		if r.Ratio < o.least {
			defer func() {
				err = errors.Join(err, fmt.Errorf("%s: the engine reaches %.2f of its floor, less than %.2f", r.Workload, r.Ratio, o.least))
			}()
		}
	}
	if o.json {
		return json.NewEncoder(os.Stdout).Encode(results)
	}
	fmt.Printf("%-26s %15s %10s %9s %9s %9s %9s %8s %6s %10s %9s %9s %8s\n", "", "", "sagas/s", "p50 alone", "p99 alone", "p50 full", "p99 full",
		"commits", "rows", "log bytes", "CPU s/1k", "server's", "peak MB")
	for _, r := range results {
		line := func(name string, f figures) {
			fmt.Printf("%-26s %15s %10.0f %9s %9s %9s %9s %8.2f %6.1f %10.0f %9.3f %9.3f %8.0f\n", r.Workload, name, f.PerSecond,
				f.Alone.P50.Round(10*time.Microsecond), f.Alone.P99.Round(10*time.Microsecond),
				f.Saturated.P50.Round(100*time.Microsecond), f.Saturated.P99.Round(100*time.Microsecond),
				f.Commits, f.Rows, f.Bytes, f.CPU, f.ServerCPU, f.Peak)
		}
		line("engine", r.Engine)
		line("store", r.Store)
		line("floor", r.Floor)
		fmt.Printf("%-26s %15s %9.2fx %8.2fx\n", r.Workload, "engine / floor", r.Ratio, r.Alone)
		if r.PerTransaction != nil {
			line("step by step", *r.PerTransaction)
			fmt.Printf("%-26s %15s %9.2fx\n", r.Workload, "engine / that", r.Engine.PerSecond/r.PerTransaction.PerSecond)
		}
	}
	return nil
}

// measure runs engine and floor in turns.
func measure(ctx context.Context, o options, w workload) (result, error) {
	db, err := open(ctx, o.store)
	if err != nil {
		return result{}, err
	}
	defer db.close()
	template, err := record(ctx, db, w)
	if err != nil {
		return result{}, err
	}
	floor, err := db.floor(template)
	if err != nil {
		return result{}, err
	}
	var engines, stores, floors []figures
	for round := range o.rounds + 1 { // the first one warms up
		e, err := runEngine(ctx, db, w, o)
		if err != nil {
			return result{}, err
		}
		s, err := runFloor(ctx, db, floor.byStore(db.store), o)
		if err != nil {
			return result{}, err
		}
		f, err := runFloor(ctx, db, floor, o)
		if err != nil {
			return result{}, err
		}
		if e.Alone, s.Alone, f.Alone, err = runAlone(ctx, db, w, floor, o); err != nil {
			return result{}, err
		}
		if round > 0 {
			engines, stores, floors = append(engines, e), append(stores, s), append(floors, f)
		}
	}
	r := result{Workload: w.name, Engine: medians(engines), Store: medians(stores), Floor: medians(floors)}
	if db.pool != nil && w.steps {
		p, err := newPerTransaction(ctx, db.pool, o.steps)
		if err != nil {
			return r, err
		}
		f, err := p.run(ctx, o)
		if err != nil {
			return r, err
		}
		r.PerTransaction = &f
	}
	r.Ratio = median(pairs(engines, floors, func(e, f figures) float64 { return e.PerSecond / f.PerSecond }))
	r.Alone = median(pairs(engines, floors, func(e, f figures) float64 { return float64(e.Alone.P50) / float64(f.Alone.P50) }))
	return r, nil
}

func pairs[T any](a, b []T, f func(a, b T) float64) []float64 {
	list := make([]float64, len(a))
	for k := range a {
		list[k] = f(a[k], b[k])
	}
	return list
}

func median(list []float64) float64 {
	list = slices.Sorted(slices.Values(list))
	return list[len(list)/2]
}

func medians(list []figures) figures {
	of := func(f func(figures) float64) float64 {
		return median(pairs(list, list, func(x, _ figures) float64 { return f(x) }))
	}
	latencies := func(f func(figures) latency) latency {
		return latency{
			P50: time.Duration(of(func(x figures) float64 { return float64(f(x).P50) })),
			P99: time.Duration(of(func(x figures) float64 { return float64(f(x).P99) })),
		}
	}
	return figures{
		PerSecond: of(func(f figures) float64 { return f.PerSecond }),
		Alone:     latencies(func(f figures) latency { return f.Alone }),
		Saturated: latencies(func(f figures) latency { return f.Saturated }),
		Commits:   of(func(f figures) float64 { return f.Commits }),
		Bytes:     of(func(f figures) float64 { return f.Bytes }),
		Rows:      of(func(f figures) float64 { return f.Rows }),
		CPU:       of(func(f figures) float64 { return f.CPU }),
		ServerCPU: of(func(f figures) float64 { return f.ServerCPU }),
		Peak:      of(func(f figures) float64 { return f.Peak }),
	}
}
