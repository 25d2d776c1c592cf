package operator

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/sagamill/sagamill/saga"
)

// Config says whom to let in.
type Config struct {
	// Who names the person who asks, for the history, or answers an error, whose text that person is shown. Required.
	Who func(*http.Request) (string, error)
	// Logger hears of each operation that is asked for, and of what fails. Nil: slog.Default().
	Logger *slog.Logger
}

// Handler serves the orchestrator's sagas. It keeps nothing, and may be used by any number of requests at a time. Reading needs the store
// alone; an operation waits until the orchestrator runs, or the request's context ends.
func Handler(o *saga.Orchestrator, c Config) (http.Handler, error) {
	if o == nil || c.Who == nil {
		return nil, fmt.Errorf("%w: operator.Handler needs an orchestrator, and a Config.Who that says whom to let in", saga.ErrInvalid)
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	d := &desk{o, c}
	mux := http.NewServeMux()
	for pattern, call := range map[string]call{
		"GET /{$}":              d.list,
		"GET /{id}":             d.get,
		"GET /{id}/history":     d.history,
		"POST /{id}/operations": d.operate,
		"GET /dead-letters":     d.deadLetters,
		"DELETE /dead-letters":  d.removeDeadLetter,
	} {
		mux.Handle(pattern, d.serve(call))
	}
	return http.NewCrossOriginProtection().Handler(mux), nil
}

// desk is where operators come to.
type desk struct {
	o *saga.Orchestrator
	Config
}

// call answers a person's request with what is to be shown.
type call func(who string, r *http.Request) (any, error)

const (
	maxBody     = 1 << 20
	defaultPage = 50
	maxPage     = 500
)

func (d *desk) serve(answer call) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, err := d.Who(r)
		if err == nil && who == "" {
			err = errors.New("nobody says who asks")
		}
		if err != nil {
			reply(w, http.StatusForbidden, problem(http.StatusForbidden, err))
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		shown, err := answer(who, r)
		if err != nil {
			status := statusOf(err)
			if status >= 500 && r.Context().Err() == nil {
				d.Logger.ErrorContext(r.Context(), "operator's call failed", "method", r.Method, "path", r.URL.Path, "who", who, "error", err)
			}
			reply(w, status, problem(status, err))
			return
		}
		if text, ok := shown.(fmt.Stringer); ok && r.URL.Query().Get("format") == "text" {
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			w.Header().Set("X-Content-Type-Options", "nosniff")
			_, _ = io.WriteString(w, text.String()) // if the client is gone, nobody needs it
			return
		}
		reply(w, http.StatusOK, shown)
	})
}

// problemDetails is an error as RFC 9457 has it.
type problemDetails struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
}

func problem(status int, err error) problemDetails {
	return problemDetails{Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: err.Error()}
}

func statusOf(err error) int {
	tooLarge := (*http.MaxBytesError)(nil)
	switch {
	case errors.As(err, &tooLarge), errors.Is(err, saga.ErrTooLarge):
		return http.StatusRequestEntityTooLarge
	case errors.Is(err, saga.ErrInvalid):
		return http.StatusBadRequest
	case errors.Is(err, saga.ErrNotFound):
		return http.StatusNotFound
	case errors.Is(err, saga.ErrRefused), errors.Is(err, saga.ErrUnknownDefinition):
		return http.StatusConflict
	}
	return http.StatusServiceUnavailable
}

func reply(w http.ResponseWriter, status int, shown any) {
	contentType := "application/json"
	if status >= 400 {
		contentType = "application/problem+json"
	}
	body, err := json.MarshalIndent(shown, "", "  ")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // if the client is gone, nobody needs it
}

func (d *desk) list(_ string, r *http.Request) (any, error) {
	q, err := newQuery(r, "definition", "key", "key-prefix", "state", "settled", "attention", "older-than", "idle-for", "limit", "after")
	if err != nil {
		return nil, err
	}
	definition, key := q.Get("definition"), q.Get("key")
	if key != "" {
		if definition == "" {
			return nil, fmt.Errorf("%w: a key is one of a definition: say which definition", saga.ErrInvalid)
		}
		i, err := d.o.Lookup(r.Context(), definition, key)
		if errors.Is(err, saga.ErrNotFound) {
			return newPage(nil, ""), nil
		}
		return newPage([]saga.Instance{i}, ""), err
	}
	settled, known := q.flag("settled")
	attention, _ := q.flag("attention")
	find := saga.Query{
		Definition: definition, KeyPrefix: q.Get("key-prefix"), State: q.Get("state"), Settled: known && settled, Unsettled: known && !settled,
		NeedsAttention: attention, OlderThan: q.duration("older-than"), IdleFor: q.duration("idle-for"), After: q.Get("after"), Limit: q.limit(),
	}
	if q.err != nil {
		return nil, q.err
	}
	found, next, err := d.o.List(r.Context(), find)
	return newPage(found, next), err
}

func (d *desk) get(_ string, r *http.Request) (any, error) {
	if _, err := newQuery(r); err != nil {
		return nil, err
	}
	i, err := d.o.Get(r.Context(), r.PathValue("id"))
	return newDetails(i), err
}

func (d *desk) history(_ string, r *http.Request) (any, error) {
	q, err := newQuery(r, "after", "limit")
	if err != nil {
		return nil, err
	}
	after, limit := q.number("after"), q.limit()
	if q.err != nil {
		return nil, q.err
	}
	entries, err := d.o.History(r.Context(), r.PathValue("id"), uint64(after), limit)
	return newHistory(entries, limit), err
}

// operation is the body of a call that changes something.
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

func (d *desk) operate(who string, r *http.Request) (any, error) {
	if _, err := newQuery(r); err != nil {
		return nil, err
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, fmt.Errorf("%w: the body: %w", saga.ErrInvalid, err)
	}
	var asked operation
	reader := json.NewDecoder(bytes.NewReader(body))
	reader.DisallowUnknownFields()
	if err := reader.Decode(&asked); err != nil {
		return nil, fmt.Errorf("%w: the body is no operation: %w", saga.ErrInvalid, err)
	}
	if _, err := reader.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: something follows the operation", saga.ErrInvalid)
	}
	op := saga.Operation{
		Verb: asked.Verb, Who: who, Why: asked.Why, Step: asked.Step, Timer: asked.Timer, To: asked.To, Source: asked.Source, ID: asked.ID,
	}
	if len(asked.Data) > 0 && string(asked.Data) != "null" {
		op.Data = asked.Data
	}
	if asked.In != "" {
		if op.In, err = time.ParseDuration(asked.In); err != nil {
			return nil, fmt.Errorf("%w: in: %w", saga.ErrInvalid, err)
		}
	}
	after, err := d.o.Operate(r.Context(), r.PathValue("id"), op)
	d.log(r, who, err, "instance", r.PathValue("id"), "verb", asked.Verb, "step", asked.Step, "why", asked.Why)
	return newDetails(after), err
}

func (d *desk) deadLetters(_ string, r *http.Request) (any, error) {
	q, err := newQuery(r, "after", "limit")
	if err != nil {
		return nil, err
	}
	limit := q.limit()
	if q.err != nil {
		return nil, q.err
	}
	letters, err := d.o.DeadLetters(r.Context(), q.Get("after"), limit)
	return newLetters(letters, limit), err
}

func (d *desk) removeDeadLetter(who string, r *http.Request) (any, error) {
	q, err := newQuery(r, "id")
	if err != nil {
		return nil, err
	}
	id := q.Get("id")
	if id == "" {
		return nil, fmt.Errorf("%w: id says which dead letter", saga.ErrInvalid)
	}
	n, err := d.o.RemoveDeadLetters(r.Context(), id)
	if err == nil && n == 0 {
		err = fmt.Errorf("%w: dead letter %s", saga.ErrNotFound, id)
	}
	d.log(r, who, err, "verb", "remove dead letter", "id", id)
	return map[string]string{"removed": id}, err
}

// log says who asked for what, and what came of it.
func (d *desk) log(r *http.Request, who string, err error, asked ...any) {
	result := "done"
	if err != nil {
		result = err.Error()
	}
	d.Logger.InfoContext(r.Context(), "operator", append([]any{"who", who, "result", result}, asked...)...)
}

// query is what a URL asks for. The first thing that cannot be read is its err.
type query struct {
	url.Values
	err error
}

// newQuery refuses names that the call does not know: one that is misspelt would find too much.
func newQuery(r *http.Request, names ...string) (*query, error) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, fmt.Errorf("%w: the query: %w", saga.ErrInvalid, err)
	}
	names = append(names, "format")
	for name := range values {
		if !slices.Contains(names, name) {
			return nil, fmt.Errorf("%w: the query has %q; it takes %q", saga.ErrInvalid, name, names)
		}
	}
	if f := values.Get("format"); f != "" && f != "text" && f != "json" {
		return nil, fmt.Errorf("%w: format is text or json, not %q", saga.ErrInvalid, f)
	}
	return &query{Values: values}, nil
}

func (q *query) check(name string, err error) {
	if err != nil && q.err == nil {
		q.err = fmt.Errorf("%w: %s is %q: %w", saga.ErrInvalid, name, q.Get(name), err)
	}
}

func (q *query) flag(name string) (value, known bool) {
	if q.Get(name) == "" {
		return false, false
	}
	value, err := strconv.ParseBool(q.Get(name))
	q.check(name, err)
	return value, err == nil
}

func (q *query) duration(name string) time.Duration {
	if q.Get(name) == "" {
		return 0
	}
	d, err := time.ParseDuration(q.Get(name))
	if err == nil && d < 0 {
		err = errors.New("it is negative")
	}
	q.check(name, err)
	return d
}

func (q *query) number(name string) int {
	if q.Get(name) == "" {
		return 0
	}
	n, err := strconv.Atoi(q.Get(name))
	if err == nil && n < 0 {
		err = errors.New("it is negative")
	}
	q.check(name, err)
	return n
}

func (q *query) limit() int {
	n := q.number("limit")
	if n > maxPage {
		q.check("limit", fmt.Errorf("it is at most %d", maxPage))
	}
	if n == 0 {
		n = defaultPage
	}
	return n
}
