// Ordersaga is a shop whose orders survive any crash: the reference example of sagamill.
//
//	go run ./examples/ordersaga         plays every path of an order, and checks its outcome
//	go run ./examples/ordersaga serve   serves the shop at http://127.0.0.1:8080
//
// Begin reading with order/lifecycle.go: the table is the specification.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/sagamill/sagamill/examples/ordersaga/app"
	"github.com/sagamill/sagamill/examples/ordersaga/tour"
)

const usage = `usage: ordersaga [serve [flags]]

Without arguments it plays every path of an order on a scratch file, and checks each outcome.
serve runs the shop: see ordersaga serve -h.`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "ordersaga:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	switch {
	case len(args) == 0:
		return tour.Run(ctx, os.Stdout)
	case args[0] == "serve":
		config, err := app.Parse(args[1:], os.Getenv)
		if err != nil {
			return err
		}
		return serve(ctx, config)
	case args[0] == tour.Victim: // a process that the tour kills
		return tour.RunVictim(ctx, args[1:], os.Stdout)
	}
	return fmt.Errorf("unknown argument %q\n%s", args[0], usage)
}

func serve(ctx context.Context, config app.Config) error {
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	a, err := app.Start(ctx, config, logger)
	if err != nil {
		return err
	}
	secret := "unset: only the simulated world can send webhooks"
	if config.WebhookSecret != "" {
		secret = "set"
	}
	logger.Info("the shop is open", "url", a.URL, "store", config.Store, "broker", config.Broker, "services", config.Services,
		"simulate", config.Simulate, "webhook-secret", secret)
	select {
	case err = <-a.Failed():
	case <-ctx.Done():
		logger.Info("closing: what is under way is finished first")
	}
	return errors.Join(err, a.Close())
}
