package main

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/examples/ordersaga/app"
	"github.com/sagamill/sagamill/examples/ordersaga/audit"
	"github.com/sagamill/sagamill/examples/ordersaga/client"
	"github.com/sagamill/sagamill/examples/ordersaga/order"
)

// What the heavy tests have in common: many customers at once, and, when they are done, an audit.

type books struct{ *audit.Books }

func openBooks(t *testing.T, store string) books {
	t.Helper()
	b, err := audit.Open(t.Context(), store, "")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return books{b}
}

// openAudited opens a shop, and its books beside it.
func openAudited(t *testing.T, change ...func(*app.Config)) (*shop, books) {
	t.Helper()
	store := "sqlite:" + filepath.Join(t.TempDir(), "shop.db")
	s := open(t, append(change, func(c *app.Config) { c.Store = store })...)
	s.HTTP = manyConnections(t)
	s.Patience = 30 * time.Second
	return s, openBooks(t, store)
}

func (b books) untilAllRest(t *testing.T) {
	t.Helper()
	b.within(t, b.UntilRest)
}

func (b books) untilAllEnd(t *testing.T) {
	t.Helper()
	b.within(t, b.UntilEnd)
}

func (books) within(t *testing.T, do func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	require.NoError(t, do(ctx))
}

// audit checks all books, and answers how many orders are in each state.
func (b books) audit(t *testing.T, c *client.Client, stock map[string]int64) map[order.State]int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	count, violations := b.Check(ctx, c, stock)
	require.NoError(t, errors.Join(violations...))
	return count
}

// manyConnections is an HTTP client that keeps its connections, however many customers share it.
func manyConnections(t *testing.T) *http.Client {
	transport := &http.Transport{MaxIdleConnsPerHost: 1000}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// crowd has clients do jobs at the same time, each job once.
func crowd(t *testing.T, clients, jobs int, do func(ctx context.Context, job int) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	var next atomic.Int64
	var all sync.WaitGroup
	errs := make([]error, clients)
	for k := range clients {
		all.Go(func() {
			for job := next.Add(1) - 1; job < int64(jobs) && errs[k] == nil; job = next.Add(1) - 1 {
				errs[k] = do(ctx, int(job))
			}
		})
	}
	all.Wait()
	require.NoError(t, errors.Join(errs...))
}

// atOnce does things at the same time, and tells whether all went well.
func atOnce(things ...func() error) error {
	var all sync.WaitGroup
	errs := make([]error, len(things))
	for k, do := range things {
		all.Go(func() { errs[k] = do() })
	}
	all.Wait()
	return errors.Join(errs...)
}

// size is how big a test is: what an environment variable says; with ORDERSAGA_FULL=1 its full size; otherwise a twentieth, as
// SQLite, which is translated to Go, is some twenty times slower under the race detector.
func size(t *testing.T, variable string, full int) int {
	t.Helper()
	if text := os.Getenv(variable); text != "" {
		n, err := strconv.Atoi(text)
		require.NoError(t, err, variable)
		return n
	}
	if os.Getenv("ORDERSAGA_FULL") != "" {
		return full
	}
	return max(full/20, 2)
}
