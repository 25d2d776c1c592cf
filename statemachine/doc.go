// Package statemachine turns a table, written as a Go literal, into a state
// machine whose every case is decided.
//
// The table is data: states and events are string types of your own, a [Row]
// says from where, on what, under which guard, to where. [Table.Build] checks
// it once and names every fault it finds, all in one error; what it returns, a
// [Machine], is immutable, safe for any number of goroutines, and only answers
// questions: it holds no current state, starts no timer and calls nothing but
// guards. Whoever runs it keeps the state, asks [Machine.Find] what becomes of
// an event, and stores the answer.
//
// # Every cell is decided
//
// A cell is a state and an event. In each cell a row leads on, or a [Policy]
// says what becomes of the event: ignore it, buffer it until a state is reached
// in which it fits, or refuse it. A policy may stand in a row, for one cell or
// for many, or in [Table.Otherwise] for all that is left. Silence is a fault.
//
// # The most specific row wins
//
// The rows that could take an event are asked in this order:
//
//  1. the state's own rows for the event
//  2. the rows of its groups for the event
//  3. the rows from [Any] for the event
//  4. the state's own policy row on [Any] event
//  5. its groups' policy row on [Any] event
//  6. the policy row from [Any] on [Any] event
//  7. [Table.Otherwise]
//
// A policy row is a row like any other in this order. Within one level rows are
// asked in the order in which they are declared: a guarded row takes the event
// if its guard holds, the first row without a guard decides. If no row of a
// level takes the event, the next level is asked. Groups within groups are
// flattened: all groups are one level, so that two of them that disagree about
// a cell are ambiguous, which is a fault.
//
// Time-outs follow levels 1 to 3, separately for each duration.
//
// # Staying, and ending
//
// A row whose To is the state in which it is taken does not leave the state:
// its time-outs go on, and none of them starts anew. A row from a group leads
// all members to one state; to stay in each of them takes a row for each.
//
// Nothing leaves a final state. Rows from a group or from [Any] that lead to a
// state, time-outs among them, do not apply to its final members; their policy
// rows do. A row that names the final state itself may only stay in it (to do
// something about an event that comes late), or be a policy.
//
// Build also sees to it that every state is entered on some way from
// [Table.Initial], and has a way to a final one, guards taken to hold some time.
// A table without Final describes a machine that never ends, like a traffic
// light; there a state is a trap only if no row leaves it.
package statemachine
