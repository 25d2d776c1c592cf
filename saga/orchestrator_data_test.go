package saga_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/memory"
	"github.com/sagamill/sagamill/saga"
)

// Only reducers write the data. Whatever a step, a compensation, a reducer or a reader does to what it was given, nobody else sees it, in
// this process or in another.
func TestWhatAStepDoesToItsDataIsItsOwn(t *testing.T) {
	t.Parallel()
	world := &rigWorld{}
	spoil := func(d rigData) {
		for k := range d.Log {
			d.Log[k] = "spoilt"
		}
		_ = append(d.Log, "more")
	}
	look := func(_ context.Context, d rigData) error {
		for _, line := range d.Log {
			world.note(line)
		}
		spoil(d)
		return nil
	}
	write := func(d rigData, line string) rigData {
		after := d.with(line)
		spoil(d)
		return after
	}
	def := saga.Linear("careless",
		saga.Do("first", look).Undo(look),
		saga.Call("second", func(ctx context.Context, d rigData) (string, error) { return "two", look(ctx, d) }, write).Undo(look),
		saga.Do("third", func(ctx context.Context, d rigData) error {
			_ = look(ctx, d)
			return saga.Reject("no")
		}).NoUndo("it never succeeds"),
	)
	o := runRig(t, memory.NewStore(), rigOf(def))
	started := startSaga(t, def, o, "a", rigData{Log: []string{"one"}})
	spoil(started.Data)
	for range 2 {
		end := waitSettled(t, def, o, "a")
		require.Equal(t, saga.Failed, end.State)
		require.Equal(t, []string{"one", "two"}, end.Data.Log)
		require.JSONEq(t, `{"Log":["one","two"]}`, string(end.Instance.Data))
		spoil(end.Data)
	}
	require.Equal(t, []string{
		"one",        // first
		"one",        // second
		"one", "two", // third
		"one", "two", // second/undo
		"one", "two", // first/undo
	}, world.list())
}
