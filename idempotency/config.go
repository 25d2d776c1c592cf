package idempotency

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/textproto"
	"slices"
	"time"
)

// Config is how [Middleware] works. The zero value of each field stands for the default.
type Config struct {
	// Tenant says whose request it is. An error is answered with 400 and logged; it is not shown to the client.
	// Default: the header Tenant-ID, "default" if there is none; more than one is an error.
	Tenant func(r *http.Request) (string, error)

	// Route says which call it is. Default: the pattern that http.ServeMux matched, preceded by the method if the
	// pattern has none; outside of a ServeMux, the method and the path.
	Route func(r *http.Request) string

	Lease        time.Duration // how long a claim lasts unless it is renewed. Default: 5 s
	TTL          time.Duration // how long a response is kept. Default: 24 h
	StoreTimeout time.Duration // how long one call of the store may take. Default: 5 s

	MaxBody     int64 // bytes of a request's body. Default: 1 MiB
	MaxResponse int64 // bytes of a response's body. Default: 4 MiB

	// Headers are the response headers that are stored and replayed. Default: [DefaultHeaders].
	Headers []string

	// Keep tells by its status whether a response is stored; otherwise the key is left free. Default: [DefaultKeep].
	Keep func(status int) bool

	// OnError is told of each [*StoreError], to count it; it is logged in any case.
	OnError func(ctx context.Context, err error)

	Logger *slog.Logger // Default: slog.Default()
}

// DefaultHeaders are the response headers that are stored unless Config.Headers says otherwise: those that describe the
// body or are the answer.
func DefaultHeaders() []string {
	return []string{
		"Cache-Control", "Content-Disposition", "Content-Encoding", "Content-Language", "Content-Location", "Content-Type",
		"Etag", "Last-Modified", "Link", "Location", "Retry-After", "Vary",
	}
}

// DefaultKeep tells whether a response of that status is stored: what was done (2xx, 3xx), and the refusals that stand though the
// request is mended: 402, 404, 409, 410 and 451. Every other 4xx says that the request itself is at fault, or is to come again.
func DefaultKeep(status int) bool {
	switch status {
	case http.StatusPaymentRequired, http.StatusNotFound, http.StatusConflict, http.StatusGone, http.StatusUnavailableForLegalReasons:
		return true
	default:
		return status < 400
	}
}

// Validate lists what is wrong with c.
func (c Config) Validate() error {
	var errs []error
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"Lease", c.Lease}, {"TTL", c.TTL}, {"StoreTimeout", c.StoreTimeout}} {
		if d.value < 0 {
			errs = append(errs, fmt.Errorf("idempotency: Config.%s is negative: %v", d.name, d.value))
		}
	}
	if c.MaxBody < 0 || c.MaxResponse < 0 {
		errs = append(errs, fmt.Errorf("idempotency: Config.MaxBody (%d) or Config.MaxResponse (%d) is negative", c.MaxBody, c.MaxResponse))
	}
	for _, name := range c.Headers {
		if slices.Contains(unstorable, textproto.CanonicalMIMEHeaderKey(name)) {
			errs = append(errs, fmt.Errorf("idempotency: Config.Headers names %q, which belongs to one answer or connection and cannot be stored", name))
		}
	}
	return errors.Join(errs...)
}

// unstorable are headers that net/http writes itself or that are said of one message on one connection (RFC 9110,
// section 7.6.1).
var unstorable = []string{"", "Connection", "Content-Length", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade", ReplayedHeader}

func (c Config) withDefaults() Config {
	orDefault(&c.Lease, 5*time.Second)
	orDefault(&c.TTL, 24*time.Hour)
	orDefault(&c.StoreTimeout, 5*time.Second)
	orDefault(&c.MaxBody, 1<<20)
	orDefault(&c.MaxResponse, 4<<20)
	orDefault(&c.Logger, slog.Default())
	if c.Tenant == nil {
		c.Tenant = defaultTenant
	}
	if c.Route == nil {
		c.Route = defaultRoute
	}
	if c.Keep == nil {
		c.Keep = DefaultKeep
	}
	if c.Headers == nil {
		c.Headers = DefaultHeaders()
	}
	return c
}

func orDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func defaultTenant(r *http.Request) (string, error) {
	switch values := r.Header.Values("Tenant-ID"); len(values) {
	case 0:
		return "default", nil
	case 1:
		return values[0], nil
	default:
		return "", errors.New("more than one Tenant-ID header")
	}
}
