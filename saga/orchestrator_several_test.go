package saga_test

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/gochannel"
	"github.com/sagamill/sagamill/adapters/memory"
	"github.com/sagamill/sagamill/compensation"
	"github.com/sagamill/sagamill/saga"
)

// Several processes on one store: what one of them remembers may be behind what another has done.

var (
	parcelPack   = saga.Command[string, string]{Name: "pack", Topic: "packers"}
	parcelUnpack = saga.Command[string, string]{Name: "unpack", Topic: "packers"}
)

func parcelBox(rigData) string { return "box" }

type (
	parcelState string
	parcelEvent string
)

// parcel is packed by a participant, some time after its start.
func parcel() *saga.Definition[parcelState, parcelEvent, rigData] {
	return saga.Define(saga.Spec[parcelState, parcelEvent, rigData]{
		Name: "parcel", Initial: "open", Succeeded: []parcelState{"done"}, Failed: []parcelState{"failed"},
		Events: []saga.Event[parcelEvent, rigData]{{Name: "go"}},
		Table: saga.Table[parcelState, parcelEvent, rigData]{
			{From: "open", On: "go", To: "done", Run: saga.Run(
				saga.Ask("pack", parcelPack, parcelBox, rigData.with).UndoBy(saga.RequestOf(parcelUnpack, parcelBox)))},
			{From: "open", On: "pack.rejected", To: "failed", Compensate: true},
		}, Otherwise: saga.Refuse,
	})
}

// twoParcelProcesses: one has an instance in its cache, the other has moved it on.
type twoParcelProcesses struct {
	def                *saga.Definition[parcelState, parcelEvent, rigData]
	id                 string
	stale, ahead       *saga.Orchestrator
	toStale, fromAhead *rigWire
}

func newTwoParcelProcesses(t *testing.T) *twoParcelProcesses {
	t.Helper()
	x := &twoParcelProcesses{def: parcel(), toStale: newRigWire(), fromAhead: newRigWire()}
	db := memory.NewStore()
	config := rigOf(x.def)
	config.Transport = x.fromAhead.transport()
	x.ahead = runRig(t, db, config)
	config.Transport, config.PollInterval = x.toStale.transport(), time.Hour // the other one sweeps
	x.stale = runRig(t, db, config)
	x.id = startSaga(t, x.def, x.stale, "k", rigData{}).ID
	_, err := x.def.Send(t.Context(), x.ahead, "k", "go", saga.Input{Source: "test", ID: "1"})
	require.NoError(t, err)
	synctest.Wait()
	require.Len(t, x.fromAhead.published("packers"), 1)
	return x
}

// A group of consumers shares the topic of replies: any of its processes may get one.
func TestReplyToAProcessThatIsBehindIsNotLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := newTwoParcelProcesses(t)
		msg := x.toStale.reply(x.fromAhead.published("packers")[0], "succeeded", `"boxed"`)
		synctest.Wait()
		require.True(t, isAcked(msg))
		s := waitSettled(t, x.def, x.ahead, "k")
		require.Equal(t, parcelState("done"), s.State)
		require.Equal(t, []string{"boxed"}, s.Data.Log)
	})
}

func TestLateSuccessToldToAProcessThatIsBehindIsUndone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := newTwoParcelProcesses(t)
		_, err := x.ahead.Operate(t.Context(), x.id, saga.Operation{Verb: saga.SkipStep, Who: "ann", Why: "test", Step: "pack"})
		require.NoError(t, err)
		msg := x.toStale.reply(x.fromAhead.published("packers")[0], "succeeded", `"boxed"`)
		synctest.Wait()
		require.True(t, isAcked(msg))
		i, err := x.ahead.Get(t.Context(), x.id)
		require.NoError(t, err)
		require.Equal(t, []string{"pack undoing"}, statuses(i))
	})
}

func TestOperatorsVerbGivenToAProcessThatIsBehind(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := newTwoParcelProcesses(t)
		_, err := x.stale.Operate(t.Context(), x.id, saga.Operation{Verb: saga.MarkDone, Who: "ann", Why: "by phone", Step: "pack"})
		require.NoError(t, err)
		require.Equal(t, parcelState("done"), waitSettled(t, x.def, x.ahead, "k").State)
	})
}

// eventAfterClaim does something between a sweep's claim and the wake-up that follows.
type eventAfterClaim struct {
	saga.Store
	after atomic.Pointer[func()]
}

func (c *eventAfterClaim) Claim(ctx context.Context, claim saga.Claim) ([]saga.Record, time.Duration, error) {
	r, d, err := c.Store.Claim(ctx, claim)
	if after := c.after.Load(); after != nil && len(r) > 0 {
		(*after)()
	}
	return r, d, err
}

// An event that comes between a sweep's claim and its turn in the lane does not hide that the lease was renewed.
func TestStepWhoseLeaseIsRenewedIsNotTakenOverAfterAnEvent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db, done := memory.NewStore(), &rigWorld{}
		letGo := make(chan struct{})
		def := saga.Define(saga.Spec[parcelState, parcelEvent, rigData]{
			Name: "z", Initial: "open", Start: "start", Succeeded: []parcelState{"done"}, Failed: []parcelState{"failed"},
			Events: []saga.Event[parcelEvent, rigData]{{Name: "noise"}},
			Table: saga.Table[parcelState, parcelEvent, rigData]{
				{From: "open", On: "start", To: "done", Run: saga.Run(saga.Do("park", func(ctx context.Context, _ rigData) error { done.do(ctx); <-letGo; return nil }).NoUndo("t").Timeout(time.Hour))},
				{From: "open", On: "park.rejected", To: "failed", Compensate: true},
			}, Otherwise: saga.Ignore,
		})
		hook := &eventAfterClaim{Store: db}
		ca := rigOf(def)
		ca.PollInterval = time.Hour
		a := runRig(t, db, ca) // at the step all the time
		b := runRig(t, hook, rigOf(def))
		startSaga(t, def, a, "k", rigData{})
		var n atomic.Int64
		event := func() {
			_, err := def.Send(context.Background(), b, "k", "noise", saga.Input{Source: "s", ID: fmt.Sprint(n.Add(1))})
			require.NoError(t, err)
		}
		hook.after.Store(&event)
		time.Sleep(30 * time.Second)
		close(letGo)
		require.Equal(t, []string{"park"}, done.list(), "its process is alive and has renewed the lease (%d claims)", n.Load())
	})
}

// noClaims is a store for a process that does not sweep.
type noClaims struct{ saga.Store }

func (noClaims) Claim(context.Context, saga.Claim) ([]saga.Record, time.Duration, error) {
	return nil, -1, nil
}

// An attempt that hangs beyond its time holds no lease: the crash of a process that went on with the saga is noticed.
func TestHungAttemptHoldsNoLease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db := memory.NewStore()
		hung, second := make(chan struct{}), &rigWorld{}
		first := true
		def := saga.Linear("lin",
			saga.Do("a", func(ctx context.Context, _ rigData) error {
				if first {
					first = false
					<-hung // ignores its context
				}
				return nil
			}).NoUndo("t").Timeout(10*time.Second).Retry(compensation.Retry{First: time.Second}),
			saga.Do("b", func(ctx context.Context, _ rigData) error { second.note("b"); <-hung; return nil }).NoUndo("t").Timeout(time.Hour),
		)
		ca := rigOf(def)
		ca.DrainTimeout = time.Millisecond
		a := runRig(t, noClaims{db}, ca) // another one sweeps
		startSaga(t, def, a, "k", rigData{})
		synctest.Wait()
		_, sb := crashing(t, db, ca)
		time.Sleep(15 * time.Second)
		require.Equal(t, []string{"b"}, second.list(), "the second process went on")
		crash(sb)
		_ = runRig(t, db, ca)
		time.Sleep(10 * time.Minute)
		defer close(hung)
		require.Equal(t, []string{"b", "b"}, second.list(), "nobody takes over from the crashed process")
	})
}

// A retriable step is not rejected: the barrier stores no "no" of its participant, and the handler runs again.
func TestRetriableCommandThatIsRejectedIsTriedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		broker := gochannel.New(gochannel.Config{}, nil)
		defer func() { require.NoError(t, broker.Close()) }()
		cmd := saga.Command[string, string]{Name: "pack", Topic: "packers"}
		p, err := saga.NewParticipant(memory.NewInbox(), saga.ParticipantConfig{Name: "packers", Transport: broker.Transport()}, nil)
		require.NoError(t, err)
		n := 0
		require.NoError(t, saga.Handle(p, cmd, func(ctx context.Context, _ *memory.Tx, _ string) (string, error) {
			if n++; n == 1 {
				return "", saga.Reject("not yet")
			}
			return "boxed", nil
		}))
		go func() { _ = p.Run(context.Background()) }()
		defer func() { require.NoError(t, p.Close()) }()
		<-p.Running()
		def := saga.Linear("lin", saga.Ask("pack", cmd, func(rigData) string { return "box" }, rigData.with).NoUndo("t").Retriable())
		c := rigOf(def)
		c.Transport = broker.Transport()
		o := runRig(t, memory.NewStore(), c)
		startSaga(t, def, o, "k", rigData{})
		time.Sleep(time.Hour)
		s := instanceOf(t, def, o, "k")
		require.True(t, s.Settled, "handler ran %d times; %s", n, s.Attention)
	})
}

// runtime.Goexit, which t.FailNow calls, ends a worker's goroutine, not the worker.
func TestStepThatEndsItsGoroutineHasFailed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := 0
		def := saga.Linear("lin", saga.Do("a", func(ctx context.Context, _ rigData) error {
			if n++; n < 3 {
				runtime.Goexit()
			}
			return nil
		}).NoUndo("t").Timeout(5*time.Second))
		c := rigOf(def)
		c.Workers = 1
		o := runRig(t, memory.NewStore(), c)
		startSaga(t, def, o, "k", rigData{})
		time.Sleep(time.Hour)
		s := instanceOf(t, def, o, "k")
		require.Equal(t, saga.Completed, s.State, "%s: one worker, and it is gone", s.Attention)
	})
}

// What an event causes belongs to the trace of the request that brought it.
func TestTraceOfAnEvent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		def := parcel()
		wire := newRigWire()
		c := rigOf(def)
		c.Transport = wire.transport()
		o := runRig(t, memory.NewStore(), c)
		startSaga(t, def, o, "k", rigData{})
		ctx := saga.WithTrace(t.Context(), map[string]string{"traceparent": "00-click-pay-01"})
		_, err := def.Send(ctx, o, "k", "go", saga.Input{Source: "s", ID: "1"})
		require.NoError(t, err)
		synctest.Wait()
		require.Equal(t, "00-click-pay-01", wire.published("packers")[0].Metadata.Get("traceparent"))
	})
}

// A reply that the broker delivers again means nothing to a settled instance, also where nobody knows its version any more.
func TestRepeatedReplyDoesNotReopenASettledInstance(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db := memory.NewStore()
		lin := saga.Linear("lin", saga.Ask("pack", parcelPack, parcelBox, rigData.with).NoUndo("t"))
		wire := newRigWire()
		c := rigOf(lin)
		c.Transport = wire.transport()
		o := runRig(t, db, c)
		startSaga(t, lin, o, "k", rigData{})
		synctest.Wait()
		cmds := wire.published("packers")
		wire.reply(cmds[0], "succeeded", `"boxed"`)
		s := waitSettled(t, lin, o, "k")
		require.True(t, s.Settled)
		require.NoError(t, o.Close())
		c2 := rigOf(lin.WithVersion(2))
		wire2 := newRigWire()
		c2.Transport = wire2.transport()
		o2 := runRig(t, db, c2)
		wire2.reply(cmds[0], "succeeded", `"boxed"`) // the broker delivers it again
		time.Sleep(time.Hour)
		i, err := o2.Get(t.Context(), s.ID)
		require.NoError(t, err)
		require.True(t, i.Settled)
		require.Equal(t, s.Revision, i.Revision)
	})
}

func TestPanickingObserverOfAParticipantDoesNoHarm(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		wire := newRigWire()
		p, err := saga.NewParticipant(memory.NewInbox(), saga.ParticipantConfig{
			Name: "packers", Transport: wire.transport(),
			Observer: saga.ObserverFunc(func(context.Context, saga.Observation) { panic("observer") }),
		}, nil)
		require.NoError(t, err)
		require.NoError(t, saga.Handle(p, parcelPack, func(context.Context, *memory.Tx, string) (string, error) { return "boxed", nil }))
		go func() { _ = p.Run(context.Background()) }()
		<-p.Running()
		<-wire.send("packers", `"box"`, saga.MetaCommand, "pack", saga.MetaEffect, "e").Acked()
		require.NoError(t, p.Close())
	})
}
