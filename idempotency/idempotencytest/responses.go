package idempotencytest

import (
	"bytes"
	"fmt"
	"net/http"
	"reflect"

	"github.com/sagamill/sagamill/idempotency"
)

var responseChecks = []check{
	{"the response comes back as it was stored", "Status, headers with all their values in order, and body are those given to Complete, byte by byte.", testResponses},
	{"what was stored first stands", "Completing again with the same token is answered with nil and changes nothing.", testCompleteTwice},
	{"a completed key is not held", "After Complete the token renews and releases nothing.", testCompletedFences},
	{"the caller may reuse its memory", "Changing a response after Complete, or one that Begin answered, does not change the record.", testAliasing},
}

func testResponses(s *script) error {
	allBytes := make([]byte, 256)
	for i := range allBytes {
		allBytes[i] = byte(i)
	}
	for name, want := range map[string]idempotency.Response{
		"nothing at all":            {},
		"nil body":                  {Status: 204},
		"empty body":                {Status: 200, Body: []byte{}, Header: http.Header{}},
		"status that nobody has":    {Status: 999, Body: []byte("x")},
		"several values":            {Status: 200, Header: http.Header{"Link": {"b", "a", "b"}, "Etag": {`"x"`}, "Vary": {""}}},
		"values that are not UTF-8": {Status: 200, Header: http.Header{"Content-Disposition": {"caf\xe9 \xff\x80", "café ☕"}}},
		"binary body":               {Status: 200, Body: allBytes},
		"body that is not UTF-8":    {Status: 200, Body: []byte("\xff\xfe\x00")},
		"body of spaces":            {Status: 200, Body: []byte(" \r\n ")},
		"large body":                {Status: 200, Body: bytes.Repeat(allBytes, 4096)},
	} {
		key := idempotency.Key{Tenant: "acme", Route: "PUT /thing", Key: name}
		token, err := s.acquire(key, first)
		if err != nil {
			return err
		}
		if err := s.Complete(s.ctx, key, token, idempotency.Completion{Response: want, TTL: ttl}); err != nil {
			return fmt.Errorf("Complete with %s: %w", name, err)
		}
		claim, err := s.expect(idempotency.Completed, key, first)
		if err != nil {
			return err
		}
		if err := sameResponse(claim.Response, want); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// sameResponse compares; nil and empty are the same.
func sameResponse(got, want idempotency.Response) error {
	switch {
	case got.Status != want.Status:
		return fmt.Errorf("the status is %d, want %d", got.Status, want.Status)
	case len(got.Header)+len(want.Header) > 0 && !reflect.DeepEqual(got.Header, want.Header):
		return fmt.Errorf("the headers are %q, want %q", got.Header, want.Header)
	case !bytes.Equal(got.Body, want.Body):
		return fmt.Errorf("the body is %s, want %s", excerpt(got.Body), excerpt(want.Body))
	}
	return nil
}

func excerpt(body []byte) string {
	return fmt.Sprintf("%q (%d bytes)", body[:min(len(body), 64)], len(body))
}

func testCompleteTwice(s *script) error {
	token, err := s.completed(keyA, "")
	if err != nil {
		return err
	}
	if err := s.Complete(s.ctx, keyA, token, completion("changed", "")); err != nil {
		return fmt.Errorf("Complete again: %w", err)
	}
	return s.expectBody(keyA, "done")
}

func testCompletedFences(s *script) error {
	token, err := s.completed(keyA, "")
	if err != nil {
		return err
	}
	if err := s.Renew(s.ctx, keyA, token, lease); err == nil {
		return fmt.Errorf("Renew of a completed key answers nil")
	}
	if err := s.Release(s.ctx, keyA, token); err == nil {
		return fmt.Errorf("Release of a completed key answers nil")
	}
	if err := s.expectFenced(keyA, token-1); err != nil {
		return err
	}
	s.clock.advance(2 * lease)
	return s.expectBody(keyA, "done")
}

func testAliasing(s *script) error {
	token, err := s.acquire(keyA, first)
	if err != nil {
		return err
	}
	given := idempotency.Response{Status: 201, Header: http.Header{"Link": {"a", "b"}}, Body: []byte("done")}
	if err := s.Complete(s.ctx, keyA, token, idempotency.Completion{Response: given, TTL: ttl}); err != nil {
		return fmt.Errorf("Complete: %w", err)
	}
	want := idempotency.Response{Status: 201, Header: http.Header{"Link": {"a", "b"}}, Body: []byte("done")}
	scribble(given)
	for range 2 {
		claim, err := s.expect(idempotency.Completed, keyA, first)
		if err != nil {
			return err
		}
		if err := sameResponse(claim.Response, want); err != nil {
			return err
		}
		scribble(claim.Response)
	}
	return nil
}

func scribble(r idempotency.Response) {
	for i := range r.Body {
		r.Body[i] = '#'
	}
	for _, values := range r.Header {
		values[0] = "#"
	}
	r.Header.Set("Etag", "#")
}
