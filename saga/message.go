package saga

import (
	"strconv"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
)

// Transport is how messages leave and come in: a Watermill publisher, and a way to open as many Watermill subscribers as are
// wanted. The adapters make Transports with safe settings; any Pub/Sub of Watermill's will do that delivers at least once.
type Transport struct {
	Publisher  message.Publisher
	Subscriber SubscriberConstructor
}

// SubscriberConstructor opens one subscriber. Most brokers give a subscriber one message at a time, so several are opened
// for a topic.
type SubscriberConstructor func(SubscriberParams) (message.Subscriber, error)

// SubscriberParams says what a subscriber is for.
type SubscriberParams struct {
	Topic  string
	Group  string // each message of the topic goes to one subscriber of each group
	Number int    // which one of the group's subscribers in this process, from 0
}

// Metadata of messages. The keys are lower case, as some brokers want them.
const (
	MetaDefinition = "saga_definition" // name of the definition
	MetaInstance   = "saga_instance"   // ID of the instance
	MetaKey        = "saga_key"        // business key of the instance
	MetaStep       = "saga_step"       // name of the step
	MetaRun        = "saga_run"        // run of the step
	MetaAttempt    = "saga_attempt"    // attempt, from 1
	MetaUndo       = "saga_undo"       // "true" for a compensation
	MetaRetriable  = "saga_retriable"  // "true" for the action of a retriable step: a "no" is a failure, as of a compensation
	MetaEffect     = "saga_effect"     // identity of the effect: the same for every attempt, and for action and compensation
	MetaCommand    = "saga_command"    // name of the command
	MetaReplyTo    = "saga_reply_to"   // topic for the reply
	MetaOutcome    = "saga_outcome"    // of a reply: succeeded, rejected or failed
	MetaReason     = "saga_reason"     // of a reply: why it was rejected or failed
	MetaEvent      = "saga_event"      // name of an event
	MetaSource     = "saga_source"     // of an event: who produced it
	MetaInputID    = "saga_input_id"   // of an event: the producer's own ID for it
	MetaRevision   = "saga_revision"   // of an event that a saga emits: the instance's revision; consumers drop older ones

	metaCorrelation = "correlation_id" // Watermill's convention: the instance
)

// commandMessage makes the message that carries a command, or an event that a saga emits.
func commandMessage(i *instance, e effect, replyTo string) *message.Message {
	m := e.message
	msg := message.NewMessage(watermill.NewUUID(), m.Payload)
	for k, v := range i.Trace {
		msg.Metadata.Set(k, v)
	}
	msg.Metadata.Set(MetaDefinition, i.definition)
	msg.Metadata.Set(MetaInstance, i.id)
	msg.Metadata.Set(MetaKey, i.key)
	msg.Metadata.Set(MetaEffect, m.ID)
	msg.Metadata.Set(metaCorrelation, i.id)
	if m.Oneway {
		msg.Metadata.Set(MetaEvent, m.Name)
		msg.Metadata.Set(MetaSource, i.definition)
		msg.Metadata.Set(MetaInputID, m.ID)
		msg.Metadata.Set(MetaRevision, strconv.FormatUint(m.Version, 10))
		return msg
	}
	msg.Metadata.Set(MetaCommand, m.Name)
	msg.Metadata.Set(MetaStep, m.Step)
	msg.Metadata.Set(MetaRun, strconv.Itoa(m.Run))
	msg.Metadata.Set(MetaAttempt, strconv.Itoa(e.attempt))
	msg.Metadata.Set(MetaReplyTo, replyTo)
	if m.Undo {
		msg.Metadata.Set(MetaUndo, "true")
	}
	if m.Retriable {
		msg.Metadata.Set(MetaRetriable, "true")
	}
	return msg
}

// replyMessage makes the answer to a command: everything that tells the effect is given back as it came.
func replyMessage(command *message.Message, r Reply) *message.Message {
	msg := message.NewMessage(watermill.NewUUID(), r.Payload)
	for _, key := range append([]string{
		MetaDefinition, MetaInstance, MetaKey, MetaStep, MetaRun, MetaAttempt, MetaUndo, MetaEffect, MetaCommand, metaCorrelation,
	}, traceKeys...) {
		if v := command.Metadata.Get(key); v != "" {
			msg.Metadata.Set(key, v)
		}
	}
	msg.Metadata.Set(MetaOutcome, string(r.Outcome))
	if r.Reason != "" {
		msg.Metadata.Set(MetaReason, r.Reason)
	}
	return msg
}

// outcomeOf reads a reply. It answers false if the message is not one.
func outcomeOf(msg *message.Message) (instance string, o outcome, ok bool) {
	run, err1 := strconv.Atoi(msg.Metadata.Get(MetaRun))
	attempt, err2 := strconv.Atoi(msg.Metadata.Get(MetaAttempt))
	o = outcome{
		Step: msg.Metadata.Get(MetaStep), Run: run, Attempt: attempt, Undo: msg.Metadata.Get(MetaUndo) == "true",
		Kind: outcomeKind(msg.Metadata.Get(MetaOutcome)), Reason: msg.Metadata.Get(MetaReason), Result: msg.Payload,
	}
	instance = msg.Metadata.Get(MetaInstance)
	known := o.Kind == outcomeSucceeded || o.Kind == outcomeRejected || o.Kind == outcomeFailed
	return instance, o, err1 == nil && err2 == nil && known && instance != "" && o.Step != ""
}
