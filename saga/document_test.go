package saga

import (
	"encoding/json"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// countingCodec counts what is read.
type countingCodec struct {
	JSON
	mu    sync.Mutex
	reads int
}

func (c *countingCodec) Unmarshal(b []byte, v any) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reads++
	return c.JSON.Unmarshal(b, v)
}

type documented struct {
	Items []string
	Of    map[string][]int
}

// readCount counts how often a value was read.
type readCount int

var readCounts atomic.Int64

func (*readCount) UnmarshalJSON([]byte) error { readCounts.Add(1); return nil }

// A step, its reducer and the request of the next one read the same bytes: they are decoded once, and whoever reads them gets a value of
// its own.
func TestADocumentIsReadOnce(t *testing.T) {
	t.Parallel()
	type counted struct {
		documented
		Read readCount
	}
	d := documentOf([]byte(`{"Items":["a"],"Of":{"x":[1]},"Read":1}`))
	read := func(d document) documented {
		v, err := readAs[counted](JSON{}, d)
		require.NoError(t, err)
		return v.documented
	}
	want := documented{Items: []string{"a"}, Of: map[string][]int{"x": {1}}}
	for range 3 {
		v := read(d)
		require.Equal(t, want, v)
		v.Items[0], v.Of["x"][0] = "spoilt", 7
		_ = append(v.Items, "more")
	}
	require.EqualValues(t, 1, readCounts.Load())

	require.Equal(t, want, read(d.becomes([]byte(`{"Items":["a"],"Of":{"x":[1]},"Read":1}`))))
	require.EqualValues(t, 1, readCounts.Load(), "the same bytes are the same document")
	require.Equal(t, documented{Items: []string{"b"}}, read(d.becomes([]byte(`{"Items":["b"],"Read":1}`))))
	require.EqualValues(t, 2, readCounts.Load())
	require.Equal(t, documented{}, read(d.becomes(nil)))
}

// Another codec may let a value refer to one thing twice.
func TestADocumentOfAnotherCodecIsReadEachTime(t *testing.T) {
	t.Parallel()
	codec, d := &countingCodec{}, documentOf([]byte(`{"Items":["a"]}`))
	for n := range 3 {
		v, err := readAs[documented](codec, d)
		require.NoError(t, err)
		require.Equal(t, []string{"a"}, v.Items)
		v.Items[0] = "spoilt"
		require.Equal(t, n+1, codec.reads)
	}
}

// cart refers to one of its lines twice.
type cart struct {
	Lines []*cartLine
	Last  *cartLine `json:"-"`
}

type cartLine struct{ Count int }

func (c *cart) UnmarshalJSON(b []byte) error {
	if err := json.Unmarshal(b, &c.Lines); err != nil {
		return err
	}
	c.Last = c.Lines[len(c.Lines)-1]
	return nil
}

func (c cart) MarshalJSON() ([]byte, error) { return json.Marshal(c.Lines) }

// Whoever reads such data gets the two as one, so that a reducer does the same however often it is called.
func TestADocumentThatRefersToOneThingTwice(t *testing.T) {
	t.Parallel()
	fold := foldWith(func(c cart, n int) cart { c.Last.Count += n; return c })
	d := documentOf([]byte(`[{"Count":1}]`))
	for range 3 {
		after, err := fold(JSON{}, d, []byte("5"))
		require.NoError(t, err)
		require.JSONEq(t, `[{"Count":6}]`, string(after))
	}
}

func TestADocumentIsReadByMany(t *testing.T) {
	t.Parallel()
	d := documentOf([]byte(`{"Items":["a","b"]}`))
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 100 {
				v, err := readAs[documented](JSON{}, d)
				if err != nil || len(v.Items) != 2 || v.Items[0] != "a" {
					t.Errorf("read %v, %v", v, err)
				}
				v.Items[0] = "mine"
			}
		})
	}
	all.Wait()
}

// Versions of a definition may have data of different types.
func TestADocumentIsReadAsSeveralTypes(t *testing.T) {
	t.Parallel()
	d := documentOf([]byte(`{"Items":["a"]}`))
	for range 2 {
		one, err := readAs[documented](JSON{}, d)
		require.NoError(t, err)
		require.Equal(t, []string{"a"}, one.Items)
		two, err := readAs[struct{ Items []string }](JSON{}, d)
		require.NoError(t, err)
		require.Equal(t, []string{"a"}, two.Items)
	}
}

// An interface may hold anything: what cannot be copied is read each time.
func TestADocumentThatCannotBeCopiedIsReadAnew(t *testing.T) {
	t.Parallel()
	d := documentOf([]byte(`{"a":["b"]}`))
	for range 3 {
		v, err := readAs[map[string]any](JSON{}, d)
		require.NoError(t, err)
		require.Equal(t, map[string]any{"a": []any{"b"}}, v)
		v["a"].([]any)[0] = "spoilt"
	}
}

func TestADocumentThatCannotBeReadSaysSoEachTime(t *testing.T) {
	t.Parallel()
	d := documentOf([]byte(`{"Items":7}`))
	for range 2 {
		_, err := readAs[documented](JSON{}, d)
		_, wrong := errors.AsType[*json.UnmarshalTypeError](err)
		require.True(t, wrong, "%v", err)
	}
}
