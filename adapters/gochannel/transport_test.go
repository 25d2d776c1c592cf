package gochannel_test

import (
	"testing"

	"github.com/sagamill/sagamill/adapters/gochannel"
	"github.com/sagamill/sagamill/adapters/transporttest"
)

// Not parallel: it looks for goroutines that are left behind.
func TestTransport(t *testing.T) {
	transporttest.Run(t, func(testing.TB) transporttest.Harness {
		broker := gochannel.New(gochannel.Config{}, nil)
		return transporttest.Harness{
			Open: func(testing.TB) transporttest.Process { return transporttest.Process{Broker: broker} },
			NotPromised: map[transporttest.Promise]string{
				transporttest.Processes:       "it is a broker within one process, and ends with it",
				transporttest.KeepsUnheard:    "what nobody listens to is dropped",
				transporttest.PassesMalformed: "nothing but Watermill's messages gets in",
				transporttest.Reconnects:      "it has no connections",
			},
		}
	})
}
