// Package baddaytest is for the tests of stores: it lets the engine run on them while their database is badly treated.
package baddaytest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/saga"
)

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

// Run runs so many journeys on stores that are one, each in a process of its own so to speak. Every fourth is refused, and after each
// 20 steps treat is called. Each saga has to reach its end, each step to have its effect, and what was done for the ones that
// fail has to be undone.
func Run(t *testing.T, stores []saga.Store, journeys int, treat func(n int)) {
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
	for _, store := range stores {
		o, err := saga.NewOrchestrator(store, saga.OrchestratorConfig{
			Definitions: []saga.AnyDefinition{definition}, PollInterval: 50 * time.Millisecond,
		}, watermill.NopLogger{})
		require.NoError(t, err)
		running.Go(func() { assert.NoError(t, o.Run(ctx)) })
		defer func() { assert.NoError(t, o.Close()) }()
		all = append(all, o)
	}
	for _, o := range all { // one that cannot reach its store does not begin
		select {
		case <-o.Running():
		case <-ctx.Done():
			require.NoError(t, ctx.Err(), "not all orchestrators run")
		}
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
