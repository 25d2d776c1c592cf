package compensation_test

import (
	"fmt"
	"time"

	"github.com/sagamill/sagamill/compensation"
)

// What to undo, and in which order, follows from the ledger.
func Example() {
	var l compensation.Ledger
	l.Begin(compensation.Entry{Step: "book-hotel", Undoable: true, Order: l.NextOrder()})
	l.Find("book-hotel", 1).Succeed()
	l.Begin(compensation.Entry{Step: "book-flight", Undoable: true, Order: l.NextOrder()})
	l.Find("book-flight", 1).Doubt() // no answer: the effect may exist
	fmt.Println("would undo", l.WouldUndo())

	l.Condemn()
	for next := l.Next(); len(next) > 0; next = l.Next() {
		for _, e := range next {
			e.BeginUndo()
			fmt.Println("undo", e.Step)
			e.Undo()
		}
	}
	fmt.Println("open:", l.Open())
	// Output:
	// would undo [[book-flight] [book-hotel]]
	// undo book-flight
	// undo book-hotel
	// open: false
}

func ExampleRetry_Delay() {
	r := compensation.Retry{First: time.Second, Max: 5 * time.Second, Jitter: -1}
	for attempt := 1; attempt <= 4; attempt++ {
		fmt.Println(r.Delay(attempt, 0))
	}
	// Output:
	// 1s
	// 2s
	// 4s
	// 5s
}
