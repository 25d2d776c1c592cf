package saga_test

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/memory"
	"github.com/sagamill/sagamill/saga"
)

// slowCommits is a store whose commits last until they are let go.
type slowCommits struct {
	rigStore
	mu     sync.Mutex
	begun  [][]string // the IDs of each commit's instances, in the order in which they began
	letGo  chan struct{}
	over   func() // lets all go, from now on
	inWork map[string]int
}

func newSlowCommits(t *testing.T) *slowCommits {
	s := &slowCommits{rigStore: rigStore{Store: memory.NewStore()}, letGo: make(chan struct{}), inWork: map[string]int{}}
	s.over = sync.OnceFunc(func() { close(s.letGo) })
	s.commit = func(transitions []saga.Transition, next func() ([]saga.Verdict, error)) ([]saga.Verdict, error) {
		s.note(t, transitions, 1)
		defer s.note(t, transitions, -1)
		<-s.letGo
		return next()
	}
	return s
}

// note checks that no two commits have the same instance.
func (s *slowCommits) note(t *testing.T, transitions []saga.Transition, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []string
	for _, tr := range transitions {
		ids = append(ids, tr.ID)
		s.inWork[tr.ID] += n
		require.LessOrEqual(t, s.inWork[tr.ID], 1)
	}
	if n > 0 {
		s.begun = append(s.begun, ids)
	}
}

// sizes are those of the batches of which the commit has begun.
func (s *slowCommits) sizes() (sizes []int) {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, ids := range s.begun {
		sizes = append(sizes, len(ids))
	}
	return sizes
}

// What comes while a batch is committed is the next one. Another lane goes to work beside only for half a batch, or after 25 ms; and
// never more than there are lanes.
func TestLanesShareWhatGathers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		def, store := clerk(&rigWorld{}), newSlowCommits(t)
		config := rigOf(def)
		config.Lanes, config.MaxBatch = 3, 8
		o := runRig(t, store, config)
		t.Cleanup(store.over)
		n := 0
		begin := func(count int) {
			for range count {
				n++
				key := fmt.Sprint("key-", n)
				go startSaga(t, def, o, key, rigData{})
			}
		}
		begin(1)
		require.Equal(t, []int{1}, store.sizes(), "an idle lane waits for nothing")
		begin(3)
		require.Equal(t, []int{1}, store.sizes())
		time.Sleep(24 * time.Millisecond)
		begin(1)
		require.Equal(t, []int{1, 4}, store.sizes(), "half a batch")
		begin(2)
		time.Sleep(24 * time.Millisecond)
		require.Equal(t, []int{1, 4}, store.sizes())
		time.Sleep(time.Millisecond)
		require.Equal(t, []int{1, 4, 2}, store.sizes(), "that has waited for long")
		begin(10)
		time.Sleep(time.Minute)
		require.Equal(t, []int{1, 4, 2}, store.sizes(), "all lanes are at work")
		store.letGo <- struct{}{}
		require.Equal(t, []int{1, 4, 2, 8}, store.sizes(), "MaxBatch")
		store.over()
		require.Equal(t, []int{1, 4, 2, 8, 2}, store.sizes())
	})
}

// However many lanes there are, the inputs of an instance are decided in the order in which they came, and one batch at a time has some:
// also when the first of them has to be decided again.
func TestInputsOfAnInstanceAreInOneBatchAtATime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		def, store := clerk(&rigWorld{}), newSlowCommits(t)
		slow, lost := store.commit, false
		store.commit = func(transitions []saga.Transition, next func() ([]saga.Verdict, error)) ([]saga.Verdict, error) {
			return slow(transitions, func() ([]saga.Verdict, error) {
				if transitions[0].Start != nil || lost {
					return next()
				}
				lost = true
				return []saga.Verdict{{Outcome: saga.Conflict}}, nil
			})
		}
		config := rigOf(def)
		config.Lanes, config.MaxBatch = 2, 1
		o := runRig(t, store, config)
		t.Cleanup(store.over)
		send := func(key string, k int) {
			go func() {
				_, err := def.Send(t.Context(), o, key, evPing, saga.Input{Source: "test", ID: fmt.Sprint(k)})
				require.NoError(t, err)
			}()
			synctest.Wait()
		}
		for _, key := range []string{"a", "b"} {
			go startSaga(t, def, o, key, rigData{})
			synctest.Wait()
			store.letGo <- struct{}{}
			synctest.Wait()
		}
		send("a", 0) // one lane has it
		send("a", 1) // the other one may not have it
		send("b", 0) // but that
		send("a", 2) // this nobody has looked at
		require.Len(t, store.sizes(), 4)
		store.letGo <- struct{}{} // the first one has to be decided again
		send("a", 3)
		store.over()
		synctest.Wait()
		var order []string
		for _, e := range requireGapless(t, o, instanceOf(t, def, o, "a").Instance) {
			if e.Kind == "event" {
				order = append(order, e.InputID)
			}
		}
		require.Equal(t, []string{"0", "1", "2", "3"}, order)
	})
}

// What comes while a commit hangs waits for it 25 ms at first, and not at all later; nor does it wait for a lane that pauses before it tries
// again what was in another's way.
func TestNothingWaitsForALaneThatTakesLong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		def, store := clerk(&rigWorld{}), &rigStore{Store: memory.NewStore()}
		gate, conflicts := make(chan struct{}), 0
		store.commit = func(transitions []saga.Transition, next func() ([]saga.Verdict, error)) ([]saga.Verdict, error) {
			switch {
			case transitions[0].Start != nil && transitions[0].Start.Key == "hangs":
				<-gate
			case transitions[0].Start == nil && conflicts < 4:
				conflicts++
				return []saga.Verdict{{Outcome: saga.Conflict}}, nil
			}
			return next()
		}
		o := runRig(t, store, rigOf(def))
		takes := func(key string) time.Duration {
			began := time.Now()
			startSaga(t, def, o, key, rigData{})
			return time.Since(began)
		}
		require.Zero(t, takes("contended"))
		go func() {
			_, err := def.Send(t.Context(), o, "contended", evPing, saga.Input{Source: "test", ID: "1"})
			require.NoError(t, err)
		}()
		synctest.Wait()
		require.Equal(t, 4, conflicts)
		require.Zero(t, takes("beside a pause"))
		time.Sleep(time.Second)

		defer func() {
			close(gate)
			synctest.Wait()
		}()
		go startSaga(t, def, o, "hangs", rigData{})
		synctest.Wait()
		require.Equal(t, 25*time.Millisecond, takes("first"))
		require.Zero(t, takes("second"))
		require.Zero(t, takes("third"))
	})
}
