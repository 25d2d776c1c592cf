package tour

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/examples/ordersaga/order"
)

// A scene that ends otherwise than it should is named, with what went wrong.
func TestScenesThatEndOtherwiseAreNamed(t *testing.T) {
	t.Parallel()
	out := &bytes.Buffer{}
	x := &tour{out: out, dir: t.TempDir()}
	t.Cleanup(func() { require.NoError(t, x.close()) })
	pay := func(a *act) { a.to(order.Paid); a.cancel(); a.reach(order.Cancelled) }
	for want, s := range map[string]scene{
		"the customer should have paid 79900, and has paid 0": {title: "money", play: pay, end: order.Cancelled, net: price},
		"money should be taken 0 times, and was 1 times":      {title: "capture", play: pay, end: order.Cancelled},
		`the customer should be told ["Hello"]`:               {title: "words", play: pay, end: order.Cancelled, captures: 1, told: []string{"Hello"}},
		"should be answered 409":                              {title: "refusal", play: func(a *act) { a.to(order.Reserved); a.refusedWith(409, nil) }, end: order.Reserved},
	} {
		x.play(t.Context(), s)
		last := x.failures[len(x.failures)-1].Error()
		require.True(t, strings.HasPrefix(last, s.title+": "), last)
		require.Contains(t, last, want)
		require.Contains(t, out.String(), "FAILED")
	}
	require.Len(t, x.failures, 4)
	x.play(t.Context(), scene{title: "as it should", play: pay, end: order.Cancelled, captures: 1})
	require.Len(t, x.failures, 4)
}
