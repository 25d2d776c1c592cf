package mysql_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"

	sagamysql "github.com/sagamill/sagamill/adapters/mysql"
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

func badState(t *saga.Transition) { t.State = strings.Repeat("s", 256) }

// The server refuses a state or an input that begins with this: see refuses.
const refused = "refused:"

func refusedState(t *saga.Transition) { t.State = refused + t.State }

func refusedInput(t *saga.Transition) {
	if len(t.History) == 0 {
		t.History = []saga.HistoryRecord{{Revision: t.Expect + 1}}
	}
	t.History = slices.Clone(t.History)
	t.History[len(t.History)-1].Input = refused + t.ID
}

// refuses makes the server check what is written.
func (d *database) refuses() {
	d.tb.Helper()
	d.exec(`ALTER TABLE ` + d.table("instances") + ` ADD CONSTRAINT refused_state CHECK (LEFT(state, 8) <> '` + refused + `')`)
	d.exec(`ALTER TABLE ` + d.table("history") + ` ADD CONSTRAINT refused_input CHECK (LEFT(input, 8) <> '` + refused + `')`)
}

func TestStore(t *testing.T) {
	t.Parallel()
	d := newDatabase(t).withClocks()
	d.run(t, []string{""}, func(tb testing.TB) storetest.Harness { return d.harness(tb, badState) })
}

// harness is for one rule; all of them share the tables.
func (d *database) harness(tb testing.TB, reject func(*saga.Transition), configure ...func(*mysql.Config)) storetest.Harness {
	d = d.of(tb)
	clock := d.newClock()
	pool := d.newPool(configure...)
	return storetest.Harness{
		Store:   sagamysql.NewStore(d.openOn(pool, clock.option())),
		Advance: clock.advance,
		Reject:  reject,
		Reopen: func() saga.Store {
			require.NoError(tb, pool.Close())
			pool = d.newPool(configure...)
			return sagamysql.NewStore(d.openOn(pool, clock.option()))
		},
	}
}

// Without interpolateParams the driver prepares each statement; and sessions may be set to anything.
func TestStoreOnOtherSessions(t *testing.T) {
	t.Parallel()
	for name, configure := range map[string]func(*mysql.Config){
		"prepared":           func(c *mysql.Config) { c.InterpolateParams = false },
		"clientFoundRows":    func(c *mysql.Config) { c.ClientFoundRows = true },
		"parseTime":          func(c *mysql.Config) { c.ParseTime, c.Loc = true, time.FixedZone("east", 3600) },
		"not strict":         param("sql_mode", "''"),
		"ANSI":               param("sql_mode", "'ANSI,TRADITIONAL'"),
		"serializable":       param("tx_isolation", "'SERIALIZABLE'"),
		"another time zone":  param("time_zone", "'-07:00'"),
		"latin1 connections": func(c *mysql.Config) { _ = c.Apply(mysql.Charset("latin1", "latin1_swedish_ci")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDatabase(t).withClocks()
			rules := []string{"batch/", "start key/", "wake-up/", "claim/", "touch/", "bytes/", "read/"}
			if name == "prepared" || name == "serializable" {
				rules = append(rules, rulesOfCommit...)
			}
			d.run(t, rules, func(tb testing.TB) storetest.Harness { return d.harness(tb, badState, configure) })
		})
	}
}

// Without a clock of the test's, times are the server's own, whatever the time zone of the session.
func TestTimesAreTheServers(t *testing.T) {
	t.Parallel()
	d := newDatabase(t, param("time_zone", "'+05:30'"))
	store := sagamysql.NewStore(d.open())
	now := func() time.Time {
		return time.UnixMicro(scan[int64](d, `SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))`)).UTC()
	}
	before := now()
	require.WithinDuration(t, time.Now(), before, time.Minute, "the server is near")
	verdicts, err := store.Commit(t.Context(), []saga.Transition{start("a")})
	require.NoError(t, err)
	records, next, err := store.Claim(t.Context(), saga.Claim{Definitions: []saga.DefinitionVersion{{Name: "order", Version: 1}}, Limit: 9, Hold: time.Hour})
	require.NoError(t, err)
	after := now()
	require.Len(t, records, 1)
	require.Positive(t, next)
	for i, at := range []time.Time{before, verdicts[0].At, records[0].ReadAt, after} {
		require.False(t, at.Before(before) || at.After(after), "time %d is %s, not between %s and %s", i, at, before, after)
	}
	require.Equal(t, verdicts[0].At, records[0].CreatedAt)
	require.WithinRange(t, records[0].WakeAt, before.Add(time.Hour), after.Add(time.Hour))
}

// What the server itself refuses fails alone, and takes back what was written of its instance.
func TestStoreRejections(t *testing.T) {
	t.Parallel()
	d := newDatabase(t).withClocks()
	d.open()
	d.refuses()
	for what, reject := range map[string]func(*saga.Transition){"state": refusedState, "input": refusedInput} {
		t.Run(what, func(t *testing.T) {
			d.run(t, []string{"batch/"}, func(tb testing.TB) storetest.Harness { return d.harness(tb, reject) })
		})
	}
}

// Nothing is cut off that is too long for its column, also where the server would do that.
func TestTooLong(t *testing.T) {
	t.Parallel()
	d := newDatabase(t, param("sql_mode", "''"))
	store := sagamysql.NewStore(d.open())
	long := strings.Repeat("x", 1<<16)
	for what, change := range map[string]func(*saga.Transition){
		"the ID": func(t *saga.Transition) { t.ID = long[:256] }, "the state": func(t *saga.Transition) { t.State = long[:256] },
		"the reason for attention": func(t *saga.Transition) { t.Attention = strings.Repeat(long, 256) },
		"an input":                 func(t *saga.Transition) { t.History[0].Input = long[:1025] },
		"the definition":           func(t *saga.Transition) { t.Start.Definition = long[:256] },
		"the business key":         func(t *saga.Transition) { t.Start.Key = long[:1025] },
		"the start key":            func(t *saga.Transition) { t.Start.StartKey = &saga.StartKey{Key: long} },
	} {
		tr := start("a")
		change(&tr)
		verdicts, err := store.Commit(t.Context(), []saga.Transition{tr})
		require.NoError(t, err)
		require.Equal(t, saga.Unwritable, verdicts[0].Outcome, what)
		require.ErrorContains(t, verdicts[0].Err, what)
	}
	packet := scan[int](d, `SELECT @@max_allowed_packet`)
	large := start("large")
	large.Data = make([]byte, packet)
	small := start("small")
	verdicts, err := store.Commit(t.Context(), []saga.Transition{large, small})
	require.NoError(t, err)
	require.Equal(t, saga.Unwritable, verdicts[0].Outcome)
	require.ErrorContains(t, verdicts[0].Err, "max_allowed_packet")
	require.Equal(t, saga.Committed, verdicts[1].Outcome)

	longest := start(long[:255])
	longest.State, longest.History[0].Input, longest.Start.Key = long[:255], long[:1024], long[:1024]
	longest.Start.StartKey = &saga.StartKey{Key: long[:1<<16-1]}
	require.Equal(t, []saga.Outcome{saga.Committed}, outcomes(t, store, longest))
	record, err := store.Lookup(t.Context(), "order", long[:1024])
	require.NoError(t, err)
	require.Equal(t, longest.ID, record.ID)
	require.Equal(t, longest.State, record.State)
}

// rulesOfCommit are the groups of rules that Commit has to follow.
var rulesOfCommit = []string{"commit/", "compare-and-set/", "inputs/", "batch/", "business key/", "start key/", "wake-up/", "concurrency/"}

// run runs groups of rules. Those of claims have the tables for themselves, as they ask for what is due in its order: whoever looks through
// another definition's part of the index has the first row behind it locked for a moment, and a claim passes that over.
func (d *database) run(t *testing.T, groups []string, open func(tb testing.TB) storetest.Harness) {
	for _, rule := range storetest.Rules() {
		if !slices.ContainsFunc(groups, func(group string) bool { return strings.HasPrefix(rule.Name, group) }) {
			continue
		}
		t.Run(rule.Name, func(t *testing.T) {
			if !strings.HasPrefix(rule.Name, "claim/") {
				t.Parallel()
			}
			rule.Check(t, open(t))
		})
	}
}

// The suite with stores in several processes, so far as pools of their own are that.
func TestStoreOfTwoProcesses(t *testing.T) {
	t.Parallel()
	d := newDatabase(t).withClocks()
	d.run(t, []string{"business key/", "start key/", "claim/", "concurrency/"}, func(tb testing.TB) storetest.Harness {
		d := d.of(tb)
		clock := d.newClock()
		one, other := d.openOn(d.newPool(), clock.option()), d.openOn(d.newPool(), clock.option())
		return storetest.Harness{
			Store:   &processes{Store: sagamysql.NewStore(one), other: sagamysql.NewStore(other)},
			Advance: clock.advance,
		}
	})
}

// processes lets two stores take turns.
type processes struct {
	*sagamysql.Store
	other *sagamysql.Store
	calls atomic.Int64
}

func (p *processes) next() *sagamysql.Store {
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

// A batch that is too large for one transaction, or for one statement, goes in several.
func TestLargeBatch(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	store := sagamysql.NewStore(d.open())
	var heavy, many, more []saga.Transition
	for i := range 40 {
		s := start(fmt.Sprintf("h%02d", i))
		s.Data = make([]byte, 1<<20)
		heavy = append(heavy, s)
	}
	for i := range 1000 {
		s := start(fmt.Sprintf("i%04d", i))
		s.History = append(s.History, saga.HistoryRecord{Revision: 2}, saga.HistoryRecord{Revision: 3, Input: "in 3"})
		many = append(many, s)
		more = append(more, next(s.ID, 3))
	}
	for _, batch := range [][]saga.Transition{heavy, many, more} {
		for _, o := range outcomes(t, store, batch...) {
			require.Equal(t, saga.Committed, o)
		}
	}
	require.Equal(t, 40, scan[int](d, `SELECT COUNT(*) FROM `+d.table("instances")+` WHERE LENGTH(data) = 1 << 20`))
	require.Equal(t, 40+4000, scan[int](d, `SELECT COUNT(*) FROM `+d.table("history")))
	ids := make([]string, len(many))
	for i := range many {
		ids[i] = many[i].ID
	}
	records, err := store.Load(t.Context(), ids...)
	require.NoError(t, err)
	require.Len(t, records, 1000)
}
