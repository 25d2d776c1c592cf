// Package header writes HTTP headers as text that every database takes.
package header

import (
	"encoding/json"
	"net/http"
)

// Encode writes h as JSON; no header is the empty text. Header values may be any bytes and JSON text may not, so each byte is
// written as the code point of the same number (ISO 8859-1): ASCII stays as it is.
func Encode(h http.Header) (string, error) {
	if len(h) == 0 {
		return "", nil
	}
	text, err := json.Marshal(mapValues(h, func(value string) string {
		runes := make([]rune, len(value))
		for i := range len(value) {
			runes[i] = rune(value[i])
		}
		return string(runes)
	}))
	return string(text), err
}

// Decode reads what Encode wrote.
func Decode(text string) (http.Header, error) {
	if text == "" {
		return nil, nil
	}
	var h http.Header
	if err := json.Unmarshal([]byte(text), &h); err != nil {
		return nil, err
	}
	return mapValues(h, func(value string) string {
		b := make([]byte, 0, len(value))
		for _, r := range value {
			b = append(b, byte(r))
		}
		return string(b)
	}), nil
}

// mapValues is a copy of h with f applied to each value.
func mapValues(h http.Header, f func(string) string) http.Header {
	h = h.Clone()
	for _, values := range h {
		for i := range values {
			values[i] = f(values[i])
		}
	}
	return h
}
