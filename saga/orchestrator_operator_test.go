package saga_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/memory"
	"github.com/sagamill/sagamill/compensation"
	"github.com/sagamill/sagamill/saga"
)

// Operators' verbs are inputs like others: decided, committed, and kept in the history with who and why.

// troubled is a saga whose steps fail until they are mended.
type troubled struct {
	rigWorld
	mended, no atomic.Bool
	def        *saga.LinearDefinition[rigData]
}

func newTroubled() *troubled {
	x := &troubled{}
	try := func(ctx context.Context, _ rigData) error {
		x.do(ctx)
		if !x.mended.Load() {
			return errors.New("broken")
		}
		return nil
	}
	slowly := compensation.Retry{First: time.Hour, Max: time.Hour, Jitter: -1, Alert: 1}
	x.def = saga.Linear("troubled",
		saga.Do("first", func(ctx context.Context, _ rigData) error { x.do(ctx); return nil }).Undo(try).UndoRetry(slowly),
		saga.Do("decide", func(ctx context.Context, _ rigData) error {
			x.do(ctx)
			if x.no.Load() {
				return saga.Reject("no")
			}
			return nil
		}).Pivot(),
		saga.Call("last", func(ctx context.Context, b rigData) (string, error) { return "by the engine", try(ctx, b) }, rigData.with).
			Retriable().Retry(slowly),
	)
	return x
}

func TestOperatorsVerbs(t *testing.T) {
	t.Parallel()
	type result struct {
		State    saga.LinearState
		Statuses []string
		Calls    []string
		Log      []string
	}
	for name, c := range map[string]struct {
		no   bool // the pivot says no: the undo is in trouble
		op   saga.Operation
		want result
	}{
		"retry now": {false, saga.Operation{Verb: saga.RetryNow, Step: "last"}, result{
			saga.Completed, []string{"first succeeded", "decide succeeded", "last succeeded"},
			[]string{"first", "decide", "last", "last"}, []string{"by the engine"},
		}},
		"skip a step": {false, saga.Operation{Verb: saga.SkipStep, Step: "last"}, result{
			saga.Completed, []string{"first succeeded", "decide succeeded", "last skipped"}, []string{"first", "decide", "last"}, nil,
		}},
		"mark a step as done": {false, saga.Operation{Verb: saga.MarkDone, Step: "last", Data: "by hand"}, result{
			saga.Completed, []string{"first succeeded", "decide succeeded", "last succeeded"},
			[]string{"first", "decide", "last"}, []string{"by hand"},
		}},
		"retry an undo now": {true, saga.Operation{Verb: saga.RetryNow, Step: "first"}, result{
			saga.Failed, []string{"first undone", "decide rejected"}, []string{"first", "decide", "first/undo", "first/undo"}, nil,
		}},
		"skip an undo": {true, saga.Operation{Verb: saga.SkipStep, Step: "first"}, result{
			saga.Failed, []string{"first skipped", "decide rejected"}, []string{"first", "decide", "first/undo"}, nil,
		}},
		"mark an undo as done": {true, saga.Operation{Verb: saga.MarkDone, Step: "first"}, result{
			saga.Failed, []string{"first undone", "decide rejected"}, []string{"first", "decide", "first/undo"}, nil,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				x := newTroubled()
				x.no.Store(c.no)
				o := runRig(t, memory.NewStore(), rigOf(x.def))
				s := startSaga(t, x.def, o, "a", rigData{})
				time.Sleep(time.Minute)
				stuck, _, err := o.List(t.Context(), saga.Query{NeedsAttention: true})
				require.NoError(t, err)
				require.Len(t, stuck, 1)
				require.Contains(t, stuck[0].Attention, "broken")
				x.mended.Store(true)
				if c.no {
					_, err = o.Operate(t.Context(), s.ID, saga.Operation{Verb: saga.ForceCompensate, To: string(saga.Failed), Who: "ann", Why: "hurry"})
					require.ErrorIs(t, err, saga.ErrRefused)
					require.ErrorContains(t, err, "undoes everything already, and will end in failed")
				}
				c.op.Who, c.op.Why = "ann", "called the bank"
				_, err = o.Operate(t.Context(), s.ID, c.op)
				require.NoError(t, err)
				began := time.Now()
				end := waitSettled(t, x.def, o, "a")
				require.Less(t, time.Since(began), time.Second)
				require.Empty(t, cmp.Diff(c.want, result{end.State, statuses(end.Instance), x.list(), end.Data.Log}))
				require.Empty(t, end.Attention)
				var verbs []saga.Entry
				for _, e := range requireGapless(t, o, end.Instance) {
					if e.Kind == "operator" {
						verbs = append(verbs, e)
					}
				}
				require.Len(t, verbs, 1)
				require.Equal(t, c.op.Verb, verbs[0].Verb)
				require.Equal(t, "ann", verbs[0].Who)
				require.Equal(t, "called the bank", verbs[0].Reason)
				require.Equal(t, c.no, verbs[0].Undo)
				require.Equal(t, 1, verbs[0].Run)
				if c.op.Data != nil {
					require.JSONEq(t, `"by hand"`, string(verbs[0].Given))
					require.JSONEq(t, `{}`, string(verbs[0].Before))
				}
			})
		})
	}
}

// What an operator misspells in a step's result would be left out, and could not be given again.
func TestResultByHandIsReadStrictly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		type label struct{ Tracking string }
		def := saga.Linear("parcel", saga.Call("label",
			func(context.Context, rigData) (label, error) { return label{}, errors.New("broken") },
			func(d rigData, l label) rigData { return d.with(l.Tracking) }).Retriable().NoUndo("test"))
		o := runRig(t, memory.NewStore(), rigOf(def))
		s := startSaga(t, def, o, "a", rigData{})
		synctest.Wait()
		done := saga.Operation{Verb: saga.MarkDone, Step: "label", Who: "ann", Why: "printed", Data: []byte(`{"trackng": "1Z"}`)}
		_, err := o.Operate(t.Context(), s.ID, done)
		require.ErrorIs(t, err, saga.ErrRefused)
		require.ErrorContains(t, err, "trackng")
		done.Data = []byte(`{"Tracking": "1Z"}`)
		_, err = o.Operate(t.Context(), s.ID, done)
		require.NoError(t, err)
		require.Equal(t, []string{"1Z"}, waitSettled(t, def, o, "a").Data.Log)
	})
}

func TestOperatorsVerbsThatMakeNoSenseAreRefusedAndChangeNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := newTroubled()
		def, letGo := parked(&x.rigWorld)
		defer close(letGo)
		config := rigOf(x.def, def)
		config.MaxData = 100
		o := runRig(t, memory.NewStore(), config)
		s, p := startSaga(t, x.def, o, "a", rigData{}), startSaga(t, def, o, "p", rigData{})
		time.Sleep(time.Minute)
		for name, c := range map[string]struct {
			id string
			op saga.Operation
		}{
			"a step that succeeded":     {s.ID, saga.Operation{Verb: saga.RetryNow, Step: "first"}},
			"a step that is none":       {s.ID, saga.Operation{Verb: saga.SkipStep, Step: "nonsense"}},
			"a step at work":            {p.ID, saga.Operation{Verb: saga.RetryNow, Step: "park"}},
			"skip a step at work":       {p.ID, saga.Operation{Verb: saga.SkipStep, Step: "park"}},
			"compensate with a step on": {p.ID, saga.Operation{Verb: saga.ForceCompensate, To: string(saga.Failed)}},
			"a result of another type":  {s.ID, saga.Operation{Verb: saga.MarkDone, Step: "last", Data: 1}},
			"a timer that is none":      {s.ID, saga.Operation{Verb: saga.MoveTimer, Timer: "nonsense"}},
			"data of another type":      {s.ID, saga.Operation{Verb: saga.EditData, Data: map[string]any{"Crad": "typo"}}},
			"data that are no JSON":     {s.ID, saga.Operation{Verb: saga.EditData, Data: []byte("{")}},
			"reject past the pivot":     {s.ID, saga.Operation{Verb: saga.MarkRejected, Step: "last"}},
			"too much data":             {s.ID, saga.Operation{Verb: saga.EditData, Data: rigData{Card: string(make([]byte, 100))}}},
			"compensate past the pivot": {s.ID, saga.Operation{Verb: saga.ForceCompensate, To: string(saga.Failed)}},
			"a verb that is none":       {s.ID, saga.Operation{Verb: "dance"}},
		} {
			before, err := o.Get(t.Context(), c.id)
			require.NoError(t, err)
			c.op.Who, c.op.Why = "ann", "test"
			_, err = o.Operate(t.Context(), c.id, c.op)
			require.ErrorIs(t, err, saga.ErrRefused, name)
			var why *saga.RefusedError
			require.True(t, errors.As(err, &why), name)
			require.NotEmpty(t, why.Reason, name)
			after, err := o.Get(t.Context(), c.id)
			require.NoError(t, err)
			require.Empty(t, cmp.Diff(before, after), name)
		}
		_, err := o.Operate(t.Context(), "nobody", saga.Operation{Verb: saga.RetryNow, Who: "ann", Why: "test"})
		require.ErrorIs(t, err, saga.ErrNotFound)
	})
}

func TestEditedDataAreWhatTheNextAttemptGets(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		def := saga.Linear("edited", saga.Do("charge", func(_ context.Context, b rigData) error {
			if b.Card != "new" {
				return errors.New("card has expired")
			}
			return nil
		}).Pivot().Retry(compensation.Retry{First: time.Hour, Max: time.Hour}))
		o := runRig(t, memory.NewStore(), rigOf(def))
		s := startSaga(t, def, o, "a", rigData{Card: "old"})
		time.Sleep(time.Second)
		i, err := o.Operate(t.Context(), s.ID, saga.Operation{Verb: saga.EditData, Data: rigData{Card: "new"}, Who: "ann", Why: "test"})
		require.NoError(t, err)
		require.JSONEq(t, `{"Card":"new"}`, string(i.Data))
		entries := requireGapless(t, o, i)
		before := entries[len(entries)-1].Before
		require.JSONEq(t, `{"Card":"old"}`, string(before), "what was replaced is kept")
		for _, data := range []any{before, json.RawMessage(i.Data)} { // there and back, as bytes
			_, err = o.Operate(t.Context(), s.ID, saga.Operation{Verb: saga.EditData, Data: data, Who: "ann", Why: "test"})
			require.NoError(t, err)
		}
		_, err = o.Operate(t.Context(), s.ID, saga.Operation{Verb: saga.RetryNow, Step: "charge", Who: "ann", Why: "test"})
		require.NoError(t, err)
		require.Equal(t, saga.Completed, waitSettled(t, def, o, "a").State)
	})
}

// kinded says more of itself in JSON than it reads.
type kinded struct{ Name string }

func (k kinded) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]string{"Name": k.Name, "kind": "kinded"})
}

// What the present data have may be in the new ones, too, also if the type does not read it.
func TestEditDataOfATypeThatDoesNotReadAllThatItWrites(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		def := saga.Linear("kinds", saga.Do("fail", func(context.Context, kinded) error { return errors.New("no") }).NoUndo("test"))
		o := runRig(t, memory.NewStore(), rigOf(def))
		s, err := def.Start(t.Context(), o, saga.StartParams[kinded]{Key: "a", Data: kinded{"old"}})
		require.NoError(t, err)
		i, err := o.Operate(t.Context(), s.ID, saga.Operation{Verb: saga.EditData, Data: kinded{"new"}, Who: "ann", Why: "test"})
		require.NoError(t, err)
		require.JSONEq(t, `{"Name":"new","kind":"kinded"}`, string(i.Data))
		_, err = o.Operate(t.Context(), s.ID, saga.Operation{Verb: saga.EditData, Data: i.Data, Who: "ann", Why: "test"})
		require.NoError(t, err)
	})
}

func TestForcedCompensationUndoesEverything(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		done := &rigWorld{}
		def := reservation(done)
		o := runRig(t, memory.NewStore(), rigOf(def))
		s := startSaga(t, def, o, "a", rigData{})
		synctest.Wait()
		force := saga.Operation{Verb: saga.ForceCompensate, To: "nonsense", Who: "ann", Why: "fraud"}
		_, err := o.Operate(t.Context(), s.ID, force)
		require.ErrorIs(t, err, saga.ErrRefused)
		force.To = string(clerkOff)
		_, err = o.Operate(t.Context(), s.ID, force)
		require.NoError(t, err)
		end := waitSettled(t, def, o, "a")
		require.Equal(t, clerkOff, end.State)
		require.Equal(t, []string{"reserve", "reserve/undo"}, done.list())
		require.Equal(t, "force-compensate: ann: fraud", end.Cause)
		history := requireGapless(t, o, end.Instance)
		require.True(t, slices.ContainsFunc(history, func(e saga.Entry) bool { return e.Verb == saga.ForceCompensate && e.To == string(clerkOff) }))
		_, err = o.Operate(t.Context(), s.ID, force)
		require.ErrorIs(t, err, saga.ErrRefused)
	})
}

// Who is on duty hears when a saga begins to need attention, when it needs none any more, and, when a process begins, that some have
// needed it for long.
func TestAttentionIsToldFromItsBeginningToItsEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mended atomic.Bool
		def := saga.Linear("stuck", saga.Do("pay", func(context.Context, rigData) error {
			if !mended.Load() {
				return errors.New("the bank is closed")
			}
			return nil
		}).Pivot().Retry(compensation.Retry{First: time.Minute, Max: time.Minute, Alert: 2}))
		store, seen, log := memory.NewStore(), &rigWatcher{}, watermill.NewCaptureLogger()
		config := rigOf(def)
		config.Observer = seen
		o := runLogged(t, store, config, log)
		for n := range 100 {
			startSaga(t, def, o, fmt.Sprint(n), rigData{})
		}
		time.Sleep(10 * time.Minute)
		require.Len(t, seen.of(saga.ObserveAttention), 100)
		require.Empty(t, seen.of(saga.ObserveCalm))
		messages := func(log *watermill.CaptureLoggerAdapter, level watermill.LogLevel, about string) (found []watermill.CapturedMessage) {
			for _, m := range log.Captured()[level] {
				if m.Msg == about {
					found = append(found, m)
				}
			}
			return found
		}
		const reminder, over = "Sagas need attention since before this process began", "Saga needs no attention any more"
		require.Empty(t, messages(log, watermill.ErrorLogLevel, reminder))

		require.NoError(t, o.Close())
		log = watermill.NewCaptureLogger()
		o = runLogged(t, store, config, log)
		synctest.Wait()
		told := messages(log, watermill.ErrorLogLevel, reminder)
		require.Len(t, told, 1)
		require.Equal(t, "100 or more", told[0].Fields["count"])
		require.Equal(t, "stuck", told[0].Fields["definition"])
		require.ErrorContains(t, told[0].Err, "the bank is closed")

		mended.Store(true)
		for n := range 100 {
			waitSettled(t, def, o, fmt.Sprint(n))
		}
		require.Len(t, seen.of(saga.ObserveCalm), 100)
		settled, first := seen.of(saga.ObserveSettled), instanceOf(t, def, o, "0")
		require.Len(t, settled, 100)
		require.Greater(t, settled[0].Duration, 10*time.Minute, "since it was started")
		require.True(t, slices.ContainsFunc(settled, func(ob saga.Observation) bool {
			return ob.Instance == first.ID && ob.Duration == first.UpdatedAt.Sub(first.CreatedAt)
		}))
		attempts := seen.of(saga.ObserveStep)
		require.Greater(t, attempts[len(attempts)-1].Attempt, 10)
		require.Len(t, messages(log, watermill.InfoLogLevel, over), 100)
		require.NoError(t, o.Close())
		log = watermill.NewCaptureLogger()
		runLogged(t, store, config, log)
		synctest.Wait()
		require.Empty(t, messages(log, watermill.ErrorLogLevel, reminder))
	})
}
