package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/postgres"
	"github.com/sagamill/sagamill/saga"
)

// A new version of the program is rolled over the old one under load, one process after the other: the new ones know both
// versions of the definition, the old ones only theirs. No process dies, so no step runs twice; and none is left out.
func TestNewVersionRolledOverTheOldOneUnderLoad(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.open()
	w := &tally{effects: map[string]int{}}
	old := saga.Linear("journey",
		saga.Do("hotel", w.do).Undo(w.undo),
		saga.Do("flight", w.do).Undo(w.undo),
		saga.Do("card", w.decide).Pivot(),
		saga.Do("mail", w.do).Retriable(),
	)
	changed := saga.Linear("journey",
		saga.Do("hotel", w.do).Undo(w.undo),
		saga.Do("insurance", w.do).Undo(w.undo),
		saga.Do("flight", w.do).Undo(w.undo),
		saga.Do("card", w.decide).Pivot(),
		saga.Do("mail", w.do).Retriable(),
	).WithVersion(2)
	steps := map[int][]string{1: {"hotel", "flight", "card", "mail"}, 2: {"hotel", "insurance", "flight", "card", "mail"}}

	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	f := &fleet{t: t, d: d, ctx: ctx}
	defer f.closeAll()
	for range 3 {
		f.launch(old, old)
	}
	const journeys = 600
	var load sync.WaitGroup
	turns := make(chan int) // unbuffered: as the load goes on, so does the rolling
	for range 16 {
		load.Go(func() {
			for n := range turns {
				assert.NoError(t, f.travel(ctx, n))
			}
		})
	}
	for n := range journeys {
		if n%100 == 50 && f.oldest() == old { // the new one comes before the old one goes
			f.launch(changed, old, changed)
			load.Go(f.retire)
		}
		select {
		case turns <- n:
		case <-ctx.Done():
			t.Fatal("it takes too long")
		}
	}
	close(turns)
	load.Wait()
	require.Equal(t, changed, f.oldest(), "all of the old ones are gone")

	seen := map[int]int{}
	any := f.all[0].orchestrator
	for n := range journeys {
		i, err := any.Lookup(ctx, "journey", fmt.Sprint("j", n))
		require.NoError(t, err)
		require.True(t, i.Settled)
		seen[i.Version]++
		undone := 0
		want := saga.Completed
		if refused(n) {
			want, undone = saga.Failed, 1
		}
		require.EqualValues(t, want, i.State)
		for _, step := range steps[i.Version] {
			key := i.ID + "/" + step + "/1"
			switch {
			case !refused(n) || step != "card" && step != "mail":
				require.Equal(t, 1, w.effects[key], "%s of version %d", key, i.Version)
			default:
				require.Zero(t, w.effects[key], key)
			}
			if step != "card" && step != "mail" {
				require.Equal(t, undone, w.effects["undo of "+key], key)
			}
		}
	}
	require.Greater(t, seen[1], 50)
	require.Greater(t, seen[2], 50)
}

func refused(n int) bool { return n%4 == 3 }

// tally counts effects.
type tally struct {
	mu      sync.Mutex
	effects map[string]int
}

func (w *tally) note(key string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.effects[key]++
	return nil
}

type journey struct{ Refused bool }

func (w *tally) do(ctx context.Context, _ journey) error { return w.note(saga.Info(ctx).EffectKey) }

func (w *tally) undo(ctx context.Context, _ journey) error {
	return w.note("undo of " + saga.Info(ctx).ActionKey)
}

func (w *tally) decide(ctx context.Context, j journey) error {
	if j.Refused {
		return saga.Reject("refused")
	}
	return w.do(ctx, j)
}

// fleet is the processes that there are, the oldest first.
type fleet struct {
	t   *testing.T
	d   *database
	ctx context.Context

	mu    sync.Mutex
	all   []member
	turn  int
	ended sync.WaitGroup
}

type member struct {
	orchestrator *saga.Orchestrator
	starts       *saga.LinearDefinition[journey] // what it starts
}

// launch adds a process that knows some definitions, and starts one of them.
func (f *fleet) launch(starts *saga.LinearDefinition[journey], knows ...saga.AnyDefinition) {
	o, err := saga.NewOrchestrator(postgres.NewStore(f.d.openOn(f.d.newPool())), saga.OrchestratorConfig{
		Definitions: knows, PollInterval: 50 * time.Millisecond,
	}, watermill.NopLogger{})
	require.NoError(f.t, err)
	f.ended.Go(func() { assert.NoError(f.t, o.Run(f.ctx)) })
	<-o.Running()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all = append(f.all, member{o, starts})
}

// retire takes the oldest process out of service: nothing new comes to it, and it finishes what it is at.
func (f *fleet) retire() {
	f.mu.Lock()
	first := f.all[0]
	f.all = f.all[1:]
	f.mu.Unlock()
	assert.NoError(f.t, first.orchestrator.Close())
}

func (f *fleet) oldest() *saga.LinearDefinition[journey] {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.all[0].starts
}

func (f *fleet) next() member {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.turn++
	return f.all[f.turn%len(f.all)]
}

func (f *fleet) closeAll() {
	for _, m := range f.all {
		assert.NoError(f.t, m.orchestrator.Close())
	}
	f.ended.Wait()
}

// travel starts a journey and waits for its end, at whichever process there is; one that closes sends it to another.
func (f *fleet) travel(ctx context.Context, n int) error {
	params := saga.StartParams[journey]{Key: fmt.Sprint("j", n), Data: journey{Refused: refused(n)}}
	for {
		m := f.next()
		_, err := m.starts.Start(ctx, m.orchestrator, params)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return err
		}
		if !errors.Is(err, saga.ErrClosed) {
			return fmt.Errorf("start: %w", err)
		}
	}
	for {
		m := f.next()
		_, err := m.starts.Wait(ctx, m.orchestrator, params.Key)
		if err == nil || ctx.Err() != nil {
			return err
		}
		if !errors.Is(err, saga.ErrClosed) {
			return fmt.Errorf("wait: %w", err)
		}
	}
}
