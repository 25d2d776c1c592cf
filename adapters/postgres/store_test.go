package postgres_test

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/postgres"
	"github.com/sagamill/sagamill/saga"
	"github.com/sagamill/sagamill/saga/storetest"
)

// start is the first transition of an instance that is due at once.
func start(id string) saga.Transition {
	return saga.Transition{
		ID: id, State: "new", Engine: []byte(`{"ledger":[]}`), Data: []byte(`{"amount":3}`), Wake: 0,
		Start: &saga.Start{Definition: "order", Version: 1, Key: "key of " + id}, History: []saga.HistoryRecord{{Revision: 1, Input: "in"}},
	}
}

// next is a transition that changes nothing that is indexed.
func next(id string, expect uint64) saga.Transition {
	return saga.Transition{
		ID: id, Expect: expect, State: "on its way", Engine: []byte(`{"ledger":[1]}`), Wake: -1,
		History: []saga.HistoryRecord{{Revision: expect + 1}},
	}
}

func outcomes(t *testing.T, store saga.Committer, transitions ...saga.Transition) (all []saga.Outcome) {
	t.Helper()
	verdicts, err := store.Commit(t.Context(), transitions)
	require.NoError(t, err)
	for _, v := range verdicts {
		all = append(all, v.Outcome)
	}
	return all
}

// No text of PostgreSQL has a zero byte, so these are refused wherever they are.
func badState(t *saga.Transition) { t.State = "a\x00" }

func badInput(t *saga.Transition) {
	if len(t.History) == 0 {
		t.History = []saga.HistoryRecord{{Revision: t.Expect + 1}}
	}
	t.History = slices.Clone(t.History)
	t.History[len(t.History)-1].Input = "a\x00"
}

func TestStore(t *testing.T) {
	t.Parallel()
	d := newDatabase(t).withClocks()
	storetest.Run(t, func(tb testing.TB) storetest.Harness { return d.harness(tb, badState) })
}

// harness is for one rule; all of them share the tables.
func (d *database) harness(tb testing.TB, reject func(*saga.Transition)) storetest.Harness {
	d = d.of(tb)
	clock := d.newClock()
	pool := d.newPool(clock.sees)
	return storetest.Harness{
		Store:   postgres.NewStore(d.openOn(pool)),
		Advance: clock.advance,
		Reject:  reject,
		Reopen: func() saga.Store {
			pool.Close()
			pool = d.newPool(clock.sees)
			return postgres.NewStore(d.openOn(pool))
		},
	}
}

// Without a clock of the test's, times are the server's own.
func TestTimesAreTheServers(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	store := postgres.NewStore(d.open())
	before := scan[time.Time](d, `SELECT clock_timestamp()`)
	verdicts, err := store.Commit(t.Context(), []saga.Transition{start("a")})
	require.NoError(t, err)
	records, next, err := store.Claim(t.Context(), saga.Claim{Definitions: []saga.DefinitionVersion{{Name: "order", Version: 1}}, Limit: 9, Hold: time.Hour})
	require.NoError(t, err)
	after := scan[time.Time](d, `SELECT clock_timestamp()`)
	require.Len(t, records, 1)
	require.Positive(t, next)
	for i, at := range []time.Time{before, verdicts[0].At, records[0].ReadAt, after} {
		require.False(t, at.Before(before) || at.After(after), "time %d is %s, not between %s and %s", i, at, before, after)
	}
	require.Equal(t, verdicts[0].At, records[0].CreatedAt)
	require.WithinRange(t, records[0].WakeAt, before.Add(time.Hour), after.Add(time.Hour))
}

// A rejection of the history takes back what was written of its instance.
func TestStoreRejectsHistory(t *testing.T) {
	t.Parallel()
	d := newDatabase(t).withClocks()
	d.run(t, []string{"batch/"}, func(tb testing.TB) storetest.Harness { return d.harness(tb, badInput) })
}

// rulesOfCommit are the groups of rules that Commit has to follow.
var rulesOfCommit = []string{"commit/", "compare-and-set/", "inputs/", "batch/", "business key/", "start key/", "wake-up/", "concurrency/"}

// run runs groups of rules.
func (d *database) run(t *testing.T, groups []string, open func(tb testing.TB) storetest.Harness) {
	for _, rule := range storetest.Rules() {
		if !slices.ContainsFunc(groups, func(group string) bool { return strings.HasPrefix(rule.Name, group) }) {
			continue
		}
		t.Run(rule.Name, func(t *testing.T) {
			t.Parallel()
			rule.Check(t, open(t))
		})
	}
}

// While a batch leaves locked rows out, as it does when it has met a lock, the rules are the same.
func TestStoreApart(t *testing.T) {
	t.Parallel()
	d := newDatabase(t).withClocks()
	d.run(t, rulesOfCommit, func(tb testing.TB) storetest.Harness {
		h := d.harness(tb, badState)
		reopen := h.Reopen
		h.Store = suspicious{h.Store.(*postgres.Store)}
		h.Reopen = func() saga.Store { return suspicious{reopen().(*postgres.Store)} }
		return h
	})
}

// suspicious is a store that takes each transition for one that somebody else has locked. It waits for such a one shortly: on a
// machine that is busy a lock of the server's own may take longer, and the transition is Busy, and comes again.
type suspicious struct{ *postgres.Store }

func (s suspicious) Commit(ctx context.Context, transitions []saga.Transition) ([]saga.Verdict, error) {
	s.Suspect(transitions)
	verdicts, err := s.Store.Commit(ctx, transitions)
	for try := 0; err == nil && try < 100; try++ {
		var busy []int
		var again []saga.Transition
		for k, v := range verdicts {
			if v.Outcome == saga.Busy {
				busy, again = append(busy, k), append(again, transitions[k])
			}
		}
		if len(busy) == 0 {
			break
		}
		var second []saga.Verdict
		if second, err = s.Store.Commit(ctx, again); err == nil {
			for n, k := range busy {
				verdicts[k] = second[n]
			}
		}
	}
	return verdicts, err
}

// The suite with stores in several processes, so far as pools of their own are that.
func TestStoreOfTwoProcesses(t *testing.T) {
	t.Parallel()
	d := newDatabase(t).withClocks()
	d.run(t, []string{"business key/", "start key/", "claim/", "concurrency/"}, func(tb testing.TB) storetest.Harness {
		d := d.of(tb)
		clock := d.newClock()
		one, other := d.openOn(d.newPool(clock.sees)), d.openOn(d.newPool(clock.sees))
		return storetest.Harness{
			Store:   &processes{Store: postgres.NewStore(one), other: postgres.NewStore(other)},
			Advance: clock.advance,
		}
	})
}

// processes lets two stores take turns.
type processes struct {
	*postgres.Store
	other *postgres.Store
	calls atomic.Int64
}

func (p *processes) next() *postgres.Store {
	if p.calls.Add(1)%2 == 0 {
		return p.other
	}
	return p.Store
}

func (p *processes) Commit(ctx context.Context, transitions []saga.Transition) ([]saga.Verdict, error) {
	return p.next().Commit(ctx, transitions)
}

func (p *processes) Load(ctx context.Context, ids ...string) ([]saga.Record, error) {
	return p.next().Load(ctx, ids...)
}

func (p *processes) Claim(ctx context.Context, claim saga.Claim) ([]saga.Record, time.Duration, error) {
	return p.next().Claim(ctx, claim)
}

// A transition without any bytes is one like others.
func TestTransitionsWithoutBytes(t *testing.T) {
	t.Parallel()
	store := postgres.NewStore(newDatabase(t).open())
	bare := saga.Transition{
		ID: "a", State: "new", Wake: saga.NoWake, Start: &saga.Start{Definition: "order", Version: 1, Key: "k"},
		History: []saga.HistoryRecord{{Revision: 1}},
	}
	require.Equal(t, []saga.Outcome{saga.Committed}, outcomes(t, store, bare))
	more := saga.Transition{ID: "a", Expect: 1, State: "on its way", Wake: saga.NoWake, History: []saga.HistoryRecord{{Revision: 2}}}
	require.Equal(t, []saga.Outcome{saga.Committed}, outcomes(t, store, more))
}
