package saga_test

import (
	"bytes"
	"context"
	"encoding/gob"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/gochannel"
	"github.com/sagamill/sagamill/adapters/memory"
	"github.com/sagamill/sagamill/saga"
)

// gobs is a codec whose bytes are no text, nor the same as JSON's anywhere.
type gobs struct{}

func (gobs) Marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	err := gob.NewEncoder(&b).Encode(v)
	return b.Bytes(), err
}

func (gobs) Unmarshal(b []byte, v any) error { return gob.NewDecoder(bytes.NewReader(b)).Decode(v) }

// tagged carries one value of its own from contexts into messages' metadata and back.
type tagged struct{}

type tagKey struct{}

func (tagged) Inject(ctx context.Context, carrier map[string]string) {
	if tag, ok := ctx.Value(tagKey{}).(string); ok {
		carrier["x-tag"] = tag
	}
}

func (tagged) Extract(ctx context.Context, carrier map[string]string) context.Context {
	return context.WithValue(ctx, tagKey{}, carrier["x-tag"])
}

// Data, events, results, commands and replies go through the user's own codec, trace context through the user's own propagator.
func TestCodecAndPropagatorOfTheUsersOwn(t *testing.T) {
	t.Parallel()
	broker := gochannel.New(gochannel.Config{}, nil)
	defer func() { require.NoError(t, broker.Close()) }()
	var mu sync.Mutex
	var tags []string
	seen := func(ctx context.Context) {
		mu.Lock()
		defer mu.Unlock()
		tag, _ := ctx.Value(tagKey{}).(string)
		tags = append(tags, tag)
	}
	command := saga.Command[payment, payment]{Name: "double", Topic: "doubling"}
	p, err := saga.NewParticipant(memory.NewInbox(), saga.ParticipantConfig{
		Name: "doubler", Transport: broker.Transport(), Codec: gobs{}, Propagator: tagged{},
	}, nil)
	require.NoError(t, err)
	require.NoError(t, saga.Handle(p, command, func(ctx context.Context, _ *memory.Tx, c payment) (payment, error) {
		seen(ctx)
		return payment{Amount: 2 * c.Amount}, nil
	}))
	go func() { _ = p.Run(context.WithoutCancel(t.Context())) }()
	<-p.Running()
	defer func() { require.NoError(t, p.Close()) }()

	def := saga.Linear("encoded",
		saga.Call("local", func(ctx context.Context, b rigData) (payment, error) { seen(ctx); return payment{Amount: 21}, nil },
			func(b rigData, p payment) rigData {
				b.Log = append(b.Log, "local")
				b.Card = string(rune(p.Amount))
				return b
			}).NoUndo("test"),
		saga.Ask("remote", command, func(b rigData) payment { return payment{Amount: int([]rune(b.Card)[0])} },
			func(b rigData, p payment) rigData { b.Card = string(rune(p.Amount)); return b }).Pivot())
	config := rigOf(def)
	config.Transport, config.Codec, config.Propagator = broker.Transport(), gobs{}, tagged{}
	o := runRig(t, memory.NewStore(), config)
	_, err = def.Start(context.WithValue(t.Context(), tagKey{}, "seven"), o, saga.StartParams[rigData]{Key: "a"})
	require.NoError(t, err)
	s := waitSettled(t, def, o, "a")
	require.Equal(t, saga.Completed, s.State)
	require.Equal(t, rigData{Card: string(rune(42)), Log: []string{"local"}}, s.Data)
	require.Equal(t, []string{"seven", "seven"}, tags)
}
