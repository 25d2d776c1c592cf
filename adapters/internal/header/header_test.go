package header_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/internal/header"
)

func TestHeadersComeBackByteByByte(t *testing.T) {
	t.Parallel()
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	for _, want := range []http.Header{
		nil,
		{"Etag": {`"x"`}},
		{"Link": {"b", "a", "b"}, "Vary": {""}},
		{"Content-Disposition": {"caf\xe9 \xff\x80", "café ☕"}, "X-All": {string(all)}},
	} {
		text, err := header.Encode(want)
		require.NoError(t, err)
		require.NotContains(t, text, "\x00")
		got, err := header.Decode(text)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	text, err := header.Encode(http.Header{})
	require.NoError(t, err)
	require.Empty(t, text)
	_, err = header.Decode("{")
	require.Error(t, err)
}
