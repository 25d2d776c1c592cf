package nats_test

import (
	"context"
	"net/url"
	"strings"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/nats"
	"github.com/sagamill/sagamill/adapters/transporttest"
	"github.com/sagamill/sagamill/internal/services"
)

const redeliverAfter = 2 * time.Second

// connect opens a connection of the test's own.
func connect(t testing.TB) (*natsgo.Conn, jetstream.JetStream) {
	t.Helper()
	conn, err := natsgo.Connect(services.NATS.URL(t))
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	require.NoError(t, err)
	return conn, js
}

func deleteTopics(js jetstream.JetStream, topics ...string) {
	for _, topic := range topics {
		_ = js.DeleteStream(context.Background(), strings.ReplaceAll(topic, ".", "="))
	}
}

// Not parallel: it looks for goroutines that are left behind.
func TestTransport(t *testing.T) {
	transporttest.Run(t, func(t testing.TB) transporttest.Harness {
		address, err := url.Parse(services.NATS.URL(t))
		require.NoError(t, err)
		conn, js := connect(t)
		return transporttest.Harness{
			Open: func(t testing.TB) transporttest.Process {
				proxy := transporttest.NewProxy(t, address.Host)
				u := *address
				u.Host = proxy.Addr()
				broker, err := nats.New(u.String(), nats.Config{RedeliverAfter: redeliverAfter}, nil)
				require.NoError(t, err)
				return transporttest.Process{Broker: broker, Cut: proxy.Cut, Restore: proxy.Restore}
			},
			RedeliverAfter: redeliverAfter,
			Malform: func(topic string) error {
				return conn.PublishMsg(&natsgo.Msg{Subject: topic, Header: natsgo.Header{"twice": {"a", "b"}}, Data: []byte("?")})
			},
			Clean: func(topics []string) { deleteTopics(js, topics...) },
			NotPromised: map[transporttest.Promise]string{
				transporttest.KeepsUnheard: "a stream keeps what a group is interested in, and there is none",
			},
		}
	})
}
