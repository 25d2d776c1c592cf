// Package signature signs webhooks as Stripe does: the header Stripe-Signature is "t=1700000000,v1=hex", where v1 is the
// HMAC-SHA256 of "t.body". See https://docs.stripe.com/webhooks#verify-manually.
package signature

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strconv"
	"strings"
	"time"
)

// Header carries the signature.
const Header = "Stripe-Signature"

// Tolerance is how far the sender's clock may be from ours, in either direction.
const Tolerance = 5 * time.Minute

// What is wrong with a signature.
var (
	ErrMissing   = errors.New("there is no " + Header + " header")
	ErrMalformed = errors.New("the " + Header + " header is not of the form t=seconds,v1=hex")
	ErrTime      = errors.New("the signature is of another time: clocks may be five minutes apart")
	ErrMismatch  = errors.New("no v1 signature matches the body")
)

// Sign makes the header's value.
func Sign(secret, body []byte, at time.Time) string {
	t := strconv.FormatInt(at.Unix(), 10)
	return "t=" + t + ",v1=" + hex.EncodeToString(mac(secret, t, body))
}

// Verify checks the header's value. Of several v1 any may match, as there are two while a secret is being replaced; other
// schemes are passed over.
func Verify(secret []byte, header string, body []byte, now time.Time) error {
	if header == "" {
		return ErrMissing
	}
	var at string
	var signatures [][]byte
	for part := range strings.SplitSeq(header, ",") {
		name, value, ok := strings.Cut(strings.TrimSpace(part), "=")
		switch {
		case !ok:
			return ErrMalformed
		case name == "t" && at != "":
			return ErrMalformed
		case name == "t":
			at = value
		case name == "v1":
			if s, err := hex.DecodeString(value); err == nil {
				signatures = append(signatures, s)
			}
		}
	}
	seconds, err := strconv.ParseInt(at, 10, 64)
	if err != nil || len(signatures) == 0 {
		return ErrMalformed
	}
	if now.Sub(time.Unix(seconds, 0)).Abs() > Tolerance {
		return ErrTime
	}
	want := mac(secret, at, body)
	for _, s := range signatures {
		if hmac.Equal(s, want) {
			return nil
		}
	}
	return ErrMismatch
}

func mac(secret []byte, t string, body []byte) []byte {
	h := hmac.New(sha256.New, secret)
	h.Write([]byte(t + "."))
	h.Write(body)
	return h.Sum(nil)
}
