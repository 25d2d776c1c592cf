// Package barrier holds the rules of [saga.Inbox] that do not depend on the database: what is answered from the records of
// an effect, and what is written. The adapters look up and write, in one transaction.
package barrier

import (
	"errors"
	"fmt"
	"strings"

	"github.com/sagamill/sagamill/saga"
)

// Overtaken is the reason of the rejection that an action gets which comes after its compensation.
const Overtaken = "the action was compensated before it came"

// Records are the stored replies of an effect; nil: none.
type Records struct{ Action, Undo *saga.Reply }

// Judge answers a command from the records, if it can be, without its handler: then reply is set. If reply is nil the handler
// is to run. In both cases write holds what must be stored besides; if a handler ran, only with its success.
func Judge(effect saga.Effect, found Records) (reply *saga.Reply, write Records) {
	if !effect.Undo {
		return found.Action, Records{}
	}
	if found.Undo != nil {
		return found.Undo, Records{}
	}
	if found.Action != nil && found.Action.Outcome == saga.ReplySucceeded {
		return nil, Records{}
	}
	if found.Action == nil {
		write.Action = &saga.Reply{Outcome: saga.ReplyRejected, Reason: Overtaken}
		if effect.Null {
			return nil, write
		}
	}
	write.Undo = &saga.Reply{Outcome: saga.ReplySucceeded}
	return write.Undo, write
}

// maxReason is how many bytes of a rejection's reason are kept.
const maxReason = 1024

// text is what every database takes for a reason: it may tell what came from outside.
func text(reason string) string {
	if len(reason) > maxReason {
		reason = reason[:maxReason] + "..."
	}
	return strings.ReplaceAll(strings.ToValidUTF8(reason, ""), "\x00", "")
}

// Settle makes the reply to be stored of what a handler answered. An error means that nothing must be stored. When the reply
// is a rejection, what the handler wrote must be taken back first.
func Settle(undo bool, result []byte, err error) (saga.Reply, error) {
	if err == nil {
		return saga.Reply{Outcome: saga.ReplySucceeded, Payload: result}, nil
	}
	var rejection *saga.Rejection
	if !errors.As(err, &rejection) {
		return saga.Reply{}, err
	}
	if undo {
		return saga.Reply{}, fmt.Errorf("a compensation cannot be rejected: %w", err)
	}
	return saga.Reply{Outcome: saga.ReplyRejected, Reason: text(rejection.Reason)}, nil
}
