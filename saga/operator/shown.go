package operator

import (
	"bytes"
	"encoding/json"
	"time"
	"unicode/utf8"

	"github.com/sagamill/sagamill/saga"
)

// What is shown, as JSON. Its text is in text.go.

// summary is a saga in a list.
type summary struct {
	ID             string    `json:"id"`
	Definition     string    `json:"definition"`
	Version        int       `json:"version"`
	Key            string    `json:"key"`
	State          string    `json:"state"`
	CompensatingTo string    `json:"compensating_to,omitempty"`
	Settled        bool      `json:"settled"`
	Attention      string    `json:"attention,omitempty"`
	Cause          string    `json:"cause,omitempty"`
	CreatedAt      time.Time `json:"created_at"`
	UpdatedAt      time.Time `json:"updated_at"`
}

func newSummary(i saga.Instance) summary {
	return summary{
		ID: i.ID, Definition: i.Definition, Version: i.Version, Key: i.Key, State: i.State, CompensatingTo: i.CompensatingTo,
		Settled: i.Settled, Attention: i.Attention, Cause: i.Cause, CreatedAt: i.CreatedAt, UpdatedAt: i.UpdatedAt,
	}
}

// page is a part of a list.
type page struct {
	Sagas []summary `json:"sagas"`
	Next  string    `json:"next,omitempty"`
}

func newPage(found []saga.Instance, next string) page {
	p := page{Sagas: []summary{}, Next: next}
	for _, i := range found {
		p.Sagas = append(p.Sagas, newSummary(i))
	}
	return p
}

// details is a saga by itself.
type details struct {
	summary
	Revision  uint64     `json:"revision"`
	Steps     []step     `json:"steps"`
	Waiting   []waiting  `json:"waiting"`
	Timers    []timer    `json:"timers"`
	WouldUndo [][]string `json:"would_undo"`
	Data      payload    `json:"data"`
}

type step struct {
	Name     string `json:"name"`
	Run      int    `json:"run"`
	Class    string `json:"class"`
	Status   string `json:"status"`
	Stuck    bool   `json:"stuck"`
	Undoable bool   `json:"undoable"`
	Attempts int    `json:"attempts"`
	Faults   int    `json:"faults,omitempty"` // those of the attempts that failed by a fault of the definition
	Undos    int    `json:"undos"`
	Reason   string `json:"reason,omitempty"`
}

type waiting struct {
	Event    string  `json:"event"`
	Source   string  `json:"source"`
	ID       string  `json:"id"`
	Payload  payload `json:"payload"`
	Buffered bool    `json:"buffered"`
	Why      string  `json:"why,omitempty"`
}

type timer struct {
	Name string    `json:"name"`
	Due  time.Time `json:"due"`
}

func newDetails(i saga.Instance) details {
	d := details{summary: newSummary(i), Revision: i.Revision, Steps: []step{}, Waiting: []waiting{}, Timers: []timer{}, WouldUndo: [][]string{}, Data: i.Data}
	for _, e := range i.Steps {
		class := string(e.Class)
		if class == "" {
			class = "compensatable"
		}
		d.Steps = append(d.Steps, step{
			Name: e.Step, Run: e.Run, Class: class, Status: string(e.Status), Stuck: e.Stuck, Undoable: e.Undoable,
			Attempts: e.Attempts, Faults: e.Faults, Undos: e.Undos, Reason: e.Reason,
		})
	}
	for _, w := range i.Waiting {
		d.Waiting = append(d.Waiting, waiting{Event: w.Event, Source: w.Source, ID: w.ID, Payload: w.Payload, Buffered: w.Buffered, Why: w.Why})
	}
	for _, t := range i.Timers {
		d.Timers = append(d.Timers, timer(t))
	}
	d.WouldUndo = append(d.WouldUndo, i.WouldUndo()...)
	return d
}

// history is a part of a saga's.
type history struct {
	Entries []entry `json:"entries"`
	Next    uint64  `json:"next,omitempty"` // the revision after which the next part begins
}

// entry is one of saga's, with what codecs wrote and durations as a person reads them.
type entry struct {
	saga.Entry
	Before payload `json:"before,omitempty"`
	Given  payload `json:"given,omitempty"`
	In     string  `json:"in,omitempty"`
}

func newHistory(entries []saga.Entry, limit int) history {
	h := history{Entries: []entry{}}
	for _, e := range entries {
		shown := entry{Entry: e, Before: e.Before, Given: e.Given}
		if e.In != 0 {
			shown.In = e.In.String()
		}
		h.Entries = append(h.Entries, shown)
	}
	if len(entries) == limit {
		h.Next = entries[len(entries)-1].Revision
	}
	return h
}

// letters is a part of the dead letters.
type letters struct {
	DeadLetters []letter `json:"dead_letters"`
	Next        string   `json:"next,omitempty"`
}

type letter struct {
	ID       string            `json:"id"`
	Topic    string            `json:"topic"`
	Reason   string            `json:"reason"`
	Metadata map[string]string `json:"metadata"`
	Payload  payload           `json:"payload"`
	At       time.Time         `json:"at"`
}

func newLetters(found []saga.DeadLetter, limit int) letters {
	l := letters{DeadLetters: []letter{}}
	for _, d := range found {
		l.DeadLetters = append(l.DeadLetters, letter{ID: d.ID, Topic: d.Topic, Reason: d.Reason, Metadata: d.Metadata, Payload: d.Payload, At: d.At})
	}
	if len(found) == limit {
		l.Next = found[len(found)-1].ID
	}
	return l
}

// payload is what a codec wrote: shown as it is if that is JSON, else as text, or as base64 if it is none.
type payload []byte

// MarshalJSON implements json.Marshaler.
func (p payload) MarshalJSON() ([]byte, error) {
	switch {
	case len(p) == 0:
		return []byte("null"), nil
	case !utf8.Valid(p):
		return json.Marshal([]byte(p))
	case json.Valid(p):
		return p, nil
	}
	return json.Marshal(string(p))
}

// String is the payload for a terminal.
func (p payload) String() string {
	if len(p) == 0 {
		return "-"
	}
	shown, err := p.MarshalJSON()
	if err != nil {
		return err.Error()
	}
	var b bytes.Buffer
	if err := json.Compact(&b, shown); err != nil {
		return err.Error()
	}
	return b.String()
}
