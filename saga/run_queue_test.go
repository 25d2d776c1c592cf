package saga

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// A task for which there is a worker that has not come yet holds nobody back.
func TestTasksThatAreAboutToBeginLeaveRoom(t *testing.T) {
	t.Parallel()
	r := newRunner(&Orchestrator{config: OrchestratorConfig{Workers: 3, StepQueue: 2}})
	for n, want := range []int{2, 2, 2, 2, 1, 0} {
		room, _ := r.queueRoom("trip")
		require.Equal(t, want, room, "%d tasks", n)
		r.queue.add(&task{inst: &instance{definition: "trip"}})
	}
	r.workers = 1
	room, _ := r.queueRoom("trip")
	require.Equal(t, -2, room)
}

// The room of tasks that are taken is used again, also if some wait all the time.
func TestRoomOfTasksIsUsedAgain(t *testing.T) {
	t.Parallel()
	var q taskQueue
	for n := range 1000 {
		q.add(&task{inst: &instance{definition: "trip"}, effect: &effect{attempt: n}})
		if n >= 10 {
			require.Equal(t, n-10, q.next().effect.attempt)
			require.Equal(t, 10, q.n)
		}
	}
	require.LessOrEqual(t, cap(q.line("trip").tasks), 64)
}
