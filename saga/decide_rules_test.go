package saga

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/compensation"
)

// Rules that a script does not show.

func begun(t *testing.T, d AnyDefinition, data string) *world {
	w := newWorld(d)
	_, err := w.start(data)
	require.NoError(t, err)
	return w
}

func (w *world) ok(t *testing.T, step, result string) decision {
	t.Helper()
	e := w.inst.Ledger.Latest(step)
	require.NotNil(t, e, step)
	undo := e.Status == compensation.Undoing
	d, err := w.decide(input{outcome: &outcome{
		Step: step, Run: e.Run, Undo: undo, Kind: outcomeSucceeded, Attempt: attemptsOf(e, undo), Result: []byte(result),
	}})
	require.NoError(t, err)
	return d
}

func (w *world) sent(t *testing.T, event, payload string) decision {
	t.Helper()
	d, err := w.event(event, "test", event+payload, payload)
	require.NoError(t, err)
	return d
}

// I1: a decision is one transition: the entry says all that followed from the input, as it is stored.
func TestEntrySaysAllThatFollowedFromTheInput(t *testing.T) {
	t.Parallel()
	w := begun(t, order, `{"total":100}`)
	w.sent(t, "cancel", "")
	w.ok(t, "reserve-stock", "")
	require.Equal(t, Entry{
		Revision: 3, At: worldBegan, Kind: "outcome", Step: "reserve-stock", Run: 1, Outcome: "succeeded", Began: []string{"reserve-stock/undo"},
		Judged: []Judgement{{Event: "cancel", Source: "test", InputID: "cancel", Result: Applied}},
	}, w.history[2])
	w.ok(t, "reserve-stock", "")
	require.Equal(t, []Move{{Event: "cancel", From: "CREATED", To: "CANCELLED", Row: "preship/cancel"}}, w.history[3].Moves)
	_, err := decodeEntry(HistoryRecord{Entry: []byte("x")})
	require.Error(t, err)
}

// I2: a command is carried in the outbox until its reply; the same bytes go under the same identity however often it is sent.
func TestPendingCommandDoesNotChange(t *testing.T) {
	t.Parallel()
	w := begun(t, tour, `{}`)
	first := w.inst.Outbox[0]
	_, err := w.decide(input{operator: &operation{verb: EditData, who: "a", why: "b", data: []byte(`{"booked":["X"]}`)}})
	require.NoError(t, err)
	d, err := w.wake(time.Second, false)
	require.NoError(t, err)
	require.Equal(t, first, *d.effects[0].message)
	require.Equal(t, 2, d.effects[0].attempt)
	w.ok(t, "guide", `{"ref":"G"}`)
	for _, m := range w.inst.Outbox {
		require.NotEqual(t, "guide", m.Step)
	}
}

// I2: a published message and another input may be recorded together. A message recorded twice is not worth a commit.
func TestPublishedComesAlongWithAnotherInput(t *testing.T) {
	t.Parallel()
	w := begun(t, newsletter, `{}`)
	d, err := w.decide(input{published: w.oneway(), operator: &operation{verb: RetryNow, step: "nobody"}})
	require.NoError(t, err)
	require.Equal(t, Refused, d.answer)
	require.False(t, d.nothing, "that the event is published must be written")
	require.Empty(t, w.inst.Outbox)
	d, err = w.decide(input{published: []string{"newsletter-1/say-opened/1"}})
	require.NoError(t, err)
	require.True(t, d.nothing)
}

// I2: two events of one identity are two messages; each is recorded by itself.
func TestPublishedTwins(t *testing.T) {
	t.Parallel()
	w := newWorld(newsletter)
	twin := outgoing{ID: "same", Oneway: true}
	w.inst.state, w.inst.Outbox = "draft", []outgoing{twin, twin}
	w.inst.Timers = []timer{{Kind: outboxTimer, Try: 1, Due: w.now}}
	_, err := w.decide(input{published: []string{"same"}})
	require.NoError(t, err)
	require.Len(t, w.inst.Outbox, 1)
	_, err = w.decide(input{published: []string{"same", "same"}})
	require.NoError(t, err)
	require.Empty(t, w.inst.Outbox)
}

// I3: what cannot be judged now is bounded, but a cancel is not refused because others wait.
func TestInterruptingEventIsKeptBeyondTheBound(t *testing.T) {
	t.Parallel()
	w := begun(t, order, `{"total":100}`)
	w.lim.waiting = 1
	require.Equal(t, Waits, w.sent(t, "packed", "").answer)
	require.Equal(t, Refused, w.sent(t, "carrier-scan", "").answer)
	require.Equal(t, Interrupts, w.sent(t, "cancel", "").answer)
}

// The store's clock decides: decide answers with durations, and judges what is due by the time that the wake-up brings.
func TestTimersAreDurationsUntilTheCommit(t *testing.T) {
	t.Parallel()
	w := newWorld(order)
	before := *w.inst
	d := decide(w.plan, &before, input{start: &startInput{}}, JSON{}, w.lim)
	require.Equal(t, []timer{{Kind: replyTimer, Step: "reserve-stock", Run: 1, In: time.Second}}, d.next.Timers)
	require.Equal(t, time.Second, d.wake)
	again := decide(w.plan, d.next, input{wake: &wake{now: worldBegan.Add(1000 * time.Hour)}}, JSON{}, w.lim)
	require.True(t, again.nothing, "a timer that is not committed yet is not due, whatever the clock says")
	d.next.committed(worldBegan)
	require.Equal(t, worldBegan.Add(time.Second), d.next.Timers[0].Due)
	require.Equal(t, worldBegan, d.next.created)
	d.next.committed(worldBegan.Add(time.Hour))
	require.Equal(t, worldBegan.Add(time.Second), d.next.Timers[0].Due, "it was set by an earlier commit")
	require.Equal(t, worldBegan, d.next.created)
}

// Chance comes from outside.
func TestJitterComesWithTheInput(t *testing.T) {
	t.Parallel()
	w := newWorld(order)
	w.random = 0.5
	d, err := w.start(`{}`)
	require.NoError(t, err)
	require.Equal(t, 900*time.Millisecond, d.wake)
}

// A local step holds a lease, a command does not.
func TestLease(t *testing.T) {
	t.Parallel()
	d, err := newWorld(trip).start(`{}`)
	require.NoError(t, err)
	require.True(t, d.lease)
	d, err = newWorld(tour).start(`{}`)
	require.NoError(t, err)
	require.False(t, d.lease)
}

// The trace context of the request that started the instance is kept.
func TestStartKeepsTraceContext(t *testing.T) {
	t.Parallel()
	w := begun(t, trip, `{}`)
	require.Equal(t, map[string]string{"traceparent": "00-1"}, w.inst.Trace)
}

// Readers see what waits and what will become due, the earliest first.
func TestView(t *testing.T) {
	t.Parallel()
	w := begun(t, order, `{"total":100}`)
	w.ok(t, "reserve-stock", "")
	w.sent(t, "packed", "")
	w.sent(t, "pay", "")
	w.sent(t, "cancel", "")
	v := w.inst.view()
	require.Equal(t, []WaitingEvent{{Event: "packed", Source: "test", ID: "packed", Buffered: true}, {Event: "cancel", Source: "test", ID: "cancel"}}, v.Waiting)
	require.Equal(t, []Timer{
		{Name: "reply:authorize", Due: worldBegan.Add(time.Second)}, {Name: "RESERVED/after->CANCELLED", Due: worldBegan.Add(15 * time.Minute)},
	}, v.Timers)
	require.Empty(t, v.CompensatingTo)
	w.ok(t, "authorize", "")
	require.Equal(t, "CANCELLED", w.inst.view().CompensatingTo)
	require.Equal(t, "RESERVED", w.inst.view().State)
}

// The next wake-up is that of the first timer, or of the lease of a local attempt; what was stored undecided is due at once.
func TestNextWake(t *testing.T) {
	t.Parallel()
	at := func(in time.Duration) time.Time { return worldBegan.Add(in) }
	attempt := timer{Kind: attemptTimer, Due: at(time.Minute)}
	for _, c := range []struct {
		name string
		inst instance
		want time.Duration
	}{
		{"nothing to come", instance{}, NoWake},
		{"timer", instance{engine: engine{Timers: []timer{{Due: at(time.Hour)}, {Due: at(time.Minute)}}}}, time.Minute},
		{"timer that is overdue", instance{engine: engine{Timers: []timer{{Due: at(-time.Hour)}}}}, 0},
		{"time-out that waits for the row's end", instance{engine: engine{Timers: []timer{{Due: at(-1), Ripe: true}}}}, NoWake},
		{"lease of a local attempt", instance{leaseTill: at(5 * time.Second), engine: engine{Timers: []timer{attempt}}}, 5 * time.Second},
		{"local attempt without a lease", instance{engine: engine{Timers: []timer{attempt}}}, time.Minute},
		{"local attempt whose lease is over, looked at again a lease later", instance{leaseTill: at(-1), engine: engine{Timers: []timer{attempt}}}, 5 * time.Second},
		{"input that was stored undecided", instance{engine: engine{Undecided: []undecided{{}}}}, 0},
		{"event that waits for nothing", instance{engine: engine{Waiting: []waiting{{}}}}, 0},
		{"event that waits for a row's end", instance{engine: engine{Row: &running{}, Waiting: []waiting{{}}}}, NoWake},
		{"event that is buffered", instance{engine: engine{Waiting: []waiting{{Buffered: true}}}}, NoWake},
	} {
		require.Equal(t, c.want, c.inst.nextWake(worldBegan, 5*time.Second), c.name)
	}
}

func TestStoredStateThatCannotBeRead(t *testing.T) {
	t.Parallel()
	_, err := fromRecord(Record{ID: "x", Engine: []byte("{")})
	require.ErrorContains(t, err, "saga: instance x: stored state cannot be read")
}

// An instance stays on what it was started with: a state, event or row that the definition does not know is refused or told, and
// never a panic.
func TestUnknownNamesAreNoPanic(t *testing.T) {
	t.Parallel()
	w := newWorld(order)
	w.inst.state = "nowhere"
	require.Equal(t, Refused, w.sent(t, "cancel", "").answer)
	w.inst.Row = &running{Name: "gone", Base: -1}
	require.Equal(t, Waits, w.sent(t, "pay", "").answer)
	require.Contains(t, w.inst.attention, "has no row gone")
	w = newWorld(order)
	w.inst.state, w.inst.Row = "CREATED", &running{Name: "gone", Rejected: "reserve-stock"}
	require.Equal(t, Waits, w.sent(t, "cancel", "").answer)
	require.Contains(t, w.inst.attention, "has no row gone")
}

// A late success of a step whose row goes on (it was skipped) is undone, and the row waits for that.
func TestLateSuccessPausesTheRow(t *testing.T) {
	t.Parallel()
	w := begun(t, tour, `{}`)
	_, err := w.decide(input{operator: &operation{verb: SkipStep, step: "guide", why: "ill"}})
	require.NoError(t, err)
	w.ok(t, "guide", `{"ref":"G"}`)
	for _, step := range []string{"bus", "museum", "lunch"} {
		w.ok(t, step, `{"ref":"X"}`)
	}
	require.Nil(t, w.inst.Ledger.Latest("pay"), "no step is begun while something is being undone")
	w.ok(t, "guide", "")
	require.Equal(t, compensation.Sent, w.inst.Ledger.Latest("pay").Status)
}

// A result was tried when it came. If it does not fit any more, because an operator has edited the data, the entry says so.
func TestResultThatDoesNotFitAnyMore(t *testing.T) {
	t.Parallel()
	w := begun(t, tour, `{}`)
	w.lim.data = 40
	w.ok(t, "guide", `{"ref":"G"}`)
	w.ok(t, "bus", `{"ref":"ten letter"}`)
	_, err := w.decide(input{operator: &operation{verb: EditData, data: []byte(`{"booked":["as long as it may be"]}`)}})
	require.NoError(t, err)
	for _, step := range []string{"museum", "lunch"} {
		_, err := w.decide(input{outcome: &outcome{Step: step, Run: 1, Kind: outcomeRejected, Attempt: 1}})
		require.NoError(t, err)
	}
	require.Equal(t, "the data would grow to 48 bytes, more than the 40 allowed", w.history[len(w.history)-1].Reason)
	require.Equal(t, "failed", w.inst.compensatingTo())
}

// A reply is taken also if the definition has the row no more; what follows then is for a person.
func TestReplyToAStepOfALostRow(t *testing.T) {
	t.Parallel()
	w := begun(t, tour, `{}`)
	w.inst.Row.Name = "gone"
	w.ok(t, "guide", `{"ref":"G"}`)
	require.JSONEq(t, `{"booked":["G"]}`, string(w.inst.data.bytes))
	require.Contains(t, w.inst.attention, "has no row gone")
}

// Data that the codec cannot read are for the definition, or an operator, to mend: the event waits. An attempt has failed.
func TestDataThatCannotBeRead(t *testing.T) {
	t.Parallel()
	w := begun(t, desk, `{}`)
	w.inst.data = documentOf([]byte("x"))
	for _, event := range []string{"note", "drop"} {
		require.Equal(t, Waits, w.sent(t, event, "5").answer)
	}
	require.Contains(t, w.inst.attention, "event note could not be judged: saga: decode saga.deskData")
	w = newWorld(tour)
	_, err := w.start(`x`)
	require.NoError(t, err)
	require.Contains(t, w.inst.Ledger[0].Reason, "decode saga.tourData")
}

// An event of the engine's own that the definition does not answer any more is kept, and told.
func TestStartThatNobodyAnswers(t *testing.T) {
	t.Parallel()
	w := newWorld(desk)
	changed := *w.plan
	changed.start = "begin"
	w.plan = &changed
	_, err := w.start(`{}`)
	require.NoError(t, err)
	require.Equal(t, "begin could not be raised: state new has no row for it", w.inst.attention)
	require.Equal(t, Waits, w.sent(t, "work", "").answer)
}

// Whether an event still interrupts is asked with all results that are known. If it does not, they are kept as they were, and
// folded in declared order when the row goes on.
func TestInterruptThatIsDroppedFoldsNothing(t *testing.T) {
	t.Parallel()
	d := Define(Spec[string, string, tourData]{
		Name: "fair", Initial: "new", Start: "begin", Succeeded: []string{"done"}, Failed: []string{"dropped"},
		Events: []Event[string, tourData]{{Name: "drop"}},
		Table: Table[string, string, tourData]{
			{From: "new", On: "begin", To: "done", Run: Run(Parallel(tourStep("bus"), tourStep("lunch"))), Rejected: "no"},
			{From: "new", On: "no", To: "dropped", Compensate: true},
			{From: "new", On: "drop", If: When("nothing-booked", func(d tourData) bool { return len(d.Booked) == 0 }), To: "dropped", Compensate: true, Interrupts: true},
		},
		Otherwise: Refuse,
	})
	require.NoError(t, d.Validate())
	w := begun(t, d, `{}`)
	require.Equal(t, Interrupts, w.sent(t, "drop", "").answer)
	w.ok(t, "lunch", `{"ref":"L"}`)
	_, err := w.decide(input{outcome: &outcome{Step: "bus", Run: 1, Kind: outcomeFailed, Attempt: 1}})
	require.NoError(t, err)
	require.JSONEq(t, `{}`, string(w.inst.data.bytes))
	require.Equal(t, []waiting{{Event: "drop", Source: "test", ID: "drop"}}, w.inst.Waiting)
	w.ok(t, "bus", `{"ref":"B"}`)
	require.JSONEq(t, `{"booked":["B","L"]}`, string(w.inst.data.bytes))
	require.Equal(t, "done", w.inst.state)
}

// A late rejection ends no row.
func TestLateRejectionOfWhatWasGivenUp(t *testing.T) {
	t.Parallel()
	w := begun(t, desk, `{}`)
	w.inst.Ledger = compensation.Ledger{{Step: "pay", Run: 1, Order: 1, Status: compensation.Unknown, Condemned: true}}
	_, err := w.decide(input{outcome: &outcome{Step: "pay", Run: 1, Kind: outcomeRejected, Attempt: 1}})
	require.NoError(t, err)
	require.Equal(t, compensation.Rejected, w.inst.Ledger[0].Status)
	require.Equal(t, "new", w.inst.state)
}

// A cancel interrupts also while a late success is being undone.
func TestInterruptWhileALateSuccessIsUndone(t *testing.T) {
	t.Parallel()
	w := begun(t, tour, `{}`)
	_, err := w.decide(input{operator: &operation{verb: SkipStep, step: "guide", why: "ill"}})
	require.NoError(t, err)
	w.ok(t, "guide", `{"ref":"G"}`)
	require.Equal(t, Interrupts, w.sent(t, "cancel", "").answer)
	for _, step := range []string{"bus", "museum", "lunch"} {
		w.ok(t, step, `{"ref":"X"}`)
	}
	require.Equal(t, "cancelled", w.inst.compensatingTo())
}

// The reasons that decide makes are bounded by what they are made of: nothing of an event's payload gets into them.
func TestRefusalsDoNotRepeatPayloads(t *testing.T) {
	t.Parallel()
	w := begun(t, order, `{"total":100}`)
	w.ok(t, "reserve-stock", "")
	d := w.sent(t, "payment-succeeded", `{"txn":"`+strings.Repeat("x", 1000)+`","amount":100}`)
	require.Equal(t, Refused, d.answer)
	require.NotContains(t, d.reason, "xxx")
}

// A step that is put before one that has begun would run after it, perhaps after the pivot. The shape that the store keeps forbids
// it; should it happen all the same, nothing more is begun until a person has looked.
func TestStepPutBeforeOneThatHasBegun(t *testing.T) {
	t.Parallel()
	hotel, charge := Do("hotel", nothing[int]).Undo(nothing[int]), Do("charge", nothing[int]).Pivot()
	w := newWorld(Linear("trip", hotel, charge))
	_, err := w.start("1")
	require.NoError(t, err)
	w.ok(t, "hotel", "")
	w.plan = Linear("trip", hotel, Do("check", nothing[int]).NoUndo("looks only"), charge).compiled()
	d := w.ok(t, "charge", "")
	require.Empty(t, d.effects)
	require.False(t, d.next.settled)
	require.Equal(t, "definition trip version 1 runs the steps of row running/begin in another order than this instance has begun them", d.next.attention)
}

// A failure of an attempt that was followed by another one says nothing about that one.
func TestFailureOfAnOldAttemptChangesNothing(t *testing.T) {
	t.Parallel()
	w := begun(t, Linear("trip", Do("hotel", nothing[int]).Undo(nothing[int])), "1")
	_, err := w.wake(6*time.Second, true) // the lease is over: a second attempt
	require.NoError(t, err)
	require.Equal(t, 2, w.inst.Ledger.Latest("hotel").Attempts)
	d, err := w.decide(input{outcome: &outcome{Step: "hotel", Run: 1, Attempt: 1, Kind: outcomeFailed, Reason: "old"}})
	require.NoError(t, err)
	require.Empty(t, d.effects)
	require.Equal(t, compensation.Sent, w.inst.Ledger.Latest("hotel").Status)
	require.Equal(t, attemptTimer, w.inst.timerOf(w.inst.Ledger.Latest("hotel"), false).Kind, "the second attempt is under way")
	require.Empty(t, w.inst.Ledger.Latest("hotel").Reason)
}

// The first rejection is why a saga failed, not a later one of a sibling.
func TestFirstRejectionIsTheCause(t *testing.T) {
	t.Parallel()
	w := begun(t, Linear("trip", Parallel(Do("a", nothing[int]).Undo(nothing[int]), Do("b", nothing[int]).Undo(nothing[int]))), "1")
	for _, step := range []string{"b", "a"} {
		_, err := w.decide(input{outcome: &outcome{Step: step, Run: 1, Attempt: 1, Kind: outcomeRejected, Reason: "no " + step}})
		require.NoError(t, err)
	}
	require.Equal(t, "b: no b", w.inst.Cause)
}

// A step that is given up is not stuck: nobody tries it any more.
func TestStepGivenUpByAFaultIsNotStuck(t *testing.T) {
	t.Parallel()
	command := Command[int, int]{Name: "ask", Topic: "guides"}
	keep := func(data, _ int) int { return data }
	guide := Ask("guide", command, func(int) int { return 1 }, keep).Retry(compensation.Retry{Attempts: 1}).NoUndo("test")
	w := begun(t, Linear("tour", guide), "1")
	_, err := w.decide(input{operator: &operation{verb: RetryNow, who: "ann", why: "hurry", step: "guide"}})
	require.NoError(t, err)
	w.ok(t, "guide", "not json") // of the second attempt, and the first that counts
	e := w.inst.Ledger.Latest("guide")
	require.Equal(t, compensation.Unknown, e.Status)
	require.Equal(t, 1, e.Faults)
	require.False(t, e.Stuck)
	require.Empty(t, w.inst.attention)
	require.Equal(t, "failed", w.inst.state)
}
