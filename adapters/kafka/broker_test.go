package kafka_test

import (
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/sagamill/sagamill/adapters/kafka"
	"github.com/sagamill/sagamill/adapters/transporttest"
)

const redeliverAfter = 2 * time.Second

// cluster starts a model of Kafka, and answers its addresses.
func cluster(t testing.TB) []string {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.GroupMinSessionTimeout(time.Second))
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c.ListenAddrs()
}

// cable is what a process's connections go through, and can be cut.
type cable struct {
	mu    sync.Mutex
	cut   bool
	conns []net.Conn
}

// Dial implements proxy.Dialer.
func (c *cable) Dial(network, address string) (net.Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cut {
		return nil, errors.New("the cable is cut")
	}
	conn, err := net.Dial(network, address)
	if err == nil {
		c.conns = append(c.conns, conn)
	}
	return conn, err
}

func (c *cable) setCut(cut bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut = cut
	for _, conn := range c.conns {
		_ = conn.Close()
	}
	c.conns = nil
}

// Not parallel: it looks for goroutines that are left behind.
func TestTransport(t *testing.T) {
	transporttest.Run(t, func(t testing.TB) transporttest.Harness {
		addresses := cluster(t)
		return transporttest.Harness{
			Open: func(t testing.TB) transporttest.Process {
				c := &cable{}
				broker, err := kafka.New(addresses, kafka.Config{RedeliverAfter: redeliverAfter, Sarama: func(s *sarama.Config) {
					s.Net.Proxy.Enable, s.Net.Proxy.Dialer = true, c
				}}, nil)
				require.NoError(t, err)
				return transporttest.Process{Broker: broker, Cut: func() { c.setCut(true) }, Restore: func() { c.setCut(false) }}
			},
			RedeliverAfter: redeliverAfter,
			Patience:       2 * time.Minute, // while connections are cut the partitions are dealt again and again
			NotPromised: map[transporttest.Promise]string{
				transporttest.PassesHeld:      "a message that is never acknowledged holds up its partition",
				transporttest.PassesMalformed: "any record is a message",
			},
		}
	})
}
