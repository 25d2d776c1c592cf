package saga

import (
	"errors"
	"fmt"
	"strings"
)

// What callers branch on. Each is wrapped with what it is about.
var (
	// ErrUnknownDefinition: this orchestrator was not given a definition of that name.
	ErrUnknownDefinition = errors.New("saga: unknown definition")
	// ErrUnknownEvent: the definition declares no such event from outside.
	ErrUnknownEvent = errors.New("saga: unknown event")
	// ErrKeyConflict: the business key or start key is taken by a saga that was started with other data.
	ErrKeyConflict = errors.New("saga: key is taken by a saga started with other data")
	// ErrInputConflict: an event has the Source and ID of another one that was sent before. See InputConflictError.
	ErrInputConflict = errors.New("saga: source and ID belong to another event")
	// ErrRefused: the saga's state does not allow it. See RefusedError.
	ErrRefused = errors.New("saga: refused")
	// ErrTooLarge: a payload or the data is larger than the configuration allows.
	ErrTooLarge = errors.New("saga: too large")
	// ErrInvalid: an argument is missing or malformed.
	ErrInvalid = errors.New("saga: invalid")
	// ErrBusy: somebody else's lock is in the way of a StartIn. Roll the transaction back, and try again.
	ErrBusy = errors.New("saga: busy")
	// ErrClosed: the orchestrator is closed, or closing. The input was not recorded; send it again, to another process.
	ErrClosed = errors.New("saga: orchestrator is closed")
	// ErrIncompatible: stored instances need what a definition does not have any more. See IncompatibleError.
	ErrIncompatible = errors.New("saga: definition is incompatible with stored instances")
)

// RefusedError says that an event, or an operator's verb, was refused, and why. An event's refusal is on the record: sent
// again under the same ID it is refused again.
type RefusedError struct {
	Instance string
	State    string
	What     string // event or verb
	Reason   string
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("saga: %s refused by instance %s in state %s: %s", e.What, e.Instance, e.State, e.Reason)
}

// Is makes errors.Is(err, ErrRefused) true.
func (e *RefusedError) Is(target error) bool { return target == ErrRefused }

// KeyConflictError says which saga has the key that a start asks for, and which key that is.
type KeyConflictError struct {
	Instance   string // the saga's
	Definition string
	Key        string
	StartKey   string // the request's key that is taken: it was used for another request; empty: the business key is, or ByID
	ByID       bool   // the ID is taken
}

func (e *KeyConflictError) Error() string {
	switch {
	case e.StartKey != "":
		return fmt.Sprintf("%s: start key %q was used for another request, which started %s %q, instance %s", ErrKeyConflict, e.StartKey, e.Definition, e.Key, e.Instance)
	case e.ByID:
		return fmt.Sprintf("%s: ID %s is that of %s %q", ErrKeyConflict, e.Instance, e.Definition, e.Key)
	}
	return fmt.Sprintf("%s: %s %q, instance %s", ErrKeyConflict, e.Definition, e.Key, e.Instance)
}

// Is makes errors.Is(err, ErrKeyConflict) true.
func (e *KeyConflictError) Is(target error) bool { return target == ErrKeyConflict }

// InputConflictError says which event had the Source and ID before.
type InputConflictError struct {
	Instance string
	Event    string // the one that was sent now, and is not recorded
	Recorded string // the one that has the Source and ID
	Source   string
	ID       string
}

func (e *InputConflictError) Error() string {
	if e.Event == e.Recorded {
		return fmt.Sprintf("saga: event %s from %s has ID %s, under which instance %s has recorded one with another payload: give each event an ID of its own",
			e.Event, e.Source, e.ID, e.Instance)
	}
	return fmt.Sprintf("saga: event %s from %s has ID %s, under which instance %s has recorded event %s: give each event an ID of its own",
		e.Event, e.Source, e.ID, e.Instance, e.Recorded)
}

// Is makes errors.Is(err, ErrInputConflict) true.
func (e *InputConflictError) Is(target error) bool { return target == ErrInputConflict }

// payloadError says that what came from outside is no good: it is not the definition that has to be mended.
type payloadError struct{ error }

func (e *payloadError) Unwrap() error { return e.error }

func ofPayload(err error) bool {
	_, is := errors.AsType[*payloadError](err)
	return is
}

// PanicError is a panic of a function of the definition's, caught.
type PanicError struct {
	In    string // which function
	Value any    // what it panicked with
	Stack []byte // where, for the log
}

func (e *PanicError) Error() string { return fmt.Sprintf("%s panicked: %v", e.In, e.Value) }

// IncompatibleError lists what stored, unsettled instances may refer to and a definition does not have any more.
type IncompatibleError struct {
	Definition string
	Version    int
	Live       int      // unsettled instances of that version
	Missing    []string // "step x", "state y", ...
}

func (e *IncompatibleError) Error() string {
	return fmt.Sprintf("saga: definition %s version %d lacks %s, but %d unsettled instances were started with it: keep it, and give the changed definition a new Version (Spec.Version, WithVersion) beside the old one",
		e.Definition, e.Version, strings.Join(e.Missing, "; "), e.Live)
}

// Is makes errors.Is(err, ErrIncompatible) true.
func (e *IncompatibleError) Is(target error) bool { return target == ErrIncompatible }

// Rejection is the error of a step that says no, for good: it will not be tried again. Make it with Reject.
type Rejection struct{ Reason string }

func (e *Rejection) Error() string { return "rejected: " + e.Reason }

// Reject makes the error by which a step's action, or a participant's handler, says no for good. Any other error means: try
// again. It is found through wrapping, too.
func Reject(format string, args ...any) error {
	return &Rejection{Reason: fmt.Sprintf(format, args...)}
}
