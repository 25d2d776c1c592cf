package transporttest

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

func redeliveryChecks() []check {
	return []check{
		{
			name: "subscriber closed before it acknowledged", test: closedBeforeAck,
			rule: "a message whose subscriber closes before it has acknowledged comes again, to another one of the group",
		}, {
			name: "process dead before it acknowledged", test: deadBeforeAck, needs: []Promise{Processes, Reconnects},
			rule: "a message whose process dies before it has acknowledged comes again, to another process of the group",
		}, {
			name: "acknowledged is over", test: acknowledgedIsOver,
			rule: "what is acknowledged does not come again to those who subscribe later",
		}, {
			name: "negative acknowledgement", test: nacked,
			rule: "a message that is acknowledged negatively comes again",
		}, {
			name: "held message", test: heldMessage, needs: []Promise{PassesHeld},
			rule: "a message that is never acknowledged, first in line, does not keep others from being handled",
		}, {
			name: "malformed entry", test: malformedEntry, needs: []Promise{PassesMalformed},
			rule: "an entry that nobody can read, first in line, does not keep others from being handled",
		}, {
			name: "slow handler", test: slowHandler,
			rule: "a handler that takes longer than the broker waits for its acknowledgement costs no message",
		},
	}
}

// hold listens with a subscriber that never acknowledges, and publishes. It returns when the subscriber has a message.
func (s *script) hold(p Process, topic string, msgs []*message.Message) (*listener, error) {
	var held atomic.Int32
	l, err := s.listen(p, topic, "group", 0, func(*message.Message) { held.Add(1) })
	if err != nil {
		return nil, err
	}
	if err := s.publish(p, topic, msgs...); err != nil {
		return nil, err
	}
	return l, s.until(func() string {
		if held.Load() == 0 {
			return "no message came"
		}
		return ""
	})
}

func closedBeforeAck(s *script) error {
	topic, got, msgs := s.topic("commands"), newLedger(), newMessages(5)
	held, err := s.hold(s.open(), topic, msgs)
	if err != nil {
		return err
	}
	if _, err := s.listen(s.open(), topic, "group", 1, got.take); err != nil {
		return err
	}
	if err := held.close(); err != nil {
		return err
	}
	return s.until(func() string { return got.lacks(msgs) })
}

func deadBeforeAck(s *script) error {
	topic, got, msgs := s.topic("commands"), newLedger(), newMessages(5)
	dead := s.open()
	if _, err := s.hold(dead, topic, msgs); err != nil {
		return err
	}
	dead.Cut()
	if _, err := s.listen(s.open(), topic, "group", 0, got.take); err != nil {
		return err
	}
	return s.until(func() string { return got.lacks(msgs) })
}

func acknowledgedIsOver(s *script) error {
	topic, got, again := s.topic("commands"), newLedger(), newLedger()
	old, late := newMessages(20), newMessages(1)
	first := s.open()
	l, err := s.listen(first, topic, "group", 0, got.take)
	if err != nil {
		return err
	}
	if err := s.publish(first, topic, old...); err != nil {
		return err
	}
	if err := s.until(func() string { return got.lacks(old) }); err != nil {
		return err
	}
	time.Sleep(settleFor) // an acknowledgement takes its time
	if err := l.close(); err != nil {
		return err
	}
	second := s.open()
	if _, err := s.listen(second, topic, "group", 0, again.take); err != nil {
		return err
	}
	if err := s.publish(second, topic, late...); err != nil {
		return err
	}
	if err := s.until(func() string { return again.lacks(late) }); err != nil {
		return err
	}
	if n, _ := again.total(old); n > len(old)/4 {
		return fmt.Errorf("%d messages were acknowledged, and came %d times to the next subscriber of the group", len(old), n)
	}
	return nil
}

func nacked(s *script) error {
	p, topic, got, msgs := s.open(), s.topic("commands"), newLedger(), newMessages(3)
	refused := msgs[1].UUID
	var times atomic.Int32
	if _, err := s.listen(p, topic, "group", 0, func(m *message.Message) {
		if m.UUID == refused && times.Add(1) <= 2 {
			m.Nack()
			return
		}
		got.take(m)
	}); err != nil {
		return err
	}
	if err := s.publish(p, topic, msgs...); err != nil {
		return err
	}
	return s.until(func() string { return got.lacks(msgs) })
}

func heldMessage(s *script) error {
	p, topic, got, msgs := s.open(), s.topic("commands"), newLedger(), newMessages(20)
	for n := range 2 {
		if _, err := s.listen(p, topic, "group", n, func(m *message.Message) {
			if m.UUID != msgs[0].UUID {
				got.take(m)
			}
		}); err != nil {
			return err
		}
	}
	if err := s.publish(p, topic, msgs...); err != nil {
		return err
	}
	return s.until(func() string { return got.lacks(msgs[1:]) })
}

func malformedEntry(s *script) error {
	p, topic, got, msgs := s.open(), s.topic("commands"), newLedger(), newMessages(20)
	first, err := s.listen(p, topic, "group", 0, got.take) // the topic is made, and the group known
	if err != nil {
		return err
	}
	if err := first.close(); err != nil {
		return err
	}
	for range 3 {
		if err := s.Malform(topic); err != nil {
			return fmt.Errorf("the harness's Malform: %w", err)
		}
	}
	if err := s.publish(p, topic, msgs...); err != nil {
		return err
	}
	for n := range 2 {
		if _, err := s.listen(p, topic, "group", n, got.take); err != nil {
			return err
		}
	}
	return s.until(func() string { return got.lacks(msgs) })
}

func slowHandler(s *script) error {
	p, topic, got, msgs := s.open(), s.topic("commands"), newLedger(), newMessages(10)
	long := max(2*s.RedeliverAfter, time.Second)
	for n := range 2 {
		first := true
		if _, err := s.listen(p, topic, "group", n, func(m *message.Message) {
			if first {
				time.Sleep(long)
			}
			first = false
			got.take(m)
		}); err != nil {
			return err
		}
	}
	if err := s.publish(p, topic, msgs...); err != nil {
		return err
	}
	if err := s.until(func() string { return got.lacks(msgs) }); err != nil {
		return err
	}
	// Those who were slow are not lost, either.
	more := newMessages(10)
	if err := s.publish(p, topic, more...); err != nil {
		return err
	}
	if err := s.until(func() string { return got.lacks(more) }); err != nil {
		return errors.Join(errors.New("after handlers were slow"), err)
	}
	return nil
}
