package gochannel_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/gochannel"
	"github.com/sagamill/sagamill/adapters/memory"
	"github.com/sagamill/sagamill/saga"
)

const topic = "hotel.commands"

func newBroker(t *testing.T, buffer int) *gochannel.Broker {
	t.Helper()
	b := gochannel.New(gochannel.Config{Buffer: buffer}, nil)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return b
}

// subscribe opens a subscriber of the group, in the way in which the engine does.
func subscribe(t *testing.T, b *gochannel.Broker, group string) (<-chan *message.Message, message.Subscriber) {
	t.Helper()
	s, err := b.Transport().Subscriber(saga.SubscriberParams{Topic: topic, Group: group})
	require.NoError(t, err)
	messages, err := s.Subscribe(t.Context(), topic)
	require.NoError(t, err)
	return messages, s
}

func publish(b *gochannel.Broker, uuid string) error {
	return b.Transport().Publisher.Publish(topic, message.NewMessage(uuid, []byte("payload of "+uuid)))
}

// receive takes the next message, which must come.
func receive(t *testing.T, messages <-chan *message.Message) *message.Message {
	t.Helper()
	msg, ok := <-messages
	require.True(t, ok, "the subscription has ended")
	require.Equal(t, "payload of "+msg.UUID, string(msg.Payload))
	return msg
}

func TestEachGroupGetsEachMessageOnce(t *testing.T) {
	t.Parallel()
	const groups, members, count = 3, 4, 200
	b := newBroker(t, 8)
	var mu sync.Mutex
	got := map[string]int{}
	var all sync.WaitGroup
	all.Add(groups * count)
	for g := range groups {
		for range members {
			messages, _ := subscribe(t, b, fmt.Sprint("group-", g))
			go func() {
				for msg := range messages {
					mu.Lock()
					got[fmt.Sprint(g, "/", msg.UUID)]++
					mu.Unlock()
					msg.Ack()
					all.Done()
				}
			}()
		}
	}
	for i := range count {
		require.NoError(t, publish(b, fmt.Sprint(i)))
	}
	all.Wait()
	mu.Lock()
	defer mu.Unlock()
	require.Len(t, got, groups*count)
	for key, n := range got {
		require.Equal(t, 1, n, key)
	}
}

func TestPublishBlocksWhileTheQueueIsFull(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const buffer = 4
		b := newBroker(t, buffer)
		messages, _ := subscribe(t, b, "slow")
		published := atomic.Int32{}
		go func() {
			for i := 0; publish(b, fmt.Sprint(i)) == nil; i++ {
				published.Add(1)
			}
		}()
		synctest.Wait()
		require.EqualValues(t, buffer+1, published.Load(), "the queue, and one in flight")

		receive(t, messages).Ack()
		synctest.Wait()
		require.EqualValues(t, buffer+2, published.Load(), "one makes room for one")
		require.NoError(t, b.Close())
		synctest.Wait()
		require.EqualValues(t, buffer+2, published.Load(), "what Close interrupts is not published")
	})
}

// Not parallel: it counts all goroutines.
func TestPublishStartsNoGoroutinesWithoutBound(t *testing.T) {
	b := newBroker(t, 1)
	messages, _ := subscribe(t, b, "slow")
	const publishers = 100
	var done sync.WaitGroup
	for i := range publishers {
		done.Go(func() { _ = publish(b, fmt.Sprint(i)) })
	}
	receive(t, messages) // all the others wait now, or soon
	for range 1000 {
		runtime.Gosched()
		require.Less(t, runtime.NumGoroutine(), publishers+30)
	}
	require.NoError(t, b.Close())
	done.Wait()
}

func TestNackedMessageComesAgain(t *testing.T) {
	t.Parallel()
	b := newBroker(t, 0)
	messages, _ := subscribe(t, b, "group")
	require.NoError(t, publish(b, "a"))
	require.NoError(t, publish(b, "b"))
	seen := map[string]int{}
	for len(seen) < 2 || seen["a"] < 3 {
		msg := receive(t, messages)
		seen[msg.UUID]++
		if msg.UUID == "a" && seen["a"] < 3 {
			require.True(t, msg.Nack())
			continue
		}
		require.True(t, msg.Ack())
	}
	require.Equal(t, map[string]int{"a": 3, "b": 1}, seen, "a nacked message does not keep others from their turn")
}

func TestMessageInFlightGoesToAnotherWhenItsSubscriberCloses(t *testing.T) {
	t.Parallel()
	b := newBroker(t, 0)
	first, subscriber := subscribe(t, b, "group")
	require.NoError(t, publish(b, "a"))
	msg := receive(t, first)
	second, _ := subscribe(t, b, "group")
	require.NoError(t, subscriber.Close())
	require.NoError(t, subscriber.Close(), "again")
	require.ErrorIs(t, msg.Context().Err(), context.Canceled)
	_, open := <-first
	require.False(t, open)
	require.Equal(t, "a", receive(t, second).UUID)
	_, err := subscriber.Subscribe(t.Context(), topic)
	require.Error(t, err)
}

func TestSubscriptionEndsWithItsContext(t *testing.T) {
	t.Parallel()
	b := newBroker(t, 0)
	s, err := b.Subscriber("group")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	messages, err := s.Subscribe(ctx, topic)
	require.NoError(t, err)
	cancel()
	_, open := <-messages
	require.False(t, open)
	require.NoError(t, s.Close())
}

func TestMessagesWithoutSubscribersAreDropped(t *testing.T) {
	t.Parallel()
	b := newBroker(t, 1)
	require.NoError(t, publish(b, "nobody listens"))
	_, s := subscribe(t, b, "group")
	full := make(chan error)
	go func() { full <- errors.Join(publish(b, "in flight"), publish(b, "queued"), publish(b, "waits")) }()
	require.NoError(t, s.Close())
	require.NoError(t, <-full, "the last member of a group lets go of those who wait for it")
	require.NoError(t, publish(b, "nobody listens"))
	messages, _ := subscribe(t, b, "group")
	require.NoError(t, publish(b, "heard"))
	require.Equal(t, "heard", receive(t, messages).UUID)
}

// A Publish that waits for one group must neither keep another one from subscribing nor, with it, the first one from leaving.
func TestSubscribeWhilePublishWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		_, slow := subscribe(t, b, "slow")
		late, err := b.Subscriber("late")
		require.NoError(t, err)
		published, subscribed := make(chan error, 1), make(chan (<-chan *message.Message), 1)
		go func() { published <- errors.Join(publish(b, "1"), publish(b, "2"), publish(b, "3")) }()
		synctest.Wait()
		require.Empty(t, published)
		go func() {
			messages, err := late.Subscribe(t.Context(), topic)
			assert.NoError(t, err)
			subscribed <- messages
		}()
		other := "another topic"
		require.NoError(t, b.Publish(other, message.NewMessage(watermill.NewUUID(), nil)))
		require.NoError(t, slow.Close())
		require.NoError(t, <-published)
		messages := <-subscribed
		require.NoError(t, publish(b, "4"))
		require.Equal(t, "4", receive(t, messages).UUID)
	})
}

func TestCloseUnderLoad(t *testing.T) {
	t.Parallel()
	b := gochannel.New(gochannel.Config{Buffer: 2}, nil)
	const each = 8
	var publishers, subscribers sync.WaitGroup
	heard := make(chan struct{}, 1)
	for i := range each {
		messages, _ := subscribe(t, b, fmt.Sprint("group-", i%2))
		subscribers.Go(func() {
			for msg := range messages {
				msg.Ack()
				select {
				case heard <- struct{}{}:
				default:
				}
			}
		})
		publishers.Go(func() {
			var err error
			for n := 0; err == nil; n++ {
				err = publish(b, fmt.Sprint(i, "-", n))
			}
			assert.ErrorIs(t, err, gochannel.ErrClosed)
		})
	}
	<-heard
	var closers sync.WaitGroup
	for range 3 {
		closers.Go(func() { assert.NoError(t, b.Close()) })
	}
	closers.Wait()
	publishers.Wait()
	subscribers.Wait()
	require.ErrorIs(t, publish(b, "late"), gochannel.ErrClosed)
	s, err := b.Subscriber("group")
	require.NoError(t, err)
	_, err = s.Subscribe(t.Context(), topic)
	require.ErrorIs(t, err, gochannel.ErrClosed)
	require.NoError(t, s.Close())
}

func TestSubscriberNeedsAGroup(t *testing.T) {
	t.Parallel()
	_, err := newBroker(t, 0).Transport().Subscriber(saga.SubscriberParams{Topic: topic})
	require.Error(t, err)
}

func TestPublishToAConfirmedTopicWaitsForAllGroups(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := gochannel.New(gochannel.Config{Confirmed: []string{topic}}, nil)
		defer func() { require.NoError(t, b.Close()) }()
		one, _ := subscribe(t, b, "one")
		other, _ := subscribe(t, b, "other")
		published := make(chan error, 1)
		go func() { published <- publish(b, "a") }()
		receive(t, one).Ack()
		receive(t, other).Nack()
		synctest.Wait()
		require.Empty(t, published, "the other group has not recorded it")
		receive(t, other).Ack()
		require.NoError(t, <-published)
	})
}

func newConfirming(t *testing.T) *gochannel.Broker {
	t.Helper()
	b := gochannel.New(gochannel.Config{Confirmed: []string{topic}}, nil)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return b
}

func TestPublishToAConfirmedTopicFailsIfAGroupEndsWithoutAcknowledging(t *testing.T) {
	t.Parallel()
	for name, take := range map[string]bool{"in flight": true, "waiting": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newConfirming(t)
				messages, s := subscribe(t, b, "group")
				published := make(chan error, 1)
				go func() { published <- publish(b, "a") }()
				if take {
					receive(t, messages)
				}
				synctest.Wait()
				require.NoError(t, s.Close())
				require.ErrorContains(t, <-published, "a group has ended")

				require.NoError(t, publish(b, "nobody listens"), "to fail for ever would help nobody")
				messages, _ = subscribe(t, b, "group")
				go func() { published <- publish(b, "a") }()
				receive(t, messages).Ack()
				require.NoError(t, <-published)
			})
		})
	}
}

func TestPublishToAConfirmedTopicGoesOnWhileTheGroupHasMembers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newConfirming(t)
		one, leaving := subscribe(t, b, "group")
		published := make(chan error, 1)
		go func() { published <- publish(b, "a") }()
		receive(t, one)
		other, _ := subscribe(t, b, "group")
		require.NoError(t, leaving.Close())
		receive(t, other).Ack()
		require.NoError(t, <-published)
	})
}

func TestEventThatItsLastListenerDidNotAcknowledgeIsPublishedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newConfirming(t)
		def := saga.Linear("told", saga.Emit("tell", topic, "Told", func(int) int { return 7 }).NoUndo("test"))
		o, err := saga.NewOrchestrator(memory.NewStore(), saga.OrchestratorConfig{Name: "teller", Definitions: []saga.AnyDefinition{def}, Transport: b.Transport()}, nil)
		require.NoError(t, err)
		ran := make(chan error, 1)
		go func() { ran <- o.Run(t.Context()) }()
		defer func() { require.NoError(t, errors.Join(o.Close(), <-ran)) }()
		messages, s := subscribe(t, b, "group")
		_, err = def.Start(t.Context(), o, saga.StartParams[int]{Key: "a"})
		require.NoError(t, err)
		told := <-messages
		require.NoError(t, s.Close())
		messages, _ = subscribe(t, b, "group")
		select {
		case again := <-messages:
			require.Equal(t, told.Metadata, again.Metadata)
			again.Ack()
		case <-time.After(time.Hour): // of the bubble's
			require.FailNow(t, "the event is lost")
		}
	})
}
