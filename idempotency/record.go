package idempotency

import (
	"fmt"
	"time"
)

// Record is what a store keeps of a key. It is here for stores that read a record, judge it and write it back in one
// transaction, so that the rules are written once; users of a store do not need it.
type Record struct {
	Fingerprint Fingerprint
	Token       Token
	Completed   bool      // otherwise in progress
	Until       time.Time // the end of the lease; when completed, of the TTL
	Response    Response  // when completed
	Holds       string    // when completed
}

// Judge says what Begin answers to a request when r is the record of its key. free means that the key can be claimed: write
// what [Record.Claimed] gives, with the next token.
func (r Record) Judge(f Fingerprint, now time.Time) (claim Claim, free bool) {
	over := !now.Before(r.Until)
	switch {
	case r.Completed && over && r.Holds == "":
		return Claim{}, true
	case !r.Fingerprint.Matches(f):
		return Claim{State: Mismatch}, false
	case r.Completed:
		return Claim{State: Completed, Response: r.Response}, false
	case over:
		return Claim{}, true
	default:
		return Claim{State: InFlight, RetryAfter: r.Until.Sub(now)}, false
	}
}

// Claimed is the record that takes the place of r (the zero Record if there was none) when a request claims the key.
// A taken over record keeps its fingerprint if the new request brings none.
func (r Record) Claimed(f Fingerprint, token Token, until time.Time) Record {
	if !r.Completed && f.IsZero() {
		f = r.Fingerprint
	}
	return Record{Fingerprint: f, Token: token, Until: until}
}

// Holder answers nil if token holds the key in progress, otherwise [ErrFenced].
func (r Record) Holder(token Token) error {
	if r.Completed || r.Token != token || token == 0 {
		return ErrFenced
	}
	return nil
}

// Removable tells whether Expire may remove the record, provided that what it holds, if anything, is settled.
func (r Record) Removable(now time.Time) bool {
	end := r.Until
	if !r.Completed {
		end = end.Add(AbandonedAfter)
	}
	return !now.Before(end)
}

// ValidateLease answers an error if lease cannot be one.
func ValidateLease(lease time.Duration) error {
	if lease <= 0 {
		return fmt.Errorf("idempotency: lease must be positive, not %v", lease)
	}
	return nil
}

// Validate answers an error if the TTL is not positive.
func (c Completion) Validate() error {
	if c.TTL <= 0 {
		return fmt.Errorf("idempotency: TTL must be positive, not %v", c.TTL)
	}
	return nil
}
