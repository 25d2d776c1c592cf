// Package sagatest finds out whether a saga of yours survives what happens to sagas: crashes at every point, commits whose answer
// is lost, messages that come twice, late, out of order or not at all, steps that fail after they took effect, or hang, or say no,
// events that come early, late and again, time-outs that race with successes, processes that pause and come back as zombies.
//
// # Exploring
//
// [Explore] runs a definition through all of that, with the steps, participants and reducers that you wrote. It makes one run
// without faults, one for each single fault at each moment, as many with two and more as Runs allows, and some with many, drawn by
// seed:
//
//	func TestBookTrip(t *testing.T) {
//		var world *World
//		bookTrip := newBookTrip(&world)
//		sagatest.Explore(t, bookTrip, func(r *sagatest.Run) {
//			world = NewWorld() // each run has its own
//			trip := sagatest.Start(r, bookTrip, "trip-1", Trip{Card: "4242"})
//			trip.Send(saga.Cancel, nil).Anytime()
//		},
//			sagatest.Always("no room is overbooked", func(r *sagatest.Run) error { return world.overbooked() }),
//			sagatest.Finally("a trip that failed leaves nothing", func(r *sagatest.Run) error {
//				if r.Saga("trip-1").State == string(saga.Completed) {
//					return nil
//				}
//				return world.empty()
//			}),
//		)
//	}
//
// Whatever the definition, Explore demands by itself that each run comes to an end, that every saga settles and holds nothing
// then, that one that failed has undone what can be undone, that no event is lost, and that the history is a path. What the steps did
// to the world only you can judge: that is what invariants are for. A step that is called twice for one effect is no fault of
// the engine's, but what the engine promises: at least once, under a key that stays the same ([saga.StepInfo]).
//
// When something does not hold, Explore takes away the faults that do not matter, and shows what is left: usually one or two, with a
// trace of what happened, and a flag that replays it.
//
//	violated: a room is booked exactly if the stay is: the stay is cancelled, and the hotel has map[room 1:saga-1/book-room/1]
//	with these faults: 2:input-now, 6:step-fails-after-effect
//
//	       0s  process A: commits start; begins book-room
//	       0s  process A: start of ada is recorded
//	       0s  FAULT 2:input-now  cancel to ada
//	       0s  process A: commits event cancel interrupt
//	       0s  process A: cancel to ada is recorded: interrupt
//	       0s  FAULT 6:step-fails-after-effect  book-room, attempt 1
//	       0s  process A: book-room, attempt 1 of ada returns "room 1"
//	       0s  process A: commits outcome book-room failed (sagatest: injected fault); begins book-room/undo
//	       0s  process A: book-room/undo, attempt 1 of ada returns nothing
//	       0s  process A: commits outcome book-room/undo succeeded; running -> cancelled
//	       0s  VIOLATED: a room is booked exactly if the stay is: ...
//
//	to see it again: go test -run '^TestStay$' -sagatest.replay '2:input-now,6:step-fails-after-effect'
//
// (The compensation cancels the room by the number that booking it returned, which it never heard of.)
//
// When nothing is wrong it logs (go test -v) how much was explored, how often each fault happened, and which states, rows and steps
// were never reached: a script that never sends an event proves nothing about it. FullCoverage makes that a failure, but for those that
// it is told of.
//
// # What runs
//
// A run is deterministic. It has the engine that ships, on a store in memory, in two processes that both believe they own
// everything; a broker that keeps what Watermill's do, at least once; the participants that you bring with [NewParticipant], behind
// their real barrier; and virtual time, so that a payment's fifteen minutes cost none. All of it is one goroutine, which does
// one thing after the other; a fault is the only thing that makes one run differ from another. So steps, participants and
// invariants need no locks, and must not use random numbers, the order of maps, or goroutines of their own. The method is that of
// stateless model checkers (Godefroid: Model Checking for Programming Languages using VeriSoft, 1997) with a bound on the number of
// faults, and of deterministic simulation (FoundationDB's, Zhou et al. 2021).
//
// What is not explored: faults of the database's own making (it is memory), the data race of two steps of yours (run your tests with
// -race besides), and more than two processes.
//
// # Single stories
//
// [Given] plays one story, in which nothing goes wrong but what it says:
//
//	result := sagatest.Given(bookTrip, Trip{Card: "4242"}).
//		Meets("charge-card", sagatest.StepRejects).
//		Then(t, saga.Failed)
//	require.Equal(t, compensation.Undone, result.Status("book-room"))
package sagatest
