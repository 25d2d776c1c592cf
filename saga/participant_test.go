package saga_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/saga"
	"github.com/sagamill/sagamill/saga/inboxtest"
)

func TestParticipant(t *testing.T) {
	t.Parallel()
	t.Run("memory", func(t *testing.T) { t.Parallel(); testParticipant(t, memoryHarness) })
	t.Run("sqlite", func(t *testing.T) { t.Parallel(); testParticipant(t, sqliteHarness) })
}

func testParticipant[T any](t *testing.T, open func(testing.TB) inboxtest.Harness[T]) {
	for name, test := range map[string]func(x *hotel[T]){
		"success":                        testSuccess[T],
		"context":                        testHandlerContext[T],
		"rejection":                      testRejection[T],
		"failure, then success":          testFailure[T],
		"panic":                          testPanic[T],
		"compensation":                   testCompensation[T],
		"compensation first":             testCompensationFirst[T],
		"null compensation":              testNullCompensation[T],
		"duplicate":                      testDuplicate[T],
		"not to be handled":              testMalformed[T],
		"not for us":                     testIgnored[T],
		"drain":                          testDrain[T],
		"crash between commit and reply": testLostReply[T],
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(newHotel(t, open(t)))
		})
	}
}

func testSuccess[T any](x *hotel[T]) {
	x.open()
	reply := x.ask(hotelCommand("book-room", "e-1", bookingOrder{Room: "7"}))
	x.isReply(reply, saga.ReplySucceeded, "")
	require.JSONEq(x.t, `{"number": 1}`, string(reply.Payload))
	want := message.Metadata{
		saga.MetaDefinition: "trip", saga.MetaInstance: "i-1", saga.MetaKey: "trip-1", saga.MetaStep: "hotel", saga.MetaRun: "1",
		saga.MetaAttempt: "2", saga.MetaEffect: "e-1", saga.MetaCommand: "book-room", saga.MetaOutcome: "succeeded",
		"correlation_id": "i-1",
	}
	require.Empty(x.t, cmp.Diff(want, reply.Metadata), "it is found by what it gives back of the command")
	x.counts("7", 1)
	o := x.observed()
	require.Positive(x.t, o.Duration)
	o.Duration = 0
	require.Empty(x.t, cmp.Diff(saga.Observation{
		What: saga.ObserveCommand, Definition: "trip", Instance: "i-1", Step: "hotel", Event: "book-room", Outcome: "succeeded",
	}, o))
}

func testHandlerContext[T any](x *hotel[T]) {
	x.inHandler = func(ctx context.Context) error {
		if _, limited := ctx.Deadline(); !limited {
			return errors.New("no HandlerTimeout")
		}
		return nil
	}
	x.open()
	msg := hotelCommand("book-room", "e-1", bookingOrder{Room: "7"})
	msg.Metadata.Set("traceparent", "00-1-2-01")
	reply := x.ask(msg)
	x.isReply(reply, saga.ReplySucceeded, "")
	require.Equal(x.t, "00-1-2-01", reply.Metadata.Get("traceparent"))
	require.Equal(x.t, []map[string]string{{"traceparent": "00-1-2-01"}}, x.traces)
	require.Equal(x.t, []saga.StepInfo{{
		Definition: "trip", Instance: "i-1", Key: "trip-1", Step: "hotel", Run: 1, Attempt: 2, EffectKey: "e-1", ActionKey: "e-1",
	}}, x.infos)
}

func testRejection[T any](x *hotel[T]) {
	x.open()
	for range 2 {
		x.isReply(x.ask(hotelCommand("book-room", "e-1", bookingOrder{Room: "7", Do: "reject"})), saga.ReplyRejected, "room 7 is taken")
		require.Equal(x.t, "rejected", x.observed().Outcome)
	}
	x.counts("7", 0)
	require.Equal(x.t, 1, x.number)
}

func testFailure[T any](x *hotel[T]) {
	x.open()
	reply := x.ask(hotelCommand("book-room", "e-1", bookingOrder{Room: "7", Do: "fail once"}))
	x.isReply(reply, saga.ReplyFailed, "the system is down")
	require.Equal(x.t, "failed", x.observed().Outcome)
	x.counts("7", 0)
	x.isReply(x.ask(hotelCommand("book-room", "e-1", bookingOrder{Room: "7", Do: "fail once"})), saga.ReplySucceeded, "")
	x.counts("7", 1)

	reply = x.ask(hotelCommand("book-room", "e-2", bookingOrder{Room: "8", Do: "fail"}))
	x.isReply(reply, saga.ReplyFailed, "the system is down")
	require.Less(x.t, len(reply.Metadata.Get(saga.MetaReason)), 1100, "a reason is cut")
}

func testPanic[T any](x *hotel[T]) {
	x.open()
	x.isReply(x.ask(hotelCommand("book-room", "e-1", bookingOrder{Room: "7", Do: "panic"})), saga.ReplyFailed, "handler of book-room panicked: no such room")
	x.counts("7", 0)
	x.isReply(x.ask(hotelCommand("book-room", "e-1", bookingOrder{Room: "7"})), saga.ReplySucceeded, "")
	x.counts("7", 1)
}

func undoing(msg *message.Message) *message.Message {
	msg.Metadata.Set(saga.MetaUndo, "true")
	return msg
}

func testCompensation[T any](x *hotel[T]) {
	x.open()
	x.isReply(x.ask(hotelCommand("book-room", "e-1", bookingOrder{Room: "7"})), saga.ReplySucceeded, "")
	for range 2 {
		reply := x.ask(undoing(hotelCommand("cancel-room", "e-1", bookingOrder{Room: "7"})))
		x.isReply(reply, saga.ReplySucceeded, "")
		require.Equal(x.t, "true", reply.Metadata.Get(saga.MetaUndo))
	}
	x.counts("7", 1)
	x.counts("cancelled 7", 1)
}

func testCompensationFirst[T any](x *hotel[T]) {
	x.open()
	x.isReply(x.ask(undoing(hotelCommand("cancel-room", "e-1", bookingOrder{Room: "7"}))), saga.ReplySucceeded, "")
	x.isReply(x.ask(hotelCommand("book-room", "e-1", bookingOrder{Room: "7"})), saga.ReplyRejected, "compensated")
	x.counts("7", 0)
	x.counts("cancelled 7", 0)
}

func testNullCompensation[T any](x *hotel[T]) {
	x.open()
	for range 2 {
		x.isReply(x.ask(undoing(hotelCommand("refund-room", "e-1", bookingOrder{Room: "7"}))), saga.ReplySucceeded, "")
	}
	x.isReply(x.ask(hotelCommand("book-room", "e-1", bookingOrder{Room: "7"})), saga.ReplyRejected, "compensated")
	x.counts("7", 0)
	x.counts("cancelled 7", 1)
	// As an action the same command is like any other.
	x.isReply(x.ask(hotelCommand("refund-room", "e-2", bookingOrder{Room: "8"})), saga.ReplySucceeded, "")
	x.counts("cancelled 8", 1)
}

func testDuplicate[T any](x *hotel[T]) {
	x.open()
	first := x.ask(hotelCommand("book-room", "e-1", bookingOrder{Room: "7"}))
	for attempt := range 5 {
		msg := hotelCommand("book-room", "e-1", bookingOrder{Room: "7"})
		msg.Metadata.Set(saga.MetaAttempt, string(rune('3'+attempt)))
		again := x.ask(msg)
		require.Equal(x.t, first.Payload, again.Payload)
		require.Equal(x.t, msg.Metadata.Get(saga.MetaAttempt), again.Metadata.Get(saga.MetaAttempt))
		x.isReply(again, saga.ReplySucceeded, "")
	}
	x.counts("7", 1)
	require.Equal(x.t, 1, x.number)
}

func testMalformed[T any](x *hotel[T]) {
	x.open()
	broken := func(change func(*message.Message)) *message.Message {
		msg := hotelCommand("book-room", "e-1", bookingOrder{Room: "7"})
		change(msg)
		return msg
	}
	for reason, msg := range map[string]*message.Message{
		"decode":             broken(func(m *message.Message) { m.Payload = []byte("{") }),
		"too large":          broken(func(m *message.Message) { m.Payload = []byte(`"` + strings.Repeat("x", maxPayload) + `"`) }),
		"saga_effect":        broken(func(m *message.Message) { delete(m.Metadata, saga.MetaEffect) }),
		"saga_undo is":       broken(func(m *message.Message) { m.Metadata.Set(saga.MetaUndo, "yes") }),
		"the reply has 61":   hotelCommand("book-room", "e-1", bookingOrder{Room: "7", Do: "answer much"}),
		"cannot unmarshal":   broken(func(m *message.Message) { m.Payload = []byte(`[1]`) }),
		"saga: decode saga_": broken(func(m *message.Message) { m.Payload = []byte(`{"room": 7}`) }),
	} {
		x.isReply(x.ask(msg), saga.ReplyFailed, reason)
		require.Equal(x.t, "failed", x.observed().Outcome)
	}
	x.isReply(x.ask(hotelCommand("book-room", "e-1", bookingOrder{Room: "7"})), saga.ReplySucceeded, "") // nothing of it was stored
	x.counts("7", 1)
}

func testIgnored[T any](x *hotel[T]) {
	x.open()
	x.send(hotelCommand("rent-car", "e-1", bookingOrder{}))
	o := x.observed()
	require.Equal(x.t, "ignored", o.Outcome)
	require.Equal(x.t, "rent-car", o.Event)
	x.send(message.NewMessage(watermill.NewUUID(), []byte("lost")))
	o = x.observed()
	require.Equal(x.t, "ignored", o.Outcome)
	require.Contains(x.t, o.Reason, saga.MetaCommand)

	noReply := hotelCommand("book-room", "e-2", bookingOrder{Room: "8"})
	delete(noReply.Metadata, saga.MetaReplyTo)
	x.send(noReply)
	require.Equal(x.t, "succeeded", x.observed().Outcome, "who wants no reply is handled all the same")

	reply := x.ask(hotelCommand("book-room", "e-1", bookingOrder{Room: "7"}))
	require.Equal(x.t, "e-1", reply.Metadata.Get(saga.MetaEffect), "the others have not been answered")
}

func testDrain[T any](x *hotel[T]) {
	entered, leave := make(chan struct{}), make(chan struct{})
	x.inHandler = func(ctx context.Context) error {
		close(entered)
		<-leave
		return ctx.Err()
	}
	p, stop := x.open()
	x.send(hotelCommand("book-room", "e-1", bookingOrder{Room: "7"}))
	<-entered
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	require.Empty(x.t, stopped, "Close waits for the handler")
	close(leave)
	require.NoError(x.t, <-stopped)
	x.isReply(x.reply(), saga.ReplySucceeded, "")
	x.counts("7", 1)
	require.NoError(x.t, p.Close(), "again")
}

// lossyPublisher is a publisher that loses the first messages.
type lossyPublisher struct {
	message.Publisher
	loses int
}

func (l *lossyPublisher) Publish(topic string, messages ...*message.Message) error {
	if l.loses > 0 {
		l.loses--
		return errors.New("the broker is gone")
	}
	return l.Publisher.Publish(topic, messages...)
}

func testLostReply[T any](x *hotel[T]) {
	x.config.Transport.Publisher = &lossyPublisher{Publisher: x.broker, loses: 1}
	_, stop := x.open()
	x.send(hotelCommand("book-room", "e-1", bookingOrder{Room: "7"}))
	require.Equal(x.t, "succeeded", x.observed().Outcome)
	o := x.observed()
	require.Equal(x.t, saga.ObserveError, o.What)
	require.Contains(x.t, o.Reason, "the broker is gone")
	require.NoError(x.t, stop())
	x.counts("7", 1)

	x.Inbox = x.Reopen()
	x.open()
	reply := x.ask(hotelCommand("book-room", "e-1", bookingOrder{Room: "7"}))
	x.isReply(reply, saga.ReplySucceeded, "")
	require.JSONEq(x.t, `{"number": 1}`, string(reply.Payload), "the reply of the first time")
	x.counts("7", 1)
	require.Equal(x.t, 1, x.number)
}
