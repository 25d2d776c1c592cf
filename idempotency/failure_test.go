package idempotency_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/memory"
	"github.com/sagamill/sagamill/idempotency"
)

// weak is a store of which some calls fail.
type weak struct {
	idempotency.Store
	begin, renew, complete, release func() error
}

func fails(f func() error) error {
	if f == nil {
		return nil
	}
	return f()
}

var errAway = errors.New("the store is away")

func away() error { return errAway }

func (s *weak) Begin(ctx context.Context, k idempotency.Key, f idempotency.Fingerprint, lease time.Duration) (idempotency.Claim, error) {
	if err := fails(s.begin); err != nil {
		return idempotency.Claim{}, err
	}
	return s.Store.Begin(ctx, k, f, lease)
}

func (s *weak) Renew(ctx context.Context, k idempotency.Key, t idempotency.Token, lease time.Duration) error {
	if err := fails(s.renew); err != nil {
		return err
	}
	return s.Store.Renew(ctx, k, t, lease)
}

func (s *weak) Complete(ctx context.Context, k idempotency.Key, t idempotency.Token, c idempotency.Completion) error {
	if err := fails(s.complete); err != nil {
		return err
	}
	return s.Store.Complete(ctx, k, t, c)
}

func (s *weak) Release(ctx context.Context, k idempotency.Key, t idempotency.Token) error {
	if err := fails(s.release); err != nil {
		return err
	}
	return s.Store.Release(ctx, k, t)
}

// bench calls a handler behind the middleware without a network, so that it can be used in a synctest bubble, where
// time passes when all are waiting.
type bench struct {
	t       *testing.T
	store   *weak
	errors  *errorLog
	handler http.Handler
}

func newBench(t *testing.T, config idempotency.Config, handler http.HandlerFunc) *bench {
	t.Helper()
	b := &bench{t: t, store: &weak{Store: memory.NewIdempotencyStore()}, errors: &errorLog{}}
	b.handler = guardWith(t, b.store, config, b.errors)(handler)
	return b
}

func (b *bench) post(ctx context.Context, body string) answer {
	r := httptest.NewRequestWithContext(ctx, "POST", "/v1/orders", strings.NewReader(body))
	r.Header.Set("Idempotency-Key", "abc")
	w := httptest.NewRecorder()
	b.handler.ServeHTTP(w, r)
	return answer{w.Code, w.Body.String(), w.Header(), w.Header().Get("Idempotent-Replayed") == "true"}
}

// cutOff makes Renew fail until it is set to false.
func (b *bench) cutOff() *atomic.Bool {
	var cut atomic.Bool
	cut.Store(true)
	b.store.renew = func() error {
		if cut.Load() {
			return errAway
		}
		return nil
	}
	return &cut
}

func TestStoreAwayFailsClosed(t *testing.T) {
	t.Parallel()
	b := newBench(t, idempotency.Config{}, func(http.ResponseWriter, *http.Request) { t.Error("the handler runs") })
	b.store.begin = away
	got := b.post(t.Context(), "")
	requireProblem(t, got, 503, "store_unavailable")
	require.Equal(t, "1", got.Header.Get("Retry-After"))
	require.Equal(t, []string{"begin"}, b.errors.ops())
	require.ErrorIs(t, b.errors.seen[0], errAway)
}

func TestStoreHangsFailsClosed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		guard := guardWith(t, hanging{}, idempotency.Config{StoreTimeout: time.Second}, &errorLog{})
		r := httptest.NewRequest("POST", "/", nil)
		r.Header.Set("Idempotency-Key", "abc")
		w, start := httptest.NewRecorder(), time.Now()
		guard(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the handler runs") })).ServeHTTP(w, r)
		require.Equal(t, 503, w.Code)
		require.Equal(t, time.Second, time.Since(start))
	})
}

type hanging struct{ idempotency.Store }

func (hanging) Begin(ctx context.Context, _ idempotency.Key, _ idempotency.Fingerprint, _ time.Duration) (idempotency.Claim, error) {
	<-ctx.Done()
	return idempotency.Claim{}, ctx.Err()
}

func TestUnknownStateFailsClosed(t *testing.T) {
	t.Parallel()
	guard := guardWith(t, clueless{}, idempotency.Config{}, &errorLog{})
	r := httptest.NewRequest("POST", "/", nil)
	r.Header.Set("Idempotency-Key", "abc")
	w := httptest.NewRecorder()
	guard(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the handler runs") })).ServeHTTP(w, r)
	require.Equal(t, 503, w.Code)
}

type clueless struct{ idempotency.Store }

func (clueless) Begin(context.Context, idempotency.Key, idempotency.Fingerprint, time.Duration) (idempotency.Claim, error) {
	return idempotency.Claim{}, nil
}

func TestCompleteFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, idempotency.Config{}, placeOrder())
		b.store.complete = away
		require.Equal(t, `{"id": 1}`, b.post(t.Context(), "").Body, "the client gets the response all the same")
		require.Equal(t, []string{"complete"}, b.errors.ops())

		b.store.complete = nil
		require.Equal(t, 409, b.post(t.Context(), "").Status)
		time.Sleep(5 * time.Second) // the lease
		require.Equal(t, `{"id": 2}`, b.post(t.Context(), "").Body)
		require.True(t, b.post(t.Context(), "").Replayed)
	})
}

func TestReleaseFails(t *testing.T) {
	t.Parallel()
	b := newBench(t, idempotency.Config{}, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "busy", 503) })
	b.store.release = away
	require.Equal(t, "busy\n", b.post(t.Context(), "").Body)
	require.Equal(t, []string{"release"}, b.errors.ops())
}

// Had the client the response before it is stored, a crash in between would lose the record of what the client takes
// for done.
func TestStoredBeforeSent(t *testing.T) {
	t.Parallel()
	b := newBench(t, idempotency.Config{}, placeOrder())
	w := httptest.NewRecorder()
	b.store.complete = func() error {
		if w.Body.Len() > 0 || len(w.Header()) > 0 {
			t.Error("the response is sent before it is stored")
		}
		return nil
	}
	r := httptest.NewRequest("POST", "/", nil)
	r.Header.Set("Idempotency-Key", "abc")
	b.handler.ServeHTTP(w, r)
	require.Equal(t, 201, w.Code)
}

func TestLeaseIsRenewed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, idempotency.Config{Lease: 3 * time.Second}, func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Minute)
			_, _ = fmt.Fprint(w, "at last", context.Cause(r.Context()))
		})
		first := make(chan answer)
		go func() { first <- b.post(t.Context(), "") }()
		time.Sleep(500 * time.Millisecond) // so as not to meet the renewals, which come each second
		for range 11 {
			time.Sleep(5 * time.Second)
			got := b.post(t.Context(), "")
			require.Equal(t, 409, got.Status)
			require.Equal(t, "3", got.Header.Get("Retry-After"))
		}
		require.Equal(t, "at last<nil>", (<-first).Body)
		require.True(t, b.post(t.Context(), "").Replayed)
		require.Empty(t, b.errors.ops())
	})
}

// The process is cut off from its store for longer than the lease, and another takes the key over.
func TestTakeover(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var runs atomic.Int64
		var cause error
		b := newBench(t, idempotency.Config{Lease: 3 * time.Second}, func(w http.ResponseWriter, r *http.Request) {
			run := runs.Add(1)
			if run == 1 {
				<-r.Context().Done()
				cause = context.Cause(r.Context())
			}
			_, _ = fmt.Fprint(w, "run ", run)
		})
		cutOff := b.cutOff()
		first := make(chan answer)
		go func() { first <- b.post(t.Context(), "") }()
		time.Sleep(3500 * time.Millisecond)
		require.Equal(t, "run 2", b.post(t.Context(), "").Body)
		cutOff.Store(false)

		got := <-first
		require.ErrorIs(t, cause, idempotency.ErrFenced)
		requireProblem(t, got, 409, "request_in_flight")
		require.Equal(t, "1", got.Header.Get("Retry-After"))
		require.Equal(t, []string{"renew", "renew", "renew", "renew", "complete"}, b.errors.ops(), "3 away, 2 fenced")
		require.Equal(t, "run 2", b.post(t.Context(), "").Body, "the only response of the key")
	})
}

// As before, but the handler gives up without an answer when it is cancelled.
func TestTakeoverOfSilentHandler(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var runs atomic.Int64
		b := newBench(t, idempotency.Config{Lease: 3 * time.Second}, func(w http.ResponseWriter, r *http.Request) {
			if runs.Add(1) == 1 {
				<-r.Context().Done()
				return
			}
			_, _ = fmt.Fprint(w, "done")
		})
		cutOff := b.cutOff()
		first := make(chan answer)
		go func() { first <- b.post(t.Context(), "") }()
		time.Sleep(3500 * time.Millisecond)
		require.Equal(t, "done", b.post(t.Context(), "").Body)
		cutOff.Store(false)
		requireProblem(t, <-first, 409, "request_in_flight")
	})
}

func TestClientHangsUp(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		write func(w http.ResponseWriter)
		again string
	}{
		"the response is stored all the same": {func(w http.ResponseWriter) { _, _ = fmt.Fprint(w, "done") }, "done"},
		"a failure frees the key":             {func(w http.ResponseWriter) { http.Error(w, "failed", 500) }, "second run"},
		"silence is not success":              {func(http.ResponseWriter) {}, "second run"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, hangUp := context.WithCancel(t.Context())
			runs := 0
			b := newBench(t, idempotency.Config{}, func(w http.ResponseWriter, r *http.Request) {
				if runs++; runs == 2 {
					_, _ = fmt.Fprint(w, "second run")
					return
				}
				hangUp()
				<-r.Context().Done()
				test.write(w)
			})
			b.post(ctx, "")
			require.Equal(t, test.again, b.post(t.Context(), "").Body)
			require.Empty(t, b.errors.ops())
		})
	}
}

func TestClientIsGoneAlready(t *testing.T) {
	t.Parallel()
	ctx, hangUp := context.WithCancel(t.Context())
	hangUp()
	b := newBench(t, idempotency.Config{}, func(http.ResponseWriter, *http.Request) { t.Error("the handler runs") })
	require.Equal(t, 503, b.post(ctx, "").Status)
	require.Empty(t, b.errors.ops(), "that is no failure of the store")
}

func TestHold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, idempotency.Config{}, func(w http.ResponseWriter, r *http.Request) {
			require.True(t, idempotency.Hold(r.Context(), "saga-1"))
			placeOrder()(w, r)
		})
		b.post(t.Context(), "")
		time.Sleep(25 * time.Hour)
		settled := false
		live := func(_ context.Context, holds []string) ([]string, error) {
			require.Equal(t, []string{"saga-1"}, holds)
			if settled {
				return nil, nil
			}
			return holds, nil
		}
		for _, want := range []int{0, 1} {
			require.True(t, b.post(t.Context(), "").Replayed)
			settled = want == 1
			removed, err := b.store.Expire(t.Context(), 10, live)
			require.NoError(t, err)
			require.Equal(t, want, removed)
		}
		require.False(t, b.post(t.Context(), "").Replayed)
	})
}

func TestTTL(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, idempotency.Config{}, placeOrder())
		b.post(t.Context(), "")
		time.Sleep(24*time.Hour - 1)
		require.True(t, b.post(t.Context(), "").Replayed)
		time.Sleep(time.Nanosecond)
		require.Equal(t, `{"id": 2}`, b.post(t.Context(), "another request").Body)
	})
}
