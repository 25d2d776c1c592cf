package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sagamill/sagamill/adapters/internal/batch"
	"github.com/sagamill/sagamill/saga"
)

// Commit implements saga.Store.
//
// A batch is one transaction, sent in one round trip. If the server rejects it, halves of it are tried, until the culprit is
// alone. If it meets somebody else's lock, it is tried again so that locked rows are left out; new instances, whose keys
// cannot be left out, are tried in halves then.
func (s *Store) Commit(ctx context.Context, transitions []saga.Transition) ([]saga.Verdict, error) {
	if err := batch.Check(transitions); err != nil {
		return nil, fmt.Errorf("postgres: commit: %w", err)
	}
	if len(transitions) == 0 {
		return nil, ctx.Err()
	}
	verdicts := make([]saga.Verdict, len(transitions))
	c := &committing{store: s}
	items := itemsOf(transitions, verdicts)
	for round := 0; len(items) > 0 && round < maxRounds; round++ {
		if err := c.round(ctx, items); err != nil {
			return nil, fmt.Errorf("postgres: commit: %w", err)
		}
		items = batch.Unanswered(items)
	}
	batch.AnswerAll(items, saga.Busy)
	return verdicts, nil
}

// maxRounds is a bound for what two or three rounds should do.
const maxRounds = 10

// itemsOf returns the transitions that can be tried, and answers the others.
func itemsOf(transitions []saga.Transition, verdicts []saga.Verdict) []batch.Item {
	items := batch.Items(transitions, verdicts, nil)
	batch.Named("postgres", verdicts)
	return items
}

// committing is the way of one batch.
type committing struct {
	store *Store
	until time.Time // when it no longer waits for what others have locked; zero: that has not begun
}

// maxBytes bounds what one transaction carries, so that neither side needs memory without bound.
const maxBytes = 16 << 20

// round tries items. Those that it leaves without a verdict are to be tried in another round: new instances that share a name with
// one of this round, or whose name was free again when it was looked for.
func (c *committing) round(ctx context.Context, items []batch.Item) error {
	suspicious, shared := batch.Split(items, func(it batch.Item) bool { return c.store.suspects.has(it.Transition) })
	shared = batch.WithoutNamesakes(shared)
	for len(shared) > 0 {
		n := batch.Fitting(shared, maxBytes)
		if err := c.write(ctx, shared[:n], together); err != nil {
			return err
		}
		shared = shared[n:]
	}
	if err := c.writeApart(ctx, batch.WithoutNamesakes(suspicious)); err != nil {
		return err
	}
	return c.tellExisting(ctx, items)
}

// manner is how a transaction deals with locks that others hold.
type manner int

const (
	together manner = iota // it waits for them, a moment
	apart                  // it leaves out locked rows, and hardly waits for keys
)

const (
	waitApart = 10 * time.Millisecond // how long a transaction in the manner apart waits for a key
	maxApart  = time.Second           // how long all of them do: somebody may have locked the whole table
)

// writeApart writes existing instances and new ones in transactions of their own.
func (c *committing) writeApart(ctx context.Context, items []batch.Item) error {
	if c.until.IsZero() {
		c.until = time.Now().Add(maxApart)
	}
	starts, updates := batch.Split(items, batch.Item.IsStart)
	if err := c.write(ctx, updates, apart); err != nil {
		return err
	}
	return c.write(ctx, starts, apart)
}

// write writes items in one transaction, or more if it must. It answers all of them, but for new instances whose names are taken.
func (c *committing) write(ctx context.Context, items []batch.Item, m manner) error {
	if len(items) == 0 {
		return nil
	}
	if m == apart && time.Now().After(c.until) {
		batch.AnswerAll(items, saga.Busy)
		return nil
	}
	err := c.tryWrite(ctx, items, m)
	raced := isAccident(err) || c.store.db.isOrphan(err)
	switch {
	case err == nil:
		return nil
	case m == together && (isLocked(err) || raced):
		return c.writeApart(ctx, items)
	case !isLocked(err) && !raced && !isRejection(err):
		return err
	case len(items) > 1:
		half := len(items) / 2
		if err := c.write(ctx, items[:half], m); err != nil {
			return err
		}
		return c.write(ctx, items[half:], m)
	case isRejection(err) && !raced:
		*items[0].Verdict = saga.Verdict{Outcome: saga.Unwritable, Err: fmt.Errorf("postgres: %w", err)}
	default:
		c.store.suspects.add(items[0].Transition)
		batch.AnswerAll(items, saga.Busy)
	}
	return nil
}

// tryWrite writes items in one transaction. It tries again what the server has given up for no fault of the transaction.
func (c *committing) tryWrite(ctx context.Context, items []batch.Item, m manner) error {
	db := c.store.db
	starts, updates := batch.Split(items, batch.Item.IsStart)
	batch.ByKey(starts)
	inserted, changed := rowsOf(starts), rowsOf(updates)
	defer inserted.over()
	defer changed.over()
	wait := db.lockTimeout
	if m == apart {
		wait = min(wait, waitApart)
	}
	for try := 1; ; try++ {
		w := &writing{db: db, m: m}
		err := db.send(ctx, wait, append(w.starts(starts, inserted), w.updates(changed)...))
		if err == nil {
			c.answer(starts, &w.started)
			c.answer(updates, &w.updated)
			return nil
		}
		if !isAccident(err) && !db.isOrphan(err) || try == maxTries || !pause(ctx, try) {
			return err
		}
	}
}

// writing is one attempt at a transaction, and what its statements found.
type writing struct {
	db               *DB
	m                manner
	started, updated findings
}

// findings are what a statement found: when it wrote, and what it did not write.
type findings struct {
	at  time.Time
	not map[string]found
}

// found is what a statement found of an instance that it did not write.
type found struct {
	what   int
	inputs []string
}

// starts are what creates new instances: start keys first, then instances, each in their order, so that two batches do not wait for
// each other.
func (w *writing) starts(items []batch.Item, r *rows) (all []statement) {
	if len(items) == 0 {
		return nil
	}
	if args, any := startKeyArgs(items); any {
		all = append(all, statement{sql: w.db.sql(takeStartKeys), args: args.sent()})
	}
	return append(all, statement{sql: w.db.sql(insertNew), args: r.insertArgs().sent(), read: w.started.read})
}

// updates are the transitions of existing instances, which are in the order of their IDs.
func (w *writing) updates(r *rows) []statement {
	if r.ids.n == 0 {
		return nil
	}
	switch {
	case w.m == apart:
		return []statement{{sql: w.db.sql(updateFree), args: r.updateArgs().sent(), read: w.updated.read}}
	case r.single():
		return []statement{{sql: w.db.sql(updateOne), args: r.oneArgs(), read: w.updated.read}}
	}
	return []statement{{sql: w.db.sql(updateAll), args: r.updateArgs().sent(), read: w.updated.read}}
}

func (f *findings) read(rows pgx.Rows) error {
	for rows.Next() {
		if err := f.readOne(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (f *findings) readOne(row scanner) error {
	var id, input string
	var what int
	if err := row.Scan(&id, &what, &input, &f.at); err != nil || what == foundWritten {
		return err
	}
	if f.not == nil {
		f.not = map[string]found{}
	}
	not := f.not[id] // of several, the last row counts
	if not.what = what; what == foundConsumed {
		not.inputs = append(not.inputs, input)
	}
	f.not[id] = not
	return nil
}

// of is what was found of an instance.
func (f *findings) of(id string) found {
	if not, ok := f.not[id]; ok || f.at.IsZero() {
		return not
	}
	return found{what: foundWritten}
}

// answer makes verdicts of what was found, and remembers what was locked.
func (c *committing) answer(items []batch.Item, f *findings) {
	for _, it := range items {
		if f.of(it.ID).what == foundLocked {
			it.Answer(saga.Busy)
			c.store.suspects.add(it.Transition)
			continue
		}
		c.store.suspects.remove(it.Transition)
		judge(it, f)
	}
}

// judge makes a verdict of what was found, but for new instances that were not written.
func judge(it batch.Item, f *findings) {
	switch found := f.of(it.ID); {
	case found.what == foundWritten:
		*it.Verdict = saga.Verdict{Outcome: saga.Committed, At: f.at.UTC()}
	case found.what == foundConsumed:
		*it.Verdict = saga.Verdict{Outcome: saga.Duplicate, Duplicates: found.inputs}
	case !it.IsStart():
		it.Answer(saga.Conflict)
	}
}
