package memory

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/sagamill/sagamill/adapters/internal/barrier"
	"github.com/sagamill/sagamill/saga"
)

// Inbox is a saga.Inbox in memory, for participants that keep their state in memory, too. As in SQLite, one handler runs at a
// time, so handlers of one Inbox need no lock against each other. It grows until Expire is called.
type Inbox struct {
	options
	busy    chan struct{} // a mutex that a context can stop waiting for
	effects map[string]*inboxEffect
}

var _ saga.Inbox[*Tx] = (*Inbox)(nil)

type inboxEffect struct {
	barrier.Records
	at time.Time // of the last record
}

// NewInbox returns an empty inbox.
func NewInbox(opts ...Option) *Inbox {
	return &Inbox{options: newOptions(opts), busy: make(chan struct{}, 1), effects: map[string]*inboxEffect{}}
}

// Tx is the transaction of a handler. Memory does not roll itself back: a handler says with OnRollback how to.
type Tx struct{ undo []func() }

// OnRollback registers what takes a change back. Call it right after each change of the handler's own state:
//
//	rooms[c.Hotel]--
//	tx.OnRollback(func() { rooms[c.Hotel]++ })
//
// The functions run, last one first, if the handler rejects, fails or panics.
func (tx *Tx) OnRollback(undo func()) { tx.undo = append(tx.undo, undo) }

func (tx *Tx) rollback() {
	for _, undo := range slices.Backward(tx.undo) {
		undo()
	}
	tx.undo = nil
}

// Handle implements saga.Inbox. It waits for the handlers before it as long as ctx lasts.
func (i *Inbox) Handle(ctx context.Context, effect saga.Effect, handle func(context.Context, *Tx) ([]byte, error)) (saga.Reply, error) {
	if err := i.lock(ctx); err != nil {
		return saga.Reply{}, err
	}
	defer i.unlock()
	var found barrier.Records
	if e := i.effects[effect.ID]; e != nil {
		found = e.Records
	}
	known, besides := barrier.Judge(effect, found)
	if known != nil {
		i.write(effect.ID, besides)
		return clone(*known), nil
	}
	reply, err := i.apply(ctx, effect, handle)
	if err != nil {
		return saga.Reply{}, fmt.Errorf("memory: handle: %w", err)
	}
	stored := clone(reply)
	if effect.Undo {
		besides.Undo = &stored
	} else {
		besides.Action = &stored
	}
	i.write(effect.ID, besides)
	return reply, nil
}

// apply runs the handler, and takes back what it did unless it succeeded in time.
func (i *Inbox) apply(ctx context.Context, effect saga.Effect, handle func(context.Context, *Tx) ([]byte, error)) (saga.Reply, error) {
	tx := &Tx{}
	defer tx.rollback() // after a success there is nothing
	result, err := handle(ctx, tx)
	if err == nil {
		err = ctx.Err() // as a database would not commit
	}
	if err == nil {
		tx.undo = nil
	}
	return barrier.Settle(effect.Undo, result, err)
}

func (i *Inbox) write(id string, r barrier.Records) {
	if r == (barrier.Records{}) {
		return
	}
	e := i.effects[id]
	if e == nil {
		e = &inboxEffect{}
		i.effects[id] = e
	}
	if r.Action != nil {
		e.Action = r.Action
	}
	if r.Undo != nil {
		e.Undo = r.Undo
	}
	e.at = i.now()
}

// Expire forgets up to limit effects of which nothing was heard for olderThan, and returns how many.
//
// olderThan must be longer than a saga may live, plus the longest time after which a broker may deliver a message again: when
// an action has been forgotten, its compensation is answered that there is nothing to undo, and the action itself, should it
// come again, is applied again.
func (i *Inbox) Expire(ctx context.Context, olderThan time.Duration, limit int) (int, error) {
	if limit <= 0 || olderThan < 0 {
		return 0, fmt.Errorf("memory: expire: %w: limit (%d) must be positive and olderThan (%s) not negative", saga.ErrInvalid, limit, olderThan)
	}
	if err := i.lock(ctx); err != nil {
		return 0, err
	}
	defer i.unlock()
	before := i.now().Add(-olderThan)
	removed := 0
	for id, e := range i.effects {
		if removed == limit {
			break
		}
		if e.at.Before(before) {
			delete(i.effects, id)
			removed++
		}
	}
	return removed, nil
}

func (i *Inbox) lock(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case i.busy <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (i *Inbox) unlock() { <-i.busy }

func clone(r saga.Reply) saga.Reply {
	r.Payload = bytes.Clone(r.Payload)
	return r
}
