package redisstream_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/redisstream"
	"github.com/sagamill/sagamill/internal/services"
)

// open opens a broker, and names a topic of the test's own.
func open(t *testing.T, config redisstream.Config) (b *redisstream.Broker, client *redis.Client, topic string) {
	t.Helper()
	options, client := connect(t)
	b, err := redisstream.New(&redis.UniversalOptions{Addrs: []string{options.Addr}, DB: options.DB, Password: options.Password}, config, nil)
	require.NoError(t, err)
	topic = services.Name()
	t.Cleanup(func() {
		require.NoError(t, b.Close())
		client.Del(context.Background(), topic)
	})
	return b, client, topic
}

func subscribe(t *testing.T, b *redisstream.Broker, topic string) (<-chan *message.Message, message.Subscriber) {
	t.Helper()
	s, err := b.Subscriber("group")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	messages, err := s.Subscribe(t.Context(), topic)
	require.NoError(t, err)
	return messages, s
}

func publish(t *testing.T, b *redisstream.Broker, topic string, n int) {
	t.Helper()
	msgs := make([]*message.Message, n)
	for i := range msgs {
		msgs[i] = message.NewMessage(watermill.NewUUID(), fmt.Append(nil, i))
	}
	require.NoError(t, b.Publish(topic, msgs...))
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

// A handler may take many times longer than others wait for the messages of the dead.
func TestLiveSubscriberKeepsItsMessage(t *testing.T) {
	t.Parallel()
	const patience = 500 * time.Millisecond
	b, client, topic := open(t, redisstream.Config{RedeliverAfter: patience})
	slow, _ := subscribe(t, b, topic)
	publish(t, b, topic, 1)
	held := receive(t, slow)
	other, _ := subscribe(t, b, topic)
	select {
	case <-other:
		require.FailNow(t, "the message went to another subscriber, though its own lives")
	case <-time.After(6 * patience):
	}
	held.Ack()
	require.Eventually(t, func() bool {
		p, err := client.XPending(t.Context(), topic, "group").Result()
		return err == nil && p.Count == 0
	}, time.Minute, 10*time.Millisecond, "acknowledged, whoever asked for it meanwhile")
}

func TestClosedSubscriberGivesBackAtOnce(t *testing.T) {
	t.Parallel()
	b, _, topic := open(t, redisstream.Config{RedeliverAfter: time.Hour})
	first, s := subscribe(t, b, topic)
	publish(t, b, topic, 5)
	receive(t, first)
	require.NoError(t, s.Close())
	second, _ := subscribe(t, b, topic)
	seen := map[string]bool{}
	for len(seen) < 5 {
		msg := receive(t, second)
		seen[string(msg.Payload)] = true
		msg.Ack()
	}
}

// What nobody can read is not lost: it is handed on, for somebody to record it.
func TestMalformedEntryIsHandedOn(t *testing.T) {
	t.Parallel()
	b, client, topic := open(t, redisstream.Config{})
	messages, _ := subscribe(t, b, topic)
	for _, values := range []map[string]any{
		{"hello": "world"},
		{"_watermill_message_uuid": "id", "payload": "p", "metadata": "\xc1 no msgpack"},
	} {
		id, err := client.XAdd(t.Context(), &redis.XAddArgs{Stream: topic, Values: values}).Result()
		require.NoError(t, err)
		msg := receive(t, messages)
		require.Equal(t, id, msg.UUID)
		require.NotEmpty(t, msg.Metadata.Get(redisstream.MalformedKey))
		require.Len(t, msg.Metadata, 1)
		require.Contains(t, string(msg.Payload), `"`)
		msg.Ack()
	}
}

// The engine opens a subscription again that has ended.
func TestSubscriptionEndsWhenItsStreamIsGone(t *testing.T) {
	t.Parallel()
	b, client, topic := open(t, redisstream.Config{})
	messages, _ := subscribe(t, b, topic)
	require.NoError(t, client.Del(t.Context(), topic).Err())
	select {
	case _, ok := <-messages:
		require.False(t, ok)
	case <-time.After(time.Minute):
		require.FailNow(t, "the subscription waits for ever")
	}
	publish(t, b, topic, 1)
	again, _ := subscribe(t, b, topic)
	receive(t, again).Ack()
}

func TestWhatAllGroupsHaveAcknowledgedIsTrimmed(t *testing.T) {
	t.Parallel()
	b, client, topic := open(t, redisstream.Config{TrimInterval: 10 * time.Millisecond})
	messages, _ := subscribe(t, b, topic)
	require.NoError(t, client.XGroupCreate(t.Context(), topic, "slow", "0").Err())
	const count = 50
	publish(t, b, topic, count)
	for range count {
		receive(t, messages).Ack()
	}
	read := func() []string { // of the slow group: ten, of which the third is never acknowledged
		streams, err := client.XReadGroup(t.Context(), &redis.XReadGroupArgs{Group: "slow", Consumer: "c", Streams: []string{topic, ">"}, Count: 10}).Result()
		require.NoError(t, err)
		var ids []string
		for _, m := range streams[0].Messages {
			ids = append(ids, m.ID)
		}
		return ids
	}
	length := func(want int64) {
		t.Helper()
		require.EventuallyWithT(t, func(c *assert.CollectT) {
			n, err := client.XLen(t.Context(), topic).Result()
			assert.NoError(c, err)
			assert.Equal(c, want, n)
		}, time.Minute, 10*time.Millisecond)
	}
	length(count) // nothing: the slow group has not read
	ids := read()
	require.NoError(t, client.XAck(t.Context(), topic, "slow", append(ids[:2:2], ids[3:]...)...).Err())
	length(count - 2)
	require.NoError(t, client.XAck(t.Context(), topic, "slow", ids[2]).Err())
	length(count - 9)
}

func TestNamesAreValidated(t *testing.T) {
	t.Parallel()
	b, _, topic := open(t, redisstream.Config{})
	for _, name := range []string{"", "two words", "line\nbreak", string(make([]byte, 300))} {
		_, err := b.Subscriber(name)
		require.Error(t, err, "group %q", name)
		require.Error(t, b.Publish(name, message.NewMessage("id", nil)), "topic %q", name)
		s, err := b.Subscriber("group")
		require.NoError(t, err)
		_, err = s.Subscribe(t.Context(), name)
		require.Error(t, err, "topic %q", name)
		require.NoError(t, s.Close())
	}
	require.NoError(t, b.Publish(topic), "nothing to publish")
	_, err := redisstream.New(nil, redisstream.Config{}, nil)
	require.Error(t, err)
	_, err = redisstream.New(&redis.UniversalOptions{}, redisstream.Config{RedeliverAfter: time.Millisecond}, nil)
	require.Error(t, err)
}
