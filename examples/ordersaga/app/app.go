package app

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill"

	"github.com/sagamill/sagamill/examples/ordersaga/api"
	"github.com/sagamill/sagamill/examples/ordersaga/contract"
	"github.com/sagamill/sagamill/examples/ordersaga/data"
	"github.com/sagamill/sagamill/examples/ordersaga/fulfillment"
	"github.com/sagamill/sagamill/examples/ordersaga/inventory"
	"github.com/sagamill/sagamill/examples/ordersaga/listen"
	"github.com/sagamill/sagamill/examples/ordersaga/order"
	"github.com/sagamill/sagamill/examples/ordersaga/outside"
	"github.com/sagamill/sagamill/examples/ordersaga/payment"
	"github.com/sagamill/sagamill/saga"
)

// App is a process of the shop.
type App struct {
	URL string // where it serves HTTP

	config    Config
	logger    *slog.Logger
	messages  watermill.LoggerAdapter
	metrics   *metrics
	stores    *stores
	broker    Broker
	transport saga.Transport
	services  api.Services
	world     *outside.World

	checks  []func(context.Context) error // of readiness
	closers []func() error                // the last one first
	failed  chan error                    // a part of the process has ended by itself
}

// Start opens everything and starts to serve. What it answers is running, until Close.
func Start(ctx context.Context, config Config, logger *slog.Logger) (a *App, err error) {
	if err := config.check(); err != nil {
		return nil, err
	}
	a = &App{
		config: config, logger: logger, messages: watermill.NewSlogLogger(logger), metrics: newMetrics(), failed: make(chan error, 16),
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.Close())
		}
	}()
	if a.stores, err = openStores(ctx, config, logger); err != nil {
		return a, err
	}
	a.closing(a.stores.close)
	if config.Keys != nil {
		a.stores.keys = config.Keys
	}
	if a.broker, err = config.openBroker(ctx, a.messages); err != nil {
		return a, err
	}
	a.closing(a.broker.Close)
	a.transport = a.broker.Transport()
	if config.Trouble != nil {
		t := config.Trouble.begin(a.transport.Publisher)
		a.closing(t.Close)
		a.transport.Publisher = t
	}
	secret := config.secret()
	a.services = api.Services{
		Metrics: a.metrics.handler(), Keys: a.stores.keys, IdempotencyTTL: config.IdempotencyTTL, Lease: config.Lease, WebhookSecret: secret,
		AdminToken: config.AdminToken, Ready: a.ready, Logger: logger,
	}
	for _, start := range []func(context.Context) error{a.startWorld, a.startInventory, a.startPayment, a.startFulfillment, a.startOrder} {
		if err := start(ctx); err != nil {
			return a, err
		}
	}
	if err := a.serve(ctx); err != nil {
		return a, err
	}
	if config.Simulate && config.runs(Order) {
		a.background(func(ctx context.Context) error {
			a.world.Send(ctx, a.URL, secret, a.report)
			return nil
		})
	}
	return a, nil
}

// Failed tells when a part of the process has ended by itself.
func (a *App) Failed() <-chan error { return a.failed }

// Close ends everything in order: no more requests, then the sagas, then the services, then stores and broker.
func (a *App) Close() error {
	var errs []error
	for len(a.closers) > 0 {
		last := len(a.closers) - 1
		errs = append(errs, a.closers[last]())
		a.closers = a.closers[:last]
	}
	return errors.Join(errs...)
}

func (a *App) closing(f func() error) { a.closers = append(a.closers, f) }

func (a *App) report(err error) { a.logger.Error(err.Error()) }

// background runs f until the App closes.
func (a *App) background(f func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	var err error
	done.Go(func() { err = f(ctx) })
	a.closing(func() error {
		cancel()
		done.Wait()
		return err
	})
}

// runner is an orchestrator or a participant.
type runner interface {
	Run(ctx context.Context) error
	Running() <-chan struct{}
	Close() error
}

// run starts a runner, and waits until it works.
func (a *App) run(what string, r runner) error {
	ended := make(chan error, 1)
	go func() { ended <- r.Run(context.Background()) }()
	select {
	case <-r.Running():
	case err := <-ended:
		return fmt.Errorf("%s: %w", what, err)
	}
	go func() {
		if err := <-ended; err != nil {
			a.failed <- fmt.Errorf("%s: %w", what, err)
		}
	}()
	a.closing(r.Close)
	return nil
}

func (a *App) startWorld(ctx context.Context) error {
	db, err := a.stores.db(ctx, "outside")
	if err != nil {
		return err
	}
	if a.world, err = outside.New(ctx, db, a.config.Simulate, a.config.Pace); err != nil || !a.config.runs(Order) {
		return err
	}
	return a.listen(ctx, "fraud-check", func(ctx context.Context, e listen.Event) error {
		if e.Name != contract.OrderPaid {
			return nil
		}
		return a.world.CheckFraud(ctx, e.Order)
	})
}

func (a *App) startInventory(ctx context.Context) error {
	if !a.config.runs(Inventory) {
		return nil
	}
	db, err := a.stores.db(ctx, Inventory)
	if err != nil {
		return err
	}
	if a.services.Inventory, err = inventory.New(ctx, db); err != nil {
		return err
	}
	a.checks = append(a.checks, a.services.Inventory.Ready)
	return a.participate(Inventory, db, a.services.Inventory.Handle)
}

func (a *App) startPayment(ctx context.Context) error {
	if !a.config.runs(Payment) {
		return nil
	}
	db, err := a.stores.db(ctx, Payment)
	if err != nil {
		return err
	}
	if a.services.Payment, err = payment.New(ctx, db, a.world); err != nil {
		return err
	}
	a.checks = append(a.checks, a.services.Payment.Ready)
	return a.participate(Payment, db, a.services.Payment.Handle)
}

func (a *App) startFulfillment(ctx context.Context) error {
	if !a.config.runs(Fulfillment) {
		return nil
	}
	db, err := a.stores.db(ctx, Fulfillment)
	if err != nil {
		return err
	}
	f, err := fulfillment.New(ctx, db, a.world, a.world)
	if err != nil {
		return err
	}
	a.checks = append(a.checks, f.Ready)
	if err := a.listen(ctx, Fulfillment, f.Hear); err != nil {
		return err
	}
	a.background(func(ctx context.Context) error { f.Run(ctx, a.report); return nil })
	return a.participate(Fulfillment, db, f.Handle)
}

// participate runs a service's side of the sagas.
func (a *App) participate(service string, db *data.DB, handle func(*saga.Participant[*sql.Tx]) error) error {
	inbox := db.Inbox
	if a.config.Commit != nil {
		inbox = toldInbox{inbox, service, a.config.Commit}
	}
	a.everyMinute(service+"'s inbox", func(ctx context.Context, limit int) (int, error) {
		return inbox.Expire(ctx, inboxRetention, limit)
	})
	p, err := saga.NewParticipant(inbox, saga.ParticipantConfig{Name: service, Transport: a.transport, Observer: a.metrics}, a.messages)
	if err != nil {
		return err
	}
	if err := handle(p); err != nil {
		return err
	}
	return a.run(service, p)
}

// listen gives a service the events of orders' lifecycles.
func (a *App) listen(_ context.Context, group string, record func(context.Context, listen.Event) error) error {
	ctx, cancel := context.WithCancel(context.Background())
	run, err := listen.To(ctx, a.transport, contract.OrderEvents, group, record, a.report)
	if err != nil {
		cancel()
		return err
	}
	var done sync.WaitGroup
	done.Go(run)
	a.closing(func() error {
		cancel()
		done.Wait()
		return nil
	})
	return nil
}

func (a *App) startOrder(ctx context.Context) error {
	if !a.config.runs(Order) {
		return nil
	}
	db, err := a.stores.db(ctx, Order)
	if err != nil {
		return err
	}
	book, err := order.NewBook(ctx, db)
	if err != nil {
		return err
	}
	lifecycle := order.Lifecycle(order.Times{
		ReserveTTL: a.config.ReserveTTL, PaymentTimeout: a.config.PaymentTimeout, Resend: a.config.Resend,
	}, book)
	sagas := a.stores.sagas
	if a.config.Commit != nil {
		sagas = toldStore{sagas, a.config.Commit}
	}
	o, err := saga.NewOrchestrator(sagas, saga.OrchestratorConfig{
		Name: Order, Definitions: []saga.AnyDefinition{lifecycle}, Transport: a.transport, Observer: a.metrics, Lease: a.config.Lease,
	}, a.messages)
	if err != nil {
		return err
	}
	if err := a.run(Order, o); err != nil {
		return err
	}
	a.metrics.attention(o)
	a.services.Orders, a.services.Sagas = order.NewService(o, lifecycle, book), o
	a.checks = append(a.checks, a.services.Orders.Ready)
	a.everyMinute("idempotency keys", func(ctx context.Context, limit int) (int, error) { // but not while the order lives that they began
		return a.stores.keys.Expire(ctx, limit, o.Live)
	})
	return nil
}

// inboxRetention is longer than an order may be under way, plus the longest that a broker may keep a message.
const inboxRetention = 90 * 24 * time.Hour

// everyMinute forgets what is over, in small batches.
func (a *App) everyMinute(what string, expire func(ctx context.Context, limit int) (removed int, err error)) {
	a.background(func(ctx context.Context) error {
		tick := time.NewTicker(time.Minute)
		defer tick.Stop()
		for {
			const limit = 1000
			for removed := limit; removed == limit; {
				var err error
				if removed, err = expire(ctx, limit); err != nil && ctx.Err() == nil {
					a.report(fmt.Errorf("expire %s: %w", what, err))
				}
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return nil
			}
		}
	})
}

func (a *App) serve(ctx context.Context) error {
	handler, err := api.Handler(a.services)
	if err != nil {
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", a.config.Listen)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", a.config.Listen, err)
	}
	a.URL = "http://" + listener.Addr().String()
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute,
		ErrorLog: slog.NewLogLogger(a.logger.Handler(), slog.LevelWarn)}
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			a.failed <- err
		}
	}()
	a.closing(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		return server.Shutdown(ctx)
	})
	return nil
}

func (a *App) ready(ctx context.Context) error {
	var errs []error
	for _, check := range a.checks {
		errs = append(errs, check(ctx))
	}
	return errors.Join(errs...)
}
