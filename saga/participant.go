package saga

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/ThreeDotsLabs/watermill"
)

// Participant is a service's side of sagas: it takes commands from the broker, runs the handler that is registered for each
// behind the service's [Inbox], and publishes the reply. T is the transaction that handlers work in.
//
//	p, err := saga.NewParticipant(sqlite.NewInbox(db), saga.ParticipantConfig{Name: "hotel", Transport: transport}, logger)
//	err = saga.Handle(p, BookRoom, func(ctx context.Context, tx *sql.Tx, c Booking) (Booked, error) { ... })
//	err = p.Run(ctx)
//
// What it promises rests on the inbox: an effect is applied at most once, and a command that comes again is answered with the
// reply that was stored. So each message is acknowledged when it was handled, whatever came of it, and never negatively,
// which would block the topic or spin: a saga that gets no reply, or a failed one, sends its command again.
type Participant[T any] struct {
	inbox  Inbox[T]
	config ParticipantConfig
	logger watermill.LoggerAdapter

	mu       sync.Mutex // guards handlers until Run has begun; then they are only read
	begun    bool
	handlers map[string]commandHandler[T]

	unknown sync.Map // names of commands that are not handled here, and were logged

	running   chan struct{}
	closing   chan struct{}
	closed    chan struct{} // Run has returned, or will never begin
	closeOnce sync.Once
	err       error // what Run returned; read it after closed
}

// commandHandler is a typed handler without its types.
type commandHandler[T any] struct {
	name, topic string
	null        bool // see NullCompensation
	call        func(ctx context.Context, tx T, command []byte) (result []byte, err error)
}

// NewParticipant makes a participant on an inbox. It returns everything that is wrong with the configuration, joined. A nil
// logger means no logging.
func NewParticipant[T any](inbox Inbox[T], config ParticipantConfig, logger watermill.LoggerAdapter) (*Participant[T], error) {
	err := config.Validate()
	if inbox == nil {
		err = errors.Join(fmt.Errorf("%w: the inbox is nil", ErrInvalid), err)
	}
	if err != nil {
		return nil, err
	}
	if logger == nil {
		logger = watermill.NopLogger{}
	}
	return &Participant[T]{
		inbox: inbox, config: config.withDefaults(), logger: logger.With(watermill.LogFields{"participant": config.Name}),
		handlers: map[string]commandHandler[T]{},
		running:  make(chan struct{}), closing: make(chan struct{}), closed: make(chan struct{}),
	}, nil
}

// HandlerOption changes how a command is handled.
type HandlerOption uint8

// NullCompensation lets the handler of a compensation run also when the inbox knows nothing of the action. It is for actions
// that have effects outside of the participant's database, with a payment gateway say: one whose transaction was rolled back
// after the gateway had answered has left nothing in the inbox, and money at the gateway. The handler finds by the
// ActionKey of [Info] what is to be undone, and must bear that it is nothing. ("Null compensation" is what X. Ye calls a
// compensation whose action never came, see [Inbox].)
//
// It is of no help to an action that says no at last: a step that was rejected is not undone at all. See [Handle].
const NullCompensation HandlerOption = 1

// Handle registers the handler of a command, before Run. The handler answers
//
//   - nil: it succeeded, and what it wrote in tx is committed with the reply;
//   - an error made by [Reject]: the answer is no, for good, and nothing that it wrote in tx stays. A compensation, and the
//     action of a retriable step, cannot say no: that counts as a failure;
//   - any other error, or a panic: it failed, nothing stays, and the saga asks again.
//
// It may run more than once for a command, but what it does in tx takes effect once. Whatever it asks of systems outside
// should go under the stable key that [Info] gives; see [NullCompensation]. Its context ends with HandlerTimeout.
//
// A no is believed: the step counts as never done, and its compensation is not sent. That is right of what was done in tx. But an
// earlier attempt that was rolled back may have left something outside, which the inbox knows nothing of. So a handler that asks
// systems outside should say no only
//
//   - before it asks them, for a reason that every attempt finds again, such as what stands in the command itself; or
//   - because they say no, under the stable key: then they have said so to every attempt; or
//   - after it has taken back outside what an earlier attempt may have done there, by the ActionKey.
//
// Where none of these can be had let it answer any other error instead: when the attempts are spent nobody knows what became of the
// step, and so it is undone. The compensation then needs [NullCompensation]. (A local step has no barrier: one that says no
// after an attempt in doubt is undone in any case.)
func Handle[T, C, R any](p *Participant[T], command Command[C, R], handler func(ctx context.Context, tx T, command C) (R, error), options ...HandlerOption) error {
	if command.Name == "" || command.Topic == "" || handler == nil {
		return fmt.Errorf("%w: to handle a command takes its name (%q), its topic (%q) and a handler", ErrInvalid, command.Name, command.Topic)
	}
	for _, what := range command.carries() {
		if lost := what.losses(); len(lost) > 0 {
			return fmt.Errorf("%w: to handle the command %s: %s", ErrInvalid, command.Name, strings.Join(lost, "; "))
		}
	}
	h := commandHandler[T]{name: command.Name, topic: command.Topic, null: slices.Contains(options, NullCompensation)}
	codec, limit := p.config.Codec, p.config.MaxPayload
	h.call = func(ctx context.Context, tx T, payload []byte) ([]byte, error) {
		c, err := decodeAs[C](codec, payload)
		if err != nil {
			return nil, err
		}
		r, err := handler(ctx, tx, c)
		if err != nil {
			return nil, err
		}
		result, err := codec.Marshal(r)
		if err != nil {
			return nil, fmt.Errorf("saga: encode %T: %w", r, err)
		}
		if len(result) > limit {
			return nil, fmt.Errorf("%w: the reply has %d bytes, MaxPayload is %d", ErrTooLarge, len(result), limit)
		}
		return result, nil
	}
	return p.register(h)
}

func (p *Participant[T]) register(h commandHandler[T]) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.begun {
		return fmt.Errorf("%w: the handler of %q must be registered before Run", ErrInvalid, h.name)
	}
	if _, taken := p.handlers[h.name]; taken {
		return fmt.Errorf("%w: %q has a handler already", ErrInvalid, h.name)
	}
	p.handlers[h.name] = h
	return nil
}

// begin closes the registration and returns the topics of all commands.
func (p *Participant[T]) begin() ([]string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.begun {
		return nil, fmt.Errorf("%w: Run may be called once", ErrInvalid)
	}
	if len(p.handlers) == 0 {
		return nil, fmt.Errorf("%w: participant %s has no handlers", ErrInvalid, p.config.Name)
	}
	p.begun = true
	var topics []string
	for _, h := range p.handlers {
		topics = append(topics, h.topic)
	}
	slices.Sort(topics)
	return slices.Compact(topics), nil
}
