package memory_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/memory"
	"github.com/sagamill/sagamill/saga"
	"github.com/sagamill/sagamill/saga/inboxtest"
)

func TestInbox(t *testing.T) {
	t.Parallel()
	inboxtest.Run(t, func(testing.TB) inboxtest.Harness[*memory.Tx] {
		var mu sync.Mutex
		writes := map[string]int{}
		add := func(name string, n int) {
			mu.Lock()
			defer mu.Unlock()
			writes[name] += n
		}
		return inboxtest.Harness[*memory.Tx]{
			Inbox: memory.NewInbox(),
			Write: func(_ context.Context, tx *memory.Tx, name string) error {
				add(name, 1)
				tx.OnRollback(func() { add(name, -1) })
				return nil
			},
			Count: func(_ context.Context, name string) (int, error) {
				mu.Lock()
				defer mu.Unlock()
				return writes[name], nil
			},
		}
	})
}

func TestInboxRollsBackLastFirst(t *testing.T) {
	t.Parallel()
	var undone []int
	reply, err := memory.NewInbox().Handle(t.Context(), saga.Effect{ID: "a"}, func(_ context.Context, tx *memory.Tx) ([]byte, error) {
		for i := range 3 {
			tx.OnRollback(func() { undone = append(undone, i) })
		}
		return nil, saga.Reject("no")
	})
	require.NoError(t, err)
	require.Equal(t, saga.ReplyRejected, reply.Outcome)
	require.Equal(t, []int{2, 1, 0}, undone)
}

func TestInboxExpire(t *testing.T) {
	t.Parallel()
	now := time.Now()
	inbox := memory.NewInbox(memory.WithClock(func() time.Time { return now }))
	handle := func(e saga.Effect) (ran bool) {
		_, err := inbox.Handle(t.Context(), e, func(context.Context, *memory.Tx) ([]byte, error) { ran = true; return nil, nil })
		require.NoError(t, err)
		return ran
	}
	require.True(t, handle(saga.Effect{ID: "old"}))
	require.True(t, handle(saga.Effect{ID: "undone lately"}))
	now = now.Add(time.Hour)
	require.True(t, handle(saga.Effect{ID: "undone lately", Undo: true}))

	n, err := inbox.Expire(t.Context(), time.Hour, 10)
	require.NoError(t, err)
	require.Zero(t, n, "an hour is not more than an hour")

	n, err = inbox.Expire(t.Context(), time.Minute, 10)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.True(t, handle(saga.Effect{ID: "old"}), "forgotten")
	require.False(t, handle(saga.Effect{ID: "undone lately"}), "an effect is forgotten whole")

	_, err = inbox.Expire(t.Context(), time.Minute, 0)
	require.ErrorIs(t, err, saga.ErrInvalid)
}
