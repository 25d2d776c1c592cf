package transporttest

import (
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

const (
	cutFor   = 300 * time.Millisecond
	cutEvery = 700 * time.Millisecond
)

func cutChecks() []check {
	return []check{
		{
			name: "cut", test: cutUnderLoad, needs: []Promise{Reconnects},
			rule: "when connections are cut and can be made again, what Publish has answered nil to is handled, and goes on to be",
		}, {
			name: "cut while idle", test: cutWhileIdle, needs: []Promise{Reconnects},
			rule: "a subscriber that waits for messages when its connection is cut gets those that come later",
		},
	}
}

func cutUnderLoad(s *script) error {
	topic, got, msgs := s.topic("commands"), newLedger(), newMessages(6*defaultNumber)
	processes := []Process{s.open(), s.open()}
	for n := range 4 {
		if _, err := s.listen(processes[n%2], topic, "group", n/2, func(m *message.Message) {
			time.Sleep(5 * time.Millisecond)
			got.take(m)
		}); err != nil {
			return err
		}
	}
	// The connections are cut at least thrice, however fast it goes.
	quarters := make(chan error, 8)
	go func() {
		defer close(quarters)
		for i, m := range msgs {
			if i%(len(msgs)/4) == len(msgs)/8 {
				quarters <- nil
			}
			time.Sleep(2 * time.Millisecond) // some of it while they are cut
			if err := s.publishAgain(processes[0], topic, m); err != nil {
				quarters <- err
				return
			}
		}
	}()
	for err := range quarters {
		if err != nil {
			return err
		}
		cut(processes)
	}
	return s.until(func() string { return got.lacks(msgs) })
}

func cutWhileIdle(s *script) error {
	topic, got, msgs := s.topic("commands"), newLedger(), newMessages(10)
	publisher, listener := s.open(), s.open()
	if _, err := s.listen(listener, topic, "group", 0, got.take); err != nil {
		return err
	}
	if err := s.publish(publisher, topic, msgs[:5]...); err != nil {
		return err
	}
	if err := s.until(func() string { return got.lacks(msgs[:5]) }); err != nil {
		return err
	}
	for range 3 {
		cut([]Process{publisher, listener})
		time.Sleep(cutEvery - cutFor)
	}
	for _, m := range msgs[5:] {
		if err := s.publishAgain(publisher, topic, m); err != nil {
			return err
		}
	}
	return s.until(func() string { return got.lacks(msgs) })
}

// cut ends the connections of processes, and restores them a little later.
func cut(processes []Process) {
	for _, p := range processes {
		p.Cut()
	}
	time.Sleep(cutFor)
	for _, p := range processes {
		p.Restore()
	}
}
