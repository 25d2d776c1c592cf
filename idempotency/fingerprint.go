package idempotency

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
)

// Fingerprint tells requests under one key apart: a SHA-256. The zero value is none.
type Fingerprint [sha256.Size]byte

// FingerprintOf hashes the parts, each behind its length: ("ab", "c") and ("a", "bc") differ.
func FingerprintOf(parts ...[]byte) Fingerprint {
	h := sha256.New()
	var size [8]byte
	for _, p := range parts {
		binary.BigEndian.PutUint64(size[:], uint64(len(p)))
		h.Write(size[:])
		h.Write(p)
	}
	return Fingerprint(h.Sum(nil))
}

// IsZero tells whether there is none.
func (f Fingerprint) IsZero() bool { return f == Fingerprint{} }

// Matches tells whether both are of one request, as far as one can know: none matches any.
func (f Fingerprint) Matches(other Fingerprint) bool {
	return f == other || f.IsZero() || other.IsZero()
}

// String is the fingerprint in hexadecimal.
func (f Fingerprint) String() string { return hex.EncodeToString(f[:]) }
