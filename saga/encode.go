package saga

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/sagamill/sagamill/compensation"
)

// The state of an instance and a line of its history are encoded with each transition, so they are written by hand where that is
// what most of the time goes to: the same JSON as encoding/json makes of them, which reads them.

// object writes JSON objects, one behind the other, with those members that are not empty.
type object struct {
	b    []byte
	from int // where the present one begins
	err  error
}

func (o *object) begin() {
	o.from, o.err = len(o.b), nil
	o.b = append(o.b, '{')
}

// end returns the object that was begun. It is good until the buffer is emptied.
func (o *object) end() ([]byte, error) {
	o.b = append(o.b, '}')
	return o.b[o.from:len(o.b):len(o.b)], o.err
}

func (o *object) name(name string) {
	if o.b[len(o.b)-1] != '{' {
		o.b = append(o.b, ',')
	}
	o.b = append(append(append(o.b, '"'), name...), '"', ':')
}

func (o *object) text(name, value string) {
	if value != "" {
		o.name(name)
		o.string(value)
	}
}

func (o *object) number(name string, value int64) {
	if value != 0 {
		o.name(name)
		o.b = strconv.AppendInt(o.b, value, 10)
	}
}

func (o *object) flag(name string, value bool) {
	if value {
		o.name(name)
		o.b = append(o.b, "true"...)
	}
}

// other writes what is rare.
func (o *object) other(name string, value any) {
	o.name(name)
	text, err := json.Marshal(value)
	if err != nil && o.err == nil {
		o.err = err
	}
	o.b = append(o.b, text...)
}

// string writes a text. Most are plain; of others encoding/json knows how they are escaped.
func (o *object) string(s string) {
	for k := range len(s) {
		if c := s[k]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			text, _ := json.Marshal(s) // of a string it does not fail
			o.b = append(o.b, text...)
			return
		}
	}
	o.b = append(append(append(o.b, '"'), s...), '"')
}

// elements writes a list that is not empty.
func elements[T any](o *object, name string, all []T, one func(*object, *T)) {
	if len(all) == 0 {
		return
	}
	o.name(name)
	o.b = append(o.b, '[')
	for k := range all {
		if k > 0 {
			o.b = append(o.b, ',')
		}
		one(o, &all[k])
	}
	o.b = append(o.b, ']')
}

func (e *engine) encode(o *object) ([]byte, error) {
	o.begin()
	if e.Row != nil {
		o.name("row")
		e.Row.encode(o)
	}
	if e.Raised != nil {
		o.other("raised", e.Raised)
	}
	elements(o, "ledger", e.Ledger, encodeStep)
	if len(e.Waiting) > 0 {
		o.other("waiting", e.Waiting)
	}
	if len(e.Outbox) > 0 {
		o.other("outbox", e.Outbox)
	}
	elements(o, "timers", e.Timers, encodeTimer)
	o.text("cause", e.Cause)
	if len(e.Trace) > 0 {
		o.other("trace", e.Trace)
	}
	o.text("process", e.Process)
	if len(e.Undecided) > 0 {
		o.other("undecided", e.Undecided)
	}
	return o.end()
}

func (r *running) encode(o *object) {
	o.b = append(o.b, `{"name":`...)
	o.string(r.Name)
	o.name("event")
	o.string(r.Event)
	o.name("to")
	o.string(r.To)
	o.flag("compensate", r.Compensate)
	o.name("base")
	o.b = strconv.AppendInt(o.b, int64(r.Base), 10)
	o.text("rejected", r.Rejected)
	if len(r.Results) > 0 {
		o.other("results", r.Results)
	}
	o.b = append(o.b, '}')
}

func encodeStep(o *object, e *compensation.Entry) {
	o.b = append(o.b, `{"step":`...)
	o.string(e.Step)
	o.name("run")
	o.b = strconv.AppendInt(o.b, int64(e.Run), 10)
	o.text("class", string(e.Class))
	o.name("order")
	o.b = strconv.AppendInt(o.b, int64(e.Order), 10)
	o.flag("undoable", e.Undoable)
	o.name("status")
	o.string(string(e.Status))
	o.flag("condemned", e.Condemned)
	o.flag("stuck", e.Stuck)
	o.number("attempts", int64(e.Attempts))
	o.number("faults", int64(e.Faults))
	o.number("undos", int64(e.Undos))
	o.text("key", e.Key)
	o.text("reason", e.Reason)
	o.b = append(o.b, '}')
}

func encodeTimer(o *object, t *timer) {
	o.b = append(o.b, `{"kind":`...)
	o.string(string(t.Kind))
	o.text("row", t.Row)
	o.text("step", t.Step)
	o.number("run", int64(t.Run))
	o.flag("undo", t.Undo)
	o.number("try", int64(t.Try))
	o.text("why", t.Why)
	o.flag("ripe", t.Ripe)
	o.flag("with", t.With)
	o.number("in", int64(t.In))
	o.time("due", t.Due)
	o.time("sent", t.Sent)
	o.b = append(o.b, '}')
}

func (o *object) time(name string, t time.Time) {
	if !t.IsZero() {
		o.name(name)
		o.b = append(t.AppendFormat(append(o.b, '"'), time.RFC3339Nano), '"')
	}
}

func (e *Entry) encode(o *object) ([]byte, error) {
	if e.Revision != 0 || !e.At.IsZero() { // only when it is read
		return json.Marshal(e)
	}
	o.begin()
	o.name("kind")
	o.string(e.Kind)
	o.text("event", e.Event)
	o.text("source", e.Source)
	o.text("input_id", e.InputID)
	o.text("digest", e.Digest)
	o.text("result", string(e.Result))
	o.text("step", e.Step)
	o.number("run", int64(e.Run))
	o.flag("undo", e.Undo)
	o.text("outcome", e.Outcome)
	o.text("verb", string(e.Verb))
	o.text("who", e.Who)
	o.text("reason", e.Reason)
	if len(e.Before) > 0 {
		o.other("before", e.Before)
	}
	if len(e.Given) > 0 {
		o.other("given", e.Given)
	}
	o.text("timer", e.Timer)
	o.number("in", int64(e.In))
	o.text("to", e.To)
	elements(o, "moves", e.Moves, func(o *object, m *Move) {
		o.b = append(o.b, `{"event":`...)
		o.string(m.Event)
		o.name("from")
		o.string(m.From)
		o.name("to")
		o.string(m.To)
		o.text("row", m.Row)
		o.b = append(o.b, '}')
	})
	if len(e.Judged) > 0 {
		o.other("judged", e.Judged)
	}
	elements(o, "began", e.Began, func(o *object, s *string) { o.string(*s) })
	return o.end()
}
