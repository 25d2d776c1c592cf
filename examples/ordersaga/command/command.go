// Package command is the program: its subcommands and flags. A main hands it the brokers that it has besides.
package command

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/sagamill/sagamill/examples/ordersaga/app"
	"github.com/sagamill/sagamill/examples/ordersaga/torture"
	"github.com/sagamill/sagamill/examples/ordersaga/tour"
)

const usage = `usage: ordersaga [serve | torture] [flags]

Without arguments it plays every path of an order on a scratch file, and checks each outcome.
serve runs the shop: see ordersaga serve -h.
torture runs it in many processes, kills them at random, and checks the books: see ordersaga torture -h.`

// Main runs the program, and ends the process. The brokers are added to those of the flag --broker; nil: none.
func Main(brokers map[string]app.OpenBroker) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], brokers); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "ordersaga:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, brokers map[string]app.OpenBroker) error {
	switch {
	case len(args) == 0:
		return tour.Run(ctx, os.Stdout)
	case slices.Contains([]string{"-h", "-help", "--help", "help"}, args[0]):
		fmt.Println(usage)
		return nil
	case args[0] == "serve":
		config, err := app.Parse(args[1:], os.Getenv, brokers)
		if err != nil {
			return err
		}
		return serve(ctx, config)
	case args[0] == "torture":
		return torture.Run(ctx, args[1:], brokers, os.Stdout)
	case args[0] == torture.Child:
		return torture.RunChild(ctx, args[1:], brokers, os.Stdout)
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
	} else if !config.Simulate {
		secret = "unset: nobody can send webhooks"
	}
	logger.Info("the shop is open", "url", a.URL, "store", redacted(config.Store), "broker", redacted(config.Broker), "services", config.Services,
		"simulate", config.Simulate, "webhook-secret", secret)
	select {
	case err = <-a.Failed():
	case <-ctx.Done():
		logger.Info("closing: what is under way is finished first")
	}
	return errors.Join(err, a.Close())
}

// redacted is a URL without its password.
func redacted(text string) string {
	if u, err := url.Parse(text); err == nil && u.User != nil {
		return u.Redacted()
	}
	return text
}
