package memory_test

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/memory"
	"github.com/sagamill/sagamill/saga"
	"github.com/sagamill/sagamill/saga/storetest"
)

func TestStore(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(testing.TB) storetest.Harness {
		clock := storetest.NewClock()
		const limit = 2 << 20
		return storetest.Harness{
			Store:   memory.NewStore(memory.WithClock(clock.Now), memory.WithMaxBytes(limit)),
			Advance: clock.Advance,
			Reject:  func(t *saga.Transition) { t.Engine = bytes.Repeat([]byte("x"), limit+1) },
		}
	})
}

// The suite as a store with a clock of its own sees it, in the time of a bubble.
func TestStoreOwnClock(t *testing.T) {
	t.Parallel()
	for _, rule := range storetest.Rules() {
		t.Run(rule.Name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				rule.Check(t, storetest.Harness{Store: memory.NewStore()})
			})
		})
	}
}

// Claims stay in order when wake-up times move in all directions.
func TestClaimOrderAfterMoves(t *testing.T) {
	t.Parallel()
	clock := storetest.NewClock()
	store := memory.NewStore(memory.WithClock(clock.Now))
	var batch []saga.Transition
	for i := range 200 {
		id := string([]rune{'a' + rune(i/20), 'a' + rune(i%20)})
		batch = append(batch, saga.Transition{
			ID: id, Start: &saga.Start{Definition: "d", Version: 1, Key: id}, Wake: time.Duration(i*37%200) * time.Second,
			History: []saga.HistoryRecord{{Revision: 1}},
		})
	}
	_, err := store.Commit(t.Context(), batch)
	require.NoError(t, err)
	for i := range batch {
		wake := time.Duration(i*91%200) * time.Second
		if i%7 == 0 {
			wake = saga.NoWake
		}
		require.NoError(t, store.Touch(t.Context(), []saga.Touch{{ID: batch[i].ID, Revision: 1, Wake: wake}}))
	}
	clock.Advance(time.Hour)
	claim := saga.Claim{Definitions: []saga.DefinitionVersion{{Name: "d", Version: 1}}, Limit: 1, Hold: time.Hour}
	var last time.Time
	for range 171 {
		due, err := store.List(t.Context(), saga.Query{Limit: 200})
		require.NoError(t, err)
		before := map[string]time.Time{}
		for _, r := range due {
			before[r.ID] = r.WakeAt
		}
		records, _, err := store.Claim(t.Context(), claim)
		require.NoError(t, err)
		require.Len(t, records, 1)
		at := before[records[0].ID]
		require.False(t, at.Before(last), "claims must come in order of their wake-up times")
		last = at
	}
	records, next, err := store.Claim(t.Context(), claim)
	require.NoError(t, err)
	require.Empty(t, records)
	require.Equal(t, time.Hour, next)
}
