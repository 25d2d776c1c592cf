package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/sagamill/sagamill/examples/ordersaga/inventory"
	"github.com/sagamill/sagamill/examples/ordersaga/order"
	"github.com/sagamill/sagamill/examples/ordersaga/signature"
	"github.com/sagamill/sagamill/saga"
)

// problem is an error as clients see it (RFC 9457).
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
}

func (p *problem) Error() string { return p.Title + ": " + p.Detail }

func fault(status int, format string, args ...any) *problem {
	return &problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: fmt.Sprintf(format, args...)}
}

func badRequest(format string, args ...any) *problem {
	return fault(http.StatusBadRequest, format, args...)
}

// problemOf says what an error means to a client.
func problemOf(err error) *problem {
	var p *problem
	var refused *saga.RefusedError
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &refused):
		return fault(http.StatusConflict, "The order is %s, and takes no %q.", refused.State, strings.ReplaceAll(refused.What, "-", " "))
	case errors.Is(err, order.ErrNotFound), errors.Is(err, inventory.ErrUnknownSKU):
		return fault(http.StatusNotFound, "%s.", err)
	case errors.Is(err, order.ErrDisagree), errors.Is(err, saga.ErrKeyConflict), errors.Is(err, saga.ErrInputConflict):
		return fault(http.StatusUnprocessableEntity, "%s.", err)
	case errors.Is(err, saga.ErrInvalid):
		return badRequest("%s.", err)
	case errors.Is(err, saga.ErrTooLarge):
		return fault(http.StatusRequestEntityTooLarge, "%s.", err)
	case errors.Is(err, signature.ErrMissing), errors.Is(err, signature.ErrMalformed), errors.Is(err, signature.ErrTime), errors.Is(err, signature.ErrMismatch):
		return badRequest("The webhook is not believed: %s.", err)
	}
	return fault(http.StatusServiceUnavailable, "Try again in a moment.")
}

func writeJSON(w http.ResponseWriter, status int, contentType string, v any) {
	body, err := json.Marshal(v)
	if err != nil { // a value of ours: it cannot be
		status, body = http.StatusInternalServerError, nil
	}
	writeBody(w, status, contentType, body)
}

func writeBody(w http.ResponseWriter, status int, contentType string, body []byte) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(body) // if the client is gone, nobody needs it
}
