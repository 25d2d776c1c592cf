package saga_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/memory"
	"github.com/sagamill/sagamill/saga"
)

// I1: a transition commits exactly once, and nothing is published or run before that commit.

var errLostConnection = errors.New("connection lost")

var packCmd = saga.Command[string, string]{Name: "pack", Topic: "packers"}

// orderSaga has a local step, a command, an event and a pivot that says no to a bad card.
func orderSaga(w *rigWorld) *saga.LinearDefinition[rigData] {
	return saga.Linear("order",
		w.undoable("reserve"),
		saga.Ask("pack", packCmd, func(rigData) string { return "box" }, rigData.with).
			UndoBy(saga.RequestOf(saga.Command[string, struct{}]{Name: "unpack", Topic: "packers"}, func(rigData) string { return "box" })),
		saga.Do("charge", func(ctx context.Context, b rigData) error {
			w.do(ctx)
			if b.Card == "bad" {
				return saga.Reject("no money")
			}
			return nil
		}).Pivot(),
		saga.Emit("announce", "orders", "Ordered", func(b rigData) rigData { return b }),
		w.step("mail").Retriable(),
	)
}

// packers answers every command at once with success.
func packers(w *rigWire, done *rigWorld) {
	w.publish = func(topic string, msgs []*message.Message) error {
		for _, cmd := range msgs {
			if topic == "packers" {
				done.note(cmd.Metadata.Get(saga.MetaCommand))
				w.reply(cmd, "succeeded", `"boxed"`)
			}
		}
		return nil
	}
}

func TestNothingIsRunOrPublishedBeforeItsCommit(t *testing.T) {
	t.Parallel()
	for card, want := range map[string]saga.LinearState{"good": saga.Completed, "bad": saga.Failed} {
		t.Run(card, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				done, w, gate := &rigWorld{}, newRigWire(), make(chan struct{})
				at := make(chan struct{}, 1)
				store := &rigStore{Store: memory.NewStore(), commit: func(_ []saga.Transition, next func() ([]saga.Verdict, error)) ([]saga.Verdict, error) {
					at <- struct{}{}
					<-gate
					return next()
				}}
				packers(w, done)
				def := orderSaga(done)
				config := rigOf(def)
				config.Transport, config.Lanes = w.transport(), 1
				o := runRig(t, store, config)
				go func() { startSaga(t, def, o, "a", rigData{Card: card}) }()
				commits := 0
				for {
					select {
					case <-at:
					case <-time.After(10 * time.Second):
						s := waitSettled(t, def, o, "a")
						require.Equal(t, want, s.State)
						require.GreaterOrEqual(t, commits, 5)
						return
					}
					synctest.Wait() // what was committed before has been done
					before, sent := done.list(), len(w.published("orders"))
					time.Sleep(500 * time.Millisecond)
					require.Equal(t, before, done.list(), "commit %d", commits)
					require.Len(t, w.published("orders"), sent, "commit %d", commits)
					commits++
					gate <- struct{}{}
				}
			})
		})
	}
}

// disturb runs an order with a store whose commits are disturbed, and answers what was done and how long it took.
func disturb(t *testing.T, card string, commit func(n int, next func() ([]saga.Verdict, error)) ([]saga.Verdict, error)) (saga.Instance, []string, time.Duration) {
	done, w, n := &rigWorld{}, newRigWire(), 0
	store := &rigStore{Store: memory.NewStore(), commit: func(_ []saga.Transition, next func() ([]saga.Verdict, error)) ([]saga.Verdict, error) {
		n++
		return commit(n, next)
	}}
	packers(w, done)
	def := orderSaga(done)
	config := rigOf(def)
	config.Transport, config.Lanes = w.transport(), 1
	o := runRig(t, store, config)
	began := time.Now()
	s := startSaga(t, def, o, "a", rigData{Card: card})
	require.False(t, s.Existing)
	require.Equal(t, uint64(1), s.Revision)
	i := waitSettled(t, def, o, "a").Instance
	return i, done.list(), time.Since(began)
}

func TestCommitThatFailedIsDecidedAgain(t *testing.T) {
	t.Parallel()
	for _, card := range []string{"good", "bad"} {
		t.Run(card, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				plain, want, _ := disturb(t, card, func(_ int, next func() ([]saga.Verdict, error)) ([]saga.Verdict, error) { return next() })
				i, did, took := disturb(t, card, func(n int, next func() ([]saga.Verdict, error)) ([]saga.Verdict, error) {
					if n%2 == 1 {
						return nil, errLostConnection
					}
					return next()
				})
				require.Equal(t, want, did)
				require.Equal(t, plain.Revision, i.Revision)
				require.Equal(t, statuses(plain), statuses(i))
				require.Less(t, took, time.Second, "no lease, no time-out was waited for")
			})
		})
	}
}

func TestCommitWhoseAnswerIsLostIsReadBackAndDoneOnce(t *testing.T) {
	t.Parallel()
	for _, card := range []string{"good", "bad"} {
		t.Run(card, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				plain, want, _ := disturb(t, card, func(_ int, next func() ([]saga.Verdict, error)) ([]saga.Verdict, error) { return next() })
				i, did, took := disturb(t, card, func(_ int, next func() ([]saga.Verdict, error)) ([]saga.Verdict, error) {
					_, err := next()
					return nil, errors.Join(err, errLostConnection)
				})
				require.Equal(t, want, did, "published like any other, once decided")
				require.Equal(t, plain.Revision, i.Revision, "nothing is decided twice")
				require.Less(t, took, time.Second)
			})
		})
	}
}

// The answer to the commit of a start is lost, and somebody else has moved the instance on before it is read back.
func TestLostAnswerIsReadBackAfterOthersMovedOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		done, db := &rigWorld{}, memory.NewStore()
		def := saga.Linear("stay", done.undoable("one"), done.undoable("two"))
		other := runRig(t, db, rigOf(def))
		store := &rigStore{Store: db}
		store.commit = func(transitions []saga.Transition, next func() ([]saga.Verdict, error)) ([]saga.Verdict, error) {
			verdicts, err := next()
			if transitions[0].Start != nil {
				answer, err := def.Send(t.Context(), other, "a", saga.Cancel, saga.Input{Source: "test", ID: "1"})
				require.NoError(t, err)
				require.Equal(t, saga.Interrupts, answer)
				return nil, errLostConnection
			}
			return verdicts, err
		}
		o := runRig(t, store, rigOf(def))
		s := startSaga(t, def, o, "a", rigData{Card: "x"})
		require.False(t, s.Existing, "it is this call that started it")
		require.NotEmpty(t, s.ID)
		require.Equal(t, "x", s.Data.Card)
		synctest.Wait()
		require.Empty(t, done.list(), "others have taken over what was to be done: it may be undone by now")
		require.Equal(t, saga.Cancelled, waitSettled(t, def, o, "a").State)
		require.Equal(t, []string{"one/undo"}, done.list(), "in doubt, and not asked for any more: undone")
	})
}

// Another process has committed an input that leaves the same state behind: it must not be taken for ours.
func TestReadBackTellsInputsApart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db := memory.NewStore()
		def := clerk(&rigWorld{})
		other := runRig(t, db, rigOf(def))
		startSaga(t, def, other, "a", rigData{})
		store, lost := &rigStore{Store: db}, false
		store.commit = func(_ []saga.Transition, next func() ([]saga.Verdict, error)) ([]saga.Verdict, error) {
			if lost {
				return next()
			}
			lost = true
			answer, err := def.Send(t.Context(), other, "a", evPing, saga.Input{Source: "other", ID: "1"})
			require.NoError(t, err)
			require.Equal(t, saga.Ignored, answer)
			return nil, errLostConnection // and nothing committed
		}
		o := runRig(t, store, rigOf(def))
		answer, err := def.Send(t.Context(), o, "a", evPing, saga.Input{Source: "ours", ID: "1"})
		require.NoError(t, err)
		require.Equal(t, saga.Ignored, answer)
		i, err := o.Lookup(t.Context(), def.Name(), "a")
		require.NoError(t, err)
		var sources []string
		for _, e := range requireGapless(t, o, i) {
			sources = append(sources, e.Source)
		}
		require.Equal(t, []string{"", "other", "ours"}, sources, "both are on the record")
	})
}

func TestStoreThatIsAwayLosesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		done := &rigWorld{}
		working, leave := make(chan struct{}), make(chan struct{})
		def := saga.Linear("work", saga.Do("work", func(ctx context.Context, _ rigData) error {
			done.do(ctx)
			close(working)
			<-leave
			return nil
		}).NoUndo("test"))
		store := &rigStore{Store: memory.NewStore()}
		o := runRig(t, store, rigOf(def))
		startSaga(t, def, o, "a", rigData{})
		<-working
		store.away.Store(true)
		close(leave) // its outcome cannot be committed now
		started := make(chan error, 1)
		quick := saga.StartParams[rigData]{Key: "b"}
		go func() {
			_, err := def.Start(t.Context(), o, quick)
			started <- err
		}()
		working = make(chan struct{})
		before := store.calls.Load()
		time.Sleep(20 * time.Second)
		require.Less(t, store.calls.Load()-before, int64(2000), "a hundred calls a second is no way to wait")
		select {
		case err := <-started:
			require.FailNow(t, "start was answered", "%v", err)
		default:
		}
		store.away.Store(false)
		require.NoError(t, <-started)
		require.Equal(t, saga.Completed, waitSettled(t, def, o, "a").State)
		require.Equal(t, saga.Completed, waitSettled(t, def, o, "b").State)
		require.Equal(t, []string{"work", "work"}, done.list(), "once for each: the outcome was kept")
	})
}

// Close cannot wait for a store for ever; what is not recorded then is answered so.
func TestCloseWhileTheStoreIsAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, store, def := newRigWire(), &rigStore{Store: memory.NewStore()}, clerk(&rigWorld{})
		config := rigOf(def)
		config.Transport, config.Events = w.transport(), []saga.EventSource{{Topic: "events"}}
		o := runRig(t, store, config)
		s := startSaga(t, def, o, "a", rigData{})
		store.away.Store(true)
		sent := make(chan error, 1)
		go func() {
			_, err := o.Send(t.Context(), saga.RoutedEvent{Instance: s.ID, Event: string(evPing), Source: "a", ID: "1"})
			sent <- err
		}()
		msg := w.send("events", "", saga.MetaInstance, s.ID, saga.MetaEvent, string(evPing), saga.MetaSource, "b", saga.MetaInputID, "1")
		synctest.Wait()
		began := time.Now()
		require.NoError(t, o.Close())
		require.Less(t, time.Since(began), 40*time.Second)
		require.Error(t, <-sent)
		require.False(t, isAcked(msg), "the broker shall give it to somebody else")

		store.away.Store(false)
		again := runRig(t, store, rigOf(def))
		answer, err := again.Send(t.Context(), saga.RoutedEvent{Instance: s.ID, Event: string(evPing), Source: "a", ID: "1"})
		require.NoError(t, err)
		require.Contains(t, []saga.Disposition{saga.Ignored, saga.Duplicated}, answer, "sending it again is safe")
	})
}

// An answer must not rest on what is not committed yet.
func TestInputsAreNotAnsweredByUncommittedState(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{})
		def := saga.Linear("hold", saga.Do("hold", func(context.Context, rigData) error { <-hold; return nil }).NoUndo("test"))
		store, fail := &rigStore{Store: memory.NewStore()}, false
		store.commit = func(transitions []saga.Transition, next func() ([]saga.Verdict, error)) ([]saga.Verdict, error) {
			if fail { // a store that answers slowly: the inputs gather
				time.Sleep(time.Second)
			}
			return next()
		}
		config := rigOf(def)
		config.Lanes = 1
		o := runRig(t, store, config)
		s := startSaga(t, def, o, "a", rigData{})
		fail = true
		answers := &rigWorld{}
		send := func(name string, op saga.Operation) {
			go func() {
				op.Who, op.Why = "me", name
				_, err := o.Operate(t.Context(), s.ID, op)
				if err != nil {
					name += " refused"
				}
				answers.note(name)
			}()
			synctest.Wait()
		}
		send("edit 1", saga.Operation{Verb: saga.EditData, Data: rigData{}}) // its commit is under way
		send("edit 2", saga.Operation{Verb: saga.EditData, Data: rigData{}})
		send("skip", saga.Operation{Verb: saga.SkipStep, Step: "none"}) // refused, in a batch with what is not committed
		require.Empty(t, answers.list())
		time.Sleep(1500 * time.Millisecond)
		require.Equal(t, []string{"edit 1"}, answers.list())
		time.Sleep(time.Minute)
		require.ElementsMatch(t, []string{"edit 1", "edit 2", "skip refused"}, answers.list())
		close(hold)
	})
}

// steppedProcess is a process of which each loop is run one turn at a time. What it publishes is lost.
func steppedProcess(t *testing.T, store saga.Store, def saga.AnyDefinition) *saga.Stepped {
	t.Helper()
	config := rigOf(def)
	config.Transport = saga.Transport{Publisher: lostPublisher{}, Subscriber: noSubscriber}
	s, err := saga.NewStepped(t.Context(), store, config)
	require.NoError(t, err)
	return s
}

type lostPublisher struct{}

func (lostPublisher) Publish(string, ...*message.Message) error { return nil }
func (lostPublisher) Close() error                              { return nil }

// turnOf decides what waits in the process.
func turnOf(t *testing.T, s *saga.Stepped) {
	t.Helper()
	for _, k := range s.Busy() {
		s.Lane(t.Context(), k)
	}
}

// succeeded is the reply to the first attempt of a step.
func succeeded(id, step string) *message.Message {
	m := message.NewMessage("1", []byte(`"box"`))
	for k, v := range map[string]string{
		saga.MetaInstance: id, saga.MetaStep: step, saga.MetaRun: "1", saga.MetaAttempt: "1", saga.MetaOutcome: "succeeded",
	} {
		m.Metadata.Set(k, v)
	}
	return m
}

// What a sweep has read is old by the time at which it is decided: another process has gone on. A reply that comes with it, and means
// nothing to what the sweep read, means something to what the store holds.
func TestASweepsRecordIsNotTheLatest(t *testing.T) {
	t.Parallel()
	ask := func(step string) saga.Step[rigData] {
		return saga.Ask(step, packCmd, func(rigData) string { return "box" }, rigData.with).NoUndo("test")
	}
	def := saga.Linear("twice", ask("one"), ask("two"))
	store := memory.NewStore()
	ahead, behind := steppedProcess(t, store, def), steppedProcess(t, store, def)
	require.NoError(t, saga.StartStepped(t.Context(), ahead, def, saga.StartParams[rigData]{ID: "id-1", Key: "a"}, func(bool, error) {}))
	turnOf(t, ahead)
	require.NoError(t, store.Touch(t.Context(), []saga.Touch{{ID: "id-1", Wake: 0}}))
	behind.Sweep(t.Context())
	ahead.Reply(t.Context(), "sagamill.replies", succeeded("id-1", "one"))
	turnOf(t, ahead)

	reply := succeeded("id-1", "two")
	behind.Reply(t.Context(), "sagamill.replies", reply)
	for range 3 {
		turnOf(t, behind)
	}
	require.Empty(t, behind.Busy())
	records, err := store.Load(t.Context(), "id-1")
	require.NoError(t, err)
	require.Equal(t, string(saga.Completed), records[0].State)
	select {
	case <-reply.Acked():
	default:
		t.Error("the reply is not acknowledged")
	}
}

// The store's clock is put back (its standby takes over, say) between a sweep and a commit that sets a timer. By the sweep's time that
// timer would be due, and an undo begin beside the step that it waits for.
func TestASweepsTimeIsThatOfWhatItHasRead(t *testing.T) {
	t.Parallel()
	now := time.Now()
	def := saga.Linear("twice",
		saga.Ask("one", packCmd, func(rigData) string { return "box" }, rigData.with).NoUndo("test"), (&rigWorld{}).undoable("two"))
	db := memory.NewStore(memory.WithClock(func() time.Time { return now }))
	store := &rigStore{Store: db}
	p := steppedProcess(t, store, def)
	require.NoError(t, saga.StartStepped(t.Context(), p, def, saga.StartParams[rigData]{ID: "id-1", Key: "a"}, func(bool, error) {}))
	turnOf(t, p)
	store.commit = func(_ []saga.Transition, next func() ([]saga.Verdict, error)) ([]saga.Verdict, error) {
		store.commit = nil
		require.NoError(t, db.Touch(t.Context(), []saga.Touch{{ID: "id-1", Wake: 0}}))
		p.Sweep(t.Context())
		now = now.Add(-time.Hour)
		return next()
	}
	p.Reply(t.Context(), "sagamill.replies", succeeded("id-1", "one"))
	turnOf(t, p)
	require.Equal(t, 1, p.Tasks())
	for range 3 {
		turnOf(t, p)
	}
	history, err := db.History(t.Context(), "id-1", 0, 10)
	require.NoError(t, err)
	require.Len(t, history, 2, "the step has only begun")
}

// A reply may be given to two processes, which both decide the same. One commits; the answer to the other's commit is lost, and it
// finds in the store, byte for byte, what it would have written. It must not run the local step that follows: the other one does.
func TestReadBackTellsProcessesApart(t *testing.T) {
	t.Parallel()
	def := saga.Linear("twice",
		saga.Ask("one", packCmd, func(rigData) string { return "box" }, rigData.with).NoUndo("test"), (&rigWorld{}).undoable("two"))
	db := memory.NewStore()
	store := &rigStore{Store: db}
	first, second := steppedProcess(t, db, def), steppedProcess(t, store, def)
	turn := func(s *saga.Stepped) { turnOf(t, s) }
	require.NoError(t, saga.StartStepped(t.Context(), first, def, saga.StartParams[rigData]{ID: "id-1", Key: "a"}, func(bool, error) {}))
	turn(first)
	first.Reply(t.Context(), "sagamill.replies", succeeded("id-1", "one"))
	second.Reply(t.Context(), "sagamill.replies", succeeded("id-1", "one"))
	lost := false
	store.commit = func(_ []saga.Transition, next func() ([]saga.Verdict, error)) ([]saga.Verdict, error) {
		if lost {
			return next()
		}
		lost = true
		turn(first)
		return nil, errLostConnection // and nothing committed
	}
	turn(second)
	turn(second)
	require.True(t, lost)
	require.Equal(t, 1, first.Tasks())
	require.Zero(t, second.Tasks(), "the step is the other process's")
}

// Two inputs of one batch carry the instance as it was; the second changes nothing after the first. Another process has moved on. Both
// are decided again on what the store holds, and not on what the second one carries, for ever.
func TestConflictWithAnInputThatCarriesAnOldInstance(t *testing.T) {
	t.Parallel()
	store := memory.NewStore()
	def := saga.Linear("twice", (&rigWorld{}).undoable("one"), (&rigWorld{}).undoable("two"))
	first, second := steppedProcess(t, store, def), steppedProcess(t, store, def)
	turn := func(s *saga.Stepped) { turnOf(t, s) }
	require.NoError(t, saga.StartStepped(t.Context(), first, def, saga.StartParams[rigData]{ID: "id-1", Key: "a"}, func(bool, error) {}))
	turn(first)
	require.NoError(t, second.Event(t.Context(), "id-1", "cancel", "test", "1", nil, func(saga.Disposition, error) {}))
	turn(second)
	first.TaskTwice(0)
	for range 5 {
		turn(first)
	}
	require.Empty(t, first.Busy(), "the outcome is taken, and its repetition")
	records, err := store.Load(t.Context(), "id-1")
	require.NoError(t, err)
	require.Equal(t, uint64(4), records[0].Revision, "start, cancel, the outcome, and that it came late again")
}
