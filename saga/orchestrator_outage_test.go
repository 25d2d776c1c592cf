package saga_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/memory"
	"github.com/sagamill/sagamill/saga"
)

// However long the store is away, the log says so when it begins, now and then, and when it is over.
func TestOutageOfTheStoreIsToldShortly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		def := clerk(&rigWorld{})
		store, seen, log := &rigStore{Store: memory.NewStore()}, &rigWatcher{}, watermill.NewCaptureLogger()
		config := rigOf(def)
		config.Observer = seen
		o := runLogged(t, store, config, log)
		for n := range 5 {
			startSaga(t, def, o, fmt.Sprint(n), rigData{})
		}
		told := func(level watermill.LogLevel, about string) (found []watermill.LogFields) {
			for _, m := range log.Captured()[level] {
				if m.Msg == "Saga: "+about {
					found = append(found, m.Fields)
				}
			}
			return found
		}
		store.away.Store(true)
		for n := range 5 {
			go func() { _, _ = def.Send(t.Context(), o, fmt.Sprint(n), evPing, saga.Input{Source: "test", ID: "1"}) }()
		}
		time.Sleep(10*time.Minute - time.Second)
		for _, what := range []string{"commit", "read back", "claim"} {
			failures := 0
			for _, ob := range seen.of(saga.ObserveError) {
				if ob.Outcome == what {
					failures++
				}
			}
			lines := told(watermill.ErrorLogLevel, what+" failed, trying again")
			require.LessOrEqual(t, len(lines), 20, what)
			require.NotEmpty(t, lines, what)
			require.Equal(t, 1, lines[0]["failures"], what)
			require.Equal(t, "0s", lines[0]["for"], what)
			if what != "commit" { // which waits for what was read back
				require.Greater(t, len(lines), 15, what)
				require.Greater(t, failures, 100, "an observer hears of each: %s", what)
			}
			require.Empty(t, told(watermill.InfoLogLevel, what+" works again"))
		}
		store.away.Store(false)
		for n := range 5 {
			_, err := o.WaitFor(t.Context(), instanceOf(t, def, o, fmt.Sprint(n)).ID, func(i saga.Instance) bool { return i.Revision > 1 })
			require.NoError(t, err)
		}
		time.Sleep(time.Minute)
		for _, what := range []string{"commit", "read back", "claim"} {
			over := told(watermill.InfoLogLevel, what+" works again")
			require.Len(t, over, 1, what)
			after, err := time.ParseDuration(over[0]["after"].(string))
			require.NoError(t, err)
			require.Greater(t, after, 9*time.Minute, what)
		}
		before := len(told(watermill.ErrorLogLevel, "claim failed, trying again"))
		store.away.Store(true)
		time.Sleep(5 * time.Second)
		store.away.Store(false)
		next := told(watermill.ErrorLogLevel, "claim failed, trying again")
		require.Len(t, next, before+1, "the next outage is told at once, and once")
		require.Equal(t, 1, next[before]["failures"])
	})
}

// unlisted is a store whose List does not answer.
type unlisted struct{ saga.Store }

func (unlisted) List(ctx context.Context, _ saga.Query) ([]saga.Record, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// What is only told when a process begins does not hold it up when it ends.
func TestCloseDoesNotWaitForWhatIsToldAtTheBeginning(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log := watermill.NewCaptureLogger()
		o := runLogged(t, unlisted{memory.NewStore()}, rigOf(clerk(&rigWorld{})), log)
		began := time.Now()
		require.NoError(t, o.Close())
		require.Zero(t, time.Since(began))
		require.Empty(t, log.Captured()[watermill.ErrorLogLevel])
	})
}
