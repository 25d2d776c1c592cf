package gochannel_test

import (
	"strconv"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/gochannel"
)

func BenchmarkPublish(b *testing.B) {
	broker := gochannel.New(gochannel.Config{}, nil)
	defer func() { require.NoError(b, broker.Close()) }()
	for range 4 {
		s, err := broker.Subscriber("group")
		require.NoError(b, err)
		messages, err := s.Subscribe(b.Context(), topic)
		require.NoError(b, err)
		go func() {
			for msg := range messages {
				msg.Ack()
			}
		}()
	}
	payload := []byte(`{"room":"7"}`)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		n++
		require.NoError(b, broker.Publish(topic, message.NewMessage(strconv.Itoa(n), payload)))
	}
}
