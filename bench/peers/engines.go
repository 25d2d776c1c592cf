package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"strconv"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/cschleiden/go-workflows/backend"
	backendpostgres "github.com/cschleiden/go-workflows/backend/postgres"
	"github.com/cschleiden/go-workflows/client"
	"github.com/cschleiden/go-workflows/worker"
	"github.com/cschleiden/go-workflows/workflow"
	"github.com/dbos-inc/dbos-transact-golang/dbos"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sagamill/sagamill/adapters/postgres"
	"github.com/sagamill/sagamill/saga"
)

// cargo is what a saga is about.
type cargo struct {
	Customer string   `json:"customer"`
	Items    []string `json:"items"`
	Total    int64    `json:"total"`
}

var anOrder = cargo{Customer: "ada-lovelace", Items: []string{"phone", "case", "charger"}, Total: 129_900}

func newPool(ctx context.Context, database string) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(database)
	if err != nil {
		return nil, err
	}
	config.MaxConns = connections
	return pgxpool.NewWithConfig(ctx, config)
}

func openSagamill(ctx context.Context, database string, steps int) (func(context.Context, string) error, func(), error) {
	pool, err := newPool(ctx, database)
	if err != nil {
		return nil, nil, err
	}
	db, err := postgres.Open(ctx, pool)
	if err != nil {
		return nil, nil, err
	}
	var list []saga.Step[cargo]
	for n := range steps {
		work := func(context.Context, cargo) error { return nil }
		list = append(list, saga.Do(fmt.Sprint("step-", n+1), work).Undo(work))
	}
	definition := saga.Linear("order", list...)
	o, err := saga.NewOrchestrator(postgres.NewStore(db), saga.OrchestratorConfig{Definitions: []saga.AnyDefinition{definition}}, watermill.NopLogger{})
	if err != nil {
		return nil, nil, err
	}
	ended := make(chan error, 1)
	go func() { ended <- o.Run(ctx) }()
	<-o.Running()
	one := func(ctx context.Context, key string) error {
		if _, err := definition.Start(ctx, o, saga.StartParams[cargo]{Key: key, Data: anOrder}); err != nil {
			return err
		}
		s, err := definition.Wait(ctx, o, key)
		if err == nil && s.State != saga.Completed {
			err = fmt.Errorf("%s ended in %s", key, s.State)
		}
		return err
	}
	return one, func() { _ = o.Close(); <-ended; pool.Close() }, nil
}

func openDBOS(ctx context.Context, database string, steps int) (func(context.Context, string) error, func(), error) {
	pool, err := newPool(ctx, database)
	if err != nil {
		return nil, nil, err
	}
	d, err := dbos.NewContext(ctx, dbos.Config{AppName: "bench", SystemDBPool: pool, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		return nil, nil, err
	}
	flow := func(ctx dbos.Context, c cargo) (int, error) {
		for range steps {
			if _, err := dbos.RunAsStep(ctx, func(context.Context) (int, error) { return 0, nil }); err != nil {
				return 0, err
			}
		}
		return steps, nil
	}
	dbos.RegisterWorkflow(d, flow)
	if err := dbos.Launch(d); err != nil {
		return nil, nil, err
	}
	one := func(ctx context.Context, key string) error {
		handle, err := dbos.RunWorkflow(d, flow, anOrder, dbos.WithWorkflowID(key))
		if err != nil {
			return err
		}
		n, err := handle.GetResult()
		if err == nil && n != steps {
			err = fmt.Errorf("%s ended with %d", key, n)
		}
		return err
	}
	return one, func() { dbos.Shutdown(d, 5*time.Second); pool.Close() }, nil
}

func activity(context.Context, cargo) (int, error) { return 0, nil }

func sequence(ctx workflow.Context, c cargo, steps int) (int, error) {
	for range steps {
		if _, err := workflow.ExecuteActivity[int](ctx, workflow.DefaultActivityOptions, activity, c).Get(ctx); err != nil {
			return 0, err
		}
	}
	return steps, nil
}

func openGoWorkflows(ctx context.Context, database string, steps int) (func(context.Context, string) error, func(), error) {
	u, err := url.Parse(database)
	if err != nil {
		return nil, nil, err
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		return nil, nil, fmt.Errorf("-store: the port: %w", err)
	}
	password, _ := u.User.Password()
	b := backendpostgres.NewPostgresBackend(u.Hostname(), port, u.User.Username(), password, u.Path[1:],
		backendpostgres.WithPostgresOptions(func(db *sql.DB) { db.SetMaxOpenConns(connections); db.SetMaxIdleConns(connections) }),
		backendpostgres.WithBackendOptions(backend.WithLogger(slog.New(slog.NewTextHandler(io.Discard, nil)))))
	workers := worker.DefaultOptions
	workers.WorkflowPollers, workers.ActivityPollers = 16, 16
	workers.WorkflowPollingInterval, workers.ActivityPollingInterval = 5*time.Millisecond, 5*time.Millisecond
	workers.WorkflowExecutorCacheSize = 4096
	w := worker.New(b, &workers)
	if err := errors.Join(w.RegisterWorkflow(sequence), w.RegisterActivity(activity)); err != nil {
		return nil, nil, err
	}
	running, cancel := context.WithCancel(ctx)
	if err := w.Start(running); err != nil {
		cancel()
		return nil, nil, err
	}
	c := client.New(b)
	one := func(ctx context.Context, key string) error {
		instance, err := c.CreateWorkflowInstance(ctx, client.WorkflowInstanceOptions{InstanceID: key}, sequence, anOrder, steps)
		if err != nil {
			return err
		}
		n, err := client.GetWorkflowResult[int](ctx, c, instance, 5*time.Minute)
		if err == nil && n != steps {
			err = fmt.Errorf("%s ended with %d", key, n)
		}
		return err
	}
	return one, func() { cancel(); _ = w.WaitForCompletion(); _ = b.Close() }, nil
}
