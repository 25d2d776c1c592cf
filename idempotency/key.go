package idempotency

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The most bytes that the parts of a [Key] may have.
const (
	MaxTenant = 255
	MaxRoute  = 2048
	MaxKey    = 255
)

// Key names a request. Each part is compared byte by byte.
type Key struct {
	Tenant string
	Route  string // the call: "POST /v1/orders"
	Key    string // what the client chose
}

// Validate answers a [*KeyError] unless each part is there, within its limit, valid UTF-8 and free of control characters.
func (k Key) Validate() error {
	for _, p := range []struct {
		name, value string
		limit       int
	}{{"tenant", k.Tenant, MaxTenant}, {"route", k.Route, MaxRoute}, {"key", k.Key, MaxKey}} {
		switch {
		case p.value == "":
			return &KeyError{Part: p.name, Reason: "is empty"}
		case len(p.value) > p.limit:
			return &KeyError{Part: p.name, Reason: fmt.Sprintf("has %d bytes, more than %d", len(p.value), p.limit)}
		case !utf8.ValidString(p.value):
			return &KeyError{Part: p.name, Reason: "is not valid UTF-8"}
		case strings.ContainsFunc(p.value, unicode.IsControl):
			return &KeyError{Part: p.name, Reason: "has a control character"}
		}
	}
	return nil
}

// String joins the parts to one string, such as "default|POST /v1/orders|abc". No two keys have the same one, whatever is in
// their parts: "%", "|" and ASCII control characters are percent-encoded.
func (k Key) String() string {
	b := make([]byte, 0, len(k.Tenant)+len(k.Route)+len(k.Key)+2)
	b = appendPart(b, k.Tenant)
	b = appendPart(append(b, '|'), k.Route)
	b = appendPart(append(b, '|'), k.Key)
	return string(b)
}

func appendPart(b []byte, part string) []byte {
	for i := range len(part) {
		if c := part[i]; mustEncode(c) {
			b = fmt.Appendf(b, "%%%02X", c)
		} else {
			b = append(b, c)
		}
	}
	return b
}

func mustEncode(c byte) bool { return c == '%' || c == '|' || c < ' ' || c == 0x7f }

// MarshalText is [Key.String], so that keys can be JSON object members, log attributes and the like.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads what [Key.String] wrote, and nothing else. It does not validate the parts.
func (k *Key) UnmarshalText(text []byte) error {
	parts := strings.Split(string(text), "|")
	if len(parts) != 3 {
		return &KeyError{Part: "text", Reason: fmt.Sprintf("has %d parts, not 3", len(parts))}
	}
	for i, p := range parts {
		decoded, ok := decodePart(p)
		if !ok {
			return &KeyError{Part: "text", Reason: "has a bad percent-encoding"}
		}
		parts[i] = decoded
	}
	*k = Key{Tenant: parts[0], Route: parts[1], Key: parts[2]}
	return nil
}

// decodePart undoes appendPart. It refuses what appendPart would have written differently, so that a key has one text only.
func decodePart(s string) (string, bool) {
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			if mustEncode(s[i]) {
				return "", false
			}
			b = append(b, s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", false
		}
		hi, lo := strings.IndexByte(upperHex, s[i+1]), strings.IndexByte(upperHex, s[i+2])
		if hi < 0 || lo < 0 || !mustEncode(byte(hi<<4|lo)) {
			return "", false
		}
		b = append(b, byte(hi<<4|lo))
		i += 2
	}
	return string(b), true
}

const upperHex = "0123456789ABCDEF"
