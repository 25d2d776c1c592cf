package idempotency_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/memory"
	"github.com/sagamill/sagamill/idempotency"
)

// service is a handler behind the middleware, served over HTTP.
type service struct {
	t   *testing.T
	url string
	*http.Client
	store  *memory.IdempotencyStore
	errors *errorLog
	runs   atomic.Int64 // of the handler
}

// errorLog is what Config.OnError was told.
type errorLog struct {
	mu   sync.Mutex
	seen []error
}

func (l *errorLog) add(_ context.Context, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen = append(l.seen, err)
}

// ops are the calls of the store that failed.
func (l *errorLog) ops() (ops []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, err := range l.seen {
		if e, ok := errors.AsType[*idempotency.StoreError](err); ok {
			ops = append(ops, e.Op)
		}
	}
	return ops
}

func serve(t *testing.T, config idempotency.Config, handler http.HandlerFunc) *service {
	t.Helper()
	return serveWith(t, memory.NewIdempotencyStore(), nil, config, handler)
}

// serveWith puts wrap, if any, around the store.
func serveWith(t *testing.T, store *memory.IdempotencyStore, wrap func(idempotency.Store) idempotency.Store, config idempotency.Config, handler http.HandlerFunc) *service {
	t.Helper()
	s := &service{t: t, store: store, errors: &errorLog{}}
	var wrapped idempotency.Store = store
	if wrap != nil {
		wrapped = wrap(store)
	}
	guard := guardWith(t, wrapped, config, s.errors)
	counted := guard(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.runs.Add(1)
		handler(w, r)
	}))
	mux := http.NewServeMux()
	mux.Handle("/v1/orders", counted)
	mux.Handle("POST /v1/orders/{id}/pay", counted)
	server := httptest.NewUnstartedServer(mux)
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.Start()
	t.Cleanup(server.Close)
	s.url, s.Client = server.URL, server.Client()
	return s
}

func guardWith(t *testing.T, store idempotency.Store, config idempotency.Config, log *errorLog) func(http.Handler) http.Handler {
	t.Helper()
	config.Logger = slog.New(slog.DiscardHandler)
	config.OnError = log.add
	guard, err := idempotency.Middleware(store, config)
	require.NoError(t, err)
	return guard
}

// answer is what the client got.
type answer struct {
	Status   int
	Body     string
	Header   http.Header
	Replayed bool
}

type change func(*http.Request)

func header(name string, values ...string) change {
	return func(r *http.Request) { r.Header[http.CanonicalHeaderKey(name)] = values }
}

func (s *service) post(key, body string, changes ...change) answer {
	s.t.Helper()
	return s.call("POST", "/v1/orders", body, append([]change{header("Idempotency-Key", key)}, changes...)...)
}

func (s *service) call(method, path, body string, changes ...change) answer {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, strings.NewReader(body))
	require.NoError(s.t, err)
	r.Header.Set("Content-Type", "application/json")
	for _, c := range changes {
		c(r)
	}
	response, err := s.Do(r)
	require.NoError(s.t, err)
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	require.NoError(s.t, err)
	return answer{response.StatusCode, string(text), response.Header, response.Header.Get("Idempotent-Replayed") == "true"}
}

// requireProblem checks the form of an answer of the middleware's own.
func requireProblem(t *testing.T, got answer, status int, kind string) {
	t.Helper()
	require.Equal(t, status, got.Status, got.Body)
	require.Equal(t, "application/problem+json", got.Header.Get("Content-Type"))
	require.False(t, got.Replayed)
	var p struct {
		Type, Title, Detail string
		Status              int
	}
	require.NoError(t, json.Unmarshal([]byte(got.Body), &p))
	require.Equal(t, "https://pkg.go.dev/github.com/sagamill/sagamill/idempotency#hdr-Problem_"+kind, p.Type)
	require.Equal(t, status, p.Status)
	require.NotEmpty(t, p.Title)
	require.NotEmpty(t, p.Detail)
}

// placeOrder answers another order each time it runs.
func placeOrder() http.HandlerFunc {
	var n atomic.Int64
	return func(w http.ResponseWriter, _ *http.Request) {
		id := n.Add(1)
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Location", fmt.Sprintf("/v1/orders/%d", id))
		w.WriteHeader(http.StatusCreated)
		_, _ = fmt.Fprintf(w, `{"id": %d}`, id)
	}
}

// body replaces the request's body by one of n bytes.
func body(n int64) change {
	return func(r *http.Request) {
		r.Body = io.NopCloser(io.LimitReader(endless{}, n))
		r.ContentLength = n
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }
