package transporttest

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/sagamill/sagamill/saga"
)

func contentChecks() []check {
	content := func(name, rule string, msg func() *message.Message) check {
		return check{name: name, rule: rule, test: func(s *script) error { return roundTrip(s, msg()) }}
	}
	return []check{
		content("metadata", "metadata come as they were given, whatever characters they have, and nothing is added to those of the engine",
			func() *message.Message { return withMetadata(newMessages(1)[0]) }),
		content("no metadata", "a message needs no metadata",
			func() *message.Message { return message.NewMessage(watermill.NewUUID(), []byte("{}")) }),
		content("empty payload", "a message needs no payload",
			func() *message.Message {
				m := newMessages(1)[0]
				m.Payload = nil
				return m
			}),
		content("binary payload", "a payload is any bytes",
			func() *message.Message {
				m := newMessages(1)[0]
				m.Payload = nil
				for i := range 512 {
					m.Payload = append(m.Payload, byte(i))
				}
				return m
			}),
		content("big payload", "a payload may be as large as the engine's MaxPayload",
			func() *message.Message {
				m := newMessages(1)[0]
				m.Payload = bytes.Repeat([]byte("0123456789abcdef"), 16<<10)
				return m
			}),
	}
}

// withMetadata adds what the engine and its users may write.
func withMetadata(m *message.Message) *message.Message {
	for _, key := range []string{
		saga.MetaDefinition, saga.MetaInstance, saga.MetaKey, saga.MetaStep, saga.MetaRun, saga.MetaAttempt, saga.MetaEffect,
		saga.MetaCommand, saga.MetaReplyTo, saga.MetaOutcome, "correlation_id", "traceparent",
	} {
		m.Metadata.Set(key, "value of "+key)
	}
	m.Metadata.Set(saga.MetaReason, "not booked:\n\tthe hotel is full\r\nand so is the other one")
	m.Metadata.Set("unicode", "Grüße aus Łódź, 東京 and 🏨")
	m.Metadata.Set("quotes", `"'\%00%20+=&;,<>{}`)
	m.Metadata.Set("spaces", "  before and after ")
	m.Metadata.Set("empty", "")
	m.Metadata.Set("long", strings.Repeat("long ", 800))
	return m
}

// roundTrip publishes a message and compares what comes. Keys beginning with "_" are the transport's own.
func roundTrip(s *script, sent *message.Message) error {
	p, topic := s.open(), s.topic("commands")
	came := make(chan *message.Message, 100)
	if _, err := s.listen(p, topic, "group", 0, func(m *message.Message) { came <- m.Copy(); m.Ack() }); err != nil {
		return err
	}
	if err := s.publish(p, topic, sent.Copy()); err != nil {
		return err
	}
	if err := s.until(func() string {
		if len(came) == 0 {
			return "the message did not come"
		}
		return ""
	}); err != nil {
		return err
	}
	got := <-came
	if got.UUID != sent.UUID {
		return fmt.Errorf("the UUID is %q, was %q", got.UUID, sent.UUID)
	}
	if !bytes.Equal(got.Payload, sent.Payload) {
		return fmt.Errorf("the payload has %d bytes and begins with %.40q; it had %d and began with %.40q",
			len(got.Payload), got.Payload, len(sent.Payload), sent.Payload)
	}
	for _, key := range slices.Sorted(maps.Keys(sent.Metadata)) {
		if value, ok := got.Metadata[key]; !ok || value != sent.Metadata[key] {
			return fmt.Errorf("metadata %s is %.80q (there is one: %t), was %.80q", key, value, ok, sent.Metadata[key])
		}
	}
	for key, value := range got.Metadata {
		if _, ok := sent.Metadata[key]; !ok && !strings.HasPrefix(key, "_") {
			return fmt.Errorf("there is metadata %s = %.80q, which nobody wrote", key, value)
		}
	}
	return nil
}
