package mysql

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/sagamill/sagamill/adapters/internal/batch"
	"github.com/sagamill/sagamill/saga"
)

// Commit implements saga.Store.
//
// A batch is one transaction. Nothing in it waits for a lock: instances that somebody else has locked are left out, and tried again
// for a moment. If the server refuses something, halves of the batch are tried, until the culprit is alone.
func (s *Store) Commit(ctx context.Context, transitions []saga.Transition) ([]saga.Verdict, error) {
	if err := batch.Check(transitions); err != nil {
		return nil, fmt.Errorf("mysql: commit: %w", err)
	}
	if len(transitions) == 0 {
		return nil, ctx.Err()
	}
	verdicts := make([]saga.Verdict, len(transitions))
	open := s.itemsOf(transitions, verdicts)
	for until := time.Now().Add(s.db.lockTimeout); len(open) > 0; {
		c := committing{db: s.db}
		if err := c.round(ctx, open); err != nil {
			return nil, fmt.Errorf("mysql: commit: %w", err)
		}
		open = batch.Unanswered(open)
		if len(open) > 0 && (time.Now().After(until) || !pause(ctx, lockedPause)) {
			batch.AnswerAll(open, saga.Busy)
			break
		}
	}
	return verdicts, nil
}

// lockedPause is how many tries' worth of pause there is between rounds.
const lockedPause = 2

// maxBytes bounds what one statement carries, so that neither side needs memory without bound.
const maxBytes = 4 << 20

// itemsOf returns the transitions that can be tried, and answers the others.
func (s *Store) itemsOf(transitions []saga.Transition, verdicts []saga.Verdict) []batch.Item {
	items := batch.Items(transitions, verdicts, s.db.fits)
	batch.Named("mysql", verdicts)
	return items
}

// fits returns an error if a column cannot take what t has for it. A server that is not strict would cut it off.
func (db *DB) fits(t *saga.Transition) error {
	type column struct {
		what, value string
		limit       int
	}
	columns := []column{{"the ID", t.ID, 255}, {"the state", t.State, 255}, {"the reason for attention", t.Attention, 1<<24 - 1}}
	for i := range t.History {
		columns = append(columns, column{"an input", t.History[i].Input, 1024})
	}
	if s := t.Start; s != nil {
		columns = append(columns, column{"the definition", s.Definition, 255}, column{"the business key", s.Key, 1024},
			column{"the fingerprint", string(s.Fingerprint), 255})
		if k := s.StartKey; k != nil {
			columns = append(columns, column{"the start key", k.Key, 1<<16 - 1}, column{"the start key's fingerprint", string(k.Fingerprint), 255})
		}
	}
	for _, c := range columns {
		if len(c.value) > c.limit {
			return fmt.Errorf("transition of %.255q: %s has %d bytes, more than %d", t.ID, c.what, len(c.value), c.limit)
		}
	}
	if size := batch.Size(t); size > db.maxPacket/2-packetMargin { // each byte may be escaped
		return fmt.Errorf("transition of %q has %d bytes, too many for a max_allowed_packet of %d", t.ID, size, db.maxPacket)
	}
	return nil
}

// packetMargin is what a statement has besides.
const packetMargin = 64 << 10

// committing is one round of a batch.
type committing struct{ db *DB }

// round tries items. Those that it leaves without a verdict are to be tried in another round: locked ones, and new instances that
// share a name with one of this round, or whose name was free again when it was looked for.
func (c committing) round(ctx context.Context, items []batch.Item) error {
	for todo := batch.WithoutNamesakes(items); len(todo) > 0; {
		n := batch.Fitting(todo[:min(len(todo), maxRows)], min(maxBytes, c.db.maxPacket/4))
		if err := c.write(ctx, todo[:n]); err != nil {
			return err
		}
		todo = todo[n:]
	}
	return c.tellExisting(ctx, items)
}

// write writes items in one transaction, or more if it must.
func (c committing) write(ctx context.Context, items []batch.Item) error {
	var w writing
	err := c.db.write(ctx, func(ctx context.Context, tx *sql.Tx) error {
		w = writing{db: c.db, tx: tx}
		return w.all(ctx, items)
	})
	switch {
	case err == nil:
		w.answer()
	case !isTaken(err) && !isLocked(err) && !isAccident(err) && !isRejection(err):
		return err
	case len(items) > 1:
		first, second := batch.Split(items, batch.Item.IsStart)
		if len(first) == 0 || len(second) == 0 {
			first, second = items[:len(items)/2], items[len(items)/2:]
		}
		if err := c.write(ctx, first); err != nil {
			return err
		}
		return c.write(ctx, second)
	case isRejection(err):
		*items[0].Verdict = saga.Verdict{Outcome: saga.Unwritable, Err: fmt.Errorf("mysql: %w", err)}
	}
	return nil
}

// writing is one attempt at a transaction, and what is to be answered once it is committed.
type writing struct {
	db    *DB
	tx    *sql.Tx
	now   micros
	found []verdict
}

type verdict struct {
	of   batch.Item
	says saga.Verdict
}

func (w *writing) say(it batch.Item, v saga.Verdict) { w.found = append(w.found, verdict{it, v}) }

func (w *writing) answer() {
	for _, v := range w.found {
		*v.of.Verdict = v.says
	}
}

// all writes new instances, in the order of their keys, then others, in that of their IDs.
func (w *writing) all(ctx context.Context, items []batch.Item) error {
	starts, updates := batch.Split(items, batch.Item.IsStart)
	if len(starts) > 0 {
		batch.ByKey(starts)
		if err := w.starts(ctx, starts); err != nil {
			return err
		}
	}
	if len(updates) > 0 {
		return w.updates(ctx, updates)
	}
	return nil
}

// committed records the history of items whose instances are written.
func (w *writing) committed(ctx context.Context, items []batch.Item) error {
	const columns = 5
	var args []any
	flush := func() error {
		if len(args) == 0 {
			return nil
		}
		const insert = `INSERT INTO {{history}} (instance_id, revision, input, entry, at) VALUES `
		_, err := exec(ctx, w.tx, w.db.sql(insert)+repeated(list(columns), `, `, len(args)/columns), args...)
		args = args[:0]
		return err
	}
	for _, it := range items {
		for i := range it.History {
			h := &it.History[i]
			var input any
			if h.Input != "" {
				input = text(h.Input)
			}
			args = append(args, text(it.ID), h.Revision, input, blob(h.Entry), int64(w.now))
			if len(args) == maxRows*columns {
				if err := flush(); err != nil {
					return err
				}
			}
		}
		w.say(it, saga.Verdict{Outcome: saga.Committed, At: w.now.time()})
	}
	return flush()
}
