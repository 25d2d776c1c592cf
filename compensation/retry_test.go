package compensation_test

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	. "github.com/sagamill/sagamill/compensation"
)

func TestZeroRetryIsTheDefaultPolicy(t *testing.T) {
	t.Parallel()
	want := Retry{First: 100 * time.Millisecond, Factor: 2, Max: 30 * time.Second, Jitter: 0.2, Attempts: 12, Alert: 8}
	require.Equal(t, want, Retry{}.WithDefaults())
	require.NoError(t, Retry{}.Validate())
	require.Equal(t, time.Minute, Retry{First: time.Minute}.WithDefaults().Max, "a first wait longer than the default Max stretches it")
	full := Retry{Jitter: -1}.WithDefaults()
	require.Equal(t, full, full.WithDefaults(), "what was said is not forgotten")
	require.Equal(t, 100*time.Millisecond, full.Delay(1, 0.9), "without jitter")
}

func TestRetryFaults(t *testing.T) {
	t.Parallel()
	const (
		first    = "retry: First must not be negative, nor longer than Max"
		factor   = "retry: Factor must be at least 1"
		jitter   = "retry: Jitter must be between 0 and 1"
		attempts = "retry: Attempts and Alert must not be negative"
	)
	for _, c := range []struct {
		retry Retry
		want  string
	}{
		{Retry{First: -1}, first},
		{Retry{First: 2, Max: 1}, first},
		{Retry{Max: -1}, first},
		{Retry{Factor: 0.9}, factor},
		{Retry{Factor: math.NaN()}, factor},
		{Retry{Factor: math.Inf(1)}, factor},
		{Retry{Jitter: 1.1}, jitter},
		{Retry{Jitter: math.NaN()}, jitter},
		{Retry{Attempts: -1}, attempts},
		{Retry{Alert: -1}, attempts},
		{Retry{First: -1, Factor: -1, Jitter: 2, Attempts: -1}, first + "\n" + factor + "\n" + jitter + "\n" + attempts},
	} {
		require.EqualError(t, c.retry.Validate(), c.want, "%+v", c.retry)
	}
}

func TestDelayGrowsUpToMax(t *testing.T) {
	t.Parallel()
	r := Retry{First: time.Second, Factor: 3, Max: 10 * time.Second, Jitter: -1}
	for attempts, want := range map[int]time.Duration{
		0: time.Second, 1: time.Second, 2: 3 * time.Second, 3: 9 * time.Second, 4: 10 * time.Second, 1_000_000: 10 * time.Second,
	} {
		require.Equal(t, want, r.Delay(attempts, 0), attempts)
	}
	require.Equal(t, 800*time.Millisecond, Retry{First: time.Second}.Delay(1, 1), "a fifth is left to chance")
	require.Equal(t, time.Second, Retry{First: time.Second}.Delay(1, -5), "chance is between 0 and 1")
	forever := Retry{Max: math.MaxInt64, Jitter: -1}
	require.Equal(t, time.Duration(math.MaxInt64), forever.Delay(1000, 0), "the longest wait of all is not a negative one")
}

// A delay is never negative nor longer than Max, does not become shorter with more attempts, nor longer by chance.
func TestDelayIsBounded(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		r := Retry{
			First:  time.Duration(rapid.Int64Range(0, math.MaxInt64).Draw(rt, "first")),
			Factor: rapid.Float64Range(1, 1e6).Draw(rt, "factor"),
			Max:    time.Duration(rapid.Int64Range(0, math.MaxInt64).Draw(rt, "max")),
			Jitter: rapid.Float64Range(-1, 1).Draw(rt, "jitter"),
		}
		if r.Validate() != nil {
			rt.Skip("makes no sense")
		}
		n, chance := rapid.IntRange(0, 1000).Draw(rt, "attempts"), rapid.Float64Range(0, 1).Draw(rt, "chance")
		d := r.Delay(n, chance)
		if d < 0 || d > r.WithDefaults().Max {
			rt.Fatalf("%+v waits %s", r, d)
		}
		if more := r.Delay(n+1, chance); more < d {
			rt.Fatalf("%+v waits %s, then %s", r, d, more)
		}
		if longest := r.Delay(n, 0); longest < d {
			rt.Fatalf("%+v waits %s by chance, longer than %s", r, d, longest)
		}
	})
}

// Only compensatable steps have a budget of attempts; all show as stuck some time.
func TestBudgetAndAlert(t *testing.T) {
	t.Parallel()
	r := Retry{Attempts: 3, Alert: 2}
	require.False(t, r.Spent(Compensatable, 2))
	require.True(t, r.Spent(Compensatable, 3))
	require.False(t, r.Spent(Pivot, 100))
	require.False(t, r.Spent(Retriable, 100))
	require.False(t, r.Alarming(1))
	require.True(t, r.Alarming(2))
	require.False(t, Retry{}.Spent(Compensatable, 11))
	require.True(t, Retry{}.Spent(Compensatable, 12))
	require.False(t, Retry{}.Alarming(7))
}
