package kafka_test

import (
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/kafka"
)

func TestConfigIsValidated(t *testing.T) {
	t.Parallel()
	for _, config := range []kafka.Config{
		{Partitions: -1}, {Replicas: -1}, {Replicas: 101}, {RedeliverAfter: time.Millisecond},
		{Sarama: func(s *sarama.Config) { s.Net.MaxOpenRequests = 0 }},
	} {
		_, err := kafka.New([]string{"127.0.0.1:1"}, config, nil)
		require.Error(t, err, "%+v", config)
	}
	_, err := kafka.New(nil, kafka.Config{}, nil)
	require.Error(t, err)
}

func TestNamesAreValidated(t *testing.T) {
	t.Parallel()
	b, err := kafka.New([]string{"127.0.0.1:1"}, kafka.Config{}, nil)
	require.NoError(t, err)
	for _, name := range []string{"", ".", "..", "a b", "hôtel", string(make([]byte, 250))} {
		require.Error(t, b.Publish(name, message.NewMessage("id", nil)), "topic %q", name)
		_, err := b.Subscriber(name)
		require.Error(t, err, "group %q", name)
	}
	require.NoError(t, b.Publish("topic"), "nothing to publish")
	require.NoError(t, b.Close())
	require.ErrorIs(t, b.Publish("topic", message.NewMessage("id", nil)), kafka.ErrClosed)
}
