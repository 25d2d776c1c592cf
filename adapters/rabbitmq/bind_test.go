package rabbitmq_test

import (
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/rabbitmq"
	"github.com/sagamill/sagamill/internal/services"
)

func TestBoundGroupGetsWhatIsPublishedBeforeItSubscribes(t *testing.T) {
	t.Parallel()
	topic, direct := services.Name(), channel(t)
	t.Cleanup(func() { deleteTopics(direct, topic) })
	b, err := rabbitmq.New(services.RabbitMQ.URL(t), rabbitmq.Config{}, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	require.NoError(t, b.Bind(t.Context(), topic, "group"))
	require.NoError(t, b.Publish(topic, message.NewMessage(watermill.NewUUID(), nil)))
	s, err := b.Subscriber("group")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	messages, err := s.Subscribe(t.Context(), topic)
	require.NoError(t, err)
	select {
	case msg := <-messages:
		msg.Ack()
	case <-time.After(time.Minute):
		require.FailNow(t, "no message came")
	}
	require.Error(t, b.Bind(t.Context(), "no topic", "group"))
}
