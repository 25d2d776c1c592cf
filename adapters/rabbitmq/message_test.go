package rabbitmq

import (
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"
)

func TestMessageOfAnything(t *testing.T) {
	t.Parallel()
	msg := messageOf(amqp.Delivery{Headers: amqp.Table{uuidHeader: int32(7), "number": int64(17), "text": "t"}, Redelivered: true})
	require.Empty(t, msg.UUID)
	require.Equal(t, message.Metadata{uuidHeader: "7", "number": "17", "text": "t", RedeliveredKey: "true"}, msg.Metadata)
	require.NotNil(t, messageOf(amqp.Delivery{}).Metadata)
}

func TestNamesAreValidated(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"hotel.commands", "a-b_c:d", "7"} {
		require.NoError(t, validName("topic", name))
	}
	for _, name := range []string{"", "a b", "amq.topic", "hôtel", string(make([]byte, 121))} {
		require.Error(t, validName("topic", name), "%q", name)
	}
}

func TestConfigIsValidated(t *testing.T) {
	t.Parallel()
	for _, config := range []Config{{Channels: -1}, {ConfirmTimeout: -1}, {AMQP: amqp.Config{Recovery: &amqp.Recovery{}}}} {
		_, err := New("amqp://127.0.0.1:1/", config, nil)
		require.Error(t, err)
	}
	_, err := New("http://127.0.0.1/", Config{}, nil)
	require.Error(t, err)
	b, err := New("amqp://127.0.0.1:1/", Config{ConfirmTimeout: time.Second}, nil)
	require.NoError(t, err, "nobody is there yet")
	require.Error(t, b.Publish("topic", message.NewMessage("id", nil)))
	require.NoError(t, b.Publish("topic"), "nothing to publish")
	require.NoError(t, b.Close())
}
