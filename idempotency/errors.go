package idempotency

import (
	"errors"
	"fmt"
)

var (
	// ErrMissingKey is answered by [ParseKey] when the request has no key.
	ErrMissingKey = errors.New("idempotency: no key")

	// ErrFenced is answered to a [Token] that does not hold its key any more: the key was taken over, released, completed or
	// removed. It is also the cause with which [Middleware] cancels the context of a handler that this happens to.
	ErrFenced = errors.New("idempotency: fenced: the key is not held by this token any more")

	// ErrResponseTooLarge is answered to a handler that writes more than Config.MaxResponse.
	ErrResponseTooLarge = errors.New("idempotency: response too large to be stored")
)

// KeyError says what is wrong with a key.
type KeyError struct {
	Part   string // "key", "tenant", "route"; "text" for [Key.UnmarshalText]
	Reason string // completes the sentence that starts with the part
}

func (e *KeyError) Error() string { return "idempotency: " + e.Part + " " + e.Reason }

// StoreError is what Config.OnError gets: a call of the store failed, or was fenced ([ErrFenced]).
type StoreError struct {
	Op  string // "begin", "renew", "complete", "release"
	Key Key
	Err error
}

func (e *StoreError) Error() string {
	return fmt.Sprintf("idempotency: %s %s: %v", e.Op, e.Key, e.Err)
}

func (e *StoreError) Unwrap() error { return e.Err }
