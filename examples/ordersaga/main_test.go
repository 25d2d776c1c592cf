package main

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/sagamill/sagamill/examples/ordersaga/torture"
	"github.com/sagamill/sagamill/internal/leaktest"
)

// The torture starts its processes from the program that it is in, which is the test's.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == torture.Child {
		if err := torture.RunChild(context.Background(), os.Args[2:], nil, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	leaktest.Main(m)
}
