package rabbitmq

import (
	"fmt"

	"github.com/ThreeDotsLabs/watermill/message"
	amqp "github.com/rabbitmq/amqp091-go"
)

const (
	uuidHeader = "_watermill_message_uuid" // as watermill-amqp has it

	// RedeliveredKey is the metadata key of a message that RabbitMQ has delivered before; "true".
	RedeliveredKey = "_watermill_amqp_redelivered"
)

func publishingOf(msg *message.Message) amqp.Publishing {
	headers := make(amqp.Table, len(msg.Metadata)+1)
	for key, value := range msg.Metadata {
		headers[key] = value
	}
	headers[uuidHeader] = msg.UUID
	return amqp.Publishing{Headers: headers, Body: msg.Payload, DeliveryMode: amqp.Persistent}
}

// messageOf makes a message of any delivery: one that is none of Watermill's has no UUID, and may have headers of any kind.
func messageOf(d amqp.Delivery) *message.Message {
	uuid, _ := d.Headers[uuidHeader].(string)
	msg := message.NewMessage(uuid, d.Body)
	for key, value := range d.Headers {
		switch value := value.(type) {
		case string:
			if key != uuidHeader {
				msg.Metadata[key] = value
			}
		default:
			msg.Metadata[key] = fmt.Sprint(value)
		}
	}
	if d.Redelivered {
		msg.Metadata[RedeliveredKey] = "true"
	}
	return msg
}
