// Package tour plays every path of an order.
package tour

import (
	"context"
	"io"
)

// Victim is the argument that makes a process the tour's victim.
const Victim = "victim"

// Run plays the tour.
func Run(ctx context.Context, out io.Writer) error { return nil }

// RunVictim runs a process that is killed.
func RunVictim(ctx context.Context, args []string, out io.Writer) error { return nil }
