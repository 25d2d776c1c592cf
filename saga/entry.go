package saga

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode"
)

// Disposition says what became of an event.
type Disposition string

const (
	Applied    Disposition = "applied"   // it took a row
	Waits      Disposition = "waiting"   // recorded; it is judged when the row that runs has ended
	Interrupts Disposition = "interrupt" // recorded; it abandons the row that runs, once the step in flight is known
	Buffered   Disposition = "buffered"  // recorded; it is kept until a state is reached in which it fits
	Ignored    Disposition = "ignored"   // recorded; the table ignores it in this state
	Refused    Disposition = "refused"   // recorded; the table refuses it in this state
	Duplicated Disposition = "duplicate" // it was recorded before, and changes nothing
	Undecided  Disposition = "undecided" // recorded for a process that knows the instance's version
)

// Entry is one line of an instance's history: an input, and all that followed from it in one commit. Nothing is changed
// without an entry.
type Entry struct {
	Revision uint64    `json:"revision,omitempty"` // both are added when the entry is read
	At       time.Time `json:"at,omitzero"`        // the store's time of the commit

	Kind    string      `json:"kind"` // start, event, outcome, timer, operator, delivery
	Event   string      `json:"event,omitempty"`
	Source  string      `json:"source,omitempty"`
	InputID string      `json:"input_id,omitempty"`
	Digest  string      `json:"digest,omitempty"` // of the event's payload
	Result  Disposition `json:"result,omitempty"` // of an event

	Step    string `json:"step,omitempty"`
	Run     int    `json:"run,omitempty"`
	Undo    bool   `json:"undo,omitempty"`
	Outcome string `json:"outcome,omitempty"` // of the step: succeeded, rejected, failed, unknown, late, ...

	Verb   Verb   `json:"verb,omitempty"`
	Who    string `json:"who,omitempty"`
	Reason string `json:"reason,omitempty"` // why: of an operator, a rejection, a failure, a refusal
	Before []byte `json:"before,omitempty"` // of EditData and MarkDone: the data that were replaced, as the codec wrote them

	Given []byte        `json:"given,omitempty"` // of MarkDone: the result; of DropEvent: the event's payload
	Timer string        `json:"timer,omitempty"` // of MoveTimer
	In    time.Duration `json:"in,omitempty"`    // of MoveTimer: due so long after the commit
	To    string        `json:"to,omitempty"`    // of ForceCompensate

	Moves  []Move      `json:"moves,omitempty"`  // the rows that ended, in order
	Judged []Judgement `json:"judged,omitempty"` // what became of events that had been waiting
	Began  []string    `json:"began,omitempty"`  // effects started: step, or step/undo
}

// Move is a transition of the instance from one state to another (or the same).
type Move struct {
	Event string `json:"event"`
	From  string `json:"from"`
	To    string `json:"to"`
	Row   string `json:"row,omitempty"` // its name, as diagrams have it; empty: an operator's
}

// Judgement says what became of an event that had been waiting.
type Judgement struct {
	Event   string      `json:"event"`
	Source  string      `json:"source"`
	InputID string      `json:"input_id"`
	Result  Disposition `json:"result"`
	Reason  string      `json:"reason,omitempty"`
}

// String tells an entry to a person, in a line: when it was, what came, and what followed from it.
func (e Entry) String() string {
	what := strings.Map(func(r rune) rune { // names, IDs and reasons come from everywhere
		if !unicode.IsGraphic(r) {
			return ' '
		}
		return r
	}, strings.Join(e.lines(), "; "))
	if e.Revision == 0 {
		return what
	}
	return fmt.Sprintf("%d  %s  %s", e.Revision, e.At.UTC().Format("2006-01-02 15:04:05.000"), what)
}

// lines tells what came, and then each thing that followed from it.
func (e Entry) lines() []string {
	lines := []string{e.came()}
	for _, m := range e.Moves {
		lines = append(lines, fmt.Sprintf("%s -> %s on %s", m.From, m.To, m.Event))
	}
	for _, j := range e.Judged {
		lines = append(lines, eventLine(j.Event, j.InputID, j.Source, j.Result, j.Reason))
	}
	if len(e.Began) > 0 {
		lines = append(lines, "began "+strings.Join(e.Began, ", "))
	}
	return lines
}

// came tells of the input.
func (e Entry) came() string {
	step := effectName(e.Step, e.Undo, 1)
	if e.Run > 1 {
		step += fmt.Sprintf(" (run %d)", e.Run)
	}
	switch e.Kind {
	case "start":
		return "started"
	case "event":
		return eventLine(e.Event, e.InputID, e.Source, e.Result, e.Reason)
	case "outcome":
		return step + " " + e.Outcome + string(e.Result) + because(e.Reason)
	case "timer":
		return strings.Join(strings.Fields("timer "+e.Event+" "+step+" "+e.Outcome), " ") + because(e.Reason)
	case "delivery":
		return "published what had been begun"
	case "operator":
		return string(e.Verb) + e.object(step) + " by " + e.Who + because(e.Reason)
	}
	return e.Kind
}

// object says what an operator's verb was done to, and with what.
func (e Entry) object(step string) (object string) {
	if e.Step != "" {
		object += " " + step
	}
	if e.Timer != "" {
		object += fmt.Sprintf(" %s to %s from now", e.Timer, e.In)
	}
	if e.To != "" {
		object += " to " + e.To
	}
	if len(e.Given) > 0 {
		object += " given " + string(e.Given)
	}
	return object
}

func eventLine(event, id, source string, result Disposition, reason string) string {
	return fmt.Sprintf("%s %s of %s: %s%s", event, id, source, result, because(reason))
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}

func decodeEntry(r HistoryRecord) (Entry, error) {
	e := Entry{}
	err := json.Unmarshal(r.Entry, &e)
	e.Revision, e.At = r.Revision, r.At
	return e, err
}
