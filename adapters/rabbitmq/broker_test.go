package rabbitmq_test

import (
	"net/url"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/rabbitmq"
	"github.com/sagamill/sagamill/adapters/transporttest"
	"github.com/sagamill/sagamill/internal/services"
)

// channel opens a channel of the test's own.
func channel(t testing.TB) *amqp.Channel {
	t.Helper()
	conn, err := amqp.Dial(services.RabbitMQ.URL(t))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	ch, err := conn.Channel()
	require.NoError(t, err)
	return ch
}

// deleteTopics deletes exchanges, and the queues that tests bind to them.
func deleteTopics(ch *amqp.Channel, topics ...string) {
	for _, topic := range topics {
		for _, group := range []string{"group", "workers", "billing", "shipping", "audit", "early", "late", "agency", topic[:max(len(topic)-len(".replies"), 0)]} {
			_, _ = ch.QueueDelete(topic+"_"+group, false, false, false)
		}
		_ = ch.ExchangeDelete(topic, false, false)
	}
}

// Not parallel: it looks for goroutines that are left behind.
func TestTransport(t *testing.T) {
	transporttest.Run(t, func(t testing.TB) transporttest.Harness {
		address, err := url.Parse(services.RabbitMQ.URL(t))
		require.NoError(t, err)
		direct := channel(t)
		return transporttest.Harness{
			Open: func(t testing.TB) transporttest.Process {
				proxy := transporttest.NewProxy(t, address.Host)
				u := *address
				u.Host = proxy.Addr()
				broker, err := rabbitmq.New(u.String(), rabbitmq.Config{}, nil)
				require.NoError(t, err)
				return transporttest.Process{Broker: broker, Cut: proxy.Cut, Restore: proxy.Restore}
			},
			Malform: func(topic string) error {
				return direct.Publish(topic, "", false, false, amqp.Publishing{
					Headers: amqp.Table{"_watermill_message_uuid": int32(7), "number": int64(17), "nested": amqp.Table{"a": true}}, Body: []byte("?"),
				})
			},
			Clean: func(topics []string) { deleteTopics(direct, topics...) },
			NotPromised: map[transporttest.Promise]string{
				transporttest.KeepsUnheard: "a topic that no group is bound to keeps nothing",
			},
		}
	})
}
