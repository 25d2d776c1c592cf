package saga_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/saga"
)

// What the tests of the orchestrator share: a store that can be watched, blocked and cut off, a world that remembers what was
// done to it, and a wire that shows what was acknowledged.

var errAway = errors.New("the store is away")

// rigStore stands between an orchestrator and its store.
type rigStore struct {
	saga.Store
	away  atomic.Bool  // every call fails, as for a process that is cut off
	calls atomic.Int64 // of any method
	// commit, if set, is called instead of Commit, and calls next for what the store does.
	commit func(transitions []saga.Transition, next func() ([]saga.Verdict, error)) ([]saga.Verdict, error)
}

func (s *rigStore) pass() error {
	s.calls.Add(1)
	if s.away.Load() {
		return errAway
	}
	return nil
}

func (s *rigStore) Commit(ctx context.Context, transitions []saga.Transition) ([]saga.Verdict, error) {
	if err := s.pass(); err != nil {
		return nil, err
	}
	next := func() ([]saga.Verdict, error) { return s.Store.Commit(ctx, transitions) }
	if s.commit != nil {
		return s.commit(transitions, next)
	}
	return next()
}

func (s *rigStore) Load(ctx context.Context, ids ...string) ([]saga.Record, error) {
	if err := s.pass(); err != nil {
		return nil, err
	}
	return s.Store.Load(ctx, ids...)
}

func (s *rigStore) Lookup(ctx context.Context, definition, key string) (saga.Record, error) {
	if err := s.pass(); err != nil {
		return saga.Record{}, err
	}
	return s.Store.Lookup(ctx, definition, key)
}

func (s *rigStore) Claim(ctx context.Context, claim saga.Claim) ([]saga.Record, time.Duration, error) {
	if err := s.pass(); err != nil {
		return nil, 0, err
	}
	return s.Store.Claim(ctx, claim)
}

func (s *rigStore) Touch(ctx context.Context, touches []saga.Touch) error {
	if err := s.pass(); err != nil {
		return err
	}
	return s.Store.Touch(ctx, touches)
}

func (s *rigStore) History(ctx context.Context, id string, after uint64, limit int) ([]saga.HistoryRecord, error) {
	if err := s.pass(); err != nil {
		return nil, err
	}
	return s.Store.History(ctx, id, after, limit)
}

func (s *rigStore) Bury(ctx context.Context, letter saga.DeadLetter) error {
	if err := s.pass(); err != nil {
		return err
	}
	return s.Store.Bury(ctx, letter)
}

// rigWorld is what steps have their effects on. It remembers each call.
type rigWorld struct {
	mu    sync.Mutex
	calls []string
	keys  map[string]int // by EffectKey
}

// do notes a step's call under its name, and under its key.
func (w *rigWorld) do(ctx context.Context) {
	info := saga.Info(ctx)
	name := info.Step
	if info.Undo {
		name += "/undo"
	}
	w.note(name)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.keys == nil {
		w.keys = map[string]int{}
	}
	w.keys[info.EffectKey]++
}

// byKey answers how often each key was used.
func (w *rigWorld) byKey() map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.keys)
}

func (w *rigWorld) note(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls = append(w.calls, what)
}

func (w *rigWorld) list() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.calls)
}

func (w *rigWorld) count(what string) (n int) {
	for _, c := range w.list() {
		if c == what {
			n++
		}
	}
	return n
}

// rigData is the data of most sagas here.
type rigData struct {
	Card string   `json:",omitempty"`
	Log  []string `json:",omitempty"`
}

func (b rigData) with(s string) rigData { b.Log = append(slices.Clone(b.Log), s); return b }

// step is a local step that notes its calls.
func (w *rigWorld) step(name string) saga.Step[rigData] {
	return saga.Do(name, func(ctx context.Context, _ rigData) error { w.do(ctx); return nil })
}

// undoable is a local step that notes its calls, and those of its compensation.
func (w *rigWorld) undoable(name string) saga.Step[rigData] {
	return w.step(name).Undo(func(ctx context.Context, _ rigData) error { w.do(ctx); return nil })
}

// runRig starts an orchestrator, and closes it in the end.
func runRig(t *testing.T, store saga.Store, config saga.OrchestratorConfig) *saga.Orchestrator {
	t.Helper()
	return runLogged(t, store, config, nil)
}

func runLogged(t *testing.T, store saga.Store, config saga.OrchestratorConfig, log watermill.LoggerAdapter) *saga.Orchestrator {
	t.Helper()
	o, err := saga.NewOrchestrator(store, config, log)
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() { ended <- o.Run(context.WithoutCancel(t.Context())) }()
	select {
	case <-o.Running():
	case err := <-ended:
		require.FailNow(t, "the orchestrator did not begin", "%v", err)
	}
	t.Cleanup(func() {
		require.NoError(t, o.Close())
		require.NoError(t, <-ended)
	})
	return o
}

func rigOf(definitions ...saga.AnyDefinition) saga.OrchestratorConfig {
	return saga.OrchestratorConfig{Name: "sagamill", Definitions: definitions}
}

// startSaga starts a saga.
func startSaga[S, E ~string](t *testing.T, d *saga.Definition[S, E, rigData], o *saga.Orchestrator, key string, data rigData) saga.Started[S, rigData] {
	t.Helper()
	s, err := d.Start(t.Context(), o, saga.StartParams[rigData]{Key: key, Data: data})
	require.NoError(t, err)
	return s
}

// waitSettled waits for the end of a saga, and checks that its history has no gaps.
func waitSettled[S, E ~string](t *testing.T, d *saga.Definition[S, E, rigData], o *saga.Orchestrator, key string) saga.Snapshot[S, rigData] {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	s, err := d.Wait(ctx, o, key)
	require.NoError(t, err)
	requireGapless(t, o, s.Instance)
	return s
}

func requireGapless(t *testing.T, o *saga.Orchestrator, i saga.Instance) []saga.Entry {
	t.Helper()
	entries, err := o.History(t.Context(), i.ID, 0, 0)
	require.NoError(t, err)
	require.Len(t, entries, int(i.Revision))
	state := ""
	for k, e := range entries {
		require.Equal(t, uint64(k+1), e.Revision)
		for _, m := range e.Moves {
			if state != "" {
				require.Equal(t, state, m.From, "the history is a path")
			}
			state = m.To
		}
	}
	if state != "" {
		require.Equal(t, i.State, state)
	}
	return entries
}

// statuses lists the ledger.
func statuses(i saga.Instance) []string {
	var all []string
	for _, e := range i.Steps {
		all = append(all, e.Step+" "+string(e.Status))
	}
	return all
}

// rigWatcher is an Observer that remembers.
type rigWatcher struct {
	mu  sync.Mutex
	all []saga.Observation
}

func (w *rigWatcher) Observe(_ context.Context, o saga.Observation) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, o)
}

// of returns the observations of a kind.
func (w *rigWatcher) of(what saga.What) (found []saga.Observation) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, o := range w.all {
		if o.What == what {
			found = append(found, o)
		}
	}
	return found
}

// rigWire is a transport whose messages the test sends and takes by hand. A subscriber has one message in flight.
type rigWire struct {
	mu      sync.Mutex
	topics  map[string]chan *message.Message
	sent    map[string][]*message.Message
	publish func(topic string, msgs []*message.Message) error // nil: always good
}

func newRigWire() *rigWire {
	return &rigWire{topics: map[string]chan *message.Message{}, sent: map[string][]*message.Message{}}
}

func (w *rigWire) transport() saga.Transport {
	return saga.Transport{
		Publisher:  w,
		Subscriber: func(saga.SubscriberParams) (message.Subscriber, error) { return w, nil },
	}
}

func (w *rigWire) Publish(topic string, msgs ...*message.Message) error {
	if w.publish != nil {
		if err := w.publish(topic, msgs); err != nil {
			return err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sent[topic] = append(w.sent[topic], msgs...)
	return nil
}

func (w *rigWire) topic(name string) chan *message.Message {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.topics[name] == nil {
		w.topics[name] = make(chan *message.Message, 100)
	}
	return w.topics[name]
}

func (w *rigWire) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	in, out := w.topic(topic), make(chan *message.Message)
	go func() {
		defer close(out)
		for {
			select {
			case msg := <-in:
				select {
				case out <- msg:
				case <-ctx.Done():
					return
				}
				select {
				case <-msg.Acked():
				case <-ctx.Done():
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return out, nil
}

func (w *rigWire) Close() error { return nil }

// published lists what was published on a topic.
func (w *rigWire) published(topic string) []*message.Message {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.sent[topic])
}

// send puts a message in the line of a topic.
func (w *rigWire) send(topic, payload string, metadata ...string) *message.Message {
	msg := message.NewMessage(watermill.NewUUID(), []byte(payload))
	for k := 0; k < len(metadata); k += 2 {
		msg.Metadata.Set(metadata[k], metadata[k+1])
	}
	w.topic(topic) <- msg
	return msg
}

// reply answers a command as its participant.
func (w *rigWire) reply(command *message.Message, outcome, payload string) *message.Message {
	meta := []string{saga.MetaOutcome, outcome}
	for k, v := range command.Metadata {
		meta = append(meta, k, v)
	}
	return w.send("sagamill.replies", payload, meta...)
}

func isAcked(msg *message.Message) bool {
	select {
	case <-msg.Acked():
		return true
	default:
		return false
	}
}
