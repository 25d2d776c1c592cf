// Package saga runs durable sagas: sequences of effects in several services that either all happen or are undone, whatever
// crashes in between. State lives in the database that you have, messages go over the broker that you have.
//
// # A saga
//
// A linear saga is a list of steps. Each is a plain function, usually with one that undoes it:
//
//	var bookTrip = saga.Linear("book-trip",
//		saga.Call("book-hotel", bookHotel, Trip.withHotel).Undo(cancelHotel),
//		saga.Call("book-flight", bookFlight, Trip.withFlight).Undo(cancelFlight),
//		saga.Do("charge-card", chargeCard).Pivot(),
//		saga.Do("send-itinerary", sendItinerary).Retriable(),
//	)
//
// An [Orchestrator] runs it on a [Store]:
//
//	orchestrator, err := saga.NewOrchestrator(sqlite.NewStore(db), saga.OrchestratorConfig{
//		Definitions: []saga.AnyDefinition{bookTrip},
//	}, logger)
//	go func() { log.Println(orchestrator.Run(ctx)) }() // why it could not begin, or that it has drained
//	_, err = bookTrip.Start(ctx, orchestrator, saga.StartParams[Trip]{Key: "trip-1", Data: trip})
//	done, err := bookTrip.Wait(ctx, orchestrator, "trip-1")
//
// # Words
//
//	definition      what to do: data, states, transition table, steps; validated, immutable, versioned
//	instance        one run of a definition; has an ID and a business key, which is unique for the definition
//	step            one effect with one owner: an action, usually with a compensation that undoes it
//	compensatable   of a step: it can be undone, or need not be. Steps are, unless they say otherwise
//	pivot           the step that decides: before it the saga can be undone, after it it only goes forward
//	retriable       of a step: it is tried until it succeeds
//	local step      its action is a Go function that the engine calls: Do, Call
//	command step    its action is a command to a participant over the broker, answered by a reply: Ask
//	participant     a service that handles commands, behind a barrier
//	event           something that happened, outside (a webhook, a click) or inside (a time-out, a rejection)
//	row             state x event -> state, and what runs meanwhile
//	ledger          the instance's own record of each step: sent, succeeded, rejected, unknown, undoing, undone, skipped
//	settled         in a final state, with nothing left to do
//
// # Steps and their outcomes
//
// A step's function returns nil (it succeeded), an error made by [Reject] (no, for good) or any other error (it failed: try
// again). A panic is a failure. If another function of the definition fails (the one that makes a request, or writes a result into the
// data), or the data or a reply cannot be read, that says nothing of the step: it is tried again too, but costs nothing of its budget, and needs
// attention at once, for the definition has to be mended. An attempt that is not heard of is neither: its outcome is unknown, and it is made again,
// under the same identity. A local step that is rejected after such an attempt is undone all the same: no barrier tells
// what the earlier one did. So a step may run more than once; [Info] has the key that stays the same, for systems outside
// to tell a repetition by. What a step returns is written into the data by a pure function, given along with it.
//
// If a step is rejected, its rejection event is raised: for a linear saga that means to undo, in reverse order of start, all
// that was done, and to end in [Failed]. A compensatable step whose attempts are spent raises the same event; as its
// outcome is unknown it is undone as well. Pivots, retriable steps and compensations are never given up: they back off,
// show as needing attention, and go on. How often and how soon is [Step.Retry]'s to say.
//
// [Parallel] runs steps side by side, and they are undone side by side. [Emit] publishes an event for whoever listens.
//
// # Tables
//
// Most business processes wait for events in between. A table-driven definition says what each event does in each state;
// [Define] takes it as a literal:
//
//	var lifecycle = saga.Define(saga.Spec[State, Event, Order]{
//		Name: "order", Initial: Created, Start: Checkout,
//		Succeeded: []State{Shipped}, Failed: []State{OutOfStock, Cancelled},
//		Groups: map[State][]State{Open: {Created, Reserved}},
//		Events: []saga.Event[Event, Order]{
//			saga.On(Paid, Order.withPayment),
//			{Name: CancelClicked},
//		},
//		Table: saga.Table[State, Event, Order]{
//			{From: Created, On: Checkout, To: Reserved, Run: saga.Run(reserveStock), Rejected: StockMissing},
//			{From: Created, On: StockMissing, To: OutOfStock},
//			{From: Reserved, On: Paid, To: Shipped, Run: saga.Run(ship)},
//			{From: Reserved, On: "ship.rejected", To: Cancelled, Compensate: true},
//			{From: Reserved, After: 15 * time.Minute, To: Cancelled, Compensate: true},
//			{From: Open, On: CancelClicked, To: Cancelled, Compensate: true, Interrupts: true},
//			{From: Shipped, On: Paid, Policy: saga.Ignore},
//		},
//		Otherwise: saga.Refuse,
//	})
//
// A row is taken when its event comes in its state and its guard holds. Its steps run while the instance is still in the From
// state; when they are done the To state is entered. A row that compensates first undoes every step of the instance whose
// effect may exist. Steps of a row that compensates, and those after a pivot, are retriable.
//
// While a row runs, events wait in the instance, and are judged in order of arrival in the state reached. Only a row that
// Interrupts abandons the one that runs, once its step in flight is known or timed out. Time-outs never interrupt, and die
// when their state is left; one whose guard does not hold when it is due is over. A pivot in doubt is only asked again; an
// event that would compensate waits for it, and is refused as soon as it has succeeded. What becomes of an event that no row takes is decided per cell or by Otherwise: ignored,
// buffered until it fits, or refused. Silence is a fault of the definition. An event that a function of the definition fails on (it
// panics, or the data cannot be read) waits for a definition that has been mended; meanwhile the saga needs attention.
//
// A definition is checked when it is built: unreachable states and traps, undecided cells, ambiguous guards, a path to a
// failed end that leaves an effect behind, a compensatable step after the pivot, and more. [Definition.Validate] lists
// every fault; an orchestrator refuses a definition that has any.
//
// # Starting and sending
//
// [Definition.Start] is idempotent by the business key, and by the key of the request that asks for it, if one is given;
// both are decided by the store, in the transaction that creates the instance. [Definition.StartIn] does it in a
// transaction of your own. [Definition.Send] gives an event to an instance; its Source and ID make it harmless to send it
// twice. Both return when that is durable. Events may also come from topics ([EventSource]).
//
// # Participants
//
// A [Command] is declared once and used on both sides: [Ask] makes a step of it, [Handle] handles it. The participant's
// [Inbox] is a barrier in its own database: it applies each effect at most once, in the handler's transaction; answers a
// duplicate with the stored reply; answers a compensation whose action never came with success and no effect; and
// refuses the action that comes after it.
//
// # What is promised
//
//   - A transition commits exactly once: the instance, its history, its messages and timers, and the record that the input was
//     consumed, in one atomic commit. Nothing is published or run before.
//   - A committed effect happens at least once, also after kill -9; one that was rolled back is never seen. With the stable
//     key, or behind the barrier, that makes it exactly once in effect.
//   - Every instance whose version some process runs reaches a declared end, or shows why it needs attention. No input is silently dropped.
//   - Compensation covers every effect that may exist, and is not cancelled by a caller's context.
//   - Any number of processes may work on one store: its revisions decide. Clocks of processes do not matter, only the store's.
//
// Not promised: isolation between sagas; exactly-once calls to systems that do not tell repetitions by the key; anything about
// a local step that does not look at its context and goes on after its time-out, or does so in a process believed dead,
// unless it uses a barrier (the history tells of its success as "late"); what the database itself loses.
//
// # At 3 a.m.
//
// [Orchestrator.List] with NeedsAttention finds what is stuck, and Attention says why. [Orchestrator.History] tells all that
// happened, [Instance.WouldUndo] what a compensation would undo now. [Orchestrator.Operate] retries a step now, skips it,
// marks it as done by hand or as rejected (somebody has looked: it did not happen), edits the data, moves a timer, drops an event that
// waits or forces compensation; who and why are kept in the history, and so is what was given, dropped or replaced. Operate needs an
// orchestrator that runs, as what follows may be a step, or a message; so put it behind a call of the service itself: a program of its own
// is one more worker, which needs the service's transport, definitions and Name. The others only read. Package operator has these calls
// ready, for a service to mount.
//
// A settled saga, too, may need attention (a pivot that succeeded after the saga had gone on without it), and [Clean] leaves it. One that
// waits for an event that never comes needs none: a Query for Unsettled with IdleFor finds it. A command whose step is skipped, or
// marked as rejected, may still lie in the broker: see first that its participant will not handle it any more.
//
// When a saga begins to need attention that is logged as an error, and when it needs none any more as information; an [Observer] hears of
// both. A process that begins logs how many there are already. While the store or the broker is away, that is logged when it begins, every half
// minute, and when it is over. Messages that no instance could be
// given are dead letters: [Orchestrator.DeadLetters] shows them and why, [Orchestrator.RemoveDeadLetters] removes those that have been
// seen to.
//
// # What it costs, and what is left over
//
// An instance of n local steps takes n + 1 commits, each of which it shares with others that are under way: the more, the cheaper.
// What is decided does not depend on how long the history is or how many instances there are; the row of an instance grows with
// its ledger, of which a loop adds an entry each time. A command step takes, besides, two messages and its participant's
// commit. Instances that wait cost a row, and nothing else: neither memory nor the sweep, which looks at what is due.
//
// Three settings matter. How many sagas are in flight (Workers and LaneDepth bound it): batches become larger, so that throughput
// grows, and so does the time that a saga takes; from 512 on there is little to gain. Subscribers: the messages of a topic under way at one time, each of which takes
// what the broker takes for it, a connection with SQL transports. And the process's GOGC: the heap is small and much of it
// short-lived, so 400 instead of 100 saves CPU, for memory that is twice as much. bench/README.md has figures.
//
// Everything is bounded. Inputs that are not answered (LaneDepth) and steps that wait for a worker (StepQueue, for each
// definition): whoever brings more waits. Instances in memory (CacheSize): others are read when they are needed. Messages to
// be published (StepQueue): more of them are sent when their timers are due. When workers are scarce, the definition that has the fewest at
// work is served first, so that one whose steps are slow does not hold up the others.
//
// Finished instances stay until [Clean] removes or archives them, in small batches beside the others, and dead letters until it does
// (KeepLetters), or somebody. With that the tables keep their size, and need no partitions. If you do partition the history, to keep
// it for years, do it by hash of instance_id (all its unique indexes begin with that), not by time: an instance's history is read by
// its ID. The migrations make no partitions, and no test has them.
//
// One PostgreSQL goes as far as its WAL and one writing server do: a saga of four local steps writes some 5 kB of WAL, and takes
// about 0.1 ms of the server's processor with hundreds of sagas in flight, twice or three times that with 16. When that is not
// enough, give definitions that have nothing to do with each other databases of their own: an orchestrator has one store, and a
// process may run several. An instance is never moved.
//
// # Changing a definition
//
// What is stored are names: of states, rows, steps and events. Adding states, rows and events is safe, and so are steps at the
// end of a row. An orchestrator refuses to start when live instances rely on something that is gone or changed: a name, the
// order of a row's steps, the kind of a step. Give the changed definition the next version (Spec.Version, or
// [Definition.WithVersion]), and run both until the old one's instances have settled. An instance stays on the version it was
// started with. [CheckLock], in a test, compares a definition with a file that is committed beside it, so that such a change
// fails there. What is neither named nor ordered may change at any time: functions are those of the code that runs, and a time-out that
// was set before its duration changed keeps its time. [CheckStore] tells which live instances of a store it would strand. Instances of
// a version that no process has wait for one that has it: they need no attention as far as anybody can say, so ask CheckStore before
// you leave a version out.
//
// # How it works
//
// decide is a pure function from a definition, an instance and an input to the next instance and its effects. The
// orchestrator is a shell around it that only moves data: load, decide, commit, and then publish or run. The commits of many
// instances are batched; see intake and lane. The theory is in DESIGN.md.
//
// The saga is that of H. Garcia-Molina and K. Salem, "Sagas" (SIGMOD 1987). Pivot and retriable steps are those of S. Mehrotra
// et al., "A Transaction Model for Multidatabase Systems" (ICDCS 1992).
package saga
