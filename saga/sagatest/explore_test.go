package sagatest_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/memory"
	"github.com/sagamill/sagamill/saga"
	"github.com/sagamill/sagamill/saga/sagatest"
)

// What Explore says of definitions, scripts and worlds that cannot be explored, or that are wrong at first sight.

// linear is a saga of one step.
func linear(step func(context.Context, Stay) error) *saga.LinearDefinition[Stay] {
	return saga.Linear("one-step", saga.Do("step", step).Retriable().NoUndo("of a test"))
}

// waiting is a saga that waits for money.
func waiting(rows ...saga.Row[orderState, orderEvent, order]) *saga.Definition[orderState, orderEvent, order] {
	return saga.Define(saga.Spec[orderState, orderEvent, order]{
		Name: "waiting", Initial: "NEW", Succeeded: []orderState{"PAID"}, Events: []saga.Event[orderEvent, order]{saga.On(orderEvent("paid"), order.paid)},
		Table:     append(saga.Table[orderState, orderEvent, order]{{From: "NEW", On: "paid", To: "PAID"}}, rows...),
		Otherwise: saga.Ignore,
	})
}

// found requires that something is found, in a run with so many faults, and returns it.
func found(t *testing.T, faults int, f *sagatest.Finding) *sagatest.Finding {
	t.Helper()
	require.NotNil(t, f, "nothing is found")
	require.Len(t, faultsOf(f), faults, "%s", f)
	return f
}

func TestExploreFindsStepsThatGoByChance(t *testing.T) {
	calls := 0 // is kept from run to run
	d := linear(func(context.Context, Stay) error {
		if calls++; calls%3 == 0 {
			return errors.New("every third time")
		}
		return nil
	})
	f := sagatest.Find(t, d, func(r *sagatest.Run) { sagatest.Start(r, d, "ada", Stay{}) })
	require.NotNil(t, f)
	require.Contains(t, f.Violations[0], "two runs with the same faults differ")
}

func TestExploreFindsWorldsThatStay(t *testing.T) {
	charged := 0 // the script should begin with a new one
	d := linear(func(context.Context, Stay) error { charged++; return nil })
	script := func(r *sagatest.Run) { sagatest.Start(r, d, "ada", Stay{}) }
	f := found(t, 0, sagatest.Find(t, d, script, sagatest.Always("charged once", func(*sagatest.Run) error {
		if charged > 1 {
			return fmt.Errorf("charged %d times", charged)
		}
		return nil
	})))
	require.Contains(t, f.Violations[1], "two runs with the same faults differ (nothing): is the world made anew by the script")

	f = sagatest.Find(t, d, script, sagatest.Finally("luck", func(*sagatest.Run) error {
		if charged%13 == 0 {
			return errors.New("bad luck")
		}
		return nil
	}))
	require.NotNil(t, f)
	require.Contains(t, f.Violations[0], "is the world made anew by the script")
}

func TestExploreFindsCommandsThatNobodyHandles(t *testing.T) {
	var a *agency
	d := bookTrip(&a)
	for name, handle := range map[string]func(*sagatest.Run){
		"no participant": func(*sagatest.Run) {},
		"one for other commands": func(r *sagatest.Run) {
			err := saga.Handle(sagatest.NewParticipant(r, memory.NewInbox()), cancelSeat,
				func(context.Context, *memory.Tx, string) (none struct{}, err error) { return none, nil })
			require.NoError(t, err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := found(t, 0, sagatest.Find(t, d, func(r *sagatest.Run) {
				a = newAgency(false)
				handle(r)
				sagatest.Start(r, d, "trip-1", trip{})
			}))
			require.Contains(t, f.Violations, `nobody takes command "book-seat" from topic "airline": the script needs sagatest.NewParticipant, and saga.Handle for it`)
		})
	}
}

func TestExploreFindsSagasThatWaitForEver(t *testing.T) {
	d := waiting()
	f := found(t, 0, sagatest.Find(t, d, func(r *sagatest.Run) { sagatest.Start(r, d, "order-1", order{}) }))
	require.Equal(t, []string{"order-1 stays in NEW for ever: no time-out is due, and the script sends nothing more: send it an event, or add a row with After"}, f.Violations)
}

func TestExploreFindsWhatComesToNoEnd(t *testing.T) {
	loop := waiting(
		saga.Row[orderState, orderEvent, order]{From: "NEW", After: time.Minute, To: "OLD"},
		saga.Row[orderState, orderEvent, order]{From: "OLD", After: time.Minute, To: "NEW"},
	)
	f := found(t, 0, sagatest.Find(t, loop, func(r *sagatest.Run) { sagatest.Start(r, loop, "order-1", order{}) }))
	require.Contains(t, f.Violations[0], "it does not come to an end: after 20000 turns order-1 is in")

	failing := linear(func(context.Context, Stay) error { return errors.New("the server is down") })
	f = found(t, 0, sagatest.Find(t, failing, func(r *sagatest.Run) { sagatest.Start(r, failing, "ada", Stay{}) }))
	require.Contains(t, f.Violations[0], "it does not come to an end")
	require.Contains(t, f.String(), "returns the error: the server is down")
	require.Greater(t, len(f.Trace), 5_000)
	require.Contains(t, f.String(), " lines are left out here")
	require.Less(t, strings.Count(f.String(), "\n"), 100, "it can be read")
}

func TestExploreFindsWhatTheScriptDoesWrong(t *testing.T) {
	d := waiting()
	start := func(r *sagatest.Run) *sagatest.Saga[orderState, orderEvent, order] {
		return sagatest.Start(r, d, "order-1", order{})
	}
	for name, c := range map[string]struct {
		script func(*sagatest.Run)
		says   string
	}{
		"payload of another type": {func(r *sagatest.Run) { start(r).Send("paid", "fifty") }, "the payload of event paid is a string, but it was declared with int"},
		"no payload":              {func(r *sagatest.Run) { start(r).Send("paid", nil) }, "event paid needs a payload"},
		"no such event":           {func(r *sagatest.Run) { start(r).Send("piad", 5) }, `does not declare "piad"; it has [paid]`},
		"another definition":      {func(r *sagatest.Run) { sagatest.Start(r, stay, "ada", Stay{}) }, "unknown definition"},
		"a key taken":             {func(r *sagatest.Run) { start(r); sagatest.Start(r, d, "order-1", order{Paid: 7}) }, "key is taken by a saga started with other data"},
	} {
		t.Run(name, func(t *testing.T) {
			require.Contains(t, found(t, 0, sagatest.Find(t, d, c.script)).Violations[0], c.says)
		})
	}
}

// Events are folded into the data once each, however often they come: a reducer that adds is no bug.
func TestExploreAReducerThatAdds(t *testing.T) {
	d := waiting()
	sagatest.Explore(t, d, func(r *sagatest.Run) { sagatest.Start(r, d, "order-1", order{}).Send("paid", 60) },
		sagatest.Runs(500), sagatest.Seeds(50), sagatest.FullCoverage(), sagatest.Finally("what was paid is known", func(r *sagatest.Run) error {
			if data := string(r.Saga("order-1").Data); data != `{"Paid":60}` {
				return errors.New(data)
			}
			return nil
		}))
}

// faultsOf names a finding's faults.
func faultsOf(f *sagatest.Finding) (names []string) {
	if f.Faults == "nothing" {
		return nil
	}
	for _, planned := range strings.Split(f.Faults, ",") {
		_, name, _ := strings.Cut(planned, ":")
		names = append(names, name)
	}
	return names
}
