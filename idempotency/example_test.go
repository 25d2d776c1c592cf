package idempotency_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/sagamill/sagamill/adapters/memory"
	"github.com/sagamill/sagamill/idempotency"
)

// A user whose network is slow clicks Pay twice.
func ExampleMiddleware() {
	guard, err := idempotency.Middleware(memory.NewIdempotencyStore(), idempotency.Config{})
	if err != nil {
		panic(err)
	}
	payments := 0
	mux := http.NewServeMux()
	mux.Handle("POST /v1/orders/{id}/pay", guard(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		payments++
		w.WriteHeader(http.StatusAccepted)
		fmt.Fprintf(w, "payment %d of order %s", payments, r.PathValue("id"))
	})))

	click := func() {
		r := httptest.NewRequest("POST", "/v1/orders/42/pay", strings.NewReader(`{}`))
		r.Header.Set("Idempotency-Key", "8e03978e-40d5-43dd-bc93-6894a57f9324")
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		fmt.Printf("%d %s (replayed: %q)\n", w.Code, w.Body, w.Header().Get("Idempotent-Replayed"))
	}
	click()
	click()
	// Output:
	// 202 payment 1 of order 42 (replayed: "")
	// 202 payment 1 of order 42 (replayed: "true")
}

// What a handler begins is idempotent by the same key, and keeps the key until it is settled.
func ExampleFromContext() {
	guard, err := idempotency.Middleware(memory.NewIdempotencyStore(), idempotency.Config{})
	if err != nil {
		panic(err)
	}
	startSaga := func(_ context.Context, startKey string, _ idempotency.Fingerprint) (id string, err error) {
		fmt.Println("start by", startKey)
		return "order-1", nil
	}
	place := guard(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		request, _ := idempotency.FromContext(r.Context())
		id, err := startSaga(r.Context(), request.Key.String(), request.Fingerprint)
		if err != nil {
			http.Error(w, "try again", http.StatusServiceUnavailable) // leaves the key free
			return
		}
		idempotency.Hold(r.Context(), id)
		w.WriteHeader(http.StatusCreated)
	}))

	r := httptest.NewRequest("POST", "/v1/orders", strings.NewReader(`{}`))
	r.Header.Set("Idempotency-Key", `"abc"`)
	r.Header.Set("Tenant-ID", "acme")
	place.ServeHTTP(httptest.NewRecorder(), r)
	// Output: start by acme|POST /v1/orders|abc
}

// A store can be used without HTTP, for messages say.
func ExampleStore() {
	ctx, store := context.Background(), memory.NewIdempotencyStore()
	key := idempotency.Key{Tenant: "acme", Route: "topic payments", Key: "message-1"}
	fingerprint := idempotency.FingerprintOf([]byte("the payload"))

	for range 2 {
		claim, err := store.Begin(ctx, key, fingerprint, 5*time.Second)
		if err != nil {
			panic(err)
		}
		fmt.Printf("%s %q\n", claim.State, claim.Response.Body)
		if claim.State != idempotency.Acquired {
			continue
		}
		if err := store.Complete(ctx, key, claim.Token, idempotency.Completion{
			Response: idempotency.Response{Body: []byte("the result")}, TTL: 24 * time.Hour,
		}); err != nil {
			panic(err)
		}
	}
	// Output:
	// acquired ""
	// completed "the result"
}

func ExampleParseKey() {
	for _, header := range []string{`"abc"`, `abc`, `a b`, ``} {
		key, err := idempotency.ParseKey(header)
		fmt.Printf("%q %v\n", key, err)
	}
	// Output:
	// "abc" <nil>
	// "abc" <nil>
	// "" idempotency: key has byte 0x20, which is not a visible ASCII character
	// "" idempotency: no key
}
