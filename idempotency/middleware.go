package idempotency

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

type middleware struct {
	Config
	store Store
}

// Middleware wraps handlers so that a request repeated under its key takes effect once; the package documentation says how.
// It answers an error if the store is nil or the Config is not valid.
func Middleware(store Store, config Config) (func(http.Handler) http.Handler, error) {
	if store == nil {
		return nil, errors.New("idempotency: Middleware without a store")
	}
	if err := config.Validate(); err != nil {
		return nil, err
	}
	m := &middleware{Config: config.withDefaults(), store: store}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { m.serve(w, r, next) })
	}, nil
}

// serve asks the store what to do with a request.
func (m *middleware) serve(w http.ResponseWriter, r *http.Request, next http.Handler) {
	if isSafe(r.Method) {
		next.ServeHTTP(w, r)
		return
	}
	key, p := m.keyOf(r)
	if p != nil {
		p.write(w)
		return
	}
	body, p := m.readBody(w, r)
	if p != nil {
		p.write(w)
		return
	}
	fingerprint := fingerprintOf(r, key, body)
	claim, err := m.begin(r.Context(), key, fingerprint)
	if err != nil {
		if r.Context().Err() == nil { // otherwise it is the client who is away
			m.report(r.Context(), "begin", key, err)
		}
		storeUnavailable().write(w)
		return
	}
	switch claim.State {
	case Acquired:
		a := &attempt{middleware: m, inContext: &inContext{request: Request{Key: key, Fingerprint: fingerprint, Token: claim.Token}}}
		a.run(w, r, body, next)
	case InFlight:
		requestInFlight(claim.RetryAfter).write(w)
	case Completed:
		replay(w, claim.Response)
	case Mismatch:
		keyReused().write(w)
	default:
		m.report(r.Context(), "begin", key, fmt.Errorf("the store answered %v", claim.State))
		storeUnavailable().write(w)
	}
}

func (m *middleware) begin(ctx context.Context, key Key, f Fingerprint) (Claim, error) {
	ctx, cancel := context.WithTimeout(ctx, m.StoreTimeout)
	defer cancel()
	return m.store.Begin(ctx, key, f, m.Lease)
}

func (m *middleware) report(ctx context.Context, op string, key Key, err error) {
	err = &StoreError{Op: op, Key: key, Err: err}
	m.Logger.ErrorContext(ctx, err.Error())
	if m.OnError != nil {
		m.OnError(ctx, err)
	}
}

// attempt is one run of a handler, under a claimed key.
type attempt struct {
	*middleware
	*inContext
}

// run runs the handler, stores its response or frees the key, and only then answers: were the response sent first, a crash
// in between would lose the record of something that the client believes done.
func (a *attempt) run(w http.ResponseWriter, r *http.Request, body []byte, next http.Handler) {
	rec := newRecorder(w, a.MaxResponse)
	returned := false
	defer func() {
		if !returned { // the handler panicked; whoever recovers is further out
			_ = a.release(r.Context())
		}
	}()
	interrupted := a.handle(rec, r, body, next)
	returned = true

	switch {
	case interrupted && rec.status == 0:
		// net/http would take this for an empty 200, but nothing says that anything was done.
		if err := a.release(r.Context()); errors.Is(err, ErrFenced) {
			requestInFlight(0).write(w)
			return
		}
		requestInterrupted().write(w)
		return
	case rec.overflow:
		a.report(r.Context(), "complete", a.request.Key, ErrResponseTooLarge)
		_ = a.release(r.Context())
		responseTooLarge().write(w)
		return
	}
	rec.WriteHeader(http.StatusOK) // if the handler did not
	if err := a.settle(r.Context(), rec); errors.Is(err, ErrFenced) {
		// Another attempt has taken the key over. Its response is the one, for this client as well.
		requestInFlight(0).write(w)
		return
	}
	rec.send(w)
}

// handle runs the handler and keeps the claim alive meanwhile. It answers whether the handler's context was cancelled
// under it.
func (a *attempt) handle(rec *recorder, r *http.Request, body []byte, next http.Handler) (interrupted bool) {
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	renewing, stop := context.WithCancel(context.WithoutCancel(r.Context()))
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		a.renew(renewing, cancel)
	}()
	defer func() {
		stop()
		<-stopped
	}()
	next.ServeHTTP(rec, withRequest(ctx, r, body, a.inContext))
	return ctx.Err() != nil
}

// renew renews the claim until ctx is done. If it is fenced, it cancels the handler; if the store fails, it goes on
// trying: nobody else can claim the key without the store, and should somebody, then that will show.
func (a *attempt) renew(ctx context.Context, cancel context.CancelCauseFunc) {
	every := max(a.Lease/3, 1)
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		call, done := context.WithTimeout(ctx, min(every, a.StoreTimeout))
		err := a.store.Renew(call, a.request.Key, a.request.Token, a.Lease)
		done()
		switch {
		case err == nil || ctx.Err() != nil:
		case errors.Is(err, ErrFenced):
			a.report(ctx, "renew", a.request.Key, err)
			cancel(ErrFenced)
			return
		default:
			a.report(ctx, "renew", a.request.Key, err)
		}
	}
}

// settle stores the response, or frees the key if the response is not to be kept.
func (a *attempt) settle(ctx context.Context, rec *recorder) error {
	if !a.Keep(rec.status) {
		return a.release(ctx)
	}
	ctx, cancel := a.unhurried(ctx)
	defer cancel()
	err := a.store.Complete(ctx, a.request.Key, a.request.Token, Completion{Response: rec.response(a.Headers), TTL: a.TTL, Holds: a.held()})
	if err != nil {
		a.report(ctx, "complete", a.request.Key, err)
	}
	return err
}

func (a *attempt) release(ctx context.Context) error {
	ctx, cancel := a.unhurried(ctx)
	defer cancel()
	err := a.store.Release(ctx, a.request.Key, a.request.Token)
	if err != nil {
		a.report(ctx, "release", a.request.Key, err)
	}
	return err
}

// unhurried gives a call of the store its time, also when the client has hung up.
func (m *middleware) unhurried(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), m.StoreTimeout)
}
