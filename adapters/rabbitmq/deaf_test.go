package rabbitmq_test

import (
	"context"
	"net/url"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/rabbitmq"
	"github.com/sagamill/sagamill/adapters/transporttest"
	"github.com/sagamill/sagamill/internal/services"
)

// A RabbitMQ that is short of memory or disk does not read what publishers send, and goes on talking to them.

// deafRig is a broker whose RabbitMQ can be made deaf.
type deafRig struct {
	*rabbitmq.Broker
	*transporttest.Proxy
	topic string
}

const patience = time.Second

func newDeafRig(t *testing.T) deafRig {
	t.Helper()
	address, err := url.Parse(services.RabbitMQ.URL(t))
	require.NoError(t, err)
	topic, direct := services.Name(), channel(t)
	t.Cleanup(func() { deleteTopics(direct, topic, topic+".other") })
	proxy := transporttest.NewProxy(t, address.Host)
	address.Host = proxy.Addr()
	b, err := rabbitmq.New(address.String(), rabbitmq.Config{ConfirmTimeout: patience}, nil)
	require.NoError(t, err)
	t.Cleanup(func() { within(t, func() error { _ = b.Close(); return nil }) })
	return deafRig{b, proxy, topic}
}

func (r deafRig) publish(topic string, size int) error {
	return r.Publish(topic, message.NewMessage(watermill.NewUUID(), make([]byte, size)))
}

// within returns what f returns. It has to return far sooner than what waits for a heartbeat, or for ever.
func within(t *testing.T, f func() error) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-time.After(15 * patience):
		require.FailNow(t, "it does not return")
		return nil
	}
}

func TestConfirmTimeoutBoundsPublish(t *testing.T) {
	t.Parallel()
	for name, publish := range map[string]func(r deafRig) error{
		"confirmation":            func(r deafRig) error { return r.publish(r.topic, 0) },
		"exchange":                func(r deafRig) error { return r.publish(r.topic+".other", 0) },
		"more than is on its way": func(r deafRig) error { return r.publish(r.topic, 32<<20) },
		"connection": func(r deafRig) error {
			r.Cut()
			r.Restore()
			return r.publish(r.topic, 0)
		},
		"channels": func(r deafRig) error {
			const publishers = 20 // more than Channels
			done := make(chan error, publishers)
			for range publishers {
				go func() { done <- r.publish(r.topic, 0) }()
			}
			var err error
			for range publishers {
				if err = <-done; err == nil {
					return nil
				}
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newDeafRig(t)
			require.NoError(t, r.publish(r.topic, 0))
			r.Hold()
			for range 2 {
				require.Error(t, within(t, func() error { return publish(r) }))
			}
			r.Release()
			require.NoError(t, within(t, func() error { return r.publish(r.topic, 0) }), "the first one that can")
			require.NoError(t, within(t, r.Close))
		})
	}
}

func TestConfirmTimeoutBoundsClose(t *testing.T) {
	t.Parallel()
	t.Run("of a broker", func(t *testing.T) {
		t.Parallel()
		r := newDeafRig(t)
		require.NoError(t, r.publish(r.topic, 0))
		r.Hold()
		require.ErrorIs(t, within(t, r.Close), context.DeadlineExceeded)
		require.NoError(t, within(t, r.Close), "again")
	})
	t.Run("of a broker that publishes", func(t *testing.T) {
		t.Parallel()
		r := newDeafRig(t)
		require.NoError(t, r.publish(r.topic, 0))
		r.Hold()
		published := make(chan error, 1)
		go func() { published <- r.publish(r.topic, 32<<20) }()
		_ = within(t, r.Close)
		require.Error(t, within(t, func() error { return <-published }))
	})
	t.Run("of a subscriber", func(t *testing.T) {
		t.Parallel()
		r := newDeafRig(t)
		s, err := r.Subscriber("group")
		require.NoError(t, err)
		messages, err := s.Subscribe(t.Context(), r.topic)
		require.NoError(t, err)
		r.Hold()
		require.ErrorIs(t, within(t, s.Close), context.DeadlineExceeded)
		_, open := <-messages
		require.False(t, open)
	})
}

func TestConfirmTimeoutBoundsSubscribeAndBind(t *testing.T) {
	t.Parallel()
	r := newDeafRig(t)
	s, err := r.Subscriber("group")
	require.NoError(t, err)
	_, err = s.Subscribe(t.Context(), r.topic)
	require.NoError(t, err)
	r.Hold()
	require.Error(t, within(t, func() error { _, err := s.Subscribe(t.Context(), r.topic); return err }), "on the connection that is there")
	require.Error(t, within(t, func() error { return r.Bind(t.Context(), r.topic, "group") }))
	r.Release()
	_, err = s.Subscribe(t.Context(), r.topic)
	require.NoError(t, err)
	require.NoError(t, s.Close())
}
