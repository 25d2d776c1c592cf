package nats_test

import (
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/nats"
	"github.com/sagamill/sagamill/internal/services"
)

// open opens a broker, and names a topic of the test's own.
func open(t *testing.T, config nats.Config) (b *nats.Broker, js jetstream.JetStream, topic string) {
	t.Helper()
	_, js = connect(t)
	b, err := nats.New(services.NATS.URL(t), config, nil)
	require.NoError(t, err)
	topic = services.Name()
	t.Cleanup(func() {
		require.NoError(t, b.Close())
		deleteTopics(js, topic)
	})
	return b, js, topic
}

func subscribe(t *testing.T, b *nats.Broker, topic string) (<-chan *message.Message, message.Subscriber) {
	t.Helper()
	s, err := b.Subscriber("group")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	messages, err := s.Subscribe(t.Context(), topic)
	require.NoError(t, err)
	return messages, s
}

// receive takes the next message, which must come.
func receive(t *testing.T, messages <-chan *message.Message) *message.Message {
	t.Helper()
	select {
	case msg, ok := <-messages:
		require.True(t, ok, "the subscription has ended")
		return msg
	case <-time.After(time.Minute):
		require.FailNow(t, "no message came")
		return nil
	}
}

func newMessage() *message.Message { return message.NewMessage(watermill.NewUUID(), []byte("payload")) }

// A handler may take many times longer than others wait for the messages of the dead.
func TestLiveSubscriberKeepsItsMessage(t *testing.T) {
	t.Parallel()
	const patience = 500 * time.Millisecond
	b, _, topic := open(t, nats.Config{RedeliverAfter: patience})
	slow, _ := subscribe(t, b, topic)
	require.NoError(t, b.Publish(topic, newMessage()))
	held := receive(t, slow)
	other, _ := subscribe(t, b, topic)
	select {
	case <-other:
		require.FailNow(t, "the message went to another subscriber, though its own lives")
	case <-time.After(6 * patience):
	}
	held.Ack()
}

func TestClosedSubscriberGivesBackAtOnce(t *testing.T) {
	t.Parallel()
	b, _, topic := open(t, nats.Config{RedeliverAfter: time.Hour})
	first, s := subscribe(t, b, topic)
	require.NoError(t, b.Publish(topic, newMessage()))
	receive(t, first)
	require.NoError(t, s.Close())
	second, _ := subscribe(t, b, topic)
	receive(t, second).Ack()
}

func TestBoundGroupGetsWhatIsPublishedBeforeItSubscribes(t *testing.T) {
	t.Parallel()
	b, js, topic := open(t, nats.Config{})
	require.NoError(t, b.Bind(t.Context(), topic, "group", "other.group"))
	require.NoError(t, b.Publish(topic, newMessage()))
	messages, _ := subscribe(t, b, topic)
	receive(t, messages).Ack()
	stream, err := js.Stream(t.Context(), topic)
	require.NoError(t, err)
	info, err := stream.Info(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 1, info.State.Msgs, "kept for the other group")
	require.NoError(t, b.Publish(topic), "nothing to publish")
}

// The engine opens a subscription again that has ended.
func TestSubscriptionEndsWhenItsStreamIsGone(t *testing.T) {
	t.Parallel()
	b, js, topic := open(t, nats.Config{})
	messages, _ := subscribe(t, b, topic)
	require.NoError(t, js.DeleteStream(t.Context(), topic))
	select {
	case _, ok := <-messages:
		require.False(t, ok)
	case <-time.After(time.Minute):
		require.FailNow(t, "the subscription waits for ever")
	}
	again, _ := subscribe(t, b, topic)
	require.NoError(t, b.Publish(topic, newMessage()))
	receive(t, again).Ack()
}

func TestConfigIsValidated(t *testing.T) {
	t.Parallel()
	for _, config := range []nats.Config{{RedeliverAfter: time.Millisecond}, {RequestTimeout: -1}} {
		_, err := nats.New("nats://127.0.0.1:1", config, nil)
		require.Error(t, err)
	}
	b, err := nats.New("nats://127.0.0.1:1", nats.Config{}, nil)
	require.NoError(t, err, "nobody is there yet")
	require.Error(t, b.Publish("topic", newMessage()))
	require.NoError(t, b.Close())
}
