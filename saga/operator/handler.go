package operator

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/sagamill/sagamill/saga"
)

// Config says whom to let in.
type Config struct {
	// Who names the person who asks, for the history, or answers an error, whose text that person is shown. Required.
	Who func(*http.Request) (string, error)
	// Logger hears of whoever is not let in, of each operation that is asked for and what came of it, and of what fails. Nil: slog.Default().
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
		"GET /sagas":                  d.list,
		"GET /sagas/{id}":             d.get,
		"GET /sagas/{id}/history":     d.history,
		"POST /sagas/{id}/operations": d.operate,
		"GET /dead-letters":           d.deadLetters,
		"DELETE /dead-letters":        d.removeDeadLetter,
		"/":                           nowhere,
	} {
		mux.Handle(pattern, d.serve(call))
	}
	origins := http.NewCrossOriginProtection()
	origins.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d.deny(w, r, errors.New("a page of another origin may not do this"))
	}))
	return origins.Handler(mux), nil
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
			d.deny(w, r, err)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		shown, err := answer(who, r)
		if err != nil {
			d.refuse(w, r, who, err)
			return
		}
		if text, ok := shown.(fmt.Stringer); ok && r.URL.Query().Get("format") == "text" {
			write(w, http.StatusOK, "text/plain; charset=utf-8", []byte(text.String()))
			return
		}
		body, err := json.Marshal(shown)
		if err != nil {
			d.refuse(w, r, who, fmt.Errorf("show: %w", err))
			return
		}
		write(w, http.StatusOK, "application/json", append(body, '\n'))
	})
}

func nowhere(_ string, r *http.Request) (any, error) {
	return nil, fmt.Errorf("%w: there is no %s %s here", saga.ErrNotFound, r.Method, r.URL.Path)
}

func (d *desk) deny(w http.ResponseWriter, r *http.Request, err error) {
	d.Logger.WarnContext(r.Context(), "operator not let in", "method", r.Method, "path", r.URL.Path, "error", err)
	tell(w, http.StatusForbidden, err)
}

func (d *desk) refuse(w http.ResponseWriter, r *http.Request, who string, err error) {
	status := statusOf(err)
	if status >= 500 && r.Method == http.MethodGet && r.Context().Err() == nil { // what is to change something is logged there
		d.Logger.ErrorContext(r.Context(), "operator's call failed", "method", r.Method, "path", r.URL.Path, "who", who, "error", err)
	}
	tell(w, status, err)
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

// tell answers an error as RFC 9457 has it.
func tell(w http.ResponseWriter, status int, err error) {
	body, _ := json.Marshal(map[string]any{"type": "about:blank", "title": http.StatusText(status), "status": status, "detail": err.Error()})
	write(w, status, "application/problem+json", append(body, '\n'))
}

func write(w http.ResponseWriter, status int, contentType string, body []byte) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store") // sagas have customers' data
	w.WriteHeader(status)
	_, _ = w.Write(body) // if the client is gone, nobody needs it
}
