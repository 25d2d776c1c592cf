package idempotency_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/idempotency"
)

// Two lists of parts have one fingerprint exactly if they are the same list: where a part ends matters.
func FuzzFingerprint(f *testing.F) {
	f.Add([]byte("POST"), []byte("/orders"), []byte("{}"), []byte("POS"), []byte("T/orders"), []byte("{}"))
	f.Add([]byte(""), []byte("a"), []byte(""), []byte("a"), []byte(""), []byte(""))
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 1}, []byte("a"), []byte("b"), []byte{0, 0, 0, 0, 0, 0, 0, 1}, []byte("a"), []byte("b"))
	f.Fuzz(func(t *testing.T, a, b, c, x, y, z []byte) {
		one, two := [][]byte{a, b, c}, [][]byte{x, y, z}
		same := slices.EqualFunc(one, two, bytes.Equal)
		require.Equal(t, same, idempotency.FingerprintOf(one...) == idempotency.FingerprintOf(two...))
		require.NotEqual(t, idempotency.FingerprintOf(a, b), idempotency.FingerprintOf(a, b, nil), "an empty part is a part")
		joined := idempotency.FingerprintOf(bytes.Join(one, nil))
		require.NotEqual(t, joined, idempotency.FingerprintOf(one...))
		require.False(t, joined.IsZero())
		require.True(t, joined.Matches(joined) && joined.Matches(idempotency.Fingerprint{}))
	})
}
