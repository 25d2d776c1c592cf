package saga_test

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/gochannel"
	"github.com/sagamill/sagamill/adapters/memory"
	"github.com/sagamill/sagamill/saga"
)

// I2: a committed effect happens at least once.

func packSaga() *saga.LinearDefinition[rigData] {
	return saga.Linear("packing",
		saga.Ask("pack", packCmd, func(rigData) string { return "box" }, rigData.with).NoUndo("test"),
		saga.Emit("announce", "orders", "Packed", func(b rigData) rigData { return b }).NoUndo("test"))
}

func TestCommandWhosePublishFailsIsSentAgain(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func() error{
		"error": func() error { return errors.New("the broker is away") },
		"panic": func() error { panic("publisher") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				broker := gochannel.New(gochannel.Config{}, nil)
				defer func() { require.NoError(t, broker.Close()) }()
				transport := broker.Transport()
				handled := &rigWorld{}
				p, err := saga.NewParticipant(memory.NewInbox(), saga.ParticipantConfig{Name: "packers", Transport: transport}, nil)
				require.NoError(t, err)
				require.NoError(t, saga.Handle(p, packCmd, func(ctx context.Context, _ *memory.Tx, _ string) (string, error) {
					handled.note("attempt " + strconv.Itoa(saga.Info(ctx).Attempt))
					return "boxed", nil
				}))
				go func() { _ = p.Run(context.Background()) }()
				defer func() { require.NoError(t, p.Close()) }()
				<-p.Running()

				failures := 0
				transport.Publisher = rigPublisher{transport.Publisher, func(topic string) error {
					if topic == "packers" && failures < 3 {
						failures++
						return fail()
					}
					return nil
				}}
				def, config := packSaga(), rigOf(packSaga())
				config.Definitions = []saga.AnyDefinition{def}
				config.Transport = transport
				o := runRig(t, memory.NewStore(), config)
				began := time.Now()
				startSaga(t, def, o, "a", rigData{})
				s := waitSettled(t, def, o, "a")
				require.Equal(t, saga.Completed, s.State)
				require.Equal(t, []string{"boxed"}, s.Data.Log)
				require.Equal(t, []string{"attempt 4"}, handled.list())
				require.Greater(t, time.Since(began), 3*time.Second, "it begins after about a second, and backs off")
				require.Less(t, time.Since(began), 10*time.Second)
				require.NoError(t, o.Close())
			})
		})
	}
}

type rigPublisher struct {
	message.Publisher
	before func(topic string) error
}

func (p rigPublisher) Publish(topic string, msgs ...*message.Message) error {
	if err := p.before(topic); err != nil {
		return err
	}
	return p.Publisher.Publish(topic, msgs...)
}

func TestCommandKeepsItsIdentityHoweverOftenItIsSent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, def := newRigWire(), packSaga()
		config := rigOf(def)
		config.Transport = w.transport()
		o := runRig(t, memory.NewStore(), config)
		s := startSaga(t, def, o, "a", rigData{})
		time.Sleep(4 * time.Second)
		sent := w.published("packers")
		require.Len(t, sent, 3, "at 0, about 1 and about 3 seconds")
		uuids := map[string]bool{}
		for k, msg := range sent {
			require.Equal(t, s.ID+"/pack/1", msg.Metadata.Get(saga.MetaEffect))
			require.Equal(t, strconv.Itoa(k+1), msg.Metadata.Get(saga.MetaAttempt))
			require.Equal(t, s.ID, msg.Metadata.Get("correlation_id"))
			require.Equal(t, `"box"`, string(msg.Payload))
			uuids[msg.UUID] = true
		}
		require.Len(t, uuids, 3)
		w.reply(sent[0], "succeeded", `"boxed"`) // the answer to the first one will do
		synctest.Wait()
		w.reply(sent[1], "succeeded", `"boxed again"`)
		got := waitSettled(t, def, o, "a")
		require.Equal(t, []string{"boxed"}, got.Data.Log)
		time.Sleep(time.Minute)
		require.Len(t, w.published("packers"), 3)
	})
}

func TestEventIsPublishedUntilACommitRecordsIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, def, db := newRigWire(), packSaga(), memory.NewStore()
		config := rigOf(def)
		config.Transport = w.transport()
		first, store := crashing(t, db, config)
		w.publish = func(topic string, msgs []*message.Message) error {
			if topic == "orders" {
				crash(store) // that the broker has it is not recorded
			} else {
				w.reply(msgs[0], "succeeded", `"boxed"`)
			}
			return nil
		}
		startSaga(t, def, first, "a", rigData{})
		synctest.Wait()
		require.Len(t, w.published("orders"), 1)
		require.False(t, instanceOf(t, def, runRig(t, db, config), "a").Settled, "a settled instance has no unsent message")

		w.publish = nil
		second := runRig(t, db, config)
		s := waitSettled(t, def, second, "a")
		require.Equal(t, saga.Completed, s.State)
		time.Sleep(time.Minute)
		sent := w.published("orders")
		require.GreaterOrEqual(t, len(sent), 2)
		require.LessOrEqual(t, len(sent), 3)
		for _, msg := range sent {
			require.Equal(t, sent[0].Metadata.Get(saga.MetaInputID), msg.Metadata.Get(saga.MetaInputID), "the same event")
			require.Equal(t, "2", msg.Metadata.Get(saga.MetaRevision), "of the revision in which it happened")
			require.Equal(t, "Packed", msg.Metadata.Get(saga.MetaEvent))
			require.Equal(t, "packing", msg.Metadata.Get(saga.MetaSource))
		}
	})
}

func TestEventIsPublishedAgainWhileTheBrokerIsAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, tries := newRigWire(), 0
		def := saga.Linear("telling", (&rigWorld{}).undoable("one"), saga.Emit("tell", "orders", "Told", func(b rigData) rigData { return b }).NoUndo("test"))
		w.publish = func(string, []*message.Message) error {
			if tries++; tries <= 5 {
				return errors.New("the broker is away")
			}
			return nil
		}
		config := rigOf(def)
		config.Transport = w.transport()
		o := runRig(t, memory.NewStore(), config)
		startSaga(t, def, o, "a", rigData{})
		time.Sleep(500 * time.Millisecond)
		require.False(t, instanceOf(t, def, o, "a").Settled)
		require.Equal(t, saga.Completed, waitSettled(t, def, o, "a").State)
		require.Len(t, w.published("orders"), 1)
		require.Equal(t, 6, tries)
	})
}

// Replies come on the topic that the command names; other messages on it are none of the orchestrator's business.
func TestRepliesComeOnTheTopicThatTheCommandNames(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		wire := newRigWire()
		cmd := saga.Command[string, string]{Name: "pack", Topic: "packers", Replies: "packing-events"}
		def := saga.Linear("packing", saga.Ask("pack", cmd, func(rigData) string { return "box" }, rigData.with).NoUndo("test"))
		config := rigOf(def)
		config.Transport = wire.transport()
		o := runRig(t, memory.NewStore(), config)
		stranger := wire.send("packing-events", "not for sagas")
		startSaga(t, def, o, "a", rigData{})
		synctest.Wait()
		command := wire.published("packers")[0]
		require.Equal(t, "packing-events", command.Metadata.Get(saga.MetaReplyTo))
		meta := []string{saga.MetaOutcome, "succeeded"}
		for k, v := range command.Metadata {
			meta = append(meta, k, v)
		}
		reply := wire.send("packing-events", `"boxed"`, meta...)
		require.Equal(t, []string{"boxed"}, waitSettled(t, def, o, "a").Data.Log)
		synctest.Wait()
		require.True(t, isAcked(stranger))
		require.True(t, isAcked(reply))
		letters, err := o.DeadLetters(t.Context(), "", 0)
		require.NoError(t, err)
		require.Empty(t, letters)
	})
}

// A service may tell its events and its replies on one topic.
func TestEventsAndRepliesOnOneTopic(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		wire := newRigWire()
		def := saga.Linear("packing", saga.Ask("pack", saga.Command[string, string]{Name: "pack", Topic: "packers", Replies: "packing-events"},
			func(rigData) string { return "box" }, rigData.with).NoUndo("test"))
		config := rigOf(def)
		config.Transport, config.Events = wire.transport(), []saga.EventSource{{Topic: "packing-events"}}
		o := runRig(t, memory.NewStore(), config)
		s := startSaga(t, def, o, "a", rigData{})
		synctest.Wait()
		wire.send("packing-events", "", saga.MetaInstance, s.ID, saga.MetaEvent, string(saga.Cancel), saga.MetaSource, "test", saga.MetaInputID, "1")
		synctest.Wait()
		meta := []string{saga.MetaOutcome, "succeeded"}
		for k, v := range wire.published("packers")[0].Metadata {
			meta = append(meta, k, v)
		}
		wire.send("packing-events", `"boxed"`, meta...)
		end := waitSettled(t, def, o, "a")
		require.Equal(t, saga.Cancelled, end.State)
		require.Equal(t, []string{"boxed"}, end.Data.Log)
	})
}

// A topic whose Publish hangs does not hold up the others.
func TestTopicThatHangsHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		wire, hang := newRigWire(), make(chan struct{})
		wire.publish = func(topic string, _ []*message.Message) error {
			if topic == "news" {
				<-hang
			}
			return nil
		}
		def := saga.Linear("telling",
			saga.Emit("tell", "news", "TOLD", func(rigData) int { return 1 }).NoUndo("test"),
			saga.Ask("pack", packCmd, func(rigData) string { return "box" }, rigData.with).NoUndo("test"))
		config := rigOf(def)
		config.Transport = wire.transport()
		o := runRig(t, memory.NewStore(), config)
		for n := range 20 {
			startSaga(t, def, o, strconv.Itoa(n), rigData{})
			synctest.Wait() // each in a batch of its own
		}
		require.Len(t, wire.published("packers"), 20)
		close(hang)
	})
}

// Participants that are busy are not made busier: once it is seen how long replies take, commands are not sent again before they may be
// expected. When replies are quick again, what is lost is noticed within a second as before.
func TestCommandsAreNotSentAgainBeforeTheirRepliesMayBeExpected(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, def := newRigWire(), packSaga()
		config := rigOf(def)
		config.Transport = w.transport()
		o := runRig(t, memory.NewStore(), config)
		answered := 0
		// pack starts a saga, answers the first attempt of its command after that time, and tells how often the command was sent.
		pack := func(after time.Duration) int {
			key := strconv.Itoa(answered)
			startSaga(t, def, o, key, rigData{})
			time.Sleep(after)
			sent := w.published("packers")[answered:]
			w.reply(sent[0], "succeeded", `"boxed"`)
			waitSettled(t, def, o, key)
			answered += len(sent)
			return len(sent)
		}
		require.Equal(t, 3, pack(3500*time.Millisecond), "at 0, about 1 and about 3 seconds")
		for range 10 {
			require.Equal(t, 1, pack(3500*time.Millisecond))
		}
		for range 30 {
			pack(10 * time.Millisecond)
		}
		require.Equal(t, 2, pack(1500*time.Millisecond))
	})
}
