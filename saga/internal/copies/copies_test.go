package copies_test

import (
	"encoding/json"
	"math/big"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/sagamill/sagamill/saga/internal/copies"
)

type line struct {
	Name  string
	Codes []string
	Tags  map[string][]int
}

type base struct{ Notes []string }

type list []line

type everything struct {
	base
	Number  int
	At      time.Time
	Lines   list
	First   *line
	Deep    **int
	Pair    [2][]byte
	Flat    [3]int
	Raw     json.RawMessage
	ByKey   map[[2]string]*line
	Nothing []string
	None    map[string]int
	Nil     *line
	hidden  struct{ n int }
}

func some(t *rapid.T) everything {
	words := rapid.SliceOfN(rapid.StringN(0, 4, -1), 0, 3)
	oneLine := rapid.Custom(func(t *rapid.T) line {
		return line{
			Name: rapid.String().Draw(t, "name"), Codes: words.Draw(t, "codes"),
			Tags: rapid.MapOfN(rapid.StringN(0, 2, -1), rapid.SliceOfN(rapid.Int(), 0, 3), 0, 3).Draw(t, "tags"),
		}
	})
	number := rapid.Int().Draw(t, "number")
	pointer := &number
	first := oneLine.Draw(t, "first")
	return everything{
		base: base{words.Draw(t, "notes")}, Number: number, At: time.Unix(int64(number%1_000_000), 0), Lines: rapid.SliceOfN(oneLine, 0, 3).Draw(t, "lines"),
		First: &first, Deep: &pointer, Pair: [2][]byte{[]byte("left"), nil}, Flat: [3]int{1, 2, 3}, Raw: json.RawMessage(`{"a":1}`),
		ByKey: map[[2]string]*line{{"a", "b"}: {Codes: []string{"x"}}, {"c", "d"}: nil}, Nothing: []string{}, hidden: struct{ n int }{number},
	}
}

var alike = cmp.AllowUnexported(everything{}, base{}, struct{ n int }{})

// spoil changes all that can be changed in place.
func spoil(e *everything) {
	words := func(s []string) {
		for k := range s {
			s[k] += "!"
		}
	}
	spoilLine := func(l *line) {
		l.Name += "!"
		words(l.Codes)
		for k, v := range l.Tags {
			for n := range v {
				v[n]++
			}
			delete(l.Tags, k)
		}
	}
	words(e.Notes)
	for k := range e.Lines {
		spoilLine(&e.Lines[k])
	}
	spoilLine(e.First)
	**e.Deep++
	e.Pair[0][0]++
	e.Raw[0] = 'x'
	for _, l := range e.ByKey {
		if l != nil {
			spoilLine(l)
		}
	}
	clear(e.ByKey)
}

func TestACopyIsEqualAndSharesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := some(t)
		first, ok := copies.Of(&v)
		require.True(t, ok)
		require.Empty(t, cmp.Diff(v, first, alike))
		second, _ := copies.Of(&v)
		spoil(&first)
		require.Empty(t, cmp.Diff(v, second, alike), "what is done to a copy is not done to what it was made of")
		spoil(&v)
		third, _ := copies.Of(&second)
		require.Empty(t, cmp.Diff(second, third, alike), "nor the other way round")
	})
}

func TestNoRoomIsShared(t *testing.T) {
	v := make([]string, 1, 10)
	c, ok := copies.Of(&v)
	require.True(t, ok)
	c, v = append(c, "mine"), append(v, "yours")
	require.Equal(t, []string{"", "mine"}, c)
	require.Equal(t, []string{"", "yours"}, v)
}

// indexed refers to one of its lines twice.
type indexed struct {
	Lines map[string]*line
	First *line `json:"-"`
}

func (i *indexed) UnmarshalJSON(b []byte) error {
	if err := json.Unmarshal(b, &i.Lines); err != nil {
		return err
	}
	i.First = i.Lines["first"]
	return nil
}

// grade decodes itself, and refers to nothing.
type grade int

func (g *grade) UnmarshalJSON([]byte) error { *g = 1; return nil }

type tree struct{ Children []tree }

type secret struct{ words []string }

var _ = secret{words: nil}

func TestWhatCannotBeCopiedIsSaidSo(t *testing.T) {
	t.Parallel()
	not := func(what string, ok bool) { require.False(t, ok, what) }
	_, ok := copies.Of(new(secret))
	not("a field that is not exported", ok)
	_, ok = copies.Of(new([]secret))
	not("the same behind a slice", ok)
	_, ok = copies.Of(new(map[string]*secret))
	not("the same behind a map", ok)
	_, ok = copies.Of(new([2]secret))
	not("the same in an array", ok)
	_, ok = copies.Of(new(tree))
	not("a type that contains itself", ok)
	_, ok = copies.Of(new(any))
	not("an interface", ok)
	_, ok = copies.Of(new(struct{ F func() }))
	not("a func", ok)
	_, ok = copies.Of(new(map[*int]string))
	not("keys that are pointers", ok)
	_, ok = copies.Of(new(big.Int))
	not("a number with memory of its own", ok)
	_, ok = copies.Of(new(indexed))
	not("a type that decodes itself", ok)
	_, ok = copies.Of(new(struct{ In []indexed }))
	not("the same within another one", ok)
	_, ok = copies.Of(new(netip.Addr))
	not("an address with a zone", ok)
}

func TestWhatIsHiddenAndRefersToNothingIsCopied(t *testing.T) {
	t.Parallel()
	v := struct {
		n, m int
		G    grade
		At   time.Time
	}{1, 2, 3, time.Unix(4, 0)}
	c, ok := copies.Of(&v)
	require.True(t, ok)
	require.Equal(t, v, c)
}
