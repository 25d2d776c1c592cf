package compensation

import (
	"errors"
	"math"
	"time"
)

// Retry says how long to wait between attempts, how many there are, and when a person should hear of it. A zero field stands
// for its default, so the zero Retry is the default policy.
type Retry struct {
	First  time.Duration // wait after the first attempt; default 100ms
	Factor float64       // by which each wait is longer than the one before; default 2
	Max    time.Duration // no wait is longer; default 30s
	Jitter float64       // part of each wait that is left to chance, 0 to 1; default 0.2, negative: none

	// Attempts is the budget of a compensatable step; default 12, which with the other defaults takes about two minutes.
	// Pivots, retriable steps and compensations have none: they are tried until they succeed.
	Attempts int
	// Alert is the number of failed attempts from which on a step shows as stuck; default 8. One that fails by a fault of the definition
	// does at once.
	Alert int
}

// WithDefaults returns the policy with its zero fields filled in.
func (r Retry) WithDefaults() Retry {
	if r.First == 0 {
		r.First = 100 * time.Millisecond
	}
	if r.Factor == 0 {
		r.Factor = 2
	}
	if r.Max == 0 {
		r.Max = max(30*time.Second, r.First)
	}
	if r.Jitter == 0 {
		r.Jitter = 0.2
	}
	if r.Attempts == 0 {
		r.Attempts = 12
	}
	if r.Alert == 0 {
		r.Alert = 8
	}
	return r
}

// Validate says what is wrong with the policy; all of it.
func (r Retry) Validate() error {
	r = r.WithDefaults()
	var faults []error
	if r.First < 0 || r.Max < r.First {
		faults = append(faults, errors.New("retry: First must not be negative, nor longer than Max"))
	}
	if r.Factor < 1 || math.IsNaN(r.Factor) || math.IsInf(r.Factor, 0) {
		faults = append(faults, errors.New("retry: Factor must be at least 1"))
	}
	if r.Jitter > 1 || math.IsNaN(r.Jitter) {
		faults = append(faults, errors.New("retry: Jitter must be between 0 and 1"))
	}
	if r.Attempts < 0 || r.Alert < 0 {
		faults = append(faults, errors.New("retry: Attempts and Alert must not be negative"))
	}
	return errors.Join(faults...)
}

// Delay returns how long to wait after the given number of attempts (from 1). The part that Jitter leaves to chance is
// decided by random, from 0 up to 1, which comes from outside: the same arguments give the same delay.
func (r Retry) Delay(attempts int, random float64) time.Duration {
	r = r.WithDefaults()
	wait := float64(r.First) * math.Pow(r.Factor, float64(max(attempts, 1)-1))
	wait = min(wait, float64(r.Max)) // also where the power is infinite
	wait *= 1 - max(r.Jitter, 0)*min(max(random, 0), 1)
	if wait >= float64(r.Max) {
		return r.Max // the longest of all has no float64 of its own
	}
	return time.Duration(wait)
}

// Spent tells whether a step of the class has used up its attempts.
func (r Retry) Spent(class Class, attempts int) bool {
	return class == Compensatable && attempts >= r.WithDefaults().Attempts
}

// Alarming tells whether a person should hear of a step that failed so often.
func (r Retry) Alarming(attempts int) bool { return attempts >= r.WithDefaults().Alert }
