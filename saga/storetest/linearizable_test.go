package storetest_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/memory"
	"github.com/sagamill/sagamill/adapters/mysql"
	"github.com/sagamill/sagamill/adapters/postgres"
	"github.com/sagamill/sagamill/adapters/sqlite"
	"github.com/sagamill/sagamill/internal/services"
	"github.com/sagamill/sagamill/internal/services/mariadbtest"
	"github.com/sagamill/sagamill/saga"
)

// An instance is a register with a compare-and-set on its revision, and remembers the inputs that it has consumed. What many
// goroutines are answered by Commit and Load must have, for each instance, an order in agreement with which call was over before
// which began, in which such a register gives these answers (M. Herlihy and J. Wing, "Linearizability", 1990). Porcupine looks
// for it. The register was written from the comments of saga.Store, not from the code of any.

// register is one instance, as a value; the zero register: there is none.
type register struct {
	revision uint64
	state    string
	data     string
	consumed uint64 // inputs, a bit for each
}

type registerInput struct {
	instance int
	load     bool
	expect   uint64
	records  uint64 // how many of history
	input    int    // from 1, of the first record; 0: none
	state    string
	data     string // empty: it stays
}

type registerOutput struct {
	outcome saga.Outcome // of a commit
	found   register     // by a load, or in the way of a start; of the inputs it tells nothing
}

func (r register) step(in registerInput, out registerOutput) (bool, register) {
	seen := r
	seen.consumed = 0
	if in.load {
		return out.found == seen, r
	}
	again := in.input > 0 && r.consumed&(1<<in.input) != 0
	switch out.outcome {
	case saga.Committed:
		if r.revision != in.expect || again {
			return false, r
		}
		r.revision, r.state = r.revision+in.records, in.state
		if in.data != "" {
			r.data = in.data
		}
		if in.input > 0 {
			r.consumed |= 1 << in.input
		}
		return true, r
	case saga.Conflict:
		return in.expect > 0 && r.revision != in.expect, r
	case saga.Exists:
		return in.expect == 0 && r.revision > 0 && out.found == seen, r
	case saga.Duplicate:
		return again, r
	case saga.Busy:
		return true, r
	}
	return false, r
}

// registers is the model: instances are independent of each other, also those of one batch.
var registers = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		parts := make([][]porcupine.Operation, instances)
		for _, o := range history {
			n := o.Input.(registerInput).instance
			parts[n] = append(parts[n], o)
		}
		return parts
	},
	Init: func() any { return register{} },
	Step: func(state, input, output any) (bool, any) {
		return state.(register).step(input.(registerInput), output.(registerOutput))
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v -> %+v", input, output) },
}

const instances = 3

// registerHistory records who called what. Its times only count: what was over before something else began has the lesser one.
type registerHistory struct {
	store saga.Store
	ticks atomic.Int64
	mu    sync.Mutex
	calls []porcupine.Operation
	seen  map[string]int // answers of each kind
}

func newRegisterHistory(store saga.Store) *registerHistory {
	return &registerHistory{store: store, seen: map[string]int{}}
}

func registerID(n int) string { return fmt.Sprint("instance-", n) }

func (h *registerHistory) record(caller int, called int64, ins []registerInput, outs []registerOutput) {
	returned := h.ticks.Add(1)
	h.mu.Lock()
	defer h.mu.Unlock()
	for k, in := range ins {
		h.calls = append(h.calls, porcupine.Operation{ClientId: caller, Input: in, Output: outs[k], Call: called, Return: returned})
		what := "loaded"
		if !in.load {
			what = outs[k].outcome.String()
		}
		h.seen[what]++
	}
}

// load reads instances with one call.
func (h *registerHistory) load(ctx context.Context, caller int, which ...int) ([]register, error) {
	ids := make([]string, len(which))
	ins, outs := make([]registerInput, len(which)), make([]registerOutput, len(which))
	for k, n := range which {
		ids[k], ins[k] = registerID(n), registerInput{instance: n, load: true}
	}
	called := h.ticks.Add(1)
	records, err := h.store.Load(ctx, ids...)
	if err != nil {
		return nil, err
	}
	found := make([]register, len(which))
	for _, r := range records {
		k := slices.Index(ids, r.ID)
		found[k] = registerOf(r)
		outs[k].found = found[k]
	}
	h.record(caller, called, ins, outs)
	return found, nil
}

func registerOf(r saga.Record) register {
	return register{revision: r.Revision, state: r.State, data: string(r.Data)}
}

// commit commits one batch.
func (h *registerHistory) commit(ctx context.Context, caller int, ins ...registerInput) error {
	slices.SortFunc(ins, func(a, b registerInput) int { return cmp.Compare(a.instance, b.instance) })
	transitions := make([]saga.Transition, len(ins))
	for k, in := range ins {
		transitions[k] = in.transition()
	}
	outs := make([]registerOutput, len(ins))
	called := h.ticks.Add(1)
	verdicts, err := h.store.Commit(ctx, transitions)
	if err != nil {
		return err
	}
	for k, v := range verdicts {
		outs[k].outcome = v.Outcome
		if v.Existing != nil {
			outs[k].found = registerOf(*v.Existing)
		}
	}
	h.record(caller, called, ins, outs)
	return nil
}

func (in registerInput) transition() saga.Transition {
	t := saga.Transition{ID: registerID(in.instance), Expect: in.expect, State: in.state, Engine: []byte("{}"), Wake: -1}
	if in.data != "" {
		t.Data = []byte(in.data)
	}
	if in.expect == 0 {
		t.Start = &saga.Start{Definition: "d", Version: 1, Key: t.ID}
	}
	for n := range in.records {
		r := saga.HistoryRecord{Revision: in.expect + n + 1, Entry: []byte(in.state)}
		if n == 0 && in.input > 0 {
			r.Input = fmt.Sprint("input-", in.input)
		}
		t.History = append(t.History, r)
	}
	return t
}

// quarrel lets callers load, and commit upon what they have loaded: some time ago, or never.
func (h *registerHistory) quarrel(ctx context.Context, seed uint64) error {
	const callers, each = 5, 24
	errs := make([]error, callers)
	var all sync.WaitGroup
	for caller := range callers {
		all.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(caller)))
			known := make([]register, instances) // what the caller believes
			for n := range each {
				which := random.Perm(instances)[:1+random.IntN(instances)]
				if random.IntN(3) == 0 {
					found, err := h.load(ctx, caller, which...)
					if err != nil {
						errs[caller] = err
						return
					}
					for k, i := range which {
						known[i] = found[k]
					}
					continue
				}
				batch := make([]registerInput, len(which))
				for k, i := range which {
					in := registerInput{
						instance: i, expect: known[i].revision, records: 1 + random.Uint64N(2), input: random.IntN(20),
						state: fmt.Sprintf("commit %d of %d", n, caller),
					}
					if random.IntN(2) == 0 {
						in.data = in.state
					}
					if random.IntN(12) == 0 {
						in.expect++ // ahead, perhaps
					}
					if in.expect == 0 {
						in.input = 0
					}
					known[i].revision = in.expect + in.records // so it hopes
					batch[k] = in
				}
				if err := h.commit(ctx, caller, batch...); err != nil {
					errs[caller] = err
					return
				}
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

func (h *registerHistory) check() porcupine.CheckResult {
	return porcupine.CheckOperationsTimeout(registers, h.calls, time.Minute)
}

// String lists the calls in the order in which they began.
func (h *registerHistory) String() string {
	var text strings.Builder
	slices.SortStableFunc(h.calls, func(a, b porcupine.Operation) int { return cmp.Compare(a.Call, b.Call) })
	for _, c := range h.calls {
		fmt.Fprintf(&text, "%4d-%4d caller %d: %+v -> %+v\n", c.Call, c.Return, c.ClientId, c.Input, c.Output)
	}
	return text.String()
}

// turns are several processes' views of one store, which are asked in turn.
type turns struct {
	saga.Store // the first of them
	all        []saga.Store
	calls      atomic.Int64
}

func (s *turns) next() saga.Store { return s.all[s.calls.Add(1)%int64(len(s.all))] }

func (s *turns) Commit(ctx context.Context, transitions []saga.Transition) ([]saga.Verdict, error) {
	return s.next().Commit(ctx, transitions)
}

func (s *turns) Load(ctx context.Context, ids ...string) ([]saga.Record, error) {
	return s.next().Load(ctx, ids...)
}

func openSQLite(t *testing.T, processes int) saga.Store {
	path := filepath.Join(t.TempDir(), "sagas.db")
	s := &turns{}
	for range processes {
		db, err := sqlite.Open(path)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, db.Close()) })
		s.all = append(s.all, sqlite.NewStore(db))
	}
	s.Store = s.all[0]
	return s
}

func openPostgres(t *testing.T, processes int) saga.Store {
	s, url, schema := &turns{}, services.Postgres.URL(t), services.Name()
	for k := range processes {
		pool, err := pgxpool.New(t.Context(), url)
		require.NoError(t, err)
		t.Cleanup(func() {
			if k == 0 {
				_, err := pool.Exec(context.Background(), `DROP SCHEMA `+schema+` CASCADE`)
				require.NoError(t, err)
			}
			pool.Close()
		})
		db, err := postgres.Open(t.Context(), pool, postgres.WithSchema(schema), postgres.AcceptDataLoss())
		require.NoError(t, err)
		s.all = append(s.all, postgres.NewStore(db))
	}
	s.Store = s.all[0]
	return s
}

func openMySQL(t *testing.T, processes int) saga.Store {
	s := &turns{}
	pools, schema := mariadbtest.Pools(t, processes)
	for _, pool := range pools {
		db, err := mysql.Open(t.Context(), pool, mysql.WithSchema(schema), mysql.AcceptDataLoss())
		require.NoError(t, err)
		s.all = append(s.all, mysql.NewStore(db))
	}
	s.Store = s.all[0]
	return s
}

func TestInstancesAreLinearizable(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(t *testing.T) saga.Store{
		"memory":                    func(*testing.T) saga.Store { return memory.NewStore() },
		"sqlite":                    func(t *testing.T) saga.Store { return openSQLite(t, 1) },
		"sqlite in two processes":   func(t *testing.T) saga.Store { return openSQLite(t, 2) },
		"postgres":                  func(t *testing.T) saga.Store { return openPostgres(t, 1) },
		"postgres in two processes": func(t *testing.T) saga.Store { return openPostgres(t, 2) },
		"mysql":                     func(t *testing.T) saga.Store { return openMySQL(t, 1) },
		"mysql in two processes":    func(t *testing.T) saga.Store { return openMySQL(t, 2) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			seen := map[string]int{}
			for seed := range uint64(4) {
				h := newRegisterHistory(open(t))
				require.NoError(t, h.quarrel(t.Context(), seed))
				require.Equal(t, porcupine.Ok, h.check(), "no order of these calls is that of registers:\n%s", h)
				h.requireHistories(t)
				for what, n := range h.seen {
					seen[what] += n
				}
			}
			for _, what := range []string{"committed", "conflict", "exists", "duplicate", "loaded"} {
				require.NotZero(t, seen[what], "nobody was answered %q: %v", what, seen)
			}
		})
	}
}

// requireHistories checks that the history of each instance is made of what was answered as committed, and of nothing else.
func (h *registerHistory) requireHistories(t *testing.T) {
	t.Helper()
	for n := range instances {
		want := map[uint64]string{}
		for _, c := range h.calls {
			in := c.Input.(registerInput)
			if in.instance == n && !in.load && c.Output.(registerOutput).outcome == saga.Committed {
				for k := range in.records {
					want[in.expect+k+1] = in.state
				}
			}
		}
		records, err := h.store.History(t.Context(), registerID(n), 0, 10_000)
		require.NoError(t, err)
		got := map[uint64]string{}
		for _, r := range records {
			got[r.Revision] = string(r.Entry)
		}
		require.Equal(t, want, got)
		require.Len(t, records, len(want))
	}
}

// The tests of the test: stores with a fault, of which no order makes sense.

// lagging answers Load with what it answered the time before, as a replica does that is behind.
type lagging struct {
	saga.Store
	mu   sync.Mutex
	last map[string]saga.Record
}

func (s *lagging) Load(ctx context.Context, ids ...string) ([]saga.Record, error) {
	records, err := s.Store.Load(ctx, ids...)
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, r := range records {
		if last, ok := s.last[r.ID]; ok {
			records[k] = last
		}
		s.last[r.ID] = r
	}
	return records, err
}

// looksFirst compares the revision before the commit, not in it: what others commit between the two is overwritten.
type looksFirst struct {
	*memory.Store
	gap func() // what happens between the two
}

func (s looksFirst) Commit(ctx context.Context, transitions []saga.Transition) ([]saga.Verdict, error) {
	fresh := make([]bool, len(transitions))
	for i, t := range transitions {
		r, _ := load(s.Store, t.ID)
		fresh[i] = r.Revision == t.Expect
	}
	s.gap()
	transitions = clone(transitions)
	for i := range transitions {
		if r, ok := load(s.Store, transitions[i].ID); ok && fresh[i] {
			rebase(&transitions[i], r.Revision)
		}
	}
	return s.Store.Commit(ctx, transitions)
}

func TestInstancesOfAStoreWithAFaultAreNotLinearizable(t *testing.T) {
	t.Parallel()
	for name, plant := range map[string]func(good *memory.Store) saga.Store{
		"compare-and-set lost": func(good *memory.Store) saga.Store {
			return beforeCommit(func(s *memory.Store, t *saga.Transition) {
				if r, ok := load(s, t.ID); ok {
					rebase(t, r.Revision)
				}
			})(good, nil)
		},
		"duplicate check dropped": func(good *memory.Store) saga.Store {
			return beforeCommit(func(_ *memory.Store, t *saga.Transition) {
				for i := range t.History {
					t.History[i].Input = ""
				}
			})(good, nil)
		},
		"reads from a replica that is behind": func(good *memory.Store) saga.Store {
			return &lagging{Store: good, last: map[string]saga.Record{}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(4) {
				h := newRegisterHistory(plant(memory.NewStore()))
				require.NoError(t, h.quarrel(t.Context(), seed))
				if h.check() == porcupine.Illegal {
					return
				}
			}
			t.Error("the fault is not noticed")
		})
	}
}

// A fault that only callers at the same time bring to light: two look, and then both commit.
func TestCompareAndSetInTwoStepsIsNotLinearizable(t *testing.T) {
	t.Parallel()
	good := memory.NewStore()
	h := newRegisterHistory(good)
	require.NoError(t, h.commit(t.Context(), 0, registerInput{records: 1, state: "new"}))
	var looked sync.WaitGroup
	looked.Add(2)
	h.store = looksFirst{good, func() { looked.Done(); looked.Wait() }}
	var both sync.WaitGroup
	errs := make([]error, 2)
	for caller := range 2 {
		both.Go(func() {
			errs[caller] = h.commit(t.Context(), caller, registerInput{expect: 1, records: 1, state: fmt.Sprint("of ", caller)})
		})
	}
	both.Wait()
	require.NoError(t, errors.Join(errs...))
	require.Equal(t, porcupine.Illegal, h.check(), "%s", h)
}
