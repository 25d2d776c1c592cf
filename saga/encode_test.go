package saga

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// What is written by hand is what encoding/json writes, byte by byte: of each field, so none is forgotten.
func TestEncodedByHand(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		e := rapid.MakeCustom[engine](anyValues()).Draw(rt, "engine")
		want, err := json.Marshal(e)
		require.NoError(t, err)
		got, err := e.encode(&object{})
		require.NoError(t, err)
		require.Equal(t, string(want), string(got))

		entry := rapid.MakeCustom[Entry](anyValues()).Draw(rt, "entry")
		want, err = json.Marshal(entry)
		require.NoError(t, err)
		got, err = entry.encode(&object{})
		require.NoError(t, err)
		require.Equal(t, string(want), string(got))
	})
}

func anyValues() rapid.MakeConfig {
	text := rapid.OneOf(rapid.SampledFrom([]string{"", "", "plain", "a.b/c-1", `"quoted" \\ <b>&amp;</b>`, "caf\u00e9 \u2028", "\x7f\n\x00"}), rapid.String())
	return rapid.MakeConfig{Types: map[reflect.Type]*rapid.Generator[any]{
		reflect.TypeFor[string](): text.AsAny(),
		reflect.TypeFor[time.Time](): rapid.Custom(func(rt *rapid.T) time.Time {
			if rapid.Bool().Draw(rt, "zero") {
				return time.Time{}
			}
			return time.UnixMicro(rapid.Int64Range(0, 4e15).Draw(rt, "micros")).UTC()
		}).AsAny(),
	}}
}
