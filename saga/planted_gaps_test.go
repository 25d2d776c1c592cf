package saga_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/memory"
	"github.com/sagamill/sagamill/compensation"
	"github.com/sagamill/sagamill/saga"
)

// What planted faults (internal/planted) have shown that no other test would notice.

// beginnings notes each effect that is done though the store does not say that it has begun.
type beginnings struct {
	o    *saga.Orchestrator
	done rigWorld
}

func (b *beginnings) look(step string, undo bool) {
	b.done.note(fmt.Sprint(step, undo))
	i, err := b.o.Lookup(context.Background(), "look", "a")
	begun := err == nil && slices.ContainsFunc(i.Steps, func(e compensation.Entry) bool {
		return e.Step == step && (!undo || e.Undos > 0)
	})
	if !begun {
		b.done.note("too early")
	}
}

func (b *beginnings) step(ctx context.Context, _ rigData) error {
	b.look(saga.Info(ctx).Step, saga.Info(ctx).Undo)
	return nil
}

// Whoever sees an effect finds it in the store: steps do not run, and messages do not leave, before the commit that begins them.
func TestEffectsAreInTheStoreWhenTheyAreDone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, w := &beginnings{}, newRigWire()
		w.publish = func(_ string, msgs []*message.Message) error {
			for _, cmd := range msgs {
				b.look(cmd.Metadata.Get(saga.MetaStep), cmd.Metadata.Get(saga.MetaUndo) == "true")
				w.reply(cmd, "succeeded", `"done"`)
			}
			return nil
		}
		pack := saga.Command[string, string]{Name: "pack", Topic: "packers"}
		unpack := saga.Command[string, struct{}]{Name: "unpack", Topic: "packers"}
		box := func(rigData) string { return "box" }
		def := saga.Linear("look",
			saga.Do("one", b.step).Undo(b.step),
			saga.Ask("pack", pack, box, rigData.with).UndoBy(saga.RequestOf(unpack, box)),
			saga.Do("no", func(ctx context.Context, d rigData) error { return errors.Join(b.step(ctx, d), saga.Reject("no")) }).NoUndo("test"),
		)
		store := &rigStore{Store: memory.NewStore()}
		store.commit = func(_ []saga.Transition, next func() ([]saga.Verdict, error)) ([]saga.Verdict, error) {
			time.Sleep(time.Second) // what begins too early has all the time that it wants
			return next()
		}
		config := rigOf(def)
		config.Transport = w.transport()
		b.o = runRig(t, store, config)
		startSaga(t, def, b.o, "a", rigData{})
		require.Equal(t, saga.Failed, waitSettled(t, def, b.o, "a").State)
		require.NotContains(t, b.done.list(), "too early")
		for _, effect := range []string{"onefalse", "packfalse", "nofalse", "packtrue", "onetrue"} {
			require.Contains(t, b.done.list(), effect)
		}
	})
}

// Any one answer to a commit is lost: what follows from it is done at once all the same, and nothing is decided twice.
func TestOneLostAnswerDelaysNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		commits := 0
		plain, want, _ := disturb(t, "bad", func(n int, next func() ([]saga.Verdict, error)) ([]saga.Verdict, error) {
			commits = n
			return next()
		})
		for lost := 1; lost <= commits; lost++ {
			i, did, took := disturb(t, "bad", func(n int, next func() ([]saga.Verdict, error)) ([]saga.Verdict, error) {
				verdicts, err := next()
				if n == lost {
					return nil, errLostConnection
				}
				return verdicts, err
			})
			require.Equal(t, want, did, "the answer to commit %d was lost", lost)
			require.Equal(t, plain.Revision, i.Revision, "the answer to commit %d was lost", lost)
			require.Less(t, took, time.Second, "the answer to commit %d was lost", lost)
		}
	})
}

// What lost the compare-and-set is decided again on what the store holds, and not on what it was decided on before.
func TestConflictIsDecidedAgainOnWhatTheStoreHolds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db, def, watcher := memory.NewStore(), clerk(&rigWorld{}), &rigWatcher{}
		config := rigOf(def)
		config.PollInterval, config.Observer = time.Hour, watcher
		stale, ahead := runRig(t, db, config), runRig(t, db, rigOf(def))
		startSaga(t, def, stale, "a", rigData{})
		ping := func(o *saga.Orchestrator, id string) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			answer, err := def.Send(ctx, o, "a", evPing, saga.Input{Source: "test", ID: id})
			require.NoError(t, err)
			require.Equal(t, saga.Ignored, answer)
		}
		ping(ahead, "1")
		ping(stale, "2")
		require.Len(t, watcher.of(saga.ObserveConflict), 1)
	})
}

// A sweep puts an instance off while it sees to what is due. What becomes due soon after is not put off with it.
func TestTimerBesideOneThatFiresComesOnTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		done := &rigWorld{}
		flaky := func(name string, wait time.Duration) saga.Step[rigData] {
			return saga.Do(name, func(ctx context.Context, _ rigData) error {
				done.note(fmt.Sprint(name, " at ", time.Since(began).Round(10*time.Millisecond)))
				if saga.Info(ctx).Attempt == 1 {
					return errors.New("not yet")
				}
				return nil
			}).NoUndo("test").Retry(compensation.Retry{First: wait, Jitter: -1})
		}
		def := saga.Linear("beside", saga.Parallel(flaky("soon", 100*time.Millisecond), flaky("later", 400*time.Millisecond)))
		o := runRig(t, memory.NewStore(), rigOf(def))
		startSaga(t, def, o, "a", rigData{})
		waitSettled(t, def, o, "a")
		require.ElementsMatch(t, []string{"soon at 0s", "later at 0s", "soon at 100ms", "later at 400ms"}, done.list())
	})
}

// A lease is renewed, and then over, by the store's clock, though that differs from the processes' by hours.
func TestLeasesAreJudgedByTheStoresClock(t *testing.T) {
	t.Parallel()
	for _, skew := range []time.Duration{-3 * time.Hour, 3 * time.Hour} {
		t.Run(skew.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				db, done := memory.NewStore(memory.WithClock(func() time.Time { return time.Now().Add(skew) })), &rigWorld{}
				def, letGo := parked(done)
				first, store := crashing(t, db, rigOf(def))
				startSaga(t, def, first, "a", rigData{})
				second := runRig(t, db, rigOf(def))
				time.Sleep(time.Minute)
				require.Equal(t, []string{"park"}, done.list(), "its lease is renewed")
				crash(store)
				time.Sleep(6 * time.Second)
				require.Equal(t, []string{"park", "park"}, done.list(), "its lease is over")
				close(letGo)
				require.Equal(t, saga.Completed, waitSettled(t, def, second, "a").State)
			})
		})
	}
}
