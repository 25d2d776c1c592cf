package saga_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/sagamill/sagamill/adapters/memory"
	"github.com/sagamill/sagamill/compensation"
	"github.com/sagamill/sagamill/idempotency"
	"github.com/sagamill/sagamill/saga"
)

// Signup is the data of a saga that a request begins.
type Signup struct{ Mail string }

var signUp = saga.Linear("sign-up",
	saga.Do("create-account", func(context.Context, Signup) error { return nil }).Pivot(),
	saga.Do("welcome", func(ctx context.Context, s Signup) error {
		if s.Mail == "" {
			return errors.New("no address")
		}
		return nil
	}).Retriable().Retry(compensation.Retry{First: time.Hour, Max: time.Hour, Alert: 1}),
)

// placeSignup starts a saga for a request, once for each Idempotency-Key.
func placeSignup(o *saga.Orchestrator) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		request, _ := idempotency.FromContext(r.Context())
		started, err := signUp.Start(r.Context(), o, saga.StartParams[Signup]{
			Key: r.FormValue("mail"), Data: Signup{Mail: r.FormValue("mail")},
			StartKey: &saga.RequestKey{Key: request.Key.String(), Fingerprint: request.Fingerprint[:]},
		})
		if errors.Is(err, saga.ErrKeyConflict) {
			http.Error(w, "that has been used for something else", http.StatusConflict)
			return
		}
		if err != nil {
			http.Error(w, "try again", http.StatusServiceUnavailable) // leaves the key free
			return
		}
		idempotency.Hold(r.Context(), started.ID) // keeps the key as long as the saga lives
		w.WriteHeader(http.StatusAccepted)
	}
}

// The middleware answers a request that comes twice; the start key sees to it that there is one saga even without it.
func Example_http() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	o, err := saga.NewOrchestrator(memory.NewStore(), saga.OrchestratorConfig{Definitions: []saga.AnyDefinition{signUp}}, nil)
	must(err)
	go func() { must(o.Run(ctx)) }()
	defer func() { must(o.Close()) }()

	keys := memory.NewIdempotencyStore()
	guard, err := idempotency.Middleware(keys, idempotency.Config{})
	must(err)
	mux := http.NewServeMux()
	mux.Handle("POST /signups", guard(placeSignup(o)))

	for range 2 {
		r := httptest.NewRequest("POST", "/signups?mail=ada@example.org", strings.NewReader(""))
		r.Header.Set("Idempotency-Key", "click-1")
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		fmt.Printf("%d %q\n", w.Code, w.Header().Get("Idempotent-Replayed"))
	}
	_, err = keys.Expire(ctx, 1000, o.Live)
	must(err)
	// Output:
	// 202 ""
	// 202 "true"
}

// What an operator does at 3 a.m.
func ExampleOrchestrator_Operate() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	o, err := saga.NewOrchestrator(memory.NewStore(), saga.OrchestratorConfig{Definitions: []saga.AnyDefinition{signUp}}, nil)
	must(err)
	go func() { must(o.Run(ctx)) }()
	defer func() { must(o.Close()) }()
	started, err := signUp.Start(ctx, o, saga.StartParams[Signup]{Key: "nobody"})
	must(err)
	_, err = o.WaitFor(ctx, started.ID, func(i saga.Instance) bool { return i.Attention != "" })
	must(err)

	stuck, _, err := o.List(ctx, saga.Query{NeedsAttention: true})
	must(err)
	for _, i := range stuck {
		fmt.Println(i.Key, "needs attention")
		operation := saga.Operation{Verb: saga.SkipStep, Step: "welcome", Who: "ann", Why: "there is no address"}
		_, err = o.Operate(ctx, i.ID, operation) // a *saga.RefusedError says why, if it makes no sense now: an attempt is under way, say
		must(err)
	}
	done, err := signUp.Wait(ctx, o, "nobody")
	must(err)
	fmt.Println(done.State)
	// Output:
	// nobody needs attention
	// completed
}
