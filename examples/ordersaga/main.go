// Ordersaga is a shop whose orders survive any crash: the reference example of sagamill.
//
//	go run ./examples/ordersaga           plays every path of an order, and checks its outcome
//	go run ./examples/ordersaga serve     serves the shop at http://127.0.0.1:8080
//	go run ./examples/ordersaga torture   runs it in many processes, kills them at random, and checks the books
//
// Begin reading with order/lifecycle.go: the table is the specification.
package main

import "github.com/sagamill/sagamill/examples/ordersaga/command"

func main() { command.Main(nil) }
