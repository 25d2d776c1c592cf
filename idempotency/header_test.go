package idempotency_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/idempotency"
)

func TestParseKey(t *testing.T) {
	t.Parallel()
	longest := strings.Repeat("k", 255)
	for header, want := range map[string]string{
		`abc`:                                    "abc",
		`"abc"`:                                  "abc",
		"\t \"abc\" ":                            "abc",
		`8e03978e-40d5-43dd-bc93-6894a57f9324`:   "8e03978e-40d5-43dd-bc93-6894a57f9324",
		`"8e03978e-40d5-43dd-bc93-6894a57f9324"`: "8e03978e-40d5-43dd-bc93-6894a57f9324",
		`"a\"b\\c"`:                              `a"b\c`,
		`a"b\c`:                                  `a"b\c`,
		`!~`:                                     "!~",
		longest:                                  longest,
		`"` + longest + `"`:                      longest,
		`"` + strings.Repeat(`\"`, 255) + `"`:    strings.Repeat(`"`, 255),
	} {
		got, err := idempotency.ParseKey(header)
		require.NoError(t, err, header)
		require.Equal(t, want, got, header)
	}
}

func TestParseKeyRefuses(t *testing.T) {
	t.Parallel()
	for _, header := range []string{"", " ", "\t"} {
		_, err := idempotency.ParseKey(header)
		require.ErrorIs(t, err, idempotency.ErrMissingKey)
	}
	for header, reason := range map[string]string{
		`""`:                                 "is empty",
		`"`:                                  "has no closing quote",
		`"abc`:                               "has no closing quote",
		`"abc\"`:                             "has no closing quote",
		`"abc\`:                              `has a backslash before something else than " or \`,
		`"a\bc"`:                             `has a backslash before something else than " or \`,
		`"abc" "def"`:                        "goes on after the closing quote",
		`"abc", "def"`:                       "goes on after the closing quote",
		`"abc";v=1`:                          "goes on after the closing quote",
		`"a b"`:                              "has byte 0x20, which is not a visible ASCII character",
		`abc, def`:                           "has byte 0x20, which is not a visible ASCII character",
		"abc\x00":                            "has byte 0x00, which is not a visible ASCII character",
		"abc\x7f":                            "has byte 0x7f, which is not a visible ASCII character",
		"clé":                                "has byte 0xc3, which is not a visible ASCII character",
		strings.Repeat("k", 256):             "has 256 characters, more than 255",
		`"` + strings.Repeat("k", 256) + `"`: "has 256 characters, more than 255",
	} {
		key, err := idempotency.ParseKey(header)
		keyErr, ok := errors.AsType[*idempotency.KeyError](err)
		require.True(t, ok, "%q: %q, %v", header, key, err)
		require.Equal(t, idempotency.KeyError{Part: "key", Reason: reason}, *keyErr, header)
	}
}

func FuzzParseKey(f *testing.F) {
	for _, seed := range []string{"", "abc", `"abc"`, `"a\"\\"`, `"a";b`, `"a`, "a b", " a ", "é", `\`, `"\`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		key, err := idempotency.ParseKey(header)
		if err != nil {
			_, isKeyError := errors.AsType[*idempotency.KeyError](err)
			if !isKeyError && !errors.Is(err, idempotency.ErrMissingKey) || key != "" {
				t.Fatalf("%q: %q, %v", header, key, err)
			}
			return
		}
		if len(key) < 1 || len(key) > 255 || strings.ContainsFunc(key, func(r rune) bool { return r < '!' || r > '~' }) {
			t.Fatalf("%q gives the key %q", header, key)
		}
		if quoted, err := idempotency.ParseKey(idempotency.FormatKey(key)); err != nil || quoted != key {
			t.Fatalf("key %q, quoted %s, is read back as %q, %v", key, idempotency.FormatKey(key), quoted, err)
		}
		if key[0] != '"' {
			if bare, err := idempotency.ParseKey(key); err != nil || bare != key {
				t.Fatalf("key %q is read back as %q, %v", key, bare, err)
			}
		}
	})
}
