// Anybroker is ordersaga with three brokers more, whose clients the main module does without: --broker takes nats://, amqp:// and
// kafka:// besides. In this folder:
//
//	go run . serve --store postgres://... --broker nats://127.0.0.1:4222
package main

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"github.com/ThreeDotsLabs/watermill"

	"github.com/sagamill/sagamill/adapters/kafka"
	"github.com/sagamill/sagamill/adapters/nats"
	"github.com/sagamill/sagamill/adapters/rabbitmq"
	"github.com/sagamill/sagamill/examples/ordersaga/app"
	"github.com/sagamill/sagamill/examples/ordersaga/command"
)

func main() {
	command.Main(map[string]app.OpenBroker{
		"nats": func(_ context.Context, flag string, logger watermill.LoggerAdapter) (app.Broker, error) {
			return nats.New(flag, nats.Config{}, logger)
		},
		"amqp": func(_ context.Context, flag string, logger watermill.LoggerAdapter) (app.Broker, error) {
			return rabbitmq.New(flag, rabbitmq.Config{}, logger)
		},
		"kafka": func(_ context.Context, flag string, logger watermill.LoggerAdapter) (app.Broker, error) {
			u, err := url.Parse(flag)
			if err != nil || u.Host == "" {
				return nil, fmt.Errorf("--broker is %q: it is kafka://HOST:PORT,HOST:PORT", flag)
			}
			return kafka.New(strings.Split(u.Host, ","), kafka.Config{}, logger)
		},
	})
}
