package idempotency

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

// Store keeps a record for each key. These rules hold for all of them, and package idempotencytest tests them:
//
//  1. Each call is one atomic step: of any number of Begins at once, in any number of processes, at most one is [Acquired].
//     What a call answered is kept across a crash as far as the store is durable; a call that answers an error, ErrFenced
//     included, has changed nothing, unless the connection was lost and nobody can know.
//  2. Each [Acquired] comes with a [Token] greater than all that the store ever gave, for any key, also those of records
//     removed since.
//  3. Renew, Complete and Release answer [ErrFenced] unless the token is that of the last Acquired of the key and the key
//     is still in progress (or completed by this token, for Complete). A lease that is over fences nobody by itself: the
//     token is good until somebody takes the key over.
//  4. The store judges time by its own clock. Durations go in, never times; each must be positive.
//  5. Parts of keys are compared byte by byte: no case folding, no trimming, no Unicode normalization.
//  6. What was given to or taken from the store may be changed by the caller afterwards without harm.
//  7. A call whose context is already cancelled answers its error and changes nothing.
//
// It is safe for concurrent use.
type Store interface {
	// Begin claims the key for the length of the lease, or says why not. The key is free if there is no record of it, or
	// if it was completed, holds nothing and its TTL is over. Otherwise a request with another fingerprint is a
	// [Mismatch], which changes nothing; and the same request takes over a claim whose lease is over. An invalid key is
	// answered with a [*KeyError].
	Begin(ctx context.Context, key Key, fingerprint Fingerprint, lease time.Duration) (Claim, error)

	// Renew makes the claim last for the length of the lease from now.
	Renew(ctx context.Context, key Key, token Token, lease time.Duration) error

	// Complete stores the response. Completing again with the same token is answered with nil, as it may be the
	// repetition of a call whose answer was lost, but what was stored first stands.
	Complete(ctx context.Context, key Key, token Token, completion Completion) error

	// Release gives the key back and forgets the request: the next may be another one.
	Release(ctx context.Context, key Key, token Token) error

	// Expire removes records that are over, at most limit of them, and says how many: claims [AbandonedAfter] the end of
	// their lease; completed records after their TTL, if they hold nothing or live does not answer what they hold. With
	// live nil what is held is kept, and so it is when live fails; its error is then answered, along with the number of
	// the others removed. live is called outside of any transaction or lock, perhaps several times, and what is claimed
	// meanwhile is kept.
	Expire(ctx context.Context, limit int, live Live) (removed int, err error)
}

// Live answers those of holds that are not settled yet. What it does not answer is taken as settled.
type Live func(ctx context.Context, holds []string) (live []string, err error)

// AbandonedAfter is how long after the end of its lease a claim that nobody completed or took over is removed by
// [Store.Expire]. Until then the request may be repeated under its key, and no other may take its place.
const AbandonedAfter = 24 * time.Hour

// Token is a fencing token: of two, the greater one is the later. 0 is none.
type Token uint64

// State is what [Store.Begin] found.
type State uint8

const (
	Acquired  State = iota + 1 // the key is claimed: go on, then Complete or Release
	InFlight                   // somebody else's claim is not over
	Completed                  // there is a response already
	Mismatch                   // the key is that of another request
)

func (s State) String() string {
	switch s {
	case Acquired:
		return "acquired"
	case InFlight:
		return "in flight"
	case Completed:
		return "completed"
	case Mismatch:
		return "mismatch"
	default:
		return fmt.Sprintf("State(%d)", uint8(s))
	}
}

// Claim is the answer of [Store.Begin].
type Claim struct {
	State      State
	Token      Token         // Acquired
	RetryAfter time.Duration // InFlight: what is left of the lease, which may be renewed
	Response   Response      // Completed
}

// Response is what a request was answered with. Outside of HTTP, use of it what you need.
type Response struct {
	Status int
	Header http.Header
	Body   []byte
}

// Completion is how a request ended.
type Completion struct {
	Response Response
	TTL      time.Duration // how long the record is kept, at least
	Holds    string        // what the request began, if it is to keep the record until it is settled: a saga instance's id
}
