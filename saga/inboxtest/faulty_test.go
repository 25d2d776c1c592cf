package inboxtest

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/sagamill/sagamill/saga"
)

// fault is one way in which a faulty inbox is broken; zero: none.
type fault string

const (
	markBefore           fault = "marks before the handler"
	replyNotStored       fault = "reply not stored"
	noRecord             fault = "no record at all"
	checkAfter           fault = "duplicate checked after the handler"
	noNullCompensation   fault = "no null compensation"
	noHanging            fault = "null compensation leaves no record for the action"
	nullNeverRuns        fault = "handler of a null compensation never runs"
	nullOfRejectedRuns   fault = "handler runs though its action was rejected"
	nullMarksBefore      fault = "null compensation refuses the action before its handler ran"
	nullLeavesNoRecord   fault = "null compensation with a handler leaves no record for the action"
	undoForgotten        fault = "no record of compensations"
	undoForgetsAction    fault = "compensation deletes its action's record"
	undoRejects          fault = "compensation's rejection is stored"
	undoFailureIsStored  fault = "compensation's failure is stored"
	rejectionNotStored   fault = "rejection not stored"
	rejectionKeepsWrites fault = "rejection keeps the writes"
	rejectionNotUnwraped fault = "rejection not found through wrapping"
	oddReasonFails       fault = "rejection whose reason is no UTF-8 fails"
	failureKeepsWrites   fault = "failure keeps the writes"
	panicKeepsWrites     fault = "panic keeps the writes"
	panicIsSwallowed     fault = "panic is a success"
	looseIdentity        fault = "identities compared without case and spaces"
	undoBySuffix         fault = "compensations told apart by a suffix"
	oneForAll            fault = "one record for all effects"
	unguarded            fault = "looks, and later writes"
	unguardedUndo        fault = "action and compensation do not wait for each other"
	aliased              fault = "stores the caller's bytes"
	ownContext           fault = "handler gets a context of its own"
	deafToContext        fault = "context not looked at"
	commitsWhenCancelled fault = "commits, and says that it was cancelled"
	forgetsOnReopen      fault = "records do not survive"
)

// faulty is an inbox in memory, good but for its fault.
type faulty struct {
	fault fault

	handling chan struct{} // one handler at a time; a bubble's time would stand still while one waits for a mutex
	mu       sync.Mutex    // guards the rest
	records  map[saga.Effect]saga.Reply
	writes   map[string]int
}

type tx struct{ writes []string }

func newFaulty(f fault) *faulty {
	return &faulty{fault: f, handling: make(chan struct{}, 1), records: map[saga.Effect]saga.Reply{}, writes: map[string]int{}}
}

func (f *faulty) is(fault fault) bool { return f.fault == fault }

func (f *faulty) harness() Harness[*tx] {
	return Harness[*tx]{
		Inbox: f,
		Write: func(_ context.Context, tx *tx, name string) error { tx.writes = append(tx.writes, name); return nil },
		Count: func(_ context.Context, name string) (int, error) {
			f.mu.Lock()
			defer f.mu.Unlock()
			return f.writes[name], nil
		},
		Reopen: func() saga.Inbox[*tx] {
			if f.is(forgetsOnReopen) {
				f.records = map[saga.Effect]saga.Reply{}
			}
			return f
		},
	}
}

func (f *faulty) Handle(ctx context.Context, effect saga.Effect, handle func(context.Context, *tx) ([]byte, error)) (saga.Reply, error) {
	if ctx.Err() != nil && !f.is(deafToContext) {
		return saga.Reply{}, ctx.Err()
	}
	effect = f.key(effect)
	if !f.is(unguarded) && (!f.is(unguardedUndo) || !effect.Undo) {
		f.handling <- struct{}{}
		defer func() { <-f.handling }()
	}
	if !f.is(checkAfter) {
		if reply, ok := f.known(effect); ok {
			return reply, nil
		}
	}
	if f.is(markBefore) {
		f.store(effect, saga.Reply{Outcome: saga.ReplySucceeded})
	}
	tx := &tx{}
	result, err := f.call(ctx, tx, handle)
	if f.is(unguarded) || f.is(unguardedUndo) {
		time.Sleep(time.Second) // in the bubble's time: until all others have looked, too
	}
	if err == nil && ctx.Err() != nil {
		if f.is(commitsWhenCancelled) {
			f.commit(tx)
		}
		return saga.Reply{}, ctx.Err()
	}
	return f.settle(effect, tx, result, err)
}

func (f *faulty) settle(effect saga.Effect, tx *tx, result []byte, err error) (saga.Reply, error) {
	rejection, isRejection := f.rejection(err)
	reply := saga.Reply{Outcome: saga.ReplySucceeded, Payload: result}
	switch {
	case isRejection && !utf8.ValidString(rejection.Reason) && f.is(oddReasonFails):
		return saga.Reply{}, errors.New("invalid byte sequence")
	case isRejection && (!effect.Undo || f.is(undoRejects)):
		reply = saga.Reply{Outcome: saga.ReplyRejected, Reason: rejection.Reason}
		if f.is(rejectionKeepsWrites) {
			f.commit(tx)
		}
		if f.is(rejectionNotStored) {
			return reply, nil
		}
	case err != nil:
		if f.is(failureKeepsWrites) {
			f.commit(tx)
		}
		if f.is(undoFailureIsStored) && effect.Undo {
			f.store(effect, saga.Reply{Outcome: saga.ReplySucceeded})
		}
		return saga.Reply{}, err
	default:
		f.commit(tx)
	}
	if f.is(checkAfter) {
		if reply, ok := f.known(effect); ok {
			return reply, nil
		}
	}
	if effect.Undo && f.is(undoForgetsAction) {
		delete(f.records, saga.Effect{ID: effect.ID})
	}
	f.store(effect, reply)
	return reply, nil
}

func (f *faulty) rejection(err error) (*saga.Rejection, bool) {
	if f.is(rejectionNotUnwraped) {
		r, ok := err.(*saga.Rejection) //nolint:errorlint // the fault
		return r, ok
	}
	var r *saga.Rejection
	ok := errors.As(err, &r)
	return r, ok
}

func (f *faulty) call(ctx context.Context, tx *tx, handle func(context.Context, *tx) ([]byte, error)) (result []byte, err error) {
	defer func() {
		if v := recover(); v != nil {
			if f.is(panicKeepsWrites) {
				f.commit(tx)
			}
			if !f.is(panicIsSwallowed) {
				err = errHandler
			}
		}
	}()
	if f.is(ownContext) {
		ctx = context.Background()
	}
	return handle(ctx, tx)
}

func (f *faulty) key(e saga.Effect) saga.Effect {
	switch f.fault {
	case looseIdentity:
		e.ID = strings.ToLower(strings.TrimSpace(e.ID))
	case oneForAll:
		e.ID = ""
	}
	return e
}

// known answers from the records, as the rules want it.
func (f *faulty) known(e saga.Effect) (saga.Reply, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if reply, ok := f.records[f.stored(e)]; ok {
		reply.Payload = f.copied(reply.Payload)
		return reply, true
	}
	if !e.Undo || f.is(noNullCompensation) {
		return saga.Reply{}, false
	}
	action, came := f.records[saga.Effect{ID: e.ID}]
	if came && action.Outcome == saga.ReplySucceeded {
		return saga.Reply{}, false
	}
	handled := e.Null && !f.is(nullNeverRuns) && (!came || f.is(nullOfRejectedRuns))
	if !came && !f.is(noHanging) && (!handled || f.is(nullMarksBefore)) {
		f.refuseAction(e)
	}
	if handled {
		return saga.Reply{}, false
	}
	reply := saga.Reply{Outcome: saga.ReplySucceeded}
	f.records[f.stored(e)] = reply
	return reply, true
}

// refuseAction makes sure that an action that comes after its compensation is rejected.
func (f *faulty) refuseAction(e saga.Effect) {
	if _, came := f.records[saga.Effect{ID: e.ID}]; !came {
		f.records[saga.Effect{ID: e.ID}] = saga.Reply{Outcome: saga.ReplyRejected, Reason: "too late"}
	}
}

func (f *faulty) stored(e saga.Effect) saga.Effect {
	e.Null = false
	if f.is(undoBySuffix) && e.Undo {
		return saga.Effect{ID: e.ID + "/undo"}
	}
	return e
}

func (f *faulty) store(e saga.Effect, r saga.Reply) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.is(noRecord) || f.is(undoForgotten) && e.Undo {
		return
	}
	r.Payload = f.copied(r.Payload)
	if f.is(replyNotStored) {
		r.Payload = nil
	}
	f.records[f.stored(e)] = r
	if e.Null && !f.is(nullLeavesNoRecord) {
		f.refuseAction(e)
	}
}

func (f *faulty) copied(b []byte) []byte {
	if f.is(aliased) {
		return b
	}
	return bytes.Clone(b)
}

func (f *faulty) commit(tx *tx) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, name := range tx.writes {
		f.writes[name]++
	}
	tx.writes = nil
}
