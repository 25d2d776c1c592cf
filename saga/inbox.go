package saga

import "context"

// Inbox is a participant's barrier: it keeps, in the participant's own database, which commands were handled and what was
// replied. T is the transaction that handlers work in, for example *sql.Tx.
//
// A command's effect is named by its Effect. The rules, which follow DTM's sub-transaction barrier (X. Ye: Solutions to
// Duplicate, Null Compensation and Hanging in Distributed Transactions, 2021) and keep the replies besides:
//
//  1. An effect is applied at most once: the handler's writes and the record commit in one transaction. A duplicate is
//     answered with the stored reply, and the handler does not run.
//  2. A compensation whose action never came (or was rejected) succeeds without the handler having run (unless the action never
//     came and the effect says Null: then it runs), and
//  3. the action that comes after it is rejected without the handler having run.
//  4. A handler that rejects leaves nothing but the record of its rejection. One that fails otherwise leaves nothing at all,
//     and Handle returns its error. A compensation cannot be rejected: that is a failure.
//  5. Of two calls for one effect at the same time, one waits for the other, or fails and may be tried again.
type Inbox[T any] interface {
	Handle(ctx context.Context, effect Effect, handle func(ctx context.Context, tx T) (result []byte, err error)) (Reply, error)
}

// Effect names what a command does.
type Effect struct {
	ID   string // identity of the step's effect: the same for the action, its compensation and every attempt
	Undo bool   // whether this is the compensation
	Null bool   // of a compensation: its handler runs also if the action never came, see NullCompensation
}

// Reply is a participant's answer to a command.
type Reply struct {
	Outcome ReplyOutcome
	Reason  string // of a rejection or failure
	Payload []byte // of a success
}

// ReplyOutcome is the kind of a Reply.
type ReplyOutcome string

const (
	ReplySucceeded ReplyOutcome = "succeeded"
	ReplyRejected  ReplyOutcome = "rejected" // no, for good: nothing was done
	ReplyFailed    ReplyOutcome = "failed"   // nothing was done; try again
)
