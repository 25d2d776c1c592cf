package sagatest

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sagamill/sagamill/saga"
)

// Saga is an instance that a script starts.
type Saga[S, E ~string, D any] struct {
	run        *Run
	definition *saga.Definition[S, E, D]
	key        string
	started    *sending
	sent       int
}

// Start lets the script start a saga. It is done when the script has returned, and again until it is recorded.
func Start[S, E ~string, D any](r *Run, d *saga.Definition[S, E, D], key string, data D) *Saga[S, E, D] {
	in := &sending{run: r, what: "start of " + key, key: key, start: true}
	in.call = func(o *saga.Orchestrator) (saga.Disposition, error) {
		_, err := d.Start(r.ctx, o, saga.StartParams[D]{Key: key, Data: data})
		return "", err
	}
	r.inputs = append(r.inputs, in)
	return &Saga[S, E, D]{run: r, definition: d, key: key, started: in}
}

// Send lets the script send an event: right after the start, unless When or Anytime say otherwise. The payload is of the type that
// the event was declared with, or nil.
func (s *Saga[S, E, D]) Send(event E, payload any) Sending[S] {
	s.sent++
	in := &sending{run: s.run, what: fmt.Sprintf("%s to %s", event, s.key), key: s.key, id: fmt.Sprintf("%s-%d", event, s.sent), started: s.started}
	in.call = func(o *saga.Orchestrator) (saga.Disposition, error) {
		return s.definition.Send(s.run.ctx, o, s.key, event, saga.Input{Source: "script", ID: in.id, Payload: payload})
	}
	s.run.inputs = append(s.run.inputs, in)
	return Sending[S]{in}
}

// Sending is an event that a script sends. It is sent until it is recorded.
type Sending[S ~string] struct{ in *sending }

// When lets the event be sent as soon as the saga is in one of the states. If it never is the event is not sent.
func (s Sending[S]) When(states ...S) Sending[S] {
	for _, state := range states {
		s.in.when = append(s.in.when, string(state))
	}
	return s
}

// After lets the event be sent so long after the run's begin.
func (s Sending[S]) After(d time.Duration) Sending[S] {
	s.in.after = d
	return s
}

// Anytime lets the event come at any moment: there is a run for each, and one in which it does not come.
func (s Sending[S]) Anytime() Sending[S] {
	s.in.anytime = true
	return s
}

// sending is a start or an event.
type sending struct {
	run     *Run
	what    string
	key     string
	id      string
	start   bool
	started *sending // of an event: the saga's start
	call    func(*saga.Orchestrator) (saga.Disposition, error)

	when    []string
	after   time.Duration
	anytime bool

	ready    bool   // its moment has come
	tempted  bool   // it was asked whether it comes early
	met      bool   // it was asked whether it comes late, or again
	held     bool   // until something has happened that does not wait for it
	seen     uint64 // the saga's revision then
	repeat   bool   // once it is recorded it is sent again
	recorded bool
}

// due tells whether the input is to be sent now.
func (in *sending) due() bool {
	switch {
	case in.recorded:
		return false
	case in.start || in.ready:
		return true
	case !in.started.recorded || in.anytime || time.Since(in.run.epoch) < in.after:
		return false
	}
	in.ready = len(in.when) == 0 || slices.Contains(in.when, in.run.record(in.key).State)
	return in.ready
}

// send sends one of the script's inputs. It answers false if none is due.
func (r *Run) send() bool {
	for _, in := range r.inputs {
		r.premature(in)
	}
	for _, in := range r.inputs {
		if in.held || !in.due() {
			continue
		}
		if !in.met && !in.anytime {
			in.met = true
			offered := []Fault{InputRepeated}
			if !in.start {
				offered = append(offered, InputLate)
			}
			switch r.choose(in.what, offered...) {
			case InputRepeated:
				in.repeat = true
			case InputLate:
				in.held, in.seen = true, r.record(in.key).Revision
				return true
			}
		}
		if p := r.awake(); p != nil {
			p.do(func() { in.sent(p) })
			return true
		}
	}
	return false
}

// premature lets an input come before its time.
func (r *Run) premature(in *sending) {
	if in.start || in.ready || in.recorded || !in.started.recorded {
		return
	}
	switch {
	case in.anytime:
		if r.choose(in.what, InputNow) != "" { // before all others
			in.ready = true
			r.inputs = slices.Insert(slices.DeleteFunc(slices.Clone(r.inputs), func(o *sending) bool { return o == in }), 0, in)
		}
	case !in.tempted && len(in.when) > 0 && !in.due():
		in.tempted = true
		in.ready = r.choose(in.what, InputEarly) != ""
	}
}

// sent sends the input to a process.
func (in *sending) sent(p *process) {
	r := in.run
	answer, err := in.call(p.api)
	var refused *saga.RefusedError
	if err != nil && !errors.As(err, &refused) {
		r.violated("%s: %v", in.what, err)
		return
	}
	if answer != "" {
		answer = ": " + answer
	}
	r.note("%s: %s is recorded%s", p.name, in.what, answer)
	in.recorded, in.repeat = !in.repeat, false
}

// record returns a saga as it is stored.
func (r *Run) record(key string) saga.Record {
	record, err := r.store.Lookup(r.ctx, r.explorer.definition.Name(), key)
	if err != nil {
		return saga.Record{}
	}
	return record
}
