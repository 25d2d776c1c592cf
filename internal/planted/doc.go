// Planted plants faults in this repository's own code, and demands that the tests which are named for each fault notice it.
//
//	go run ./internal/planted                          # every fault, and a table of who caught what
//	go run ./internal/planted -only "fence removed"    # one of them, with what its tests say
//	go run ./internal/planted -list                    # what there is
//	go run ./internal/planted -servers                 # those of the stores on servers, too
//
// A test that has never failed has proved little. So each fault here is one that a programmer might well make: a
// compare-and-set that is left out, a message that is acknowledged too early, an undo in the wrong order. That is mutation
// analysis (R. DeMillo, R. Lipton and F. Sayward, "Hints on Test Data Selection", Computer 1978), with mutants chosen by hand.
//
// A build for each mutant would take too long. Therefore all of them are compiled into one program, as "mutant schemata" (R.
// Untch, J. Offutt and M. J. Harrold, "Mutation Analysis Using Mutant Schemata", ISSTA 1993): where a fault is planted the
// program asks a switch whether it is on. The switches are not in the sources. They are patched into copies, which the go
// command takes in place of the files (go build -overlay); an environment variable turns one of them on. So whatever is built
// in any other way has neither faults nor switches.
//
// A mutant is data: a snippet of a file, what takes its place, and the tests that are to fail. If a snippet is not found, or
// found twice, the code has changed, and the mutant needs re-anchoring. The program says so and plants nothing. (The tests of
// this package say so, too.) A mutant that survives is a gap in the tests, or it changes nothing that anybody could notice.
package main
