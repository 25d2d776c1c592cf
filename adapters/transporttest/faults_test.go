package transporttest

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// fault is one way in which the model is broken; zero: none.
type fault string

const (
	losesSome            fault = "loses a message now and then"
	losesReplies         fault = "loses all replies"
	everyoneGetsAll      fault = "each subscriber of a group gets all"
	oneGroupForAll       fault = "groups take from each other"
	groupOptional        fault = "subscribers without a group"
	oneInFlight          fault = "one message of a group in flight"
	firstOfBatch         fault = "only the first of a batch"
	notThreadSafe        fault = "publishers overwrite each other"
	passesLate           fault = "a message that is there later than its place is passed over"
	prefixTopics         fault = "topics mixed up"
	needsTopic           fault = "a topic must exist"
	dropsUnheard         fault = "messages without subscribers are dropped"
	dropsMetadata        fault = "no metadata arrive"
	canonicalKeys        fault = "keys with a capital"
	trimsValues          fault = "values without their spaces"
	oneLineValues        fault = "values without line breaks"
	addsMetadata         fault = "metadata that nobody wrote"
	needsMetadata        fault = "a message without metadata is lost"
	newUUID              fault = "another UUID"
	textPayload          fault = "payload must be UTF-8"
	truncates            fault = "payload cut off"
	refusesEmpty         fault = "no empty payload"
	acksBefore           fault = "acknowledges before the handler"
	deadKeep             fault = "the dead keep what they held"
	closeForgets         fault = "Close drops what is in flight"
	forgetsAcks          fault = "begins anew with each subscriber"
	nackIsAck            fault = "a negative acknowledgement is an acknowledgement"
	deafWhenSlow         fault = "a subscriber that was slow gets nothing more"
	malformedBlocks      fault = "a malformed entry stays first in line"
	endsOnMalformed      fault = "a malformed entry ends subscriptions"
	neverReconnects      fault = "a cut connection stays cut"
	saysNilWhileCut      fault = "Publish says nil without a connection"
	closeWaitsForAck     fault = "Close waits for an acknowledgement"
	closesOnce           fault = "a second Close fails"
	subscriberClosesOnce fault = "a second Close of a subscriber fails"
	publishesWhenClosed  fault = "publishes when closed"
	deafToContext        fault = "does not look at the context"
	leaks                fault = "leaves a goroutine"
)

// faults are ways to break a good transport, and checks that must notice each; more of them may.
var faults = map[fault][]string{
	losesSome:            {"fan-out", "batch", "subscribe first"},
	losesReplies:         {"sagas", "sagas while connections are cut"},
	everyoneGetsAll:      {"shared"},
	oneGroupForAll:       {"fan-out"},
	groupOptional:        {"no group"},
	oneInFlight:          {"parallel", "held message"},
	firstOfBatch:         {"batch"},
	notThreadSafe:        {"publishers at once"},
	passesLate:           {"bursts"},
	prefixTopics:         {"topics are apart"},
	needsTopic:           {"subscribe first"},
	dropsUnheard:         {"publish first"},
	dropsMetadata:        {"metadata"},
	canonicalKeys:        {"metadata"},
	trimsValues:          {"metadata"},
	oneLineValues:        {"metadata"},
	addsMetadata:         {"metadata", "no metadata"},
	needsMetadata:        {"no metadata"},
	newUUID:              {"metadata"},
	textPayload:          {"binary payload"},
	truncates:            {"big payload"},
	refusesEmpty:         {"empty payload"},
	acksBefore:           {"subscriber closed before it acknowledged", "process dead before it acknowledged", "negative acknowledgement"},
	deadKeep:             {"process dead before it acknowledged"},
	closeForgets:         {"subscriber closed before it acknowledged"},
	forgetsAcks:          {"acknowledged is over"},
	nackIsAck:            {"negative acknowledgement"},
	deafWhenSlow:         {"slow handler"},
	malformedBlocks:      {"malformed entry"},
	endsOnMalformed:      {"malformed entry"},
	neverReconnects:      {"cut", "cut while idle", "sagas while connections are cut"},
	saysNilWhileCut:      {"cut"},
	closeWaitsForAck:     {"close"},
	closesOnce:           {"close"},
	subscriberClosesOnce: {"close"},
	publishesWhenClosed:  {"close"},
	deafToContext:        {"context"},
}

func checkOf(t *testing.T, name string) check {
	t.Helper()
	for _, c := range checks() {
		if c.name == name {
			return c
		}
	}
	t.Fatalf("there is no check %q", name)
	return check{}
}

func TestGoodTransportIsGreen(t *testing.T) {
	t.Parallel()
	for _, c := range checks() {
		if c.alone {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { require.NoError(t, c.run(t, newHub("").harness())) })
		})
	}
}

func TestFaultsAreNoticed(t *testing.T) {
	t.Parallel()
	red := map[string]bool{}
	for f, noticed := range faults {
		for _, name := range noticed {
			red[name] = true
			t.Run(string(f)+" "+name, func(t *testing.T) {
				t.Parallel()
				c := checkOf(t, name)
				synctest.Test(t, func(t *testing.T) {
					require.Error(t, c.run(t, newHub(f).harness()), "the check does not notice the fault")
					time.Sleep(2 * time.Hour) // for goroutines that the fault leaves behind
				})
			})
		}
	}
	for _, c := range checks() {
		if !c.alone && c.name != "close under load" { // closeForgets breaks it, too, if the moment is right
			require.True(t, red[c.name], "no fault makes this check fail: %s", c.name)
		}
	}
}

// Not parallel: it looks at all goroutines.
func TestGoroutinesLeftBehindAreNoticed(t *testing.T) {
	c := checkOf(t, "goroutines")
	synctest.Test(t, func(t *testing.T) { require.NoError(t, c.run(t, newHub("").harness())) })
	synctest.Test(t, func(t *testing.T) {
		require.Error(t, c.run(t, newHub(leaks).harness()))
		time.Sleep(2 * time.Hour)
	})
}

func TestHarnessIsValidated(t *testing.T) {
	t.Parallel()
	good := newHub("").harness()
	require.NoError(t, good.validate())
	for name, spoil := range map[string]func(h *Harness){
		"no Open":         func(h *Harness) { h.Open = nil },
		"no Malform":      func(h *Harness) { h.Malform = nil },
		"no reason":       func(h *Harness) { h.NotPromised = map[Promise]string{Parallel: ""} },
		"unknown promise": func(h *Harness) { h.NotPromised = map[Promise]string{"exactly once": "nobody can"} },
	} {
		h := good
		spoil(&h)
		require.Error(t, h.validate(), name)
	}
}

func TestWhatIsNotPromisedIsNamed(t *testing.T) {
	t.Parallel()
	h := newHub("").harness()
	h.NotPromised = map[Promise]string{Parallel: "it is a queue"}
	p, reason := checkOf(t, "parallel").lacks(h)
	require.Equal(t, Parallel, p)
	require.Equal(t, "it is a queue", reason)
	_, reason = checkOf(t, "fan-out").lacks(h)
	require.Empty(t, reason)
}
