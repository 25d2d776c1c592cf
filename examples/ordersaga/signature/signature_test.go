package signature

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The example was made with openssl: printf '%s' '1700000000.{}' | openssl dgst -sha256 -hmac whsec_1
func TestSign(t *testing.T) {
	t.Parallel()
	at := time.Unix(1700000000, 0)
	const want = "t=1700000000,v1=c8cf6ed9fd9120874a1792902ffdf5b69559118b76d10974da8a20cf21f94bc5"
	require.Equal(t, want, Sign([]byte("whsec_1"), []byte("{}"), at))
	require.NoError(t, Verify([]byte("whsec_1"), want, []byte("{}"), at.Add(Tolerance)))
	require.NoError(t, Verify([]byte("whsec_1"), want, []byte("{}"), at.Add(-Tolerance)))
	require.ErrorIs(t, Verify([]byte("whsec_1"), want, []byte("{}"), at.Add(Tolerance+time.Second)), ErrTime)
	require.ErrorIs(t, Verify([]byte("whsec_1"), want, []byte("{}"), at.Add(-Tolerance-time.Second)), ErrTime)
	require.ErrorIs(t, Verify([]byte("whsec_2"), want, []byte("{}"), at), ErrMismatch)
	require.ErrorIs(t, Verify([]byte("whsec_1"), "", []byte("{}"), at), ErrMissing)
	require.ErrorIs(t, Verify([]byte("whsec_1"), "v1=00", []byte("{}"), at), ErrMalformed)
}

// No header makes Verify panic, and none but the right one is believed.
func FuzzVerify(f *testing.F) {
	at := time.Unix(1700000000, 0)
	secret, body := []byte("whsec_1"), []byte("{}")
	good := Sign(secret, body, at)
	f.Add(good)
	f.Add("t=,v1=")
	f.Add("t=1700000000,v0=00,v1=zz")
	f.Fuzz(func(t *testing.T, header string) {
		if Verify(secret, header, body, at) == nil {
			require.Contains(t, strings.ToLower(header), good[len("t=1700000000,v1="):]) // hex may be in capitals
		}
	})
}
