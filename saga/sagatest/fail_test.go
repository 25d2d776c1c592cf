package sagatest_test

import (
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/saga"
	"github.com/sagamill/sagamill/saga/sagatest"
)

// Tests that fail as they should run in a process of their own: TestFailing is skipped in this one.

const failing = "SAGATEST_FAILING"

var failingTests = map[string]func(t *testing.T){
	"finding": func(t *testing.T) { sagatest.Explore(t, wrongStay, cancelledStay(wrongStay), rightStay) },
	"coverage": func(t *testing.T) {
		sagatest.Explore(t, theLifecycle, func(r *sagatest.Run) { sagatest.Start(r, theLifecycle, "order-1", order{}) }, sagatest.FullCoverage())
	},
	"coverage of what is not there": func(t *testing.T) {
		sagatest.Explore(t, theLifecycle, func(*sagatest.Run) {}, sagatest.FullCoverage("row PAID/pakced", "state PAID", "PAID"))
	},
	"nothing started": func(t *testing.T) { sagatest.Explore(t, stay, func(*sagatest.Run) {}) },
	"too few runs": func(t *testing.T) {
		sagatest.Explore(t, stay, cancelledStay(stay), sagatest.Runs(5), sagatest.Seeds(0))
	},
	"definition": func(t *testing.T) {
		d := saga.Linear("two-faults", saga.Do("a", chargeCard), saga.Do("a", chargeCard))
		sagatest.Explore(t, d, func(*sagatest.Run) {})
	},
	"definition of a case": func(t *testing.T) { sagatest.Given(saga.Linear[Stay]("empty"), Stay{}).Then(t, saga.Completed) },
	"no script":            func(t *testing.T) { sagatest.Explore(t, stay, nil) },

	"state": func(t *testing.T) { newHotel(); sagatest.Given(stay, Stay{}).Then(t, saga.Failed) },
	"impossible fault": func(t *testing.T) {
		sagatest.Given(stay, Stay{}).Meets("book-room", sagatest.MessageLost).Then(t, saga.Completed)
	},
	"too few attempts": func(t *testing.T) {
		newHotel()
		sagatest.Given(stay, Stay{}).Meets("book-room", sagatest.StepFails).Meets("book-room/undo", sagatest.StepFails).Then(t, saga.Completed)
	},
	"other payload": func(t *testing.T) { sagatest.Given(theLifecycle, order{}).When("paid", "fifty").Then(t, "NEW") },
}

func TestFailing(t *testing.T) {
	name := os.Getenv(failing)
	if name == "" {
		t.Skip("it runs in a process of its own")
	}
	failingTests[name](t)
}

// fails runs one of them, and returns what it prints.
func fails(t *testing.T, name string, flags ...string) string {
	t.Helper()
	require.Contains(t, failingTests, name)
	self, err := os.Executable()
	require.NoError(t, err)
	command := exec.CommandContext(t.Context(), self, append([]string{"-test.run", "^TestFailing$", "-test.v"}, flags...)...)
	command.Env = append(os.Environ(), failing+"="+name)
	output, err := command.CombinedOutput()
	require.Error(t, err, "it does not fail")
	return string(output)
}

func TestExploreFailsWithAFindingThatCanBeReplayed(t *testing.T) {
	t.Parallel()
	output := fails(t, "finding")
	require.Contains(t, output, "violated: a room is booked exactly if the stay is")
	require.Contains(t, output, "go test -run '^TestFailing$' -sagatest.replay '2:input-now,6:step-fails-after-effect'")
	require.Contains(t, output, "with one fault: 39 of 39", "what was explored before")

	output = fails(t, "finding", "-sagatest.replay", "2:input-now,6:step-fails-after-effect")
	require.Contains(t, output, "FAULT 6:step-fails-after-effect")
	require.Contains(t, output, "violated: a room is booked exactly if the stay is")
	require.NotContains(t, output, "covered", "it is one run")
}

func TestReplaySaysWhatIsWrongWithIt(t *testing.T) {
	t.Parallel()
	output := fails(t, "finding", "-sagatest.replay", "2:input-now,9999:step-fails")
	require.Contains(t, output, "this is another run: 2:input-now,9999:step-fails was asked for, 2:input-now happened")
	require.Contains(t, fails(t, "finding", "-sagatest.replay", "2:tea"), `-sagatest.replay has "2:tea": it is a list of moment:fault`)
}

func TestExploreFailsIf(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ test, says string }{
		{"coverage", "no run has reached: state PAID, state SHIPPED, row NEW/paid[enough], "},
		{"too few runs", "never happened, though the run without faults has a moment for it: allow more Runs"},
		{"definition", `two steps are named "a"`},
		{"no script", "a definition and a script are needed"},
		{"coverage of what is not there", `FullCoverage excepts ["row PAID/pakced" "PAID"], which the definition does not have`},
		{"nothing started", "violated: the script starts no saga: it must call sagatest.Start"},
	} {
		require.Contains(t, fails(t, c.test), c.says)
	}
}

func TestCaseFailsIf(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ test, says, trace string }{
		{"state", "it is in completed, not in failed", "book-room, attempt 1 of case returns"},
		{"impossible fault", `step book-room cannot meet "message-lost": it is one of [step-fails `, ""},
		{"too few attempts", "step book-room/undo was not attempted often enough to meet [step-fails]; the saga began [\"book-room\"", "FAULT step-fails  book-room, attempt 1"},
		{"other payload", "the payload of event paid is a string, but it was declared with int", "commits start"},
		{"definition of a case", `definition "empty" cannot be used`, ""},
	} {
		output := fails(t, c.test)
		require.Contains(t, output, c.says)
		require.Contains(t, output, c.trace)
	}
}

func newHotel() { hotel = &Hotel{booked: map[string]string{}} }

// cancelledStay is a stay that may be cancelled at any time.
func cancelledStay(d *saga.LinearDefinition[Stay]) func(*sagatest.Run) {
	return func(r *sagatest.Run) {
		newHotel()
		sagatest.Start(r, d, "ada", Stay{Guest: "Ada"}).Send(saga.Cancel, nil).Anytime()
	}
}

var rightStay = sagatest.Finally("a room is booked exactly if the stay is", bookedExactly)
