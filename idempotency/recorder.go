package idempotency

import (
	"bytes"
	"fmt"
	"maps"
	"net/http"
)

// recorder is the ResponseWriter that the handler gets: it keeps the response back until it is stored.
type recorder struct {
	header http.Header
	limit  int64

	status   int         // 0 until the header is written
	sent     http.Header // header as it was then
	body     bytes.Buffer
	overflow bool
}

// newRecorder starts with the headers that middlewares further out have set, as the handler may want to change them.
func newRecorder(w http.ResponseWriter, limit int64) *recorder {
	return &recorder{header: w.Header().Clone(), limit: limit}
}

func (rec *recorder) Header() http.Header {
	if rec.header == nil {
		rec.header = http.Header{}
	}
	return rec.header
}

// WriteHeader does as that of net/http: it panics if the status has not three digits, and only the first counts.
func (rec *recorder) WriteHeader(status int) {
	if status < 100 || status > 999 {
		panic(fmt.Sprintf("invalid WriteHeader code %v", status))
	}
	if status < 200 || rec.status != 0 {
		return
	}
	rec.status = status
	rec.sent = rec.Header().Clone()
}

func (rec *recorder) Write(p []byte) (int, error) {
	rec.WriteHeader(http.StatusOK)
	if rec.status == http.StatusNoContent || rec.status == http.StatusNotModified {
		return 0, http.ErrBodyNotAllowed
	}
	if rec.overflow || int64(rec.body.Len())+int64(len(p)) > rec.limit {
		rec.overflow = true
		return 0, ErrResponseTooLarge
	}
	return rec.body.Write(p)
}

// response is what is stored of it: of the headers, those named.
func (rec *recorder) response(headers []string) Response {
	stored := http.Header{}
	for _, name := range headers {
		name = http.CanonicalHeaderKey(name)
		if values, ok := rec.sent[name]; ok {
			stored[name] = values
		}
	}
	return Response{Status: rec.status, Header: stored, Body: rec.body.Bytes()}
}

// send gives the response to the client, all headers included.
func (rec *recorder) send(w http.ResponseWriter) {
	h := w.Header()
	clear(h)
	maps.Copy(h, rec.sent)
	w.WriteHeader(rec.status)
	_, _ = w.Write(rec.body.Bytes()) // if the client is gone, it asks again
}

// replay gives a stored response to the client.
func replay(w http.ResponseWriter, r Response) {
	h := w.Header()
	maps.Copy(h, r.Header)
	h.Set(ReplayedHeader, "true")
	w.WriteHeader(r.Status)
	_, _ = w.Write(r.Body)
}
