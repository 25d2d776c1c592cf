package app

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"

	"github.com/sagamill/sagamill/adapters/memory"
	"github.com/sagamill/sagamill/examples/ordersaga/data"
	"github.com/sagamill/sagamill/idempotency"
	"github.com/sagamill/sagamill/saga"
)

// stores are what the process keeps its data in. Each service has a database of its own, which nobody else opens.
type stores struct {
	store   string // the flag; of memory: a folder that goes with the process
	opened  map[string]*data.DB
	scratch string

	sagas saga.Store
	keys  idempotency.Store
}

func openStores(c Config) (s *stores, err error) {
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
		return s, nil
	}
	db, err := s.db(Order)
	if err != nil {
		return s, err
	}
	s.sagas, s.keys = db.Sagas, db.Keys
	return s, nil
}

// db opens a service's database.
func (s *stores) db(service string) (*data.DB, error) {
	if db := s.opened[service]; db != nil {
		return db, nil
	}
	db, err := data.Open(s.store, service)
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
	saga.Inbox[*sql.Tx]
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
