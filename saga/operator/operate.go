package operator

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/sagamill/sagamill/saga"
)

// The calls that change something.

// operation is the body of one.
type operation struct {
	Verb   saga.Verb       `json:"verb"`
	Why    string          `json:"why"`
	Step   string          `json:"step"`
	Data   json.RawMessage `json:"data"`
	Timer  string          `json:"timer"`
	In     string          `json:"in"`
	To     string          `json:"to"`
	Source string          `json:"source"`
	ID     string          `json:"id"`
}

// takes lists the members that a verb has, besides verb and why. All are needed but the data of MarkDone.
var takes = map[saga.Verb][]string{
	saga.RetryNow:        {"step"},
	saga.SkipStep:        {"step"},
	saga.MarkDone:        {"step", "data"},
	saga.MarkRejected:    {"step"},
	saga.EditData:        {"data"},
	saga.MoveTimer:       {"timer", "in"},
	saga.DropEvent:       {"source", "id"},
	saga.ForceCompensate: {"to"},
}

// read reads an operation strictly.
func (op *operation) read(body []byte) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(op); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the operation")
	}
	if string(op.Data) == "null" {
		op.Data = nil
	}
	members, known := takes[op.Verb]
	if !known {
		return fmt.Errorf("there is no verb %q", op.Verb)
	}
	for name, value := range op.members() {
		switch takes := slices.Contains(members, name); {
		case takes && value == "" && (op.Verb != saga.MarkDone || name != "data"):
			return fmt.Errorf("%s needs %s", op.Verb, strings.Join(members, " and "))
		case !takes && value != "":
			return fmt.Errorf("%s takes %s, and no %s", op.Verb, strings.Join(members, " and "), name)
		}
	}
	return nil
}

// members are those that depend on the verb.
func (op *operation) members() map[string]string {
	return map[string]string{
		"step": op.Step, "data": string(op.Data), "timer": op.Timer, "in": op.In, "to": op.To, "source": op.Source, "id": op.ID,
	}
}

func (d *desk) operate(who string, r *http.Request) (any, error) {
	if q := queryOf(r); q.err != nil {
		return nil, q.err
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, fmt.Errorf("%w: the body: %w", saga.ErrInvalid, err)
	}
	var asked operation
	if err := asked.read(body); err != nil {
		return nil, fmt.Errorf("%w: the body: %w", saga.ErrInvalid, err)
	}
	op := saga.Operation{
		Verb: asked.Verb, Who: who, Why: asked.Why, Step: asked.Step, Timer: asked.Timer, To: asked.To, Source: asked.Source, ID: asked.ID,
	}
	if asked.Data != nil {
		op.Data = asked.Data
	}
	if asked.In != "" {
		if op.In, err = time.ParseDuration(asked.In); err != nil {
			return nil, fmt.Errorf("%w: in: %w", saga.ErrInvalid, err)
		}
	}
	after, err := d.o.Operate(r.Context(), r.PathValue("id"), op)
	did := []any{"who", who, "verb", string(asked.Verb), "instance", r.PathValue("id"), "why", asked.Why}
	for _, name := range takes[asked.Verb] {
		if name != "data" { // which are in the history, and may be anybody's
			did = append(did, name, asked.members()[name])
		}
	}
	d.log(r, err, did...)
	return newDetails(after), err
}

func (d *desk) removeDeadLetter(who string, r *http.Request) (any, error) {
	q := queryOf(r, "id")
	id := q.text("id")
	if id == "" {
		q.fault(errors.New("id says which dead letter"))
	}
	if q.err != nil {
		return nil, q.err
	}
	n, err := d.o.RemoveDeadLetters(r.Context(), id)
	if err == nil && n == 0 {
		err = fmt.Errorf("%w: dead letter %s", saga.ErrNotFound, id)
	}
	d.log(r, err, "who", who, "verb", "remove-dead-letter", "id", id)
	return map[string]string{"removed": id}, err
}

// log says who asked for what, and what came of it. Of an operation that failed nobody may know, here, whether it was committed.
func (d *desk) log(r *http.Request, err error, did ...any) {
	switch {
	case err == nil:
		d.Logger.InfoContext(r.Context(), "operator", did...)
	case statusOf(err) < 500:
		d.Logger.WarnContext(r.Context(), "operator refused", append(did, slog.Any("error", err))...)
	default:
		d.Logger.ErrorContext(r.Context(), "operator's call failed", append(did, slog.Any("error", err))...)
	}
}
