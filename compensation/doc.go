// Package compensation is the memory of a saga: which steps may have taken effect, and what must be undone, in which order.
//
// A saga gives up isolation for liveness: each step commits on its own, and a saga that cannot finish undoes what its steps
// did, by steps of its own (H. Garcia-Molina, K. Salem: Sagas, SIGMOD 1987). What to undo is not written per failure. It
// follows from the [Ledger], the instance's own record of every step:
//
//	l.Begin(compensation.Entry{Step: "book-hotel", Undoable: true, Order: 1})   // sent: the effect may exist from now on
//	l.Find("book-hotel", 1).Succeed()
//	l.Begin(compensation.Entry{Step: "book-flight", Undoable: true, Order: 2})
//	l.Find("book-flight", 1).Doubt()                                            // no answer: unknown, not failed
//	l.Condemn()                                                                 // nothing of this may stay
//	for next := l.Next(); len(next) > 0; next = l.Next() { ... }                // book-flight, then book-hotel
//
// The classes of steps are those of flexible transactions (S. Mehrotra et al.: A Transaction Model for Multidatabase Systems,
// ICDCS 1992): [Compensatable] before the pivot, the [Pivot], which decides, and [Retriable] after it. A [Retry] says how
// long to wait before the next attempt.
//
// The package is pure: no clock, no randomness, no I/O, no goroutine, and nothing beyond the standard library. A Ledger is a
// value; its methods change the receiver only. It is not safe for concurrent use.
package compensation
