package idempotency

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
)

// Request is what [Middleware] knows of a request whose handler it runs.
type Request struct {
	Key         Key
	Fingerprint Fingerprint
	Token       Token
}

type contextKey struct{}

// inContext is what the handler's context carries.
type inContext struct {
	request Request

	mu    sync.Mutex
	holds string
}

// FromContext gives a handler behind [Middleware] the request's key, for what it begins to be idempotent by.
func FromContext(ctx context.Context) (Request, bool) {
	c, ok := ctx.Value(contextKey{}).(*inContext)
	if !ok {
		return Request{}, false
	}
	return c.request, true
}

// Hold names what the request began, a saga instance say: the stored response is then kept until that is settled,
// however long it takes (see [Store.Expire]). The last name counts. It answers false if ctx is not that of a handler
// behind [Middleware].
func Hold(ctx context.Context, ref string) bool {
	c, ok := ctx.Value(contextKey{}).(*inContext)
	if !ok {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.holds = ref
	return true
}

func (c *inContext) held() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.holds
}

// isSafe tells whether a method changes nothing by definition (RFC 9110, section 9.2.1).
func isSafe(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return false
}

// keyOf reads the request's key.
func (m *middleware) keyOf(r *http.Request) (Key, *problem) {
	lines := r.Header.Values(Header)
	if len(lines) > 1 {
		return Key{}, keyMalformed("The request has %d %s headers, and must have one.", len(lines), Header)
	}
	key, err := ParseKey(strings.Join(lines, ""))
	if errors.Is(err, ErrMissingKey) {
		return Key{}, keyMissing()
	}
	if err != nil {
		return Key{}, keyMalformed("The value of the %s header is malformed (%s): send 1 to %d visible ASCII characters, quoted or not.", Header, reason(err), MaxKey)
	}
	tenant, err := m.Tenant(r)
	if err == nil {
		err = Key{Tenant: tenant, Route: r.Method, Key: key}.Validate() // of these only the tenant can be wrong
	}
	if err != nil {
		m.Logger.InfoContext(r.Context(), "idempotency: request without a valid tenant", "error", err)
		return Key{}, tenantInvalid()
	}
	k := Key{Tenant: tenant, Route: m.Route(r), Key: key}
	if err := k.Validate(); err != nil {
		return Key{}, requestUnreadable("The target of the request cannot be kept: its " + reason(err) + ".")
	}
	return k, nil
}

func defaultRoute(r *http.Request) string {
	switch {
	case r.Pattern == "":
		return r.Method + " " + r.URL.EscapedPath()
	case strings.ContainsAny(r.Pattern, " \t"):
		return r.Pattern
	default:
		return r.Method + " " + r.Pattern
	}
}

// readBody reads the whole body and puts it back for the handler.
func (m *middleware) readBody(w http.ResponseWriter, r *http.Request) ([]byte, *problem) {
	if r.ContentLength > m.MaxBody {
		return nil, bodyTooLarge(m.MaxBody)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, m.MaxBody))
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		return nil, bodyTooLarge(m.MaxBody)
	}
	if err != nil {
		return nil, requestUnreadable("The body of the request ended early. Send the request again as a whole.")
	}
	return body, nil
}

// withRequest is r with the body that was read and what FromContext and Hold need.
func withRequest(ctx context.Context, r *http.Request, body []byte, c *inContext) *http.Request {
	r = r.WithContext(context.WithValue(ctx, contextKey{}, c))
	r.Body = io.NopCloser(bytes.NewReader(body))
	r.ContentLength = int64(len(body))
	r.TransferEncoding = nil
	return r
}

func fingerprintOf(r *http.Request, key Key, body []byte) Fingerprint {
	return FingerprintOf([]byte(key.Tenant), []byte(key.Route), []byte(r.Method), []byte(r.URL.EscapedPath()), []byte(r.URL.RawQuery),
		[]byte(strings.Join(r.Header.Values("Content-Type"), "\n")), body)
}
