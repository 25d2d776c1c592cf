package app

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	goredis "github.com/redis/go-redis/v9"

	"github.com/sagamill/sagamill/adapters/memory"
	"github.com/sagamill/sagamill/adapters/redis"
	"github.com/sagamill/sagamill/examples/ordersaga/data"
	"github.com/sagamill/sagamill/idempotency"
	"github.com/sagamill/sagamill/saga"
)

// stores are what the process keeps its data in. Each service has a database of its own, which nobody else opens.
type stores struct {
	store   string // the flag; of memory: a folder that goes with the process
	opened  map[string]*data.DB
	scratch string
	redis   *goredis.Client

	sagas saga.Store
	keys  idempotency.Store
}

func openStores(ctx context.Context, c Config, logger *slog.Logger) (s *stores, err error) {
	s = &stores{store: c.Store, opened: map[string]*data.DB{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if c.Store == "memory:" {
		if s.scratch, err = os.MkdirTemp("", "ordersaga"); err != nil {
			return s, err
		}
		s.store = "sqlite:" + filepath.Join(s.scratch, "order.db")
		s.sagas, s.keys = memory.NewStore(), memory.NewIdempotencyStore()
	}
	if !c.runs(Order) {
		return s, nil
	}
	if c.Store != "memory:" {
		db, err := s.db(ctx, Order)
		if err != nil {
			return s, err
		}
		s.sagas, s.keys = db.Sagas, db.Keys
	}
	if c.Idempotency != "" {
		err = s.keysInRedis(ctx, c.Idempotency, logger)
	}
	return s, err
}

// keysInRedis puts Redis in front. It is not the authority: an order's key is kept in the saga store as well, in the transaction
// that creates the order, and a click's key names its event there. So Redis may forget.
func (s *stores) keysInRedis(ctx context.Context, url string, logger *slog.Logger) error {
	options, err := goredis.ParseURL(url)
	if err != nil {
		return fmt.Errorf("open the idempotency keys: %w", err)
	}
	options.ContextTimeoutEnabled = true
	s.redis = goredis.NewClient(options)
	if s.keys, err = redis.NewIdempotencyStore(ctx, s.redis, redis.WithPrefix("ordersaga:idempotency"), redis.WithLogger(logger)); err != nil {
		return fmt.Errorf("open the idempotency keys: %w", err)
	}
	return nil
}

// db opens a service's database.
func (s *stores) db(ctx context.Context, service string) (*data.DB, error) {
	if db := s.opened[service]; db != nil {
		return db, nil
	}
	db, err := data.Open(ctx, s.store, service)
	if err != nil {
		return nil, err
	}
	s.opened[service] = db
	return db, nil
}

func (s *stores) close() error {
	var errs []error
	for _, db := range s.opened {
		errs = append(errs, db.Close())
	}
	if s.redis != nil {
		errs = append(errs, s.redis.Close())
	}
	if s.scratch != "" {
		errs = append(errs, os.RemoveAll(s.scratch))
	}
	return errors.Join(errs...)
}

// Told stores tell after each commit: so that a test can kill the process there.

type toldStore struct {
	saga.Store
	tell func(of string)
}

func (s toldStore) Commit(ctx context.Context, transitions []saga.Transition) ([]saga.Verdict, error) {
	verdicts, err := s.Store.Commit(ctx, transitions)
	if err == nil {
		s.tell("order")
	}
	return verdicts, err
}

type toldInbox struct {
	data.Inbox
	of   string
	tell func(of string)
}

func (i toldInbox) Handle(ctx context.Context, effect saga.Effect, handle func(context.Context, *sql.Tx) ([]byte, error)) (saga.Reply, error) {
	reply, err := i.Inbox.Handle(ctx, effect, handle)
	if err == nil {
		i.tell(i.of)
	}
	return reply, err
}
