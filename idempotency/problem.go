package idempotency

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// problem is an answer of the middleware itself, by RFC 9457. Its type is the address of its paragraph in the package
// documentation.
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`

	retryAfter time.Duration // none if 0
}

const typeBase = "https://pkg.go.dev/github.com/sagamill/sagamill/idempotency#hdr-Problem_"

func (p *problem) write(w http.ResponseWriter) {
	body, _ := json.Marshal(p) // strings and an int: it cannot fail
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("X-Content-Type-Options", "nosniff")
	if p.retryAfter > 0 {
		seconds := (p.retryAfter + time.Second - 1) / time.Second
		h.Set("Retry-After", strconv.FormatInt(int64(seconds), 10))
	}
	w.WriteHeader(p.Status)
	_, _ = w.Write(body) // if the client is gone, nobody needs it
}

func keyMissing() *problem {
	return &problem{
		Type: typeBase + "key_missing", Status: http.StatusBadRequest, Title: "The idempotency key is missing",
		Detail: "Send the header " + Header + " with a value that is new for each new request, a UUID say, and is the same when you repeat a request.",
	}
}

func keyMalformed(format string, args ...any) *problem {
	return &problem{
		Type: typeBase + "key_malformed", Status: http.StatusBadRequest, Title: "The idempotency key is malformed",
		Detail: fmt.Sprintf(format, args...),
	}
}

func tenantInvalid() *problem {
	return &problem{
		Type: typeBase + "tenant_invalid", Status: http.StatusBadRequest, Title: "The tenant is missing or malformed",
		Detail: fmt.Sprintf("Say in the way that this server documents (often the header Tenant-ID, once) for whom the request is, in at most %d bytes of UTF-8.", MaxTenant),
	}
}

func requestUnreadable(detail string) *problem {
	return &problem{
		Type: typeBase + "request_unreadable", Status: http.StatusBadRequest, Title: "The request cannot be read",
		Detail: detail,
	}
}

func bodyTooLarge(limit int64) *problem {
	return &problem{
		Type: typeBase + "body_too_large", Status: http.StatusRequestEntityTooLarge, Title: "The body is too large",
		Detail: fmt.Sprintf("Send at most %d bytes.", limit),
	}
}

func keyReused() *problem {
	return &problem{
		Type: typeBase + "key_reused", Status: http.StatusUnprocessableEntity, Title: "The idempotency key belongs to another request",
		Detail: "This key was sent before with another request (method, path, query, Content-Type or body differ). Use a new key for a new request; repeat the first one unchanged to get its response.",
	}
}

func requestInFlight(left time.Duration) *problem {
	return &problem{
		Type: typeBase + "request_in_flight", Status: http.StatusConflict, Title: "The request is still being worked on",
		Detail:     "A request with this key was received before and is not done yet. Send the same request again after the time in Retry-After to get its response.",
		retryAfter: max(left, time.Second),
	}
}

func storeUnavailable() *problem {
	return &problem{
		Type: typeBase + "store_unavailable", Status: http.StatusServiceUnavailable, Title: "The idempotency key cannot be looked up",
		Detail:     "Nothing was done. Send the same request again after the time in Retry-After.",
		retryAfter: time.Second,
	}
}

func requestInterrupted() *problem {
	return &problem{
		Type: typeBase + "request_interrupted", Status: http.StatusServiceUnavailable, Title: "The request was interrupted",
		Detail:     "It is not known whether it took effect. Send the same request again after the time in Retry-After.",
		retryAfter: time.Second,
	}
}

func responseTooLarge() *problem {
	return &problem{
		Type: typeBase + "response_too_large", Status: http.StatusInternalServerError, Title: "The response is too large to be stored",
		Detail: "The request may have taken effect, but its response is larger than this server is set to store. Its operator has to raise the limit; then send the same request again.",
	}
}

// reason is what err says without the package's name.
func reason(err error) string {
	if e, ok := errors.AsType[*KeyError](err); ok {
		return e.Part + " " + e.Reason
	}
	return err.Error()
}
