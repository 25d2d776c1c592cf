package saga_test

import (
	"context"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/saga"
)

// channelTransport is a Transport that consists of a channel, and forgets what is published.
type channelTransport chan *message.Message

func (w channelTransport) Publish(string, ...*message.Message) error { return nil }
func (w channelTransport) Subscribe(context.Context, string) (<-chan *message.Message, error) {
	return w, nil
}
func (w channelTransport) Close() error { return nil }

// Whatever a message holds, it is acknowledged, and the participant goes on.
func FuzzParticipant(f *testing.F) {
	w := make(channelTransport)
	p, err := saga.NewParticipant[struct{}](plainInbox{}, saga.ParticipantConfig{
		Name: "hotel", Subscribers: 1, MaxPayload: maxPayload,
		Transport: saga.Transport{Publisher: w, Subscriber: func(saga.SubscriberParams) (message.Subscriber, error) { return w, nil }},
	}, nil)
	require.NoError(f, err)
	require.NoError(f, saga.Handle(p, bookRoom, func(_ context.Context, _ struct{}, b bookingOrder) (bookingReply, error) {
		if b.Do == "panic" {
			panic(b.Room)
		}
		return bookingReply{Words: b.Room}, nil
	}))
	ran := make(chan error, 1)
	go func() { ran <- p.Run(context.Background()) }()
	f.Cleanup(func() {
		require.NoError(f, p.Close())
		require.NoError(f, <-ran)
	})
	f.Add("book-room", "e-1", "", "1", "replies", []byte(`{"room":"7"}`))
	f.Add("book-room", "e-1", "true", "x", "", []byte(`{"room":"7","do":"panic"}`))
	f.Add("book-room", "", "yes", "-1", "replies", []byte(`{`))
	f.Add("", "e-1", "", "", "replies", []byte(nil))
	f.Fuzz(func(_ *testing.T, name, effect, undo, run, replyTo string, payload []byte) {
		msg := hotelCommand(name, effect, nil)
		msg.Payload = payload
		msg.Metadata.Set(saga.MetaUndo, undo)
		msg.Metadata.Set(saga.MetaRun, run)
		msg.Metadata.Set(saga.MetaReplyTo, replyTo)
		w <- msg
		<-msg.Acked()
	})
}
