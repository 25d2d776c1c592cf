package saga_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"path/filepath"
	"sync"
	"testing"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/gochannel"
	"github.com/sagamill/sagamill/adapters/memory"
	"github.com/sagamill/sagamill/adapters/sqlite"
	"github.com/sagamill/sagamill/saga"
	"github.com/sagamill/sagamill/saga/inboxtest"
)

// The participant of these tests is a hotel, which does as the bookingOrder says.

type bookingOrder struct {
	Room string `json:"room"`
	Do   string `json:"do,omitempty"` // reject, fail, fail once, panic, answer much
}

type bookingReply struct {
	Number int    `json:"number"`
	Words  string `json:"words,omitempty"`
}

var (
	bookRoom   = saga.Command[bookingOrder, bookingReply]{Name: "book-room", Topic: "hotel.commands"}
	cancelRoom = saga.Command[bookingOrder, struct{}]{Name: "cancel-room", Topic: "hotel.commands"}
	refundRoom = saga.Command[bookingOrder, struct{}]{Name: "refund-room", Topic: "hotel.commands"} // also if nothing is known
)

const (
	repliesTopic = "trips.replies"
	maxPayload   = 1 << 10
)

// hotel is a participant in the hands of a test, with the broker and the one who waits for replies.
type hotel[T any] struct {
	inboxtest.Harness[T]
	t            *testing.T
	broker       *gochannel.Broker
	config       saga.ParticipantConfig
	replies      <-chan *message.Message
	observations chan saga.Observation
	inHandler    func(ctx context.Context) error // nil: nothing

	mu       sync.Mutex
	number   int // of handler runs
	infos    []saga.StepInfo
	traces   []map[string]string
	failures int
}

func newHotel[T any](t *testing.T, h inboxtest.Harness[T]) *hotel[T] {
	t.Helper()
	broker := gochannel.New(gochannel.Config{}, nil)
	t.Cleanup(func() { require.NoError(t, broker.Close()) })
	listener, err := broker.Subscriber("trips")
	require.NoError(t, err)
	replies, err := listener.Subscribe(context.Background(), repliesTopic)
	require.NoError(t, err)
	x := &hotel[T]{Harness: h, t: t, broker: broker, replies: replies, observations: make(chan saga.Observation, 100)}
	x.config = saga.ParticipantConfig{
		Name: "hotel", Transport: broker.Transport(), MaxPayload: maxPayload,
		Observer: saga.ObserverFunc(func(_ context.Context, o saga.Observation) { x.observations <- o }),
	}
	return x
}

// open starts a participant on the hotel's inbox. Its Run is over after stop, which returns what it returned.
func (x *hotel[T]) open() (p *saga.Participant[T], stop func() error) {
	x.t.Helper()
	p, err := saga.NewParticipant(x.Inbox, x.config, nil)
	require.NoError(x.t, err)
	require.NoError(x.t, saga.Handle(p, bookRoom, x.book))
	require.NoError(x.t, saga.Handle(p, cancelRoom, x.cancel))
	require.NoError(x.t, saga.Handle(p, refundRoom, x.cancel, saga.NullCompensation))
	ran := make(chan error, 1)
	go func() { ran <- p.Run(x.t.Context()) }()
	<-p.Running()
	stop = sync.OnceValue(func() error { return errors.Join(p.Close(), <-ran) })
	x.t.Cleanup(func() { _ = stop() })
	return p, stop
}

func (x *hotel[T]) book(ctx context.Context, tx T, b bookingOrder) (bookingReply, error) {
	x.mu.Lock()
	x.number++
	number := x.number
	x.infos = append(x.infos, saga.Info(ctx))
	x.traces = append(x.traces, saga.TraceOf(ctx))
	x.mu.Unlock()
	if err := x.Write(ctx, tx, b.Room); err != nil {
		return bookingReply{}, err
	}
	if x.inHandler != nil {
		if err := x.inHandler(ctx); err != nil {
			return bookingReply{}, err
		}
	}
	switch b.Do {
	case "reject":
		return bookingReply{}, saga.Reject("room %s is taken", b.Room)
	case "fail":
		return bookingReply{}, errors.New("the system is down: " + string(make([]byte, 2*maxPayload)))
	case "fail once":
		x.failures++
		if x.failures == 1 {
			return bookingReply{}, errors.New("the system is down")
		}
	case "panic":
		panic("no such room")
	case "answer much":
		return bookingReply{Words: string(make([]byte, maxPayload))}, nil
	}
	return bookingReply{Number: number}, nil
}

func (x *hotel[T]) cancel(ctx context.Context, tx T, b bookingOrder) (struct{}, error) {
	return struct{}{}, x.Write(ctx, tx, "cancelled "+b.Room)
}

// hotelCommand is a message as the engine sends it.
func hotelCommand(name, effect string, b any) *message.Message {
	payload, _ := json.Marshal(b)
	msg := message.NewMessage(watermill.NewUUID(), payload)
	for k, v := range map[string]string{
		saga.MetaDefinition: "trip", saga.MetaInstance: "i-1", saga.MetaKey: "trip-1", saga.MetaStep: "hotel", saga.MetaRun: "1",
		saga.MetaAttempt: "2", saga.MetaEffect: effect, saga.MetaCommand: name, saga.MetaReplyTo: repliesTopic,
		"correlation_id": "i-1",
	} {
		msg.Metadata.Set(k, v)
	}
	return msg
}

func (x *hotel[T]) send(msg *message.Message) {
	x.t.Helper()
	require.NoError(x.t, x.broker.Publish(bookRoom.Topic, msg))
}

// ask sends a command and returns the reply to it.
func (x *hotel[T]) ask(msg *message.Message) *message.Message {
	x.t.Helper()
	x.send(msg)
	return x.reply()
}

func (x *hotel[T]) reply() *message.Message {
	x.t.Helper()
	reply, ok := <-x.replies
	require.True(x.t, ok)
	reply.Ack()
	return reply
}

// observed returns what the Observer heard next.
func (x *hotel[T]) observed() saga.Observation { return <-x.observations }

func (x *hotel[T]) counts(name string, want int) {
	x.t.Helper()
	n, err := x.Count(context.Background(), name)
	require.NoError(x.t, err)
	require.Equal(x.t, want, n, "writes of %q", name)
}

func (x *hotel[T]) isReply(reply *message.Message, outcome saga.ReplyOutcome, reason string) {
	x.t.Helper()
	require.Equal(x.t, string(outcome), reply.Metadata.Get(saga.MetaOutcome), reply.Metadata.Get(saga.MetaReason))
	if reason == "" {
		require.Empty(x.t, reply.Metadata.Get(saga.MetaReason))
	} else {
		require.Contains(x.t, reply.Metadata.Get(saga.MetaReason), reason)
	}
}

func memoryHarness(testing.TB) inboxtest.Harness[*memory.Tx] {
	var mu sync.Mutex
	writes := map[string]int{}
	add := func(name string, n int) {
		mu.Lock()
		defer mu.Unlock()
		writes[name] += n
	}
	inbox := memory.NewInbox()
	return inboxtest.Harness[*memory.Tx]{
		Inbox: inbox,
		Write: func(_ context.Context, tx *memory.Tx, name string) error {
			add(name, 1)
			tx.OnRollback(func() { add(name, -1) })
			return nil
		},
		Count: func(_ context.Context, name string) (int, error) {
			mu.Lock()
			defer mu.Unlock()
			return writes[name], nil
		},
		Reopen: func() saga.Inbox[*memory.Tx] { return inbox },
	}
}

func sqliteHarness(tb testing.TB) inboxtest.Harness[*sql.Tx] {
	path := filepath.Join(tb.TempDir(), "hotel.db")
	open := func() *sqlite.DB {
		db, err := sqlite.Open(path)
		require.NoError(tb, err)
		tb.Cleanup(func() { require.NoError(tb, db.Close()) })
		return db
	}
	db := open()
	_, err := db.Exec(`CREATE TABLE writes (name TEXT NOT NULL)`)
	require.NoError(tb, err)
	return inboxtest.Harness[*sql.Tx]{
		Inbox: sqlite.NewInbox(db),
		Write: func(ctx context.Context, tx *sql.Tx, name string) error {
			_, err := tx.ExecContext(ctx, `INSERT INTO writes (name) VALUES (?)`, name)
			return err
		},
		Count: func(ctx context.Context, name string) (n int, err error) {
			err = db.QueryRowContext(ctx, `SELECT count(*) FROM writes WHERE name = ?`, name).Scan(&n)
			return n, err
		},
		Reopen: func() saga.Inbox[*sql.Tx] { return sqlite.NewInbox(open()) },
	}
}
