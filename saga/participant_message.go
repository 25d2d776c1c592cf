package saga

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
)

// receive handles one message, from its metadata to its acknowledgement, which comes last.
func (p *Participant[T]) receive(work context.Context, topic string, msg *message.Message) {
	defer msg.Ack()
	started := time.Now()
	ctx := p.config.Propagator.Extract(work, msg.Metadata)
	h, handled := p.handlers[msg.Metadata.Get(MetaCommand)]
	if !handled || h.topic != topic {
		p.ignore(ctx, topic, msg)
		return
	}
	info := infoOf(msg)
	reply := p.answer(WithInfo(ctx, info), h, msg)
	p.observe(ctx, Observation{
		What: ObserveCommand, Definition: info.Definition, Instance: info.Instance, Step: info.Step, Undo: info.Undo,
		Event: h.name, Outcome: string(reply.Outcome), Reason: reply.Reason, Duration: time.Since(started),
	})
	p.reply(ctx, msg, reply)
}

// ignore is for messages that no handler is for. A command of another name is no fault: others may share the topic.
func (p *Participant[T]) ignore(ctx context.Context, topic string, msg *message.Message) {
	name := msg.Metadata.Get(MetaCommand)
	o := Observation{
		What: ObserveCommand, Definition: msg.Metadata.Get(MetaDefinition), Instance: msg.Metadata.Get(MetaInstance),
		Step: msg.Metadata.Get(MetaStep), Event: name, Outcome: "ignored",
	}
	fields := logFields(msg).Add(watermill.LogFields{"topic": topic})
	if name == "" {
		o.Reason = "message has no metadata " + MetaCommand
		p.logger.Error("Message is no command, and ignored", fmt.Errorf("%w: %s", ErrInvalid, o.Reason), fields)
	} else {
		o.Reason = "no handler for it on this topic"
		if _, told := p.unknown.LoadOrStore(name, true); !told { // once: others may share the topic
			p.logger.Info("Command is not handled here, and ignored", fields)
		}
	}
	p.observe(ctx, o)
}

// answer asks the inbox. Whatever goes wrong is a failed reply.
func (p *Participant[T]) answer(ctx context.Context, h commandHandler[T], msg *message.Message) (reply Reply) {
	failed := func(err error) Reply {
		p.logger.Error("Command failed", err, logFields(msg))
		return Reply{Outcome: ReplyFailed, Reason: shorten(err.Error())}
	}
	defer func() {
		if v := recover(); v != nil {
			reply = failed(p.panicked("inbox", v, msg))
		}
	}()
	effect, err := p.effectOf(msg)
	if err != nil {
		return failed(err)
	}
	effect.Null = effect.Undo && h.null
	ctx, cancel := context.WithTimeout(ctx, p.config.HandlerTimeout)
	defer cancel()
	reply, err = p.inbox.Handle(ctx, effect, func(ctx context.Context, tx T) (result []byte, err error) {
		defer func() {
			if v := recover(); v != nil {
				result, err = nil, p.panicked("handler of "+h.name, v, msg)
			}
		}()
		result, err = h.call(ctx, tx, msg.Payload)
		if no := (*Rejection)(nil); errors.As(err, &no) && msg.Metadata.Get(MetaRetriable) == "true" {
			return nil, fmt.Errorf("a retriable step cannot be rejected, it is tried again: %s", no.Reason)
		}
		return result, err
	})
	if err != nil {
		return failed(err)
	}
	reply.Reason = shorten(reply.Reason)
	if reply.Outcome == ReplyRejected {
		p.logger.Info("Command is rejected", logFields(msg).Add(watermill.LogFields{"reason": reply.Reason}))
	}
	return reply
}

// effectOf reads which effect the command is about.
func (p *Participant[T]) effectOf(msg *message.Message) (Effect, error) {
	id, undo := msg.Metadata.Get(MetaEffect), msg.Metadata.Get(MetaUndo)
	if id == "" {
		return Effect{}, fmt.Errorf("%w: command has no metadata %s", ErrInvalid, MetaEffect)
	}
	if undo != "" && undo != "true" {
		return Effect{}, fmt.Errorf("%w: metadata %s is %q", ErrInvalid, MetaUndo, undo)
	}
	if n := len(msg.Payload); n > p.config.MaxPayload {
		return Effect{}, fmt.Errorf("%w: the command has %d bytes, MaxPayload is %d", ErrTooLarge, n, p.config.MaxPayload)
	}
	return Effect{ID: id, Undo: undo == "true"}, nil
}

func (p *Participant[T]) panicked(in string, v any, msg *message.Message) error {
	err := &PanicError{In: in, Value: v}
	p.logger.Error("Panic", err, logFields(msg).Add(watermill.LogFields{"stack": string(debug.Stack())}))
	return err
}

// reply publishes the answer. If that fails the saga asks again, and gets what the inbox has stored.
func (p *Participant[T]) reply(ctx context.Context, command *message.Message, r Reply) {
	topic := command.Metadata.Get(MetaReplyTo)
	if topic == "" {
		p.logger.Debug("Command wants no reply", logFields(command))
		return
	}
	msg := replyMessage(command, r)
	p.config.Propagator.Inject(ctx, msg.Metadata)
	if err := p.publish(topic, msg); err != nil {
		p.fault(ctx, "Reply is lost", fmt.Errorf("saga: publish a reply to %s: %w", topic, err), logFields(command))
	}
}

func (p *Participant[T]) publish(topic string, msg *message.Message) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = p.panicked("publisher", v, msg)
		}
	}()
	return p.config.Transport.Publisher.Publish(topic, msg)
}

func (p *Participant[T]) fault(ctx context.Context, what string, err error, fields watermill.LogFields) {
	p.logger.Error(what, err, fields)
	p.observe(ctx, Observation{What: ObserveError, Reason: err.Error()})
}

func (p *Participant[T]) observe(ctx context.Context, o Observation) {
	if p.config.Observer == nil {
		return
	}
	var err error
	defer func() {
		if err != nil {
			p.logger.Error("The Observer panicked", err, nil)
		}
	}()
	defer recoverTo(&err, "Observer")
	p.config.Observer.Observe(ctx, o)
}

// infoOf reads what a command's handler works for. Numbers that are missing are zero.
func infoOf(msg *message.Message) StepInfo {
	info := StepInfo{
		Definition: msg.Metadata.Get(MetaDefinition), Instance: msg.Metadata.Get(MetaInstance), Key: msg.Metadata.Get(MetaKey),
		Step: msg.Metadata.Get(MetaStep), Undo: msg.Metadata.Get(MetaUndo) == "true",
	}
	info.Run, _ = strconv.Atoi(msg.Metadata.Get(MetaRun))
	info.Attempt, _ = strconv.Atoi(msg.Metadata.Get(MetaAttempt))
	info.EffectKey, info.ActionKey = effectKeys(msg.Metadata.Get(MetaEffect), info.Undo)
	return info
}

func logFields(msg *message.Message) watermill.LogFields {
	return watermill.LogFields{
		"message_uuid": msg.UUID, "command": msg.Metadata.Get(MetaCommand), "instance": msg.Metadata.Get(MetaInstance),
		"step": msg.Metadata.Get(MetaStep), "undo": msg.Metadata.Get(MetaUndo) == "true", "effect": msg.Metadata.Get(MetaEffect),
	}
}
