package app

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/sagamill/sagamill/adapters/memory"
	"github.com/sagamill/sagamill/adapters/sqlite"
	"github.com/sagamill/sagamill/idempotency"
	"github.com/sagamill/sagamill/saga"
)

// stores are what the process keeps its data in. Each service has a file of its own, which nobody else opens.
type stores struct {
	path    string // of the order service's file
	opened  map[string]*sqlite.DB
	scratch string // a folder that goes with the process

	sagas saga.Store
	keys  idempotency.Store
}

func openStores(c Config) (s *stores, err error) {
	s = &stores{opened: map[string]*sqlite.DB{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if c.Store == "memory:" {
		if s.scratch, err = os.MkdirTemp("", "ordersaga"); err != nil {
			return s, err
		}
		s.path = filepath.Join(s.scratch, "order.db")
		s.sagas, s.keys = memory.NewStore(), memory.NewIdempotencyStore()
		return s, nil
	}
	s.path = strings.TrimPrefix(c.Store, "sqlite:")
	db, err := s.db(Order)
	if err != nil {
		return s, err
	}
	s.sagas, s.keys = sqlite.NewStore(db), sqlite.NewIdempotencyStore(db)
	return s, nil
}

// db opens a service's file: that of order is the one that --store names, the others lie beside it.
func (s *stores) db(service string) (*sqlite.DB, error) {
	if db := s.opened[service]; db != nil {
		return db, nil
	}
	path := s.path
	if service != Order {
		ext := filepath.Ext(path)
		path = strings.TrimSuffix(path, ext) + "-" + service + ext
	}
	db, err := sqlite.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open the data of %s: %w", service, err)
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
