package saga

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"
)

// What becomes of a batch once the store was asked to commit it.

// readBack finds out what became of a batch whose commit was not answered. A transition that is in the store counts as
// committed; one that is not is decided again. No verdicts: Close waits no longer.
func (l *lane) readBack(ctx context.Context, groups []*group) []Verdict {
	l.o.intake.markSlow(l)
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		verdicts, err := l.tryReadBack(ctx, groups)
		if err == nil {
			l.o.works("read back")
			return verdicts
		}
		l.o.away(ctx, "read back", err)
		if !pause(ctx, wait) {
			return make([]Verdict, len(groups))
		}
	}
}

func (l *lane) tryReadBack(ctx context.Context, groups []*group) ([]Verdict, error) {
	ids := make([]string, len(groups))
	for k, g := range groups {
		ids[k] = g.id
	}
	records, err := l.o.store.Load(ctx, ids...)
	if err != nil {
		return nil, err
	}
	now := map[string]*Record{}
	for k := range records {
		now[records[k].ID] = &records[k]
	}
	verdicts := make([]Verdict, len(groups))
	for k, g := range groups {
		verdicts[k] = Verdict{Outcome: Conflict}
		r := now[g.id]
		if r == nil || r.Revision < g.transition.Revision() {
			continue
		}
		// Somebody has written these revisions. The history says who: it tells any two inputs apart that mean different things. Two
		// processes that took in the same one wrote the same; what began local steps tells those apart, too.
		written, err := l.o.store.History(ctx, g.id, g.transition.Expect, len(g.transition.History))
		if err != nil {
			return nil, err
		}
		ours := slices.EqualFunc(written, g.transition.History, func(a, b HistoryRecord) bool {
			return a.Revision == b.Revision && a.Input == b.Input && bytes.Equal(a.Entry, b.Entry)
		})
		superseded := r.Revision > g.transition.Revision()
		if ours && (superseded || g.transition.Lease == 0 || bytes.Equal(r.Engine, g.transition.Engine)) { // see engine.Process
			verdicts[k] = Verdict{Outcome: Committed, At: written[len(written)-1].At}
			g.superseded = superseded
		}
	}
	return verdicts, nil
}

// conclude does what follows from a verdict.
func (l *lane) conclude(ctx context.Context, g *group, v Verdict) {
	switch v.Outcome {
	case Committed:
		l.committed(ctx, g, v.At)
	case Duplicate:
		l.o.memory.forget(g.id)
		l.retry(g, func(j *job) bool {
			known := j.input != "" && slices.Contains(v.Duplicates, j.input)
			if known {
				l.o.observe(ctx, Observation{
					What: ObserveInput, Definition: g.inst.definition, Instance: g.id, Event: j.in.event.Event, Outcome: string(Duplicated),
				})
				l.answer(j, jobDone{answer: Duplicated, inst: g.known})
			}
			return !known
		})
	case Exists:
		for _, j := range g.jobs {
			l.answer(j, jobDone{existing: v.Existing, startKey: v.StartKey})
		}
	case Unwritable:
		l.o.memory.forget(g.id)
		l.unwritable(ctx, g, fmt.Errorf("saga: the store rejects the transition of instance %s: %w", g.id, v.Err))
	case 0:
		l.fail(g, errAbandoned)
	default: // conflict, busy
		l.o.memory.forget(g.id)
		l.o.observe(ctx, Observation{What: ObserveConflict, Definition: g.inst.definition, Instance: g.id, Reason: v.Outcome.String()})
		l.retry(g, func(*job) bool { return true })
	}
}

// unwritable answers inputs whose transition the database rejects, whenever it is tried. Of several, each is tried alone. A
// success that cannot be written is a failed attempt, like one with which the data grow too large.
func (l *lane) unwritable(ctx context.Context, g *group, err error) {
	l.o.failing(ctx, "commit", err)
	if len(g.steps) > 1 && !g.jobs[0].alone {
		l.retry(g, func(j *job) bool { j.alone = true; return true })
		return
	}
	if j := g.steps[0].job; j != nil && j.in.outcome != nil && j.in.outcome.Kind == outcomeSucceeded {
		failed := *j.in.outcome
		failed.Kind, failed.Result, failed.Reason = outcomeFailed, nil, shorten(err.Error())
		j.in.outcome = &failed
		l.retry(g, func(*job) bool { return true })
		return
	}
	l.fail(g, err)
}

func (l *lane) committed(ctx context.Context, g *group, at time.Time) {
	g.inst.committed(at)
	if g.transition.Lease > 0 {
		g.inst.leaseTill = at.Add(g.transition.Lease)
	}
	for _, s := range g.steps {
		l.o.report(ctx, g.inst, s)
		if !s.replied.sent.IsZero() {
			l.o.patience.heard(s.replied.command, at.Sub(s.replied.sent))
		}
		if !g.superseded { // timers and the sweep see to what is under way now
			l.o.dispatch(g.inst, s.effects, g.began)
		}
	}
	if g.inst.settled {
		l.o.observe(ctx, Observation{
			What: ObserveSettled, Definition: g.inst.definition, Instance: g.id, State: g.inst.state, Duration: g.inst.updated.Sub(g.inst.created),
		})
	}
	if g.transition.Wake >= 0 && !g.inst.settled {
		l.o.sweeper.poke(g.transition.Wake)
	}
	l.o.memory.committed(commit{g.inst, g.began}, g.inst.settled || g.superseded) // whoever has an answer, and waits then, waits for what comes after it
	for _, s := range g.steps {
		l.answer(s.job, jobDone{answer: s.answer, reason: s.reason, inst: g.inst})
	}
}
