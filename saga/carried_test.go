package saga

import (
	"context"
	"encoding/json"
	"math/big"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

type line struct {
	SKU    string
	amount int
}

type lineBase struct {
	Note   string
	secret string
}

type tree struct {
	Left, Right *tree
	Leaf        line
}

// protoMessage is what protobuf makes: with fields of its own, for a codec that knows it.
type protoMessage struct{ state int }

func (*protoMessage) ProtoReflect() {}

// What would be lost is found wherever it lies.
func TestWhatWouldBeLost(t *testing.T) {
	t.Parallel()
	_, _, _ = line{amount: 1}, lineBase{secret: ""}, protoMessage{state: 1}
	const export = ", which is not exported and would not be stored: export it"
	none := []carried{
		carry[int](""), carry[struct{}](""), carry[time.Time](""), carry[[]byte](""), carry[any](""), carry[*big.Int](""), carry[[]big.Int](""),
		carry[map[string]time.Duration](""), carry[protoMessage](""), carry[*protoMessage](""), carry[[]*protoMessage](""),
		carry[[]big.Rat](""), carry[[]struct{ Price big.Int }](""), carry[*struct{ Price big.Int }](""), carry[url.URL](""), carry[json.RawMessage](""),
		carry[struct {
			Notify func()         `json:"-"`
			cache  map[string]int `json:"-"`
			_      int
			At     *time.Time
		}](""),
	}
	for _, c := range none {
		require.Empty(t, c.losses(), "%s", c.t)
	}
	for _, c := range []struct {
		carried carried
		want    []string
	}{
		{carry[line]("it"), []string{"it saga.line has the field amount" + export}},
		{carry[*line]("it"), []string{"it *saga.line has the field amount" + export}},
		{carry[[]line]("it"), []string{"it []saga.line has the field amount" + export}},
		{carry[map[string][2]line]("it"), []string{"it map[string][2]saga.line has the field amount" + export}},
		{carry[tree]("it"), []string{"it saga.tree has the field Leaf.amount" + export}},
		{carry[big.Int]("it"), []string{"it big.Int has the field neg" + export, "it big.Int has the field abs" + export}},
		{carry[struct{ Err error }]("it"), []string{"it struct { Err error } has the field Err, and an interface with methods cannot be read back: name the type"}},
		{carry[func()]("it"), []string{"it func() is a func, which cannot be stored"}},
		{carry[struct{ Watch []chan int }]("it"), []string{
			"it struct { Watch []chan int } has the field Watch, and a chan cannot be stored: tag it `json:\"-\"`, or drop it",
		}},
		{carry[struct{ lineBase }]("it"), []string{"it struct { saga.lineBase } has the field secret" + export}},
	} {
		require.Equal(t, c.want, c.carried.losses(), "%s", c.carried.t)
	}
}

// Everything that crosses the codec is looked at: data, results, payloads, commands and replies, on both sides.
func TestDefinitionsThatWouldLoseSomething(t *testing.T) {
	t.Parallel()
	type order struct{ Lines []line }
	command := Command[line, tree]{Name: "reserve", Topic: "stock"}
	call := Call("call", func(context.Context, order) (line, error) { return line{}, nil }, func(o order, _ line) order { return o }).NoUndo("x")
	ask := Ask("ask", command, func(order) line { return line{} }, nil).UndoBy(RequestOf(Command[lineBase, struct{}]{Name: "release", Topic: "stock"}, func(order) lineBase { return lineBase{} }))
	emit := Emit("emit", "topic", "event", func(order) line { return line{} }).NoUndo("x")
	d := Define(Spec[string, string, order]{
		Name: "order", Initial: "new", Start: "go", Succeeded: []string{"done"}, Failed: []string{"failed"},
		Events: []Event[string, order]{On("paid", func(o order, _ line) order { return o })},
		Table: Table[string, string, order]{
			{From: "new", On: "go", To: "waiting", Run: Run(call, ask, emit), Rejected: "no"},
			{From: "new", On: "no", To: "failed", Compensate: true},
			{From: "waiting", On: "paid", To: "done"},
		},
		Otherwise: Ignore,
	})
	const export = ", which is not exported and would not be stored: export it"
	require.EqualError(t, d.Validate(), "saga: definition \"order\" cannot be used:"+
		"\n  - the data type saga.order has the field Lines.amount"+export+
		"\n  - event \"paid\": the payload type saga.line has the field amount"+export+
		"\n  - step \"call\": the result type saga.line has the field amount"+export+
		"\n  - step \"ask\": the command type saga.line has the field amount"+export+
		"\n  - step \"ask\": the reply type saga.tree has the field Leaf.amount"+export+
		"\n  - step \"ask\": the command type saga.lineBase has the field secret"+export+
		"\n  - step \"emit\": the command type saga.line has the field amount"+export)
}

func TestNamesOfStepsHaveNoSlash(t *testing.T) {
	t.Parallel()
	require.ErrorContains(t, Linear("job", retriable("a/undo")).Validate(), `step "a/undo": a step's name has no "/"`)
}
