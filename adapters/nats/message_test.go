package nats

import (
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
)

func TestValuesAreEncodedWhereHeadersWouldDamageThem(t *testing.T) {
	t.Parallel()
	for value, encoded := range map[string]bool{
		"": false, "plain": false, "Grüße, 東京": false, "a=?b?=": false,
		"two\nlines": true, "tab\t": true, " before": true, "after ": true, "nul\x00": true, "=?utf-8?B?YQ==?=": true,
	} {
		require.Equal(t, encoded, encode(value) != value, "%q", value)
		require.Equal(t, value, decode(encode(value)), "%q", value)
	}
	for _, value := range []string{"=?utf-8?B?no base64?=", "=?utf-8?B?YQ=="} { // another producer's
		require.Equal(t, value, decode(value))
	}
}

func TestKeysThatAreNoHeadersAreRefused(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"", "two words", "a:b", "grün", "line\n", uuidHeader} {
		msg := message.NewMessage("id", nil)
		msg.Metadata.Set(key, "value")
		_, err := natsMessage("topic", msg)
		require.Error(t, err, "%q", key)
	}
}

func TestMessageOfAnything(t *testing.T) {
	t.Parallel()
	msg := messageOf(nats.Header{"twice": {"a", "b"}, "none": {}}, []byte("?"))
	require.Empty(t, msg.UUID)
	require.Equal(t, message.Metadata{"twice": "a, b", "none": ""}, msg.Metadata)
	require.NotNil(t, messageOf(nil, nil).Metadata)
}

func TestNamesAreValidated(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"hotel.commands", "a-b_c", "7"} {
		require.NoError(t, validName("topic", name))
	}
	for _, name := range []string{"", "a b", "a.*", "a.>", ".a", "a.", "a..b", "a=b", "hôtel", string(make([]byte, 201))} {
		require.Error(t, validName("topic", name), "%q", name)
	}
	require.NotEqual(t, storedName("a.b"), storedName("a_b"))
}
