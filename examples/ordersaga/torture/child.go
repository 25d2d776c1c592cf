package torture

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sagamill/sagamill/examples/ordersaga/app"
)

// Child is the argument that makes a process one of those that are killed.
const Child = "tortured"

const announcement = "serving "

// RunChild serves until standard input ends: with its parent, at the latest. The first argument says when it kills itself:
// "inventory 3" is after inventory's third commit, and "" never. The others are those of serve.
func RunChild(ctx context.Context, args []string, brokers map[string]app.OpenBroker, out io.Writer) error {
	if len(args) == 0 {
		return fmt.Errorf("%s is for the torture's own use", Child)
	}
	config, err := app.Parse(args[1:], func(string) string { return "" }, brokers)
	if err != nil {
		return err
	}
	config.Resend, config.Lease, config.Pace = 500*time.Millisecond, 2*time.Second, 100*time.Millisecond
	config.Trouble = &app.Trouble{Twice: 0.05, Late: 0.05, Within: time.Second}
	config.Commit = suicidal(args[0])
	a, err := app.Start(ctx, config, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintln(out, announcement+a.URL)
	orphaned := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(orphaned)
	}()
	select {
	case <-orphaned:
	case <-ctx.Done():
	}
	return a.Close()
}

// suicidal kills the process (SIGKILL) after a service's n-th commit.
func suicidal(at string) func(of string) {
	service, text, _ := strings.Cut(at, " ")
	n, _ := strconv.ParseInt(text, 10, 64)
	var commits atomic.Int64
	return func(of string) {
		if of != service || commits.Add(1) != n {
			return
		}
		self, err := os.FindProcess(os.Getpid())
		if err == nil && self.Kill() == nil {
			select {} // nothing happens after the commit
		}
	}
}
