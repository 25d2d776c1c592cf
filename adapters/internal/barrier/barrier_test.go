package barrier_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/internal/barrier"
	"github.com/sagamill/sagamill/saga"
)

var (
	done    = &saga.Reply{Outcome: saga.ReplySucceeded, Payload: []byte("done")}
	refused = &saga.Reply{Outcome: saga.ReplyRejected, Reason: "sold out"}
	undone  = &saga.Reply{Outcome: saga.ReplySucceeded, Payload: []byte("undone")}
	nothing = &saga.Reply{Outcome: saga.ReplySucceeded}
	tooLate = &saga.Reply{Outcome: saga.ReplyRejected, Reason: barrier.Overtaken}
)

func TestJudge(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		effect saga.Effect
		found  barrier.Records
		reply  *saga.Reply // nil: the handler runs
		write  barrier.Records
	}{
		{saga.Effect{}, barrier.Records{}, nil, barrier.Records{}},
		{saga.Effect{}, barrier.Records{Action: done}, done, barrier.Records{}},
		{saga.Effect{}, barrier.Records{Action: refused}, refused, barrier.Records{}},
		{saga.Effect{}, barrier.Records{Action: done, Undo: undone}, done, barrier.Records{}},
		{saga.Effect{}, barrier.Records{Action: tooLate, Undo: nothing}, tooLate, barrier.Records{}},
		{saga.Effect{Undo: true}, barrier.Records{}, nothing, barrier.Records{Action: tooLate, Undo: nothing}},
		{saga.Effect{Undo: true}, barrier.Records{Action: refused}, nothing, barrier.Records{Undo: nothing}},
		{saga.Effect{Undo: true}, barrier.Records{Action: done}, nil, barrier.Records{}},
		{saga.Effect{Undo: true}, barrier.Records{Action: done, Undo: undone}, undone, barrier.Records{}},
		{saga.Effect{Undo: true}, barrier.Records{Action: tooLate, Undo: nothing}, nothing, barrier.Records{}},
		{saga.Effect{Undo: true, Null: true}, barrier.Records{}, nil, barrier.Records{Action: tooLate}},
		{saga.Effect{Undo: true, Null: true}, barrier.Records{Action: refused}, nothing, barrier.Records{Undo: nothing}},
		{saga.Effect{Undo: true, Null: true}, barrier.Records{Action: tooLate, Undo: undone}, undone, barrier.Records{}},
	} {
		reply, write := barrier.Judge(c.effect, c.found)
		require.Empty(t, cmp.Diff(c.reply, reply), "%+v, found %+v", c.effect, c.found)
		require.Empty(t, cmp.Diff(c.write, write), "%+v, found %+v", c.effect, c.found)
	}
}

func TestSettle(t *testing.T) {
	t.Parallel()
	failure, rejection := errors.New("down"), fmt.Errorf("book: %w", saga.Reject("sold out"))
	for _, undo := range []bool{false, true} {
		reply, err := barrier.Settle(undo, []byte("done"), nil)
		require.NoError(t, err)
		require.Equal(t, *done, reply)
		_, err = barrier.Settle(undo, nil, failure)
		require.ErrorIs(t, err, failure)
	}
	reply, err := barrier.Settle(false, nil, rejection)
	require.NoError(t, err)
	require.Equal(t, *refused, reply)
	_, err = barrier.Settle(true, nil, rejection)
	require.ErrorContains(t, err, "a compensation cannot be rejected")
}
