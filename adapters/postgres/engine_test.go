package postgres_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/postgres"
	"github.com/sagamill/sagamill/saga"
)

// The engine on the store, while the database is badly treated. Each saga reaches its end, each step has its effect, and what was
// done for the ones that fail is undone.

// world is where the steps have their effects, and who is told of each.
type world struct {
	mu      sync.Mutex
	effects map[string]int // by key: how often
	ran     chan struct{}  // a step has run
}

type journey struct {
	Refused bool
}

func (w *world) do(ctx context.Context, _ journey) error {
	w.note(saga.Info(ctx).EffectKey)
	return nil
}

func (w *world) undo(ctx context.Context, _ journey) error {
	w.note("undo of " + saga.Info(ctx).ActionKey)
	return nil
}

func (w *world) decide(ctx context.Context, j journey) error {
	if j.Refused {
		return saga.Reject("refused")
	}
	return w.do(ctx, j)
}

func (w *world) note(key string) {
	w.mu.Lock()
	w.effects[key]++
	w.mu.Unlock()
	w.ran <- struct{}{}
}

// run runs so many journeys, every fourth of which is refused, while after each 20 steps treat is called.
func (d *database) runJourneys(t *testing.T, pools []*pgxpool.Pool, journeys int, treat func(n int)) {
	t.Helper()
	w := &world{effects: map[string]int{}, ran: make(chan struct{})}
	definition := saga.Linear("journey",
		saga.Do("hotel", w.do).Undo(w.undo),
		saga.Do("flight", w.do).Undo(w.undo),
		saga.Do("card", w.decide).Pivot(),
		saga.Do("mail", w.do).Retriable(),
	)
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	var all []*saga.Orchestrator
	for _, pool := range pools {
		o, err := saga.NewOrchestrator(postgres.NewStore(d.openOn(pool)), saga.OrchestratorConfig{
			Definitions: []saga.AnyDefinition{definition}, PollInterval: 50 * time.Millisecond,
		}, watermill.NopLogger{})
		require.NoError(t, err)
		running.Go(func() { assert.NoError(t, o.Run(ctx)) })
		defer func() { assert.NoError(t, o.Close()) }()
		all = append(all, o)
	}
	running.Go(func() {
		for n := 1; ; n++ {
			select {
			case <-w.ran:
				if n%20 == 0 {
					treat(n / 20)
				}
			case <-ctx.Done():
				return
			}
		}
	})
	ended := w.await(ctx, t, all, definition, journeys)
	w.check(ctx, t, all[0], ended)
}

// await starts the journeys and waits for their ends. To start one again is no harm, when the answer was an error.
func (w *world) await(ctx context.Context, t *testing.T, all []*saga.Orchestrator, definition *saga.LinearDefinition[journey], journeys int) []saga.LinearState {
	ended := make([]saga.LinearState, journeys)
	var starters sync.WaitGroup
	for i := range journeys {
		starters.Go(func() {
			o := all[i%len(all)]
			params := saga.StartParams[journey]{Key: fmt.Sprint("j", i), Data: journey{Refused: i%4 == 3}}
			for ctx.Err() == nil {
				if _, err := definition.Start(ctx, o, params); err != nil {
					continue
				}
				if s, err := definition.Wait(ctx, o, params.Key); err == nil {
					ended[i] = s.State
					return
				}
			}
		})
	}
	starters.Wait()
	require.NoError(t, ctx.Err(), "not all journeys have ended in time")
	return ended
}

// check looks at the books.
func (w *world) check(ctx context.Context, t *testing.T, o *saga.Orchestrator, ended []saga.LinearState) {
	w.mu.Lock()
	defer w.mu.Unlock()
	want := 0
	for i, state := range ended {
		instance, err := o.Lookup(ctx, "journey", fmt.Sprint("j", i))
		require.NoError(t, err)
		require.True(t, instance.Settled)
		history, err := o.History(ctx, instance.ID, 0, 1000)
		require.NoError(t, err)
		for n, h := range history {
			require.EqualValues(t, n+1, h.Revision)
		}
		require.EqualValues(t, len(history), instance.Revision)
		for _, step := range []string{"hotel", "flight"} {
			key := instance.ID + "/" + step + "/1"
			require.NotZero(t, w.effects[key], "%s of a journey that has %s", key, state)
			require.Equal(t, state == saga.Failed, w.effects["undo of "+key] > 0, key)
		}
		if i%4 == 3 {
			require.Equal(t, saga.Failed, state)
			want += 4
		} else {
			require.Equal(t, saga.Completed, state)
			want += 4
		}
	}
	require.Len(t, w.effects, want, "no effect has a second name")
}

func TestServerRestartedUnderLoad(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	victims := d.newPool(func(c *pgxpool.Config) { c.ConnConfig.RuntimeParams["application_name"] = d.schema + " victim" })
	const end = `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = $1`
	ended := 0
	d.runJourneys(t, []*pgxpool.Pool{victims}, 60, func(int) { ended += scan[int](d, end, d.schema+" victim") })
	require.NotZero(t, ended)
}

// Connections break before and after what they carry is done, the answers to commits included; and the server is away now and then.
func TestConnectionsLostUnderLoad(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	p := newProxy(t, d.url)
	d.runJourneys(t, []*pgxpool.Pool{d.newPool(p.through), d.newPool(p.through)}, 60, func(n int) {
		switch n % 4 {
		case 0:
			p.setDown(true)
			p.setDown(false)
		case 1:
			p.cutIn(n%3, before)
		default:
			p.cutIn(n%5, after)
		}
	})
	require.NotZero(t, p.cuts.Load())
}

// The least pool that there is.
func TestOneConnection(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.runJourneys(t, []*pgxpool.Pool{d.newPool(func(c *pgxpool.Config) { c.MaxConns = 1 })}, 40, func(int) {})
}

// Somebody locks what runs, again and again.
func TestForeignLocksUnderLoad(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.open()
	locker := d.newPool()
	d.runJourneys(t, []*pgxpool.Pool{d.newPool()}, 40, func(n int) {
		tx, err := locker.Begin(context.Background())
		if !assert.NoError(t, err) {
			return
		}
		_, err = tx.Exec(context.Background(), `SELECT FROM `+d.table("instances")+` WHERE NOT settled ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED`)
		assert.NoError(t, err)
		time.AfterFunc(300*time.Millisecond, func() { _ = tx.Rollback(context.Background()) })
	})
}
