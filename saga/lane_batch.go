package saga

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// group is the inputs of one instance in a batch, and what they lead to.
type group struct {
	id    string
	lane  *lane // which decides it
	jobs  []*job
	held  []*job // what came for the instance meanwhile, and what must be alone
	plan  *plan
	known *instance // as committed, or as it is believed to be
	inst  *instance // the same; then, as decided
	now   time.Time // the store's time, if the group was found by a sweep
	steps []step
	after []*job // inputs that are judged again once the transition is committed
	read  bool   // inst is what the store has just said, not what the memory remembers

	unreadable error // why the stored instance cannot be decided

	transition Transition
	dataBefore []byte

	one struct { // most groups are of one input: room for it
		jobs    [1]*job
		steps   [1]step
		history [1]HistoryRecord
	}
	began      time.Time // by this process's clock: no later than the commit
	superseded bool      // the transition was found committed, with others after it
}

// newGroup makes a group, or takes one that an earlier batch has given up.
func (l *lane) newGroup(id string) *group {
	var g *group
	if used := &l.used.groups; len(*used) > 0 {
		last := len(*used) - 1
		g, *used = (*used)[last], (*used)[:last]
	} else {
		g = &group{}
	}
	g.id, g.lane = id, l
	g.jobs, g.steps, g.transition.History = g.one.jobs[:0], g.one.steps[:0], g.one.history[:0]
	return g
}

// maxUsedText is how many bytes of room for text a lane keeps between batches.
const maxUsedText = 1 << 20

// over gives up the groups of a batch, which nobody looks at any more.
func (l *lane) over(groups []*group) {
	for _, g := range groups {
		*g = group{}
	}
	clear(l.used.transitions)
	l.used.groups = append(l.used.groups, groups...)
	if l.used.text.b = l.used.text.b[:0]; cap(l.used.text.b) > maxUsedText {
		l.used.text.b = nil
	}
}

// brings tells whether the group's transition consumes an input already.
func (g *group) brings(identity string) bool {
	return identity != "" && slices.ContainsFunc(g.transition.History, func(h HistoryRecord) bool { return h.Input == identity })
}

// step is one input's decision.
type step struct {
	job *job // nil: an input that had been stored undecided
	decision
	alarms bool // the instance begins to need attention
	calms  bool // it needs none any more
}

// process decides and commits one batch.
func (l *lane) process(ctx context.Context, groups []*group) {
	defer l.done(ctx, groups)
	if err := l.load(ctx, groups); err != nil {
		l.o.away(ctx, "load", err)
		l.later(groups)
		return
	}
	var ready []*group
	for _, g := range groups {
		if l.decide(g) {
			ready = append(ready, g)
		}
	}
	l.rest(ctx, groups)
	if len(ready) > 0 {
		l.commit(ctx, ready)
	}
}

// commit commits the groups' transitions, and does what follows from the verdicts.
func (l *lane) commit(ctx context.Context, ready []*group) {
	slices.SortFunc(ready, func(a, b *group) int { return strings.Compare(a.id, b.id) })
	transitions := l.used.transitions[:0]
	for _, g := range ready {
		transitions = append(transitions, g.transition)
	}
	l.used.transitions = transitions
	began := time.Now()
	for _, g := range ready {
		g.began = began
	}
	verdicts, err := l.o.store.Commit(ctx, transitions)
	if err != nil {
		l.o.away(ctx, "commit", err)
		verdicts = l.readBack(ctx, ready)
	} else {
		l.o.works("commit")
	}
	l.o.observe(ctx, Observation{What: ObserveCommit, Count: len(ready), Duration: time.Since(began)})
	for k, g := range ready {
		l.after = append(l.after, g.after...)
		l.conclude(ctx, g, verdicts[k])
	}
}

// load finds the instances of a batch: in the memory, in what a sweep brought, or in the store.
func (l *lane) load(ctx context.Context, groups []*group) error {
	var ids []string
	var byID map[string]*group
	for _, g := range groups {
		if g.jobs[0].start != nil {
			continue
		}
		if slices.ContainsFunc(g.jobs, func(j *job) bool { return j.fresh }) {
			l.o.memory.forget(g.id)
		}
		g.inst = l.o.memory.state(g.id)
		for _, j := range g.jobs {
			if j.inst != nil && !j.fresh && (g.inst == nil || g.inst.revision < j.inst.revision) {
				g.inst = j.inst
			}
			if j.record == nil {
				continue
			}
			if err := l.refresh(g, j.record); err != nil {
				l.o.failing(ctx, "decode", err)
			}
		}
		if g.inst == nil {
			if byID == nil {
				byID = map[string]*group{}
			}
			ids, byID[g.id] = append(ids, g.id), g
		}
	}
	if len(ids) == 0 {
		return nil
	}
	records, err := l.o.store.Load(ctx, ids...)
	if err != nil {
		return err
	}
	l.o.works("load")
	for _, r := range records {
		g := byID[r.ID]
		g.read = true
		if g.inst, g.unreadable = fromRecord(r); g.unreadable != nil {
			l.o.failing(ctx, "decode", g.unreadable)
		}
	}
	return nil
}

// refresh takes over what a sweep has read, unless the memory knows something newer. It was read a while ago: what is nothing to it may be
// news to the store.
func (l *lane) refresh(g *group, r *Record) error {
	g.now = r.ReadAt
	if g.inst != nil && g.inst.revision >= r.Revision { // a lease is renewed without a revision
		c := g.inst.clone()
		if c.revision > r.Revision && c.updated.Before(g.now) { // the store's clock was put back since: timers that were set then are not due
			g.now = c.updated
		}
		if c.revision == r.Revision || c.leaseTill.Before(r.LeaseTill) {
			c.leaseTill = r.LeaseTill
		}
		g.inst = c
		return nil
	}
	inst, err := fromRecord(*r)
	if err == nil {
		g.inst = inst
	}
	return err
}

// decide decides a group's inputs, one after the other, and makes the transition. It answers whether there is one.
func (l *lane) decide(g *group) bool {
	if g.inst == nil && g.jobs[0].start == nil {
		err := g.unreadable
		if err == nil {
			err = fmt.Errorf("%w: %s", ErrNotFound, g.id)
		}
		for _, j := range g.jobs {
			l.answer(j, jobDone{err: err})
		}
		return false
	}
	if s := g.jobs[0].start; s != nil {
		g.inst = &instance{id: g.id, definition: s.Definition, version: s.Version, key: s.Key, fingerprint: s.Fingerprint}
		g.transition.Start = s
	}
	g.known, g.plan = g.inst, l.o.plan(g.inst.definition, g.inst.version)
	g.transition.ID, g.transition.Expect, g.transition.Wake = g.id, g.inst.revision, NoWake
	g.dataBefore = g.inst.data.bytes
	if g.plan == nil {
		l.append(g)
	} else {
		l.decideUndecided(g)
		for _, j := range g.jobs {
			l.decideJob(g, j)
		}
	}
	if len(g.steps) == 0 {
		return false
	}
	if err := l.complete(g); err != nil {
		l.fail(g, err)
		for _, j := range g.after {
			l.answer(j, jobDone{err: err})
		}
		return false
	}
	return true
}

// fail answers the inputs of a transition that cannot be.
func (l *lane) fail(g *group, err error) {
	for _, s := range g.steps {
		l.answer(s.job, jobDone{err: err})
	}
}

func (l *lane) decideJob(g *group, j *job) {
	if g.brings(j.input) { // a double click within one batch: the store says "duplicate" once the first is committed
		g.after = append(g.after, j)
		return
	}
	if err := g.misses(j); err != nil {
		l.answer(j, jobDone{err: err})
		return
	}
	in := j.in
	in.random, in.patience = l.o.config.Random(), l.o.patience.waits()
	if in.wake != nil {
		w := *in.wake
		w.now, w.leaseOver = g.now, !g.inst.leaseTill.After(g.now)
		w.runningHere = func(step string, run int, undo bool) bool { return l.o.runner.isRunning(g.id, step, run, undo) }
		in.wake = &w
	}
	d := decide(g.plan, g.inst, in, l.o.config.Codec, l.o.limits())
	l.o.logFaults(g.inst, d.faults)
	if d.nothing && len(g.steps) > 0 {
		if j.in.wake == nil { // it was judged by what is not committed yet
			g.after = append(g.after, j)
		}
		return
	}
	if d.nothing && !g.read && j.in.wake == nil {
		// No compare-and-set will tell whether the memory is behind: what is nothing to it may be news to the store.
		j.fresh, j.inst = true, nil
		l.again = append(l.again, j)
		return
	}
	if d.nothing {
		l.answer(j, jobDone{answer: d.answer, reason: d.reason, inst: g.inst})
		return
	}
	g.apply(j, j.input, d)
}

// misses tells why an event cannot be the instance's: it is meant for another definition's, or for another version.
func (g *group) misses(j *job) error {
	switch ev := j.in.event; {
	case ev == nil:
		return nil
	case j.definition != "" && j.definition != g.inst.definition:
		return fmt.Errorf("%w: %s is one of %s, not of %s", ErrNotFound, g.id, g.inst.definition, j.definition)
	case j.key != "" && j.key != g.inst.key: // its ID is used again
		return fmt.Errorf("%w: %s is %s %q, not %q", ErrNotFound, g.id, g.inst.definition, g.inst.key, j.key)
	case g.plan != nil && g.plan.events[ev.Event] == nil:
		return fmt.Errorf("%w: %s version %d, which instance %s was started with, does not declare %q; it has %v",
			ErrUnknownEvent, g.plan.name, g.plan.version, g.id, ev.Event, g.plan.eventNames())
	}
	return nil
}

// decideUndecided takes up the inputs that a process without this version stored.
func (l *lane) decideUndecided(g *group) {
	if len(g.inst.Undecided) == 0 {
		return
	}
	inst := g.inst.clone()
	inputs := inst.Undecided
	inst.Undecided = nil
	g.inst = inst
	for _, u := range inputs {
		d := decide(g.plan, g.inst, input{event: u.Event, outcome: u.Outcome, random: l.o.config.Random(), patience: l.o.patience.waits()}, l.o.config.Codec, l.o.limits())
		l.o.logFaults(g.inst, d.faults)
		d.nothing = false // that it is not undecided any more has to be written
		g.apply(nil, "", d)
	}
}

// append stores inputs undecided: this process does not know the instance's version.
func (l *lane) append(g *group) {
	for _, j := range g.jobs {
		if g.brings(j.input) {
			g.after = append(g.after, j)
			continue
		}
		u := undecided{Event: j.in.event, Outcome: j.in.outcome}
		err := g.misses(j)
		switch {
		case err != nil:
		case u.Outcome != nil && g.inst.closedTo(u.Outcome):
			l.answer(j, jobDone{answer: Duplicated, inst: g.inst})
			continue
		case u.Event == nil && u.Outcome == nil:
			err = fmt.Errorf("%w: %s version %d", ErrUnknownDefinition, g.inst.definition, g.inst.version)
		case len(g.inst.Undecided) >= l.o.config.MaxWaiting:
			err = fmt.Errorf("%w: %d inputs wait for a process that knows version %d", ErrRefused, len(g.inst.Undecided), g.inst.version)
		}
		if err != nil {
			l.answer(j, jobDone{err: err})
			continue
		}
		next := g.inst.clone()
		next.Undecided = append(next.Undecided, u)
		next.settled = false // or no sweep would find it
		next.attention = fmt.Sprintf("inputs wait for a process that knows version %d of %s", next.version, next.definition)
		e := Entry{Kind: "event", Result: Undecided}
		if u.Event != nil {
			e.Event, e.Source, e.InputID, e.Digest = u.Event.Event, u.Event.Source, u.Event.ID, digest(u.Event.Payload)
		} else {
			e.Kind, e.Step, e.Run, e.Undo = "outcome", u.Outcome.Step, u.Outcome.Run, u.Outcome.Undo
		}
		g.apply(j, j.input, decision{next: next, entry: e, answer: Undecided, wake: 0})
	}
}

// apply adds a decision to the group's transition.
func (g *group) apply(j *job, identity string, d decision) {
	d.next.revision++
	s := step{job: j, decision: d, alarms: d.next.attention != "" && g.inst.attention == "", calms: d.next.attention == "" && g.inst.attention != ""}
	g.inst = d.next
	g.steps = append(g.steps, s)
	t := &g.transition
	t.History = append(t.History, HistoryRecord{Revision: d.next.revision, Input: identity})
	if d.wake >= 0 && (t.Wake < 0 || d.wake < t.Wake) {
		t.Wake = d.wake
	}
}

// complete encodes the transition.
func (l *lane) complete(g *group) (err error) {
	t := &g.transition
	if slices.ContainsFunc(g.steps, func(s step) bool { return s.lease }) {
		g.inst.Process = l.o.process
	}
	t.State, t.Settled, t.Attention = g.inst.state, g.inst.settled, g.inst.attention
	if t.Engine, err = g.inst.encode(&l.used.text); err != nil {
		return fmt.Errorf("saga: encode instance %s: %w", g.id, err)
	}
	if t.Start != nil || !bytes.Equal(g.dataBefore, g.inst.data.bytes) {
		t.Data = g.inst.data.bytes
		if t.Data == nil {
			t.Data = []byte{}
		}
	}
	for k := range g.steps {
		if t.History[k].Entry, err = g.steps[k].entry.encode(&l.used.text); err != nil {
			return fmt.Errorf("saga: encode history of %s: %w", g.id, err)
		}
		if g.steps[k].lease {
			t.Lease = l.o.config.Lease
		}
	}
	if t.Lease > 0 && (t.Wake < 0 || t.Lease < t.Wake) {
		t.Wake = t.Lease
	}
	if !g.now.IsZero() && !g.inst.settled { // the sweep that brought it has moved the wake-up time later
		if w := g.inst.nextWake(g.now, l.o.config.Lease); w >= 0 && (t.Wake < 0 || w < t.Wake) {
			t.Wake = w
		}
	}
	return nil
}

// rest corrects the wake-up times of instances that a sweep found, and that have nothing to do yet.
func (l *lane) rest(ctx context.Context, groups []*group) {
	var touches []Touch
	for _, g := range groups {
		if g.now.IsZero() || len(g.steps) > 0 || g.inst == nil || g.plan == nil {
			continue
		}
		l.o.memory.read(g.inst)
		touch := Touch{ID: g.id, Revision: g.inst.revision, Wake: g.inst.nextWake(g.now, l.o.config.Lease)}
		switch {
		case g.inst.settled:
			touch.Wake = NoWake
		case touch.Wake == 0: // overdue, but nothing can be done: the definition lacks what it needs
			touch.Wake = l.o.config.Lease
		}
		touches = append(touches, touch)
	}
	if len(touches) == 0 {
		return
	}
	if err := l.o.store.Touch(ctx, touches); err != nil {
		l.o.away(ctx, "touch", err) // the wake-up time is early: the next sweep corrects it
		return
	}
	l.o.works("touch")
	for _, t := range touches {
		if t.Wake >= 0 {
			l.o.sweeper.poke(t.Wake)
		}
	}
}
