package sagatest

import (
	"fmt"
	"strings"

	"github.com/sagamill/sagamill/compensation"
	"github.com/sagamill/sagamill/saga"
	"github.com/sagamill/sagamill/saga/internal/stepped"
)

// What must hold of every definition. The world that its steps act upon is the script's; what must hold there, invariants say.

// checkAlways asks the invariants that hold at any moment.
func (r *Run) checkAlways() {
	for _, inv := range r.explorer.always {
		if err := inv.holds(r); err != nil {
			r.violated("%s: %v", inv.name, err)
		}
	}
}

// checkFinally looks at what is left.
func (r *Run) checkFinally() {
	r.checkAlways()
	records, err := r.store.List(r.ctx, saga.Query{Limit: 1000})
	if err != nil {
		r.violated("the sagas cannot be read: %v", err)
	}
	for _, record := range records {
		if left := stepped.Leftover(record); record.Settled && left != "" {
			r.violated("%s is settled in %s and holds %s", record.Key, record.State, left)
		}
	}
	for _, i := range r.Sagas() {
		if !i.Settled {
			r.violated("%s", r.explorer.waits(i))
			continue
		}
		for _, e := range i.Steps {
			r.checkStep(i, e)
		}
		r.checkHistory(i)
	}
	if len(r.violations) > 0 {
		return // invariants would only say the same again
	}
	for _, inv := range r.explorer.finally {
		if err := inv.holds(r); err != nil {
			r.violated("%s: %v", inv.name, err)
		}
	}
}

// waits says for what an instance waits that is not settled when nothing is left to do.
func (x *explorer) waits(i saga.Instance) string {
	why := "no time-out is due, and the script sends nothing more: send it an event, or add a row with After"
	if i.Attention != "" {
		why = i.Attention
	}
	return fmt.Sprintf("%s stays in %s for ever: %s", i.Key, i.State, why)
}

// unsettled says what is still under way.
func (r *Run) unsettled() string {
	var open []string
	for _, i := range r.Sagas() {
		if !i.Settled {
			open = append(open, fmt.Sprintf("%s is in %s", i.Key, i.State))
		}
	}
	return strings.Join(append(open, fmt.Sprintf("%d messages are on their way", len(r.broker.waiting))), ", ")
}

// checkStep: in the end nothing is open, and a failed end leaves nothing that could be undone.
func (r *Run) checkStep(i saga.Instance, e compensation.Entry) {
	switch {
	case e.InFlight():
		r.violated("%s is settled in %s, and %s is still %s", i.Key, i.State, e.Step, e.Status)
	case r.explorer.shape.Ends[i.State] && e.Undoable && e.Status == compensation.Succeeded:
		r.violated("%s failed, it ended in %s, but what %s did stays", i.Key, i.State, e.Step)
	}
}

// checkHistory: it has no gap, it is a path, and every event that the script sent has come to an end in it.
func (r *Run) checkHistory(i saga.Instance) {
	at, ended := "", map[string]bool{}
	for k, e := range r.History(i.ID) {
		if e.Revision != uint64(k)+1 {
			r.violated("the history of %s has a gap before revision %d", i.Key, e.Revision)
		}
		for _, m := range e.Moves {
			if at != "" && at != m.From {
				r.violated("%s moves from %s, but was in %s", i.Key, m.From, at)
			}
			at = m.To
		}
		if e.Kind == "event" {
			ended[e.InputID] = e.Result != saga.Waits && e.Result != saga.Interrupts && e.Result != saga.Buffered
		}
		for _, j := range e.Judged {
			ended[j.InputID] = true
		}
	}
	if at != "" && at != i.State {
		r.violated("%s is in %s, but its history leads to %s", i.Key, i.State, at)
	}
	for _, in := range r.inputs {
		if in.key == i.Key && !in.start && in.recorded && !ended[in.id] {
			r.violated("%s was recorded, and is lost", in.what)
		}
	}
}

// noteCommit writes into the trace what was committed.
func (r *Run) noteCommit(p *process, transitions []saga.Transition, verdicts []saga.Verdict) {
	for k, v := range verdicts {
		if v.Outcome == saga.Committed {
			r.explorer.coverage.buffered(transitions[k])
		}
	}
	if !r.tracing {
		return
	}
	for k, v := range verdicts {
		t := &transitions[k]
		if v.Outcome != saga.Committed {
			r.note("%s: %s", p.name, v.Outcome)
			continue
		}
		entries, err := r.entries(t.ID, t.Expect)
		if err != nil {
			r.violated("the history of %s cannot be read: %v", t.ID, err)
		}
		for _, e := range entries {
			r.note("%s: commits %s", p.name, line(e))
		}
	}
}

func (r *Run) entries(id string, after uint64) ([]saga.Entry, error) {
	o, err := r.reader()
	if err != nil {
		return nil, err
	}
	return o.History(r.ctx, id, after, 1000)
}

// line writes an entry of a history in a line.
func line(e saga.Entry) string {
	subject := e.Event + e.Step
	if e.Undo {
		subject += "/undo"
	}
	text := strings.Join(strings.Fields(fmt.Sprint(e.Kind, " ", subject, " ", e.Outcome, e.Result)), " ")
	if e.Reason != "" {
		text += " (" + e.Reason + ")"
	}
	for _, m := range e.Moves {
		text += fmt.Sprintf("; %s -> %s", m.From, m.To)
	}
	if len(e.Began) > 0 {
		text += "; begins " + strings.Join(e.Began, ", ")
	}
	return text
}
