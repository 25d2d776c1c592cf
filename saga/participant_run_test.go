package saga_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/gochannel"
	"github.com/sagamill/sagamill/adapters/memory"
	"github.com/sagamill/sagamill/saga"
)

func TestParticipantConfigNamesAllFaults(t *testing.T) {
	t.Parallel()
	config := saga.ParticipantConfig{Subscribers: -1, HandlerTimeout: -1, DrainTimeout: -1, MaxPayload: -1}
	_, err := saga.NewParticipant[*memory.Tx](nil, config, nil)
	require.ErrorIs(t, err, saga.ErrInvalid)
	for _, field := range []string{"inbox", "Name", "Publisher", "Subscriber ", "Subscribers", "HandlerTimeout", "DrainTimeout", "MaxPayload"} {
		require.ErrorContains(t, err, field)
	}
}

func TestHandleWantsACompleteCommandOnceBeforeRun(t *testing.T) {
	t.Parallel()
	x := newHotel(t, memoryHarness(t))
	p, err := saga.NewParticipant(x.Inbox, x.config, nil)
	require.NoError(t, err)
	require.ErrorIs(t, p.Run(t.Context()), saga.ErrInvalid, "nothing to handle")
	for _, c := range []saga.Command[bookingOrder, bookingReply]{{}, {Name: "book-room"}, {Topic: "hotel"}} {
		require.ErrorIs(t, saga.Handle(p, c, x.book), saga.ErrInvalid)
	}
	require.ErrorIs(t, saga.Handle(p, bookRoom, nil), saga.ErrInvalid)
	type lossy struct{ room string }
	_ = lossy{room: ""}
	err = saga.Handle(p, saga.Command[lossy, bookingReply]{Name: "lossy", Topic: "hotel"}, func(context.Context, *memory.Tx, lossy) (r bookingReply, err error) { return })
	require.ErrorIs(t, err, saga.ErrInvalid)
	require.ErrorContains(t, err, "to handle the command lossy: the command type saga_test.lossy has the field room, which is not exported")
	require.NoError(t, saga.Handle(p, bookRoom, x.book))
	require.ErrorIs(t, saga.Handle(p, bookRoom, x.book), saga.ErrInvalid)

	p, stop := x.open()
	require.ErrorIs(t, saga.Handle(p, saga.Command[bookingOrder, bookingReply]{Name: "other", Topic: "hotel"}, x.book), saga.ErrInvalid)
	require.ErrorIs(t, p.Run(t.Context()), saga.ErrInvalid, "once")
	require.NoError(t, stop())
}

func TestParticipantEndsWithTheContext(t *testing.T) {
	t.Parallel()
	x := newHotel(t, memoryHarness(t))
	p, err := saga.NewParticipant(x.Inbox, x.config, nil)
	require.NoError(t, err)
	require.NoError(t, saga.Handle(p, bookRoom, x.book))
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- p.Run(ctx) }()
	<-p.Running()
	cancel()
	require.NoError(t, <-ran)
	require.NoError(t, p.Close())
}

func TestParticipantClosedBeforeRun(t *testing.T) {
	t.Parallel()
	x := newHotel(t, memoryHarness(t))
	p, err := saga.NewParticipant(x.Inbox, x.config, nil)
	require.NoError(t, err)
	require.NoError(t, saga.Handle(p, bookRoom, x.book))
	require.NoError(t, p.Close())
	require.NoError(t, p.Run(t.Context()))
	require.NoError(t, p.Close())
}

func TestDrainTimeoutEndsHandlersContexts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := newHotel(t, memoryHarness(t))
		x.config.HandlerTimeout = time.Hour
		entered := make(chan struct{})
		x.inHandler = func(ctx context.Context) error {
			close(entered)
			<-ctx.Done()
			return ctx.Err()
		}
		_, stop := x.open()
		x.send(hotelCommand("book-room", "e-1", bookingOrder{Room: "7"}))
		<-entered
		began := time.Now()
		require.NoError(t, stop())
		require.Equal(t, 10*time.Second, time.Since(began))
		x.isReply(x.reply(), saga.ReplyFailed, "canceled")
		x.counts("7", 0)
	})
}

func TestRunDoesNotWaitForeverForAHandler(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := newHotel(t, memoryHarness(t))
		x.config.HandlerTimeout = time.Hour
		entered, leave := make(chan struct{}), make(chan struct{})
		x.inHandler = func(context.Context) error {
			close(entered)
			<-leave
			return nil
		}
		_, stop := x.open()
		x.send(hotelCommand("book-room", "e-1", bookingOrder{Room: "7"}))
		<-entered
		require.ErrorContains(t, stop(), "handlers did not return")
		close(leave)
		x.isReply(x.reply(), saga.ReplyFailed, "canceled")
	})
}

func TestHandlerTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := newHotel(t, memoryHarness(t))
		x.inHandler = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		_, stop := x.open()
		began := time.Now()
		x.isReply(x.ask(hotelCommand("book-room", "e-1", bookingOrder{Room: "7"})), saga.ReplyFailed, "deadline")
		require.Equal(t, 10*time.Second, time.Since(began))
		require.NoError(t, stop())
	})
}

// plainInbox is an inbox without memory, and so without a bound to what runs at one time.
type plainInbox struct{}

func (plainInbox) Handle(ctx context.Context, _ saga.Effect, handle func(context.Context, struct{}) ([]byte, error)) (saga.Reply, error) {
	result, err := handle(ctx, struct{}{})
	return saga.Reply{Outcome: saga.ReplySucceeded, Payload: result}, err
}

func TestSubscribersWorkSideBySide(t *testing.T) {
	t.Parallel()
	x := newHotel(t, memoryHarness(t))
	x.config.Subscribers = 3
	p, err := saga.NewParticipant[struct{}](plainInbox{}, x.config, nil)
	require.NoError(t, err)
	var meet sync.WaitGroup
	meet.Add(3)
	require.NoError(t, saga.Handle(p, bookRoom, func(context.Context, struct{}, bookingOrder) (bookingReply, error) {
		meet.Done()
		meet.Wait()
		return bookingReply{}, nil
	}))
	ran := make(chan error, 1)
	go func() { ran <- p.Run(t.Context()) }()
	for range 3 {
		<-p.Running()
		x.send(hotelCommand("book-room", "e-1", bookingOrder{}))
	}
	for range 3 {
		x.isReply(x.reply(), saga.ReplySucceeded, "")
	}
	require.NoError(t, p.Close())
	require.NoError(t, <-ran)
}

// briefTransport is a Transport whose first subscriber ends by itself, and whose second one cannot be opened.
func briefTransport(broker *gochannel.Broker) saga.Transport {
	transport, opened := broker.Transport(), 0
	return saga.Transport{Publisher: transport.Publisher, Subscriber: func(params saga.SubscriberParams) (message.Subscriber, error) {
		opened++
		s, err := transport.Subscriber(params)
		switch opened {
		case 1:
			return endedSubscriber{s}, err
		case 2:
			return nil, errors.New("the broker is gone")
		}
		return s, err
	}}
}

type endedSubscriber struct{ message.Subscriber }

func (endedSubscriber) Subscribe(context.Context, string) (<-chan *message.Message, error) {
	messages := make(chan *message.Message)
	close(messages)
	return messages, nil
}

func TestSubscriberThatEndsIsReplaced(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := newHotel(t, memoryHarness(t))
		x.config.Transport, x.config.Subscribers = briefTransport(x.broker), 1
		_, stop := x.open()
		require.Contains(t, x.observed().Reason, "ended by itself")
		require.Contains(t, x.observed().Reason, "the broker is gone")
		time.Sleep(3 * time.Second) // of the bubble's
		x.isReply(x.ask(hotelCommand("book-room", "e-1", bookingOrder{Room: "7"})), saga.ReplySucceeded, "")
		require.NoError(t, stop())
	})
}

func TestRunFailsIfItCannotSubscribe(t *testing.T) {
	t.Parallel()
	x := newHotel(t, memoryHarness(t))
	transport, opened := x.broker.Transport(), 0
	x.config.Transport.Subscriber = func(params saga.SubscriberParams) (message.Subscriber, error) {
		if opened++; opened == 3 {
			return nil, errors.New("too many connections")
		}
		return transport.Subscriber(params)
	}
	p, err := saga.NewParticipant(x.Inbox, x.config, nil)
	require.NoError(t, err)
	require.NoError(t, saga.Handle(p, bookRoom, x.book))
	require.ErrorContains(t, p.Run(t.Context()), "too many connections")
	require.NoError(t, x.broker.Publish(bookRoom.Topic, hotelCommand("book-room", "e-1", bookingOrder{})), "those that were opened are closed again")
	select {
	case <-p.Running():
		require.Fail(t, "it runs")
	default:
	}
}
