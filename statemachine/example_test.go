package statemachine_test

import (
	"fmt"
	"time"

	"github.com/sagamill/sagamill/statemachine"
)

type (
	State string
	Event string
	Order struct{ Due, Paid int }
)

const (
	Draft     State = "draft"
	Placed    State = "placed"
	Paid      State = "paid"
	Shipped   State = "shipped"
	Cancelled State = "cancelled"

	Open State = "open" // a group
)

const (
	Place  Event = "place"
	Pay    Event = "pay"
	Ship   Event = "ship"
	Cancel Event = "cancel"
)

type Row = statemachine.Row[State, Event, Order]

var enough = statemachine.Guard[Order]{
	Name:  "enough",
	Holds: func(o Order) bool { return o.Paid >= o.Due },
}

var orders = statemachine.Table[State, Event, Order]{
	Initial: Draft,
	Final:   []State{Shipped, Cancelled},
	Groups:  map[State][]State{Open: {Draft, Placed}},
	Rows: []Row{
		{From: Draft, On: Place, To: Placed},
		{From: Placed, On: Pay, If: enough, To: Paid},
		{From: Placed, On: Pay, To: Placed, Because: "instalments are welcome"},
		{From: Paid, On: Ship, To: Shipped},
		{From: Open, On: Cancel, To: Cancelled},
		{From: Open, After: 15 * time.Minute, To: Cancelled, Because: "the stock is wanted"},
		{From: Draft, On: Pay, Policy: statemachine.Buffer, Because: "banks can be faster than browsers"},
		{From: Cancelled, On: statemachine.Any, Policy: statemachine.Ignore},
	},
	Otherwise: statemachine.Refuse,
}

func Example() {
	machine, err := orders.Build()
	if err != nil {
		fmt.Println(err)
		return
	}
	state := machine.Initial()
	order := Order{Due: 30}
	for _, event := range []Event{Ship, Pay, Place, Pay, Cancel, Pay} {
		answer := machine.Find(state, event, order)
		fmt.Println(event, "in", state, "is", answer.Kind)
		if answer.Kind == statemachine.Transition {
			state = answer.To
		}
	}
	fmt.Println("at last", state)
	// Output:
	// ship in draft is refused
	// pay in draft is buffered
	// place in draft is transition
	// pay in placed is transition
	// cancel in placed is transition
	// pay in cancelled is ignored
	// at last cancelled
}

// A machine that never ends has no final states. This one misspells a state.
func ExampleTable_Build() {
	lights := statemachine.Table[string, string, struct{}]{
		Initial: "red",
		Rows: []statemachine.Row[string, string, struct{}]{
			{From: "red", On: "go", To: "green"},
			{From: "green", After: 30 * time.Second, To: "amber"},
			{From: "ember", After: 3 * time.Second, To: "red"},
		},
		Otherwise: statemachine.Ignore,
	}
	_, err := lights.Build()
	fmt.Println(err)
	// Output:
	// statemachine: 2 faults in the table:
	//   - state "ember" is never entered from "red": write a row that leads to it, correct the name, or declare it in Groups if a group is meant
	//   - state "amber" is a trap, since no row leaves it: write one, or name it in Final
}

func ExampleMachine_Timeouts() {
	machine, _ := orders.Build()
	for _, timeout := range machine.Timeouts(Placed) {
		row := machine.Row(timeout.Row)
		fmt.Printf("after %v to %s, because %s\n", timeout.After, row.To, row.Because)
	}
	fmt.Println(len(machine.Timeouts(Paid)))
	// Output:
	// after 15m0s to cancelled, because the stock is wanted
	// 0
}

func ExampleMachine_Where() {
	machine, _ := orders.Build()
	for row := range machine.Rows() {
		if to := machine.Row(row).To; to == Cancelled {
			fmt.Println(row, machine.Where(row), "to", to)
		}
	}
	// Output:
	// 4 [draft placed] to cancelled
	// 5 [draft placed] to cancelled
}

func ExampleMachine_Mermaid() {
	machine, _ := orders.Build()
	fmt.Print(machine.Mermaid(
		statemachine.Highlight(Placed),
		statemachine.Label(func(row int) string {
			if machine.Row(row).On == Ship {
				return "calls the carrier"
			}
			return ""
		}),
	))
	// Output:
	// stateDiagram-v2
	//     [*] --> draft
	//     draft --> placed: place
	//     placed --> paid: pay [enough]
	//     placed --> placed: pay
	//     paid --> shipped: ship<br/>calls the carrier
	//     draft --> cancelled: cancel
	//     placed --> cancelled: cancel
	//     draft --> cancelled: after 15m
	//     placed --> cancelled: after 15m
	//     shipped --> [*]
	//     cancelled --> [*]
	//     classDef here fill:#ffe082,stroke:#e65100,stroke-width:3px
	//     class placed here
}
