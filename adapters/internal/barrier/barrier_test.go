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
		undo  bool
		found barrier.Records
		reply *saga.Reply // nil: the handler runs
		write barrier.Records
	}{
		{false, barrier.Records{}, nil, barrier.Records{}},
		{false, barrier.Records{Action: done}, done, barrier.Records{}},
		{false, barrier.Records{Action: refused}, refused, barrier.Records{}},
		{false, barrier.Records{Action: done, Undo: undone}, done, barrier.Records{}},
		{false, barrier.Records{Action: tooLate, Undo: nothing}, tooLate, barrier.Records{}},
		{true, barrier.Records{}, nothing, barrier.Records{Action: tooLate, Undo: nothing}},
		{true, barrier.Records{Action: refused}, nothing, barrier.Records{Undo: nothing}},
		{true, barrier.Records{Action: done}, nil, barrier.Records{}},
		{true, barrier.Records{Action: done, Undo: undone}, undone, barrier.Records{}},
		{true, barrier.Records{Action: tooLate, Undo: nothing}, nothing, barrier.Records{}},
	} {
		reply, write := barrier.Judge(c.undo, c.found)
		require.Empty(t, cmp.Diff(c.reply, reply), "undo %t, found %+v", c.undo, c.found)
		require.Empty(t, cmp.Diff(c.write, write), "undo %t, found %+v", c.undo, c.found)
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
