module github.com/sagamill/sagamill/adapters/rabbitmq

go 1.26.0

require (
	github.com/ThreeDotsLabs/watermill v1.5.1
	github.com/rabbitmq/amqp091-go v1.16.0
	github.com/sagamill/sagamill v0.0.0
	github.com/stretchr/testify v1.12.1
)

require (
	github.com/google/uuid v1.6.0 // indirect
	github.com/lithammer/shortuuid/v3 v3.0.7 // indirect
	github.com/oklog/ulid v1.3.1 // indirect
	github.com/pkg/errors v0.9.1 // indirect
	go.uber.org/goleak v1.3.0 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
)

replace github.com/sagamill/sagamill => ../..
