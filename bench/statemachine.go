package main

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/looplab/fsm"
	"github.com/qmuntal/stateless"

	"github.com/sagamill/sagamill/statemachine"
)

// An order's life, as each library writes it. Paying has a guard on the amount; shipping has none.

const (
	placed, paid, shipped, delivered, returned, cancelled = "placed", "paid", "shipped", "delivered", "returned", "cancelled"
	pay, ship, deliver, giveBack, cancel                  = "pay", "ship", "deliver", "give back", "cancel"
)

// orderMoves are event, from, to.
var orderMoves = [][3]string{
	{pay, placed, paid}, {cancel, placed, cancelled}, {ship, paid, shipped}, {cancel, paid, cancelled}, {deliver, shipped, delivered},
	{giveBack, shipped, returned}, {giveBack, delivered, returned}, {giveBack, paid, placed},
}

func enough(paid int) bool { return paid >= 100 }

func ourMachine() (*statemachine.Machine[string, string, int], error) {
	table := statemachine.Table[string, string, int]{
		Initial: placed, Final: []string{returned, cancelled}, Otherwise: statemachine.Refuse,
	}
	for _, m := range orderMoves {
		row := statemachine.Row[string, string, int]{On: m[0], From: m[1], To: m[2]}
		if m[0] == pay {
			row.If = statemachine.Guard[int]{Name: "enough", Holds: enough}
		}
		table.Rows = append(table.Rows, row)
	}
	return table.Build()
}

func statelessMachine(state string) *stateless.StateMachine {
	m := stateless.NewStateMachine(state)
	for _, move := range orderMoves {
		if move[0] == pay {
			m.Configure(move[1]).Permit(move[0], move[2], func(_ context.Context, args ...any) bool { return enough(args[0].(int)) })
		} else {
			m.Configure(move[1]).Permit(move[0], move[2])
		}
	}
	return m
}

// fsmMachine knows no guard, but a callback that cancels.
func fsmMachine(state string) *fsm.FSM {
	var events fsm.Events
	for _, m := range orderMoves {
		events = append(events, fsm.EventDesc{Name: m[0], Src: []string{m[1]}, Dst: m[2]})
	}
	return fsm.NewFSM(state, events, fsm.Callbacks{"before_" + pay: func(_ context.Context, e *fsm.Event) {
		if !enough(e.Args[0].(int)) {
			e.Cancel()
		}
	}})
}

// transitions are what is measured: a machine is asked where an event leads, or taken there and back. Each contestant answers how
// many transitions it took in a call.
func transitions() (all []struct {
	question, library string
	ask               func() (int, bool)
}, err error) {
	add := func(question, library string, ask func() (int, bool)) {
		all = append(all, struct {
			question, library string
			ask               func() (int, bool)
		}{question, library, ask})
	}
	ours, err := ourMachine()
	if err != nil {
		return nil, err
	}
	ctx := context.Background()
	theirs, other := statelessMachine(paid), fsmMachine(paid)
	add("where it leads", "sagamill", func() (int, bool) { return 1, ours.Find(paid, ship, 0).To == shipped })
	add("where it leads", "stateless", func() (int, bool) { ok, err := theirs.CanFire(ship); return 1, ok && err == nil })
	add("where it leads", "fsm", func() (int, bool) { return 1, other.Can(ship) })

	state, amount := placed, 100
	moving, also := statelessMachine(placed), fsmMachine(placed)
	add("there and back", "sagamill", func() (int, bool) {
		state = ours.Find(state, pay, amount).To
		state = ours.Find(state, giveBack, amount).To
		return 2, state == placed
	})
	add("there and back", "stateless", func() (int, bool) {
		err, back := moving.Fire(pay, amount), moving.Fire(giveBack, amount)
		return 2, err == nil && back == nil
	})
	add("there and back", "fsm", func() (int, bool) {
		err, back := also.Event(ctx, pay, amount), also.Event(ctx, giveBack, amount)
		return 2, err == nil && back == nil
	})
	return all, nil
}

// transitionFigures are what a transition costs, by question and library.
type transitionFigures []transitionFigure

type transitionFigure struct {
	Question  string  `json:"question"`
	Library   string  `json:"library"`
	Nanos     float64 `json:"ns_per_transition"`
	Allocated float64 `json:"allocations"`
	Times     float64 `json:"times_sagamill"`
}

func (f transitionFigures) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-26s %15s %10s %8s %10s\n", "", "", "ns", "allocs", "sagamill")
	for _, x := range f {
		fmt.Fprintf(&b, "%-26s %15s %10.1f %8.0f %9.1fx\n", x.Question, x.Library, x.Nanos, x.Allocated, x.Times)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// measureTransitions takes the contestants in turns, and of each its median.
func measureTransitions(o options) (transitionFigures, error) {
	all, err := transitions()
	if err != nil {
		return nil, err
	}
	nanos := make([][]float64, len(all))
	for range o.rounds {
		for k, c := range all {
			per := 0
			began, calls := time.Now(), 0
			for time.Since(began) < 50*time.Millisecond {
				for range 1000 {
					n, ok := c.ask()
					if !ok {
						return nil, fmt.Errorf("%s, %s: it does not get there", c.question, c.library)
					}
					per = n
				}
				calls += 1000
			}
			nanos[k] = append(nanos[k], float64(time.Since(began))/float64(calls*per))
		}
	}
	var figures transitionFigures
	first := 0.0
	for k, c := range all {
		per, _ := c.ask()
		f := transitionFigure{c.question, c.library, median(nanos[k]), testing.AllocsPerRun(1000, func() { c.ask() }) / float64(per), 0}
		if c.library == "sagamill" {
			first = f.Nanos
		}
		f.Times = f.Nanos / first
		figures = append(figures, f)
	}
	return figures, nil
}
