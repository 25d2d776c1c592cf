package idempotency_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/memory"
	"github.com/sagamill/sagamill/idempotency"
)

func TestReplay(t *testing.T) {
	t.Parallel()
	body := make([]byte, 70_000) // more than net/http sends in one piece
	for i := range body {
		body[i] = byte(i)
	}
	s := serve(t, idempotency.Config{}, func(w http.ResponseWriter, r *http.Request) {
		got, err := io.ReadAll(r.Body)
		if err != nil || string(got) != `{"sku": "tea"}` || r.ContentLength != int64(len(got)) {
			t.Errorf("the handler reads %q of %d, %v", got, r.ContentLength, err)
		}
		h := w.Header()
		h.Set("Content-Type", "application/octet-stream")
		h.Set("Location", "/v1/orders/1")
		h["Link"] = []string{"b", "a", "b"}
		h.Set("Set-Cookie", "session=secret")
		h.Set("X-Request-Id", "1")
		w.WriteHeader(http.StatusCreated)
		h.Set("Etag", "too late")
		for part := range bytes.SplitSeq(body, []byte{7}) {
			_, _ = w.Write(part)
			_, _ = w.Write([]byte{7})
		}
	})
	first := s.post("abc", `{"sku": "tea"}`)
	require.Equal(t, 201, first.Status)
	require.Equal(t, "session=secret", first.Header.Get("Set-Cookie"))
	require.Equal(t, "1", first.Header.Get("X-Request-Id"))
	require.Empty(t, first.Header.Get("Etag"), "set after WriteHeader")
	require.False(t, first.Replayed)

	for _, key := range []string{"abc", `"abc"`} {
		again := s.post(key, `{"sku": "tea"}`)
		require.True(t, again.Replayed)
		require.Equal(t, first.Status, again.Status)
		require.Equal(t, first.Body, again.Body)
		want := first.Header.Clone()
		want.Set("Idempotent-Replayed", "true")
		for _, own := range []string{"Set-Cookie", "X-Request-Id", "Date"} {
			want.Del(own)
			again.Header.Del(own)
		}
		require.Empty(t, cmp.Diff(want, again.Header))
	}
	require.EqualValues(t, 1, s.runs.Load())
	require.Empty(t, s.errors.ops())
}

func TestEachStatus(t *testing.T) {
	t.Parallel()
	kept := func(status int) bool {
		switch status {
		case 402, 404, 409, 410, 451: // they stand, however the request is mended
			return true
		}
		return status < 400
	}
	s := serve(t, idempotency.Config{}, func(w http.ResponseWriter, r *http.Request) {
		var status int
		_, _ = fmt.Fscan(r.Body, &status)
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, "this is %d", status)
	})
	s.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	for status := 200; status < 600; status++ {
		key, before := fmt.Sprint("key-", status), s.runs.Load()
		first, again := s.post(key, fmt.Sprint(status)), s.post(key, fmt.Sprint(status))
		require.Equal(t, status, first.Status)
		require.Equal(t, status, again.Status)
		require.Equal(t, first.Body, again.Body)
		if status != 204 && status != 304 {
			require.Equal(t, fmt.Sprint("this is ", status), first.Body)
		}
		require.False(t, first.Replayed)
		require.Equal(t, kept(status), again.Replayed, "status %d", status)
		runs := 2
		if kept(status) {
			runs = 1
		}
		require.EqualValues(t, runs, s.runs.Load()-before, "status %d", status)
	}
}

func TestKeepAll(t *testing.T) {
	t.Parallel()
	s := serve(t, idempotency.Config{Keep: func(int) bool { return true }}, func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "no", http.StatusInternalServerError)
	})
	require.False(t, s.post("abc", "").Replayed)
	require.True(t, s.post("abc", "").Replayed)
}

func TestSilentHandler(t *testing.T) {
	t.Parallel()
	s := serve(t, idempotency.Config{}, func(http.ResponseWriter, *http.Request) {})
	for _, replayed := range []bool{false, true} {
		got := s.post("abc", "")
		require.Equal(t, 200, got.Status)
		require.Empty(t, got.Body)
		require.Equal(t, replayed, got.Replayed)
	}
}

func TestInvalidRequests(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("k", 256)
	for name, test := range map[string]struct {
		changes []change
		status  int
		kind    string
	}{
		"no key":              {[]change{header("Idempotency-Key")}, 400, "key_missing"},
		"empty key":           {[]change{header("Idempotency-Key", "")}, 400, "key_missing"},
		"empty quoted key":    {[]change{header("Idempotency-Key", `""`)}, 400, "key_malformed"},
		"key of two words":    {[]change{header("Idempotency-Key", "a b")}, 400, "key_malformed"},
		"unbalanced quotes":   {[]change{header("Idempotency-Key", `"a`)}, 400, "key_malformed"},
		"long key":            {[]change{header("Idempotency-Key", long)}, 400, "key_malformed"},
		"two keys":            {[]change{header("Idempotency-Key", "a", "b")}, 400, "key_malformed"},
		"the same key twice":  {[]change{header("Idempotency-Key", "a", "a")}, 400, "key_malformed"},
		"empty tenant":        {[]change{header("Tenant-ID", "")}, 400, "tenant_invalid"},
		"two tenants":         {[]change{header("Tenant-ID", "a", "b")}, 400, "tenant_invalid"},
		"long tenant":         {[]change{header("Tenant-ID", long)}, 400, "tenant_invalid"},
		"large body":          {[]change{body(1<<20 + 1)}, 413, "body_too_large"},
		"large body, chunked": {[]change{body(1<<20 + 1), func(r *http.Request) { r.ContentLength = -1 }}, 413, "body_too_large"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, idempotency.Config{}, placeOrder())
			requireProblem(t, s.post("abc", "{}", test.changes...), test.status, test.kind)
			require.Zero(t, s.runs.Load())
			require.Equal(t, 201, s.post("abc", "{}").Status, "the key is free")
		})
	}
}

func TestLargestBody(t *testing.T) {
	t.Parallel()
	s := serve(t, idempotency.Config{}, func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		_, _ = fmt.Fprint(w, n, err)
	})
	require.Equal(t, "1048576 <nil>", s.post("abc", "", body(1<<20)).Body)
}

func TestBodyEndsEarly(t *testing.T) {
	t.Parallel()
	guard := guardWith(t, memory.NewIdempotencyStore(), idempotency.Config{}, &errorLog{})
	r := httptest.NewRequest("POST", "/v1/orders", io.MultiReader(strings.NewReader("{"), failing{}))
	r.Header.Set("Idempotency-Key", "abc")
	w := httptest.NewRecorder()
	guard(placeOrder()).ServeHTTP(w, r)
	requireProblem(t, answer{w.Code, w.Body.String(), w.Header(), false}, 400, "request_unreadable")
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestLongTarget(t *testing.T) {
	t.Parallel()
	s := serve(t, idempotency.Config{Route: func(r *http.Request) string { return r.URL.Path + strings.Repeat("/x", 2000) }}, placeOrder())
	requireProblem(t, s.post("abc", ""), 400, "request_unreadable")
}

func TestAnotherRequest(t *testing.T) {
	t.Parallel()
	for name, another := range map[string]func(s *service) answer{
		"body":         func(s *service) answer { return s.post("abc", `{"sku":"tea"}`) },
		"no body":      func(s *service) answer { return s.post("abc", "") },
		"content type": func(s *service) answer { return s.post("abc", "{}", header("Content-Type", "text/plain")) },
		"query": func(s *service) answer {
			return s.call("POST", "/v1/orders?dry=1", "{}", header("Idempotency-Key", "abc"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, idempotency.Config{}, placeOrder())
			require.Equal(t, 201, s.post("abc", "{}").Status)
			requireProblem(t, another(s), 422, "key_reused")
			require.True(t, s.post("abc", "{}").Replayed)
			require.EqualValues(t, 1, s.runs.Load())
		})
	}
	t.Run("method of the same route", func(t *testing.T) {
		t.Parallel()
		s := serve(t, idempotency.Config{Route: func(*http.Request) string { return "orders" }}, placeOrder())
		require.Equal(t, 201, s.post("abc", "{}").Status)
		requireProblem(t, s.call("PUT", "/v1/orders", "{}", header("Idempotency-Key", "abc")), 422, "key_reused")
	})
	t.Run("path of the same route", func(t *testing.T) {
		t.Parallel()
		s := serve(t, idempotency.Config{}, placeOrder())
		require.Equal(t, 201, s.call("POST", "/v1/orders/1/pay", "{}", header("Idempotency-Key", "abc")).Status)
		requireProblem(t, s.call("POST", "/v1/orders/2/pay", "{}", header("Idempotency-Key", "abc")), 422, "key_reused")
	})
}

func TestKeysOfOthers(t *testing.T) {
	t.Parallel()
	s := serve(t, idempotency.Config{}, placeOrder())
	key := header("Idempotency-Key", "abc")
	for _, got := range []answer{
		s.call("POST", "/v1/orders", "{}", key),
		s.call("POST", "/v1/orders", "{}", key, header("Tenant-ID", "acme")),
		s.call("POST", "/v1/orders", "{}", key, header("Tenant-ID", "Äcme ☕")),
		s.call("PUT", "/v1/orders", "{}", key),
		s.call("POST", "/v1/orders/1/pay", "{}", key),
		s.call("POST", "/v1/orders", "{}", header("Idempotency-Key", "ABC")),
	} {
		require.Equal(t, 201, got.Status, got.Body)
		require.False(t, got.Replayed)
	}
	require.EqualValues(t, 6, s.runs.Load())
	require.True(t, s.call("POST", "/v1/orders", "{}", key, header("Tenant-ID", "default")).Replayed)
}

func TestSafeMethodsPass(t *testing.T) {
	t.Parallel()
	s := serve(t, idempotency.Config{}, func(w http.ResponseWriter, r *http.Request) {
		_, flusher := w.(http.Flusher)
		_, known := idempotency.FromContext(r.Context())
		_, _ = fmt.Fprint(w, flusher, known, idempotency.Hold(r.Context(), "x"))
	})
	for _, method := range []string{"GET", "OPTIONS", "HEAD", "TRACE"} {
		got := s.call(method, "/v1/orders", "")
		require.Equal(t, 200, got.Status)
		if method != "HEAD" {
			require.Equal(t, "true false false", got.Body)
		}
	}
}

func TestInFlight(t *testing.T) {
	t.Parallel()
	started, finish := make(chan struct{}), make(chan struct{})
	s := serve(t, idempotency.Config{Lease: time.Hour}, func(w http.ResponseWriter, _ *http.Request) {
		close(started)
		<-finish
		_, _ = fmt.Fprint(w, "done")
	})
	first := make(chan answer)
	go func() { first <- s.post("abc", "{}") }()
	<-started
	got := s.post("abc", "{}")
	requireProblem(t, got, 409, "request_in_flight")
	require.Equal(t, "3600", got.Header.Get("Retry-After"), "rounded up")
	requireProblem(t, s.post("abc", "other"), 422, "key_reused")
	close(finish)
	require.Equal(t, "done", (<-first).Body)
	require.Equal(t, "done", s.post("abc", "{}").Body)
	require.EqualValues(t, 1, s.runs.Load())
}

// A double click of 64 fingers.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	const clients = 64
	s := serve(t, idempotency.Config{}, placeOrder())
	var all sync.WaitGroup
	answers := make([]answer, clients)
	start := make(chan struct{})
	for i := range clients {
		all.Go(func() {
			<-start
			for answers[i] = s.post("abc", "{}"); answers[i].Status == http.StatusConflict; {
				answers[i] = s.post("abc", "{}")
			}
		})
	}
	close(start)
	all.Wait()
	replayed := 0
	for _, a := range answers {
		require.Equal(t, 201, a.Status)
		require.Equal(t, `{"id": 1}`, a.Body)
		require.Equal(t, "/v1/orders/1", a.Header.Get("Location"))
		if a.Replayed {
			replayed++
		}
	}
	require.Equal(t, clients-1, replayed)
	require.EqualValues(t, 1, s.runs.Load())
}

func TestPanicFreesTheKey(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	s := serve(t, idempotency.Config{}, func(w http.ResponseWriter, _ *http.Request) {
		if calls.Add(1) == 1 {
			w.WriteHeader(201)
			panic("the handler's own")
		}
		_, _ = fmt.Fprint(w, "second try")
	})
	r, err := http.NewRequestWithContext(t.Context(), "POST", s.url+"/v1/orders", nil)
	require.NoError(t, err)
	r.Header.Set("Idempotency-Key", "abc")
	r.Header.Set("Content-Type", "application/json")
	response, err := s.Do(r)
	if err == nil {
		_ = response.Body.Close()
	}
	require.Error(t, err, "net/http cuts the connection")
	require.Equal(t, "second try", s.post("abc", "").Body)
}

func TestResponseTooLarge(t *testing.T) {
	t.Parallel()
	var written error
	s := serve(t, idempotency.Config{MaxResponse: 10}, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(make([]byte, 10))
		_, written = w.Write([]byte{1})
		_, _ = w.Write(nil)
	})
	requireProblem(t, s.post("abc", ""), 500, "response_too_large")
	require.ErrorIs(t, written, idempotency.ErrResponseTooLarge)
	require.Equal(t, []string{"complete"}, s.errors.ops())
	requireProblem(t, s.post("abc", ""), 500, "response_too_large")
	require.EqualValues(t, 2, s.runs.Load(), "the key was freed")
}

func TestWriterOffersNoStreaming(t *testing.T) {
	t.Parallel()
	s := serve(t, idempotency.Config{}, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusEarlyHints)
		_, flusher := w.(http.Flusher)
		_, hijacker := w.(http.Hijacker)
		err := http.NewResponseController(w).Flush()
		_, _ = fmt.Fprint(w, flusher, hijacker, errors.Is(err, http.ErrNotSupported))
	})
	require.Equal(t, "false false true", s.post("abc", "").Body)
}

func TestNoContentHasNoBody(t *testing.T) {
	t.Parallel()
	s := serve(t, idempotency.Config{}, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNoContent)
		if _, err := w.Write([]byte("x")); !errors.Is(err, http.ErrBodyNotAllowed) {
			t.Errorf("Write answers %v", err)
		}
	})
	require.Equal(t, 204, s.post("abc", "").Status)
	require.Equal(t, 204, s.post("abc", "").Status)
}

func TestHeadersOfOuterMiddlewares(t *testing.T) {
	t.Parallel()
	guard := guardWith(t, memory.NewIdempotencyStore(), idempotency.Config{}, &errorLog{})
	handler := guard(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Del("X-Powered-By")
		w.Header().Set("Etag", `"1"`)
	}))
	for i, want := range []http.Header{
		{"X-Trace": {"0"}, "Etag": {`"1"`}},
		{"X-Trace": {"1"}, "X-Powered-By": {"x"}, "Etag": {`"1"`}, "Idempotent-Replayed": {"true"}},
	} {
		r := httptest.NewRequest("POST", "/", nil)
		r.Header.Set("Idempotency-Key", "abc")
		w := httptest.NewRecorder()
		w.Header().Set("X-Trace", fmt.Sprint(i))
		w.Header().Set("X-Powered-By", "x")
		handler.ServeHTTP(w, r)
		require.Empty(t, cmp.Diff(want, w.Header()))
	}
}

func TestFromContext(t *testing.T) {
	t.Parallel()
	var got, before idempotency.Request
	s := serve(t, idempotency.Config{}, func(_ http.ResponseWriter, r *http.Request) {
		got, _ = idempotency.FromContext(r.Context())
	})
	s.call("POST", "/v1/orders/7/pay", "{}", header("Idempotency-Key", `"abc"`), header("Tenant-ID", "acme"))
	require.Equal(t, idempotency.Key{Tenant: "acme", Route: "POST /v1/orders/{id}/pay", Key: "abc"}, got.Key)
	require.False(t, got.Fingerprint.IsZero())
	require.NotZero(t, got.Token)

	before = got
	s.call("POST", "/v1/orders/7/pay", "{}", header("Idempotency-Key", "abc"), header("Tenant-ID", "bcme"))
	require.NotEqual(t, before.Fingerprint, got.Fingerprint, "the tenant is part of the request")
	require.Greater(t, got.Token, before.Token)

	s.call("POST", "/v1/orders", "{}", header("Idempotency-Key", "abc"))
	require.Equal(t, idempotency.Key{Tenant: "default", Route: "POST /v1/orders", Key: "abc"}, got.Key)

	_, ok := idempotency.FromContext(t.Context())
	require.False(t, ok)
	require.False(t, idempotency.Hold(t.Context(), "x"))
}

func TestConfig(t *testing.T) {
	t.Parallel()
	store := memory.NewIdempotencyStore()
	for want, c := range map[string]idempotency.Config{
		"Config.Lease is negative":        {Lease: -1},
		"Config.TTL is negative":          {TTL: -1},
		"Config.StoreTimeout is negative": {StoreTimeout: -1},
		"Config.MaxBody (-1)":             {MaxBody: -1},
		"Config.MaxResponse (-1)":         {MaxResponse: -1},
		`names "content-length"`:          {Headers: []string{"content-length"}},
		`names "idempotent-replayed"`:     {Headers: []string{"idempotent-replayed"}},
	} {
		_, err := idempotency.Middleware(store, c)
		require.ErrorContains(t, err, want)
	}
	_, err := idempotency.Middleware(store, idempotency.Config{Lease: -1, TTL: -1})
	require.ErrorContains(t, err, "Lease")
	require.ErrorContains(t, err, "TTL")
	_, err = idempotency.Middleware(nil, idempotency.Config{})
	require.Error(t, err)
	_, err = idempotency.Middleware(store, idempotency.Config{})
	require.NoError(t, err)
}
