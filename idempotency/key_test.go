package idempotency_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/sagamill/sagamill/idempotency"
)

func TestKeyString(t *testing.T) {
	t.Parallel()
	for want, key := range map[string]idempotency.Key{
		"default|POST /v1/orders|abc": {Tenant: "default", Route: "POST /v1/orders", Key: "abc"},
		"a%7Cb|100%25|%0A":            {Tenant: "a|b", Route: "100%", Key: "\n"},
		"Ünïcode ☕|r|k":               {Tenant: "Ünïcode ☕", Route: "r", Key: "k"},
		"||":                          {},
	} {
		require.Equal(t, want, key.String())
		var back idempotency.Key
		require.NoError(t, back.UnmarshalText([]byte(want)))
		require.Equal(t, key, back)
	}
}

func TestKeyUnmarshalTextRefuses(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "a|b", "a|b|c|d", "a|b|%", "a|b|%7", "a|b|%7c", "a|b|%41", "a|b|%zz", "a|b|\n"} {
		var key idempotency.Key
		err := key.UnmarshalText([]byte(text))
		require.Error(t, err, "%q", text)
		require.Zero(t, key)
	}
}

func TestKeyAsJSONMember(t *testing.T) {
	t.Parallel()
	key := idempotency.Key{Tenant: "a", Route: "b", Key: `"c"`}
	text, err := json.Marshal(map[idempotency.Key]int{key: 1})
	require.NoError(t, err)
	require.JSONEq(t, `{"a|b|\"c\"": 1}`, string(text))
}

func TestKeyValidate(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 256)
	for reason, key := range map[string]idempotency.Key{
		"":                                     {Tenant: "Ünïcode ☕", Route: "POST /a b", Key: "k"},
		"tenant is empty":                      {Route: "r", Key: "k"},
		"route is empty":                       {Tenant: "t", Key: "k"},
		"key is empty":                         {Tenant: "t", Route: "r"},
		"tenant has 256 bytes, more than 255":  {Tenant: long, Route: "r", Key: "k"},
		"key has 256 bytes, more than 255":     {Tenant: "t", Route: "r", Key: long},
		"route has 2304 bytes, more than 2048": {Tenant: "t", Route: strings.Repeat(long, 9), Key: "k"},
		"tenant has a control character":       {Tenant: "t\x00", Route: "r", Key: "k"},
		"route has a control character":        {Tenant: "t", Route: "r\u0085", Key: "k"},
		"key is not valid UTF-8":               {Tenant: "t", Route: "r", Key: "\xff"},
	} {
		err := key.Validate()
		if reason == "" {
			require.NoError(t, err)
			continue
		}
		keyErr, ok := errors.AsType[*idempotency.KeyError](err)
		require.True(t, ok, "%v", err)
		require.Equal(t, reason, keyErr.Part+" "+keyErr.Reason)
	}
}

func TestKeyStringIsInjective(t *testing.T) {
	t.Parallel()
	part := rapid.OneOf(rapid.StringOf(rapid.SampledFrom([]rune("a|%27C\n"))), rapid.String())
	rapid.Check(t, func(t *rapid.T) {
		a := idempotency.Key{Tenant: part.Draw(t, "tenant"), Route: part.Draw(t, "route"), Key: part.Draw(t, "key")}
		b := idempotency.Key{Tenant: part.Draw(t, "tenant"), Route: part.Draw(t, "route"), Key: part.Draw(t, "key")}
		if (a == b) != (a.String() == b.String()) {
			t.Fatalf("%#v and %#v are both %q", a, b, a)
		}
	})
}

func FuzzKeyString(f *testing.F) {
	f.Add("default", "POST /v1/orders", "abc", "a|b|c")
	f.Add("a|b", "%7C", "\x00\xff", "%7C%25||")
	f.Fuzz(func(t *testing.T, tenant, route, key, text string) {
		k := idempotency.Key{Tenant: tenant, Route: route, Key: key}
		var back idempotency.Key
		if err := back.UnmarshalText([]byte(k.String())); err != nil || back != k {
			t.Errorf("%#v as %q is read back as %#v, error %v", k, k, back, err)
		}
		if err := back.UnmarshalText([]byte(text)); err == nil && back.String() != text {
			t.Errorf("%q is read as %#v, whose text is %q: two texts for one key", text, back, back)
		}
	})
}

func TestFingerprint(t *testing.T) {
	t.Parallel()
	of := func(parts ...string) idempotency.Fingerprint {
		var bytes [][]byte
		for _, p := range parts {
			bytes = append(bytes, []byte(p))
		}
		return idempotency.FingerprintOf(bytes...)
	}
	seen := map[idempotency.Fingerprint][]string{}
	for _, parts := range [][]string{{}, {""}, {"", ""}, {"ab", "c"}, {"a", "bc"}, {"abc"}, {"abc", ""}, {"", "abc"}} {
		f := of(parts...)
		require.NotContains(t, seen, f, "%q", parts)
		require.False(t, f.IsZero())
		require.Len(t, f.String(), 64)
		seen[f] = parts
	}
	require.Equal(t, of("a", "b"), of("a", "b"))

	none := idempotency.Fingerprint{}
	require.True(t, of("a").Matches(of("a")))
	require.False(t, of("a").Matches(of("b")))
	require.True(t, none.Matches(of("b")))
	require.True(t, of("a").Matches(none))
}
