package saga

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
)

// What comes in over the broker: replies, and events. A message is acked when what it says is committed, or when it is
// recorded as a dead letter; it is never nacked, for that would block the topic or spin.

// subscribe opens the subscribers, and starts a goroutine for each, which closes it when ctx is done. Wait waits for them.
func (o *Orchestrator) subscribe(ctx context.Context) (wait func() error, err error) {
	handlers := map[string]func(context.Context, *message.Message){}
	for _, p := range o.plans {
		for topic := range p.replies(o.replyTopic()) {
			handlers[topic] = func(ctx context.Context, msg *message.Message) { o.handleReply(ctx, topic, msg) }
		}
	}
	for _, src := range o.config.Events {
		route := src.Route
		if route == nil {
			route = RouteMetadata
		}
		reply := handlers[src.Topic] // nil: only events come there
		handlers[src.Topic] = func(ctx context.Context, msg *message.Message) {
			if reply != nil && msg.Metadata.Get(MetaOutcome) != "" {
				reply(ctx, msg)
				return
			}
			o.handleEvent(ctx, src.Topic, route, msg)
		}
	}
	subscriptions, err := subscribeAll(ctx, o.config.Transport.Subscriber, o.config.Name, slices.Sorted(maps.Keys(handlers)), o.config.Subscribers,
		func(ctx context.Context, err error) { o.failing(ctx, "subscription", err) })
	var wg sync.WaitGroup
	faults := make([]error, len(subscriptions))
	for i, s := range subscriptions {
		wg.Go(func() {
			s.run(ctx, nil, handlers[s.params.Topic])
			faults[i] = s.close() // also one that has been opened again meanwhile
		})
	}
	return func() error {
		wg.Wait()
		return errors.Join(faults...)
	}, err
}

// handleReply gives a participant's reply to its instance.
func (o *Orchestrator) handleReply(ctx context.Context, topic string, msg *message.Message) {
	id, out, ok := outcomeOf(msg)
	definition := msg.Metadata.Get(MetaDefinition)
	switch {
	case topic != o.replyTopic() && o.latest(definition) == nil: // the topic has other messages as well
		o.observe(ctx, Observation{What: ObserveInput, Definition: definition, Outcome: string(Ignored), Reason: ErrNotForUs.Error()})
		msg.Ack()
		return
	case !ok:
		o.bury(ctx, topic, msg, "not a reply: its metadata is incomplete")
		return
	case len(msg.Payload) > o.config.MaxPayload:
		o.bury(ctx, topic, msg, fmt.Sprintf("the payload has %d bytes, more than the %d allowed", len(msg.Payload), o.config.MaxPayload))
		return
	}
	o.observe(ctx, Observation{
		What: ObserveReply, Definition: definition, Instance: id, Step: out.Step, Undo: out.Undo, Attempt: out.Attempt,
		Outcome: string(out.Kind), Reason: out.Reason,
	})
	out.Reason = shorten(out.Reason)
	if out.Kind != outcomeSucceeded {
		o.logger.Info("Step did not succeed", watermill.LogFields{
			"definition": definition, "instance": id, "key": msg.Metadata.Get(MetaKey), "step": effectName(out.Step, out.Undo, 1), "attempt": out.Attempt,
			"outcome": string(out.Kind), "reason": out.Reason,
		})
	}
	o.receive(ctx, topic, msg, &job{id: id, in: input{outcome: &out}})
}

// handleEvent gives an event to its instance.
func (o *Orchestrator) handleEvent(ctx context.Context, topic string, route func(*message.Message) (RoutedEvent, error), msg *message.Message) {
	ev, err := routed(route, msg)
	if errors.Is(err, ErrNotForUs) {
		o.observe(ctx, Observation{What: ObserveInput, Event: ev.Event, Outcome: string(Ignored), Reason: err.Error()})
		msg.Ack()
		return
	}
	if err == nil && ev.Instance == "" && o.latest(ev.Definition) == nil {
		err = fmt.Errorf("%w: %q", ErrUnknownDefinition, ev.Definition)
	}
	if err == nil {
		err = o.checkEvent(ev)
	}
	if err != nil {
		o.bury(ctx, topic, msg, err.Error())
		return
	}
	id := ev.Instance
	if id == "" {
		if id, err = o.resolve(ctx, ev); err != nil {
			if errors.Is(err, ErrNotFound) {
				o.bury(ctx, topic, msg, err.Error())
			}
			return
		}
	}
	trace := map[string]string{}
	for _, k := range traceKeys {
		if v := msg.Metadata.Get(k); v != "" {
			trace[k] = v
		}
	}
	o.receive(ctx, topic, msg, &job{
		id: id, definition: ev.Definition, input: inputIdentity(ev.Source, ev.ID),
		in: input{event: &waiting{Event: ev.Event, Source: ev.Source, ID: ev.ID, Payload: ev.Payload}, trace: trace},
	})
}

// routed calls the user's function.
func routed(route func(*message.Message) (RoutedEvent, error), msg *message.Message) (ev RoutedEvent, err error) {
	defer recoverTo(&err, "Route")
	return route(msg)
}

// receive hands a message's job to the lanes, and acks when it is done. What no instance can be given is a dead letter.
func (o *Orchestrator) receive(ctx context.Context, topic string, msg *message.Message, j *job) {
	j.done = func(d jobDone) {
		switch {
		case d.err == nil && d.answer == Duplicated && j.in.event != nil:
			o.errand(func() { o.acknowledgeDuplicate(ctx, topic, msg, j, d.inst) })
		case d.err == nil:
			msg.Ack()
		case errors.Is(d.err, errAbandoned): // not acked: it is delivered again, to somebody else
		default:
			reason := d.err.Error()
			if errors.Is(d.err, ErrNotFound) && j.in.outcome != nil {
				reason += fmt.Sprintf(", the %s %q that got this reply: if another application has it, one of the two needs another Name than %q",
					msg.Metadata.Get(MetaDefinition), msg.Metadata.Get(MetaKey), o.config.Name)
			}
			o.errand(func() { o.bury(ctx, topic, msg, reason) })
		}
	}
	if err := o.submit(ctx, j); err != nil {
		return // not acked: it is delivered again, to somebody else
	}
}

// acknowledgeDuplicate acks an event that came before. Another event under its Source and ID is a dead letter.
func (o *Orchestrator) acknowledgeDuplicate(ctx context.Context, topic string, msg *message.Message, j *job, i *instance) {
	ev := j.in.event
	err := o.persist(ctx, "compare with what was recorded", func() error {
		_, err := o.duplicate(ctx, i, RoutedEvent{Event: ev.Event, Source: ev.Source, ID: ev.ID, Payload: ev.Payload})
		if errors.Is(err, ErrRefused) {
			return nil
		}
		return err
	})
	switch {
	case errors.Is(err, ErrInputConflict):
		o.bury(ctx, topic, msg, err.Error())
	case err == nil:
		msg.Ack()
	}
}

// resolve finds an instance by its business key. It tries until the store answers or ctx is done.
func (o *Orchestrator) resolve(ctx context.Context, ev RoutedEvent) (id string, err error) {
	err = o.persist(ctx, "look up", func() error {
		r, err := o.store.Lookup(ctx, ev.Definition, ev.Key)
		id = r.ID
		return err
	})
	if errors.Is(err, ErrNotFound) {
		err = fmt.Errorf("%w: %s %q", err, ev.Definition, ev.Key)
	}
	return id, err
}

// maxLetterID is how many bytes of topic and message ID a database can surely have in an index.
const maxLetterID = 512

// bury records a message that no instance can be given, and acks it.
func (o *Orchestrator) bury(ctx context.Context, topic string, msg *message.Message, reason string) {
	id := topic + "/" + msg.UUID
	switch {
	case msg.UUID == "": // of a producer that knows nothing of Watermill: what it says has to tell it apart
		id += fmt.Sprintf("%x", sha256.Sum256(fmt.Appendf(nil, "%q %q", msg.Metadata, msg.Payload)))
	case !storable(id, maxLetterID):
		id = shorten(topic) + "/" + fmt.Sprintf("%x", sha256.Sum256([]byte(id)))
	}
	letter := DeadLetter{ID: storableText(id), Topic: topic, Reason: shorten(reason), Metadata: map[string]string{}, Payload: msg.Payload}
	for k, v := range msg.Metadata {
		letter.Metadata[storableText(k)] = storableText(v)
	}
	if len(letter.Payload) > o.config.MaxPayload {
		letter.Payload = letter.Payload[:o.config.MaxPayload]
	}
	if err := o.persist(ctx, "bury", func() error { return o.store.Bury(ctx, letter) }); err != nil {
		return // not acked
	}
	o.logger.Error("Message kept as a dead letter", errors.New(letter.Reason), watermill.LogFields{
		"topic": letter.Topic, "id": letter.ID, "instance": letter.Metadata[MetaInstance],
	})
	o.observe(ctx, Observation{
		What: ObserveDeadLetter, Definition: msg.Metadata.Get(MetaDefinition), Instance: msg.Metadata.Get(MetaInstance), Outcome: topic, Reason: reason,
	})
	msg.Ack()
}

// persist repeats what the store has to do for a message, until it is done, it makes no sense, or ctx is done.
func (o *Orchestrator) persist(ctx context.Context, what string, do func() error) error {
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		err := do()
		if err == nil || errors.Is(err, ErrNotFound) || errors.Is(err, ErrInputConflict) {
			o.works(what)
			return err
		}
		o.away(ctx, what, err)
		select {
		case <-time.After(wait):
		case <-o.closing:
			return ErrClosed
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
