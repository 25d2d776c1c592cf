// Peers measures sagamill beside other engines of durable work that run within a Go program, on the same PostgreSQL, one after the
// other in each round: DBOS Transact and go-workflows. Each runs the same saga of steps that do nothing; so what is measured is
// what it costs to make them durable.
//
//	go run ./bench/peers -store postgres://postgres@127.0.0.1:5432/postgres
//
// All have their defaults, but for a pool of 20 connections. go-workflows has pollers instead of a queue in memory: it is given 16 of
// each kind, which poll every 5 ms, or its sagas would wait most of the time.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

const connections = 20

// engine is a contestant.
type engine struct {
	name string
	// open sets it up in a database of its own, and answers what runs one saga to its end.
	open func(ctx context.Context, database string, steps int) (one func(context.Context, string) error, stop func(), err error)
}

var engines = []engine{{"sagamill", openSagamill}, {"DBOS", openDBOS}, {"go-workflows", openGoWorkflows}}

type options struct {
	store                         string
	sagas, steps, inflight, alone int
	rounds                        int
	only                          string
}

func main() {
	var o options
	flag.StringVar(&o.store, "store", "postgres://postgres@127.0.0.1:5432/postgres", "a PostgreSQL server; databases are made there, and dropped")
	flag.IntVar(&o.sagas, "sagas", 2000, "how many sagas a round has")
	flag.IntVar(&o.steps, "steps", 4, "local steps of a saga")
	flag.IntVar(&o.inflight, "inflight", 512, "sagas that are under way at one time")
	flag.IntVar(&o.alone, "alone", 100, "sagas of a round that are run alone, one after the other")
	flag.IntVar(&o.rounds, "rounds", 3, "rounds of each")
	flag.StringVar(&o.only, "only", "", "measure this one alone")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

type figures struct {
	perSecond float64
	alone     time.Duration
}

func run(ctx context.Context, o options) error {
	if o.sagas < 1 || o.steps < 1 || o.inflight < 1 || o.alone < 1 || o.rounds < 1 {
		return errors.New("all numbers must be positive")
	}
	all := map[string][]figures{}
	for range o.rounds {
		for _, e := range engines {
			if o.only != "" && o.only != e.name {
				continue
			}
			f, err := measure(ctx, e, o)
			if err != nil {
				return fmt.Errorf("%s: %w", e.name, err)
			}
			all[e.name] = append(all[e.name], f)
		}
	}
	if len(all) == 0 {
		return fmt.Errorf("-only %s: there is no such engine", o.only)
	}
	fmt.Printf("%-14s %10s %12s %12s\n", "", "sagas/s", "p50 alone", "sagamill is")
	first := median(all[engines[0].name])
	for _, e := range engines {
		if len(all[e.name]) == 0 {
			continue
		}
		f, times := median(all[e.name]), ""
		if first.perSecond > 0 {
			times = fmt.Sprintf("%.1fx", first.perSecond/f.perSecond)
		}
		fmt.Printf("%-14s %10.0f %12s %12s\n", e.name, f.perSecond, f.alone.Round(10*time.Microsecond), times)
	}
	return nil
}

func median(list []figures) (f figures) {
	if len(list) == 0 {
		return f
	}
	rates, alone := make([]float64, len(list)), make([]time.Duration, len(list))
	for k := range list {
		rates[k], alone[k] = list[k].perSecond, list[k].alone
	}
	slices.Sort(rates)
	slices.Sort(alone)
	return figures{rates[len(list)/2], alone[len(list)/2]}
}

var keys atomic.Int64

func key() string { return fmt.Sprintf("order-%09d", keys.Add(1)) }

// measure runs a round of one engine, in a fresh database.
func measure(ctx context.Context, e engine, o options) (f figures, err error) {
	database, drop, err := scratch(ctx, o.store)
	if err != nil {
		return f, err
	}
	defer drop()
	one, stop, err := e.open(ctx, database, o.steps)
	if err != nil {
		return f, err
	}
	defer stop()
	began := time.Now()
	if err := together(ctx, o.sagas, o.inflight, one); err != nil {
		return f, err
	}
	f.perSecond = float64(o.sagas) / time.Since(began).Seconds()
	took := make([]time.Duration, o.alone)
	for k := range took {
		began := time.Now()
		if err := one(ctx, key()); err != nil {
			return f, err
		}
		took[k] = time.Since(began)
	}
	slices.Sort(took)
	f.alone = took[len(took)/2]
	return f, nil
}

func together(ctx context.Context, n, inflight int, one func(context.Context, string) error) error {
	var next atomic.Int64
	var all sync.WaitGroup
	errs := make([]error, inflight)
	for k := range inflight {
		all.Go(func() {
			for errs[k] == nil && int(next.Add(1)) <= n {
				errs[k] = one(ctx, key())
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// scratch makes a database, and answers its URL.
func scratch(ctx context.Context, store string) (database string, drop func(), err error) {
	u, err := url.Parse(store)
	if err != nil {
		return "", nil, fmt.Errorf("-store: %w", err)
	}
	name := "sagamill_peers_" + strings.ToLower(rand.Text()[:8])
	exec := func(ctx context.Context, sql string) error {
		conn, err := pgx.Connect(ctx, store)
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close(ctx) }()
		_, err = conn.Exec(ctx, sql)
		return err
	}
	if err := exec(ctx, `CREATE DATABASE `+name); err != nil {
		return "", nil, err
	}
	u.Path = "/" + name
	return u.String(), func() { _ = exec(context.WithoutCancel(ctx), `DROP DATABASE `+name+` WITH (FORCE)`) }, nil
}
