package idempotency

import (
	"fmt"
	"strings"
)

// Header is the name of the request header that carries the key.
const Header = "Idempotency-Key"

// ReplayedHeader is the name of the response header that says "true" when a response is the stored one.
const ReplayedHeader = "Idempotent-Replayed"

// ParseKey reads the value of an Idempotency-Key header: 1 to 255 visible ASCII characters, either as a quoted string
// as in RFC 9651 (and RFC 8941 before it), section 3.3.3, where \" and \\ stand for " and \, or bare, as most clients
// send it. "abc" and abc are the same key. It answers [ErrMissingKey] if there is none, a [*KeyError] if it is
// malformed. Parameters after a quoted string are refused: no specification gives them a meaning.
func ParseKey(header string) (string, error) {
	s := strings.Trim(header, " \t")
	if s == "" {
		return "", ErrMissingKey
	}
	key := s
	if s[0] == '"' {
		var err error
		if key, err = unquote(s); err != nil {
			return "", err
		}
	}
	if key == "" {
		return "", malformed("is empty")
	}
	if len(key) > MaxKey {
		return "", malformed(fmt.Sprintf("has %d characters, more than %d", len(key), MaxKey))
	}
	for i := range len(key) {
		if c := key[i]; c <= ' ' || c > '~' {
			return "", malformed(fmt.Sprintf("has byte 0x%02x, which is not a visible ASCII character", c))
		}
	}
	return key, nil
}

// FormatKey quotes a key for the header, for clients. [ParseKey] reads it back.
func FormatKey(key string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(key) + `"`
}

// unquote reads s, which starts with a quote, by RFC 9651, section 4.2.5. Which characters may stand in it is for the
// caller to check.
func unquote(s string) (string, error) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			if i != len(s)-1 {
				return "", malformed("goes on after the closing quote")
			}
			return b.String(), nil
		case '\\':
			i++
			if i == len(s) || s[i] != '"' && s[i] != '\\' {
				return "", malformed(`has a backslash before something else than " or \`)
			}
		}
		b.WriteByte(s[i])
	}
	return "", malformed("has no closing quote")
}

func malformed(reason string) error { return &KeyError{Part: "key", Reason: reason} }
