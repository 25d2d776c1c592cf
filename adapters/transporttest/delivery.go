package transporttest

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/sagamill/sagamill/saga"
)

func deliveryChecks() []check {
	return []check{
		{
			name: "subscribe first", test: subscribeFirst,
			rule: "a topic need not exist: it is made by the first one who subscribes, and what is published then comes",
		}, {
			name: "publish first", test: publishFirst, needs: []Promise{KeepsUnheard},
			rule: "a topic need not exist: it is made by the first one who publishes, and what is published is kept for the first group that comes",
		}, {
			name: "fan-out", test: fanOut,
			rule: "each group gets each message",
		}, {
			name: "shared", test: shared,
			rule: "the subscribers of a group share its messages: each goes to one of them",
		}, {
			name: "parallel", test: parallel, needs: []Promise{Parallel},
			rule: "several subscribers of a group have one message each in flight",
		}, {
			name: "batch", test: batch,
			rule: "messages that are published together come, all of them",
		}, {
			name: "publishers at once", test: publishersAtOnce,
			rule: "any number of goroutines may publish at once",
		}, {
			name: "bursts", test: bursts,
			rule: "what several publish at once comes to each group, also to one that reads meanwhile: no message is passed over for a later one",
		}, {
			name: "topics are apart", test: topicsApart,
			rule: "a subscriber gets the messages of its topic, also if another topic's name begins in the same way",
		}, {
			name: "no group", test: noGroup,
			rule: "a subscriber needs a group: without one it would get what is another's, or lose what is its own",
		},
	}
}

func subscribeFirst(s *script) error {
	p, topic, got, msgs := s.open(), s.topic("commands"), newLedger(), newMessages(5)
	if _, err := s.listen(p, topic, "group", 0, got.take); err != nil {
		return err
	}
	if err := s.publish(p, topic, msgs...); err != nil {
		return err
	}
	return s.until(func() string { return got.lacks(msgs) })
}

func publishFirst(s *script) error {
	p, topic, msgs := s.open(), s.topic("commands"), newMessages(5)
	if err := s.publish(p, topic, msgs...); err != nil {
		return err
	}
	got := newLedger()
	if _, err := s.listen(s.open(), topic, "group", 0, got.take); err != nil {
		return err
	}
	return s.until(func() string { return got.lacks(msgs) })
}

func fanOut(s *script) error {
	p, topic, msgs := s.open(), s.topic("events"), newMessages(defaultNumber)
	got := map[string]*ledger{"billing": newLedger(), "shipping": newLedger(), "audit": newLedger()}
	for group, l := range got {
		if _, err := s.listen(s.open(), topic, group, 0, l.take); err != nil {
			return err
		}
	}
	if err := s.publish(p, topic, msgs...); err != nil {
		return err
	}
	for group, l := range got {
		if err := s.until(func() string { return l.lacks(msgs) }); err != nil {
			return fmt.Errorf("group %s: %w", group, err)
		}
	}
	return nil
}

// shared bears some messages that come twice, which at-least-once allows. Not that all do.
func shared(s *script) error {
	topic, got, msgs := s.topic("commands"), newLedger(), newMessages(2*defaultNumber)
	processes := []Process{s.open(), s.open()}
	for n := range 4 {
		if _, err := s.listen(processes[n%2], topic, "workers", n/2, got.take); err != nil {
			return err
		}
	}
	if err := s.publish(processes[0], topic, msgs...); err != nil {
		return err
	}
	if err := s.until(func() string { return got.lacks(msgs) }); err != nil {
		return err
	}
	time.Sleep(settleFor)
	if total, _ := got.total(msgs); total > len(msgs)*12/10 {
		return fmt.Errorf("%d messages were delivered %d times to a group of 4 subscribers, though each was acknowledged at once", len(msgs), total)
	}
	return nil
}

func parallel(s *script) error {
	p, topic := s.open(), s.topic("commands")
	var mu sync.Mutex
	holding, most, handled, published := 0, 0, 0, 0
	handle := func(m *message.Message) {
		mu.Lock()
		holding++
		most = max(most, holding)
		mu.Unlock()
		for range 100 { // long enough for the others to get theirs
			time.Sleep(pollEvery)
			mu.Lock()
			enough := most >= 3
			mu.Unlock()
			if enough {
				break
			}
		}
		mu.Lock()
		holding--
		handled++
		mu.Unlock()
		m.Ack()
	}
	for n := range 4 {
		if _, err := s.listen(p, topic, "workers", n, handle); err != nil {
			return err
		}
	}
	var err error
	shown := s.until(func() string {
		mu.Lock()
		defer mu.Unlock()
		if most >= 3 || err != nil {
			return ""
		}
		if handled >= published { // those before came while some subscribers had not got their share of the topic
			published += defaultNumber
			mu.Unlock()
			err = s.publish(p, topic, newMessages(defaultNumber)...)
			mu.Lock()
		}
		return fmt.Sprintf("4 subscribers of a group had no more than %d messages in flight at once", most)
	})
	return errors.Join(err, shown)
}

func batch(s *script) error {
	p, topic, got, msgs := s.open(), s.topic("commands"), newLedger(), newMessages(100)
	if _, err := s.listen(p, topic, "group", 0, got.take); err != nil {
		return err
	}
	if err := within(s.Patience, func() error { return p.Transport().Publisher.Publish(topic, msgs...) }); err != nil {
		return fmt.Errorf("Publish of %d messages: %w", len(msgs), err)
	}
	return s.until(func() string { return got.lacks(msgs) })
}

func publishersAtOnce(s *script) error {
	topic, got, msgs := s.topic("commands"), newLedger(), newMessages(8*defaultNumber)
	processes := []Process{s.open(), s.open()}
	for n := range 2 {
		if _, err := s.listen(processes[n], topic, "group", 0, got.take); err != nil {
			return err
		}
	}
	faults := make([]error, 8)
	var publishers sync.WaitGroup
	for n := range faults {
		publishers.Go(func() {
			faults[n] = s.publish(processes[n%2], topic, msgs[n*defaultNumber:(n+1)*defaultNumber]...)
		})
	}
	publishers.Wait()
	if err := errors.Join(faults...); err != nil {
		return err
	}
	return s.until(func() string { return got.lacks(msgs) })
}

// bursts finds the groups waiting at the topic's end each time. A message that gets its place there before another one, and is
// to be seen after it, is missed by who has moved on to the other one.
func bursts(s *script) error {
	const groups, publishers = 3, 6
	topic, got, processes := s.topic("events"), make([]*ledger, groups), make([]Process, groups)
	for n := range groups {
		got[n], processes[n] = newLedger(), s.open()
		if _, err := s.listen(processes[n], topic, fmt.Sprintf("group%d", n), 0, got[n].take); err != nil {
			return err
		}
	}
	for begun := time.Now(); time.Since(begun) < burstsFor; {
		msgs, faults := newMessages(publishers), make([]error, publishers)
		var burst sync.WaitGroup
		for n, m := range msgs {
			burst.Go(func() { faults[n] = s.publish(processes[n%groups], topic, m) })
		}
		burst.Wait()
		if err := errors.Join(faults...); err != nil {
			return err
		}
		for n, l := range got {
			if err := s.until(func() string { return l.lacks(msgs) }); err != nil {
				return fmt.Errorf("group%d: %w", n, err)
			}
		}
	}
	return nil
}

func topicsApart(s *script) error {
	p := s.open()
	topics := []string{s.topic("hotel"), s.topic("hotel.commands"), s.topic("hotel-commands"), s.topic("hotel.commands.late")}
	var got []*ledger
	var msgs [][]*message.Message
	for _, topic := range topics {
		l := newLedger()
		if _, err := s.listen(p, topic, "group", 0, l.take); err != nil {
			return fmt.Errorf("topic %s: %w", topic, err)
		}
		got, msgs = append(got, l), append(msgs, newMessages(5))
	}
	for i, topic := range topics {
		if err := s.publish(p, topic, msgs[i]...); err != nil {
			return fmt.Errorf("topic %s: %w", topic, err)
		}
	}
	for i, topic := range topics {
		if err := s.until(func() string { return got[i].lacks(msgs[i]) }); err != nil {
			return fmt.Errorf("topic %s: %w", topic, err)
		}
	}
	time.Sleep(settleFor)
	for i, topic := range topics {
		if _, foreign := got[i].total(msgs[i]); foreign > 0 {
			return fmt.Errorf("the subscriber of topic %s got %d messages of other topics", topic, foreign)
		}
	}
	return nil
}

func noGroup(s *script) error {
	topic := s.topic("commands")
	subscriber, err := s.open().Transport().Subscriber(saga.SubscriberParams{Topic: topic})
	if err != nil {
		return nil
	}
	_, err = subscriber.Subscribe(s.ctx, topic)
	if closed := within(closeMayTake, subscriber.Close); err == nil {
		return errors.Join(errors.New("a subscriber without a group was opened"), closed)
	}
	return nil
}
