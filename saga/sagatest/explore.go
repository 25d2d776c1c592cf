package sagatest

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sagamill/sagamill/saga"
	"github.com/sagamill/sagamill/saga/internal/stepped"
)

var (
	flagRuns   = flag.Int("sagatest.runs", 0, "how many runs sagatest.Explore makes by enumeration; 0: what the test says, or 2000")
	flagSeeds  = flag.Int("sagatest.seeds", -1, "how many runs sagatest.Explore makes by seed; -1: what the test says, or 300")
	flagReplay = flag.String("sagatest.replay", "", "the one run that sagatest.Explore makes, as a finding shows it")
)

// Option is an invariant, or changes how much is explored.
type Option func(*explorer)

type invariant struct {
	name  string
	holds func(*Run) error
}

// Always is an invariant that must hold at any moment.
func Always(name string, holds func(*Run) error) Option {
	return func(x *explorer) { x.always = append(x.always, invariant{name, holds}) }
}

// Finally is an invariant that must hold when nothing is left to do.
func Finally(name string, holds func(*Run) error) Option {
	return func(x *explorer) { x.finally = append(x.finally, invariant{name, holds}) }
}

// Runs bounds the runs that are enumerated: first one with each single fault, then with two, and so on. Default 2000.
func Runs(n int) Option { return func(x *explorer) { x.runs = n } }

// Seeds is the number of runs with many faults, drawn by seed. Default 300.
func Seeds(n int) Option { return func(x *explorer) { x.seeds = n } }

// Without leaves faults out: those that the definition is known not to stand, say.
func Without(faults ...Fault) Option {
	return func(x *explorer) {
		for _, f := range faults {
			x.without[f] = true
		}
	}
}

// FullCoverage lets the test fail if a state, a row or a step is reached by no run, except those that are named, as the failure
// names them: "state SHIPPED", "row NEW/paid", "step book-room/undo".
func FullCoverage(except ...string) Option {
	return func(x *explorer) { x.full, x.except = true, append(x.except, except...) }
}

// Explore runs a definition, as the script says, once without faults, then with every single fault at every moment, with pairs of
// faults and more as far as Runs allows, and then with many, drawn by seed. The test fails with the first run in which
// something does not hold that always must, or that an invariant says; what is left of its faults when those are taken away that do
// not matter is shown, with the trace of that run, and the flag that replays it.
//
// The script is called at the beginning of each run. It makes the world anew that the steps act upon, and says what is started and
// sent:
//
//	sagatest.Explore(t, bookTrip, func(r *sagatest.Run) {
//		world = newWorld()
//		trip := sagatest.Start(r, bookTrip, "trip-1", Trip{Card: "4242"})
//		trip.Send(saga.Cancel, nil).Anytime()
//	}, sagatest.Finally("a trip that failed leaves no booking", func(r *sagatest.Run) error { ... }))
//
// A run is a function of its faults: steps must not look at random numbers, nor depend on the order of maps. Time is virtual.
// One goroutine runs everything: steps and invariants need no locks. Nothing is run in parallel with t's other runs.
//
// It fails, too, if a fault for which the run without faults has a moment never happened. It logs how much was explored, how often
// each fault happened, and which states, rows and steps no run has reached.
func Explore(t *testing.T, definition saga.AnyDefinition, script func(*Run), options ...Option) {
	t.Helper()
	x, err := newExplorer(definition, script, options)
	if err != nil {
		t.Fatal(err)
	}
	if *flagReplay != "" {
		x.replay(t, *flagReplay)
		return
	}
	finding := x.explore(t)
	t.Log("\n" + x.report())
	if finding != nil {
		t.Fatalf("\n%s", finding)
	}
	for _, f := range allFaults {
		if x.plain[f] && x.happened[f] == 0 {
			t.Errorf("fault %s never happened, though the run without faults has a moment for it: allow more Runs", f)
		}
	}
	if missing := x.coverage.missing(x.except); x.full && len(missing) > 0 {
		t.Errorf("no run has reached: %s", strings.Join(missing, ", "))
	}
}

// Find explores like Explore, and returns what it finds instead of failing the test: nil if that is nothing.
func Find(t *testing.T, definition saga.AnyDefinition, script func(*Run), options ...Option) *Finding {
	t.Helper()
	x, err := newExplorer(definition, script, options)
	if err != nil {
		t.Fatal(err)
	}
	return x.explore(t)
}

// explorer is one exploration.
type explorer struct {
	definition saga.AnyDefinition
	script     func(*Run)
	shape      stepped.Definition
	steps      map[string]stepped.Step
	patience   time.Duration // longer than anybody waits for an attempt

	always, finally []invariant
	without         map[Fault]bool
	runs, seeds     int
	full            bool
	except          []string           // need not be covered
	scripted        map[string][]Fault // of a Case: what happens to the attempts of a step

	coverage *coverage
	moments  int            // of the run without faults
	plain    map[Fault]bool // offered in it
	offered  map[Fault]int
	happened map[Fault]int
	counts   []int // runs by the number of faults planned
	possible []int // and how many there are
	drawn    int   // runs by seed
	unrest   int   // runs in which a saga needed attention in the end
}

func newExplorer(d saga.AnyDefinition, script func(*Run), options []Option) (*explorer, error) {
	if d == nil || script == nil {
		return nil, fmt.Errorf("sagatest: a definition and a script are needed")
	}
	if err := d.Validate(); err != nil {
		return nil, err
	}
	x := &explorer{
		definition: d, script: script, shape: stepped.Describe(d), steps: map[string]stepped.Step{}, without: map[Fault]bool{},
		runs: 2000, seeds: 300, plain: map[Fault]bool{}, offered: map[Fault]int{}, happened: map[Fault]int{},
	}
	for _, s := range x.shape.Steps {
		x.steps[s.Name] = s
		x.patience = max(x.patience, s.Timeout)
	}
	x.patience += 5 * lease
	x.coverage = newCoverage(x.shape)
	for _, o := range options {
		o(x)
	}
	if unknown := x.coverage.unknown(x.except); len(unknown) > 0 {
		return nil, fmt.Errorf("sagatest: FullCoverage excepts %q, which the definition does not have", unknown)
	}
	if *flagRuns > 0 {
		x.runs = *flagRuns
	}
	if *flagSeeds >= 0 {
		x.seeds = *flagSeeds
	}
	return x, nil
}

// run makes one run in a bubble of virtual time.
func (x *explorer) run(t *testing.T, c chooser, tracing bool) (r *Run) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r = newRun(t.Context(), x, c, tracing)
		if x.script(r); len(r.inputs) == 0 {
			r.violated("the script starts no saga: it must call sagatest.Start with the run that it is given")
		}
		r.play()
		for _, i := range r.Sagas() {
			x.coverage.add(i, r.History(i.ID))
			if i.Attention != "" {
				x.unrest++
			}
		}
	})
	if len(r.happened) == 0 {
		x.moments = len(r.moments)
	}
	for _, m := range r.moments {
		for _, f := range m.offered {
			x.offered[f]++
			x.plain[f] = x.plain[f] || len(r.happened) == 0
		}
	}
	for _, f := range r.happened {
		x.happened[f.fault]++
	}
	return r
}

// explore makes the runs, until one finds something.
func (x *explorer) explore(t *testing.T) *Finding {
	t.Helper()
	level := []plan{nil}
	for made := 0; made < x.runs && len(level) > 0; {
		x.possible = append(x.possible, len(level))
		x.counts = append(x.counts, 0)
		if left := x.runs - made; len(level) > left { // those that are left out are spread over all moments
			rng := rand.New(rand.NewPCG(1, uint64(len(level))))
			rng.Shuffle(len(level), func(i, j int) { level[i], level[j] = level[j], level[i] })
			level = fair(level)[:left]
		}
		var next []plan
		for _, p := range level {
			r := x.run(t, p, false)
			made++
			x.counts[len(x.counts)-1]++
			if f := x.judge(t, r, p); f != nil {
				return f
			}
			next = append(next, r.worse(p)...)
		}
		level = next
	}
	for seed := range x.seeds {
		r := x.run(t, newLots(uint64(seed), x.moments), false)
		x.drawn++
		if len(r.violations) > 0 {
			return x.find(t, r.happened)
		}
	}
	return nil
}

// judge looks at a run that was planned.
func (x *explorer) judge(t *testing.T, r *Run, p plan) *Finding {
	t.Helper()
	if !slices.Equal(r.happened, p) {
		return &Finding{Violations: []string{fmt.Sprintf(
			"two runs with the same faults differ (%s was planned, %s happened): does a step, a reducer or the script use random numbers, the time of day, or the order of a map?",
			p, r.happened)}, Faults: p.String(), Test: t.Name()}
	}
	if len(r.violations) > 0 {
		return x.find(t, p)
	}
	return nil
}

// worse lists the plans with one fault more than the run's, after its last one.
func (r *Run) worse(p plan) (plans []plan) {
	from := 0
	if len(p) > 0 {
		from = p[len(p)-1].moment + 1
	}
	for n := from; n < len(r.moments); n++ {
		for _, f := range r.moments[n].offered {
			plans = append(plans, p.with(n, f))
		}
	}
	return plans
}
