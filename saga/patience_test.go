package saga

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/sagamill/sagamill/compensation"
)

// The numbers are those of RFC 6298, section 2.
func TestPatienceIsThatOfTCP(t *testing.T) {
	t.Parallel()
	p := &patience{}
	require.Empty(t, p.waits(), "nothing is known")

	p.heard("stock", 2*time.Second)
	require.Equal(t, waits{"stock": 2*time.Second + 4*time.Second}, p.waits()) // R + 4 * R/2
	p.heard("stock", 4*time.Second)
	// RTTVAR = 3/4 * 1 s + 1/4 * |2 s - 4 s| = 1.25 s; SRTT = 7/8 * 2 s + 1/8 * 4 s = 2.25 s
	require.Equal(t, waits{"stock": 2250*time.Millisecond + 4*1250*time.Millisecond}, p.waits())

	before := p.waits()
	p.heard("stock", -time.Hour)
	require.Equal(t, before, p.waits(), "a clock that was put back says nothing")

	for range 40 {
		p.heard("stock", 10*time.Millisecond)
	}
	require.Less(t, p.waits()["stock"], 200*time.Millisecond, "participants that are quick again are believed")
	require.Equal(t, 7250*time.Millisecond, before["stock"], "what decide was given does not change")

	p.heard("ship", time.Minute)
	require.Equal(t, 3*longestFirst, p.waits()["ship"], "each kind has its own")
}

// A reply that had to wait for somebody who was away says little of the next one, but many of them do.
func TestPatienceIsNotLostAtOnce(t *testing.T) {
	t.Parallel()
	p := &patience{}
	for range 50 {
		p.heard("stock", 10*time.Millisecond)
	}
	p.heard("stock", time.Hour)
	require.Less(t, p.waits()["stock"], 1500*time.Millisecond)
	for range 20 {
		p.heard("stock", 5*time.Second)
	}
	require.Greater(t, p.waits()["stock"], 5*time.Second)
}

// What is told is an eighth off at most.
func TestPatienceTellsOfWhatChanges(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := &patience{}
		for _, ms := range rapid.SliceOfN(rapid.IntRange(0, 100_000), 1, 50).Draw(t, "replies") {
			p.heard("stock", time.Duration(ms)*time.Millisecond)
			told, wait := p.waits()["stock"], p.estimates["stock"].wait()
			require.LessOrEqual(t, (told - wait).Abs(), told/8)
			require.GreaterOrEqual(t, wait, time.Duration(0))
		}
	})
}

// The policy begins when a reply may be expected, backs off from there, leaves to chance what it always does, and ends at its Max.
func TestPoliciesBeginWhenRepliesMayBeExpected(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		wait    time.Duration
		retry   compensation.Retry
		random  float64
		attempt int
		want    time.Duration
	}{
		{0, compensation.Retry{}, 0, 1, time.Second},
		{100 * time.Millisecond, compensation.Retry{}, 0, 1, time.Second},
		{4 * time.Second, compensation.Retry{}, 0, 1, 5 * time.Second},
		{4 * time.Second, compensation.Retry{}, 0.999999, 1, 4 * time.Second}, // not before
		{4 * time.Second, compensation.Retry{}, 0, 2, 10 * time.Second},
		{4 * time.Second, compensation.Retry{}, 0, 9, 30 * time.Second},
		{4 * time.Second, compensation.Retry{}, 0.5, 9, 27 * time.Second},
		{time.Hour, compensation.Retry{}, 0.5, 1, 27 * time.Second},
		{4 * time.Second, compensation.Retry{Jitter: -1}, 0.5, 1, 4 * time.Second},
		{4 * time.Second, compensation.Retry{Jitter: 1}, 0, 1, 30 * time.Second},
		{4 * time.Second, compensation.Retry{First: 10 * time.Second}, 0, 1, 10 * time.Second},
		{4 * time.Second, compensation.Retry{Max: 2 * time.Second}, 0, 1, 2 * time.Second},
	} {
		turn := &turn{in: input{random: c.random, patience: waits{"stock/reserve": c.wait}}}
		got := turn.sendAgain(&effectPlan{command: requestPlan[int](Command[int, int]{Name: "reserve", Topic: "stock"}, nil), retry: c.retry}, c.attempt)
		require.InDelta(t, c.want.Seconds(), got.Seconds(), 0.001, "%+v", c)
	}
}

// A reply to the first attempt tells how long that took, whatever happened to others meanwhile. Where the first attempt is not known to
// this version, nothing is told.
func TestReplyTellsHowLongTheFirstAttemptTook(t *testing.T) {
	t.Parallel()
	w := begun(t, order, `{"total":100}`)
	told := func(o outcome) time.Duration {
		d, err := w.decide(input{outcome: &o})
		require.NoError(t, err)
		if d.replied.sent.IsZero() {
			return -1
		}
		require.Equal(t, "inventory/reserve-stock", d.replied.command)
		return w.now.Sub(d.replied.sent)
	}
	_, err := w.wake(1100*time.Millisecond, true) // attempt 2
	require.NoError(t, err)
	require.EqualValues(t, -1, told(outcome{Step: "reserve-stock", Run: 1, Attempt: 2, Kind: outcomeFailed}))
	_, err = w.wake(10*time.Second, true) // attempt 3
	require.NoError(t, err)
	require.Equal(t, 3, w.inst.Ledger.Latest("reserve-stock").Attempts)
	require.Equal(t, 11100*time.Millisecond, told(outcome{Step: "reserve-stock", Run: 1, Attempt: 1, Kind: outcomeSucceeded}))

	w = begun(t, order, `{"total":100}`)
	w.now = w.now.Add(time.Second / 2)
	_, err = w.decide(input{operator: &operation{verb: MoveTimer, who: "ann", why: "patience", timer: "reply:reserve-stock", in: time.Hour}})
	require.NoError(t, err)
	require.Equal(t, time.Second/2, told(outcome{Step: "reserve-stock", Run: 1, Attempt: 1, Kind: outcomeSucceeded}))

	w = begun(t, order, `{"total":100}`)
	w.inst.Ledger.Latest("reserve-stock").Attempts = 2 // by a version that did not note when the first was sent
	w.inst.Timers = []timer{{Kind: replyTimer, Step: "reserve-stock", Run: 1, In: time.Second}}
	w.inst.committed(w.now)
	require.EqualValues(t, -1, told(outcome{Step: "reserve-stock", Run: 1, Attempt: 1, Kind: outcomeSucceeded}))
}
