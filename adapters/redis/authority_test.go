package redis_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/memory"
	"github.com/sagamill/sagamill/adapters/sqlite"
	"github.com/sagamill/sagamill/idempotency"
	"github.com/sagamill/sagamill/saga"
)

// Redis stands in front of a saga store, which is the authority: each order is started by the request's key. Whatever becomes of
// Redis meanwhile, there is one order for each key, and each request is answered with that order or told to come again.

type orderData struct {
	Text string `json:"text"`
}

// shop is two processes that take orders. They share the saga store and a Redis.
type shop struct {
	tb         testing.TB
	processes  []http.Handler
	definition *saga.LinearDefinition[orderData]
	any        *saga.Orchestrator
	withKey    bool // orders are started by the request's key

	mu      sync.Mutex
	charged map[string]int    // by effect key
	placed  map[string]string // what the orders of each key were answered with
	answers map[string]int
}

func (s *shop) count(answer string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[answer]++
}

func newShop(tb testing.TB, redisServer *server, store func(tb testing.TB) saga.Store) *shop {
	tb.Helper()
	s := &shop{tb: tb, withKey: true, charged: map[string]int{}, placed: map[string]string{}, answers: map[string]int{}}
	s.definition = saga.Linear("order", saga.Do("charge", func(ctx context.Context, _ orderData) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.charged[saga.Info(ctx).EffectKey]++
		return nil
	}).Pivot())
	shared := store(tb)
	for range 2 {
		o, err := saga.NewOrchestrator(shared, saga.OrchestratorConfig{Definitions: []saga.AnyDefinition{s.definition}}, nil)
		require.NoError(tb, err)
		ended := make(chan error, 1)
		go func() { ended <- o.Run(context.WithoutCancel(tb.Context())) }()
		tb.Cleanup(func() {
			require.NoError(tb, o.Close())
			require.NoError(tb, <-ended)
		})
		<-o.Running()
		s.any = o
		keys := newStore(tb, redisServer.client())
		guard, err := idempotency.Middleware(keys, idempotency.Config{
			Lease: 300 * time.Millisecond, TTL: time.Hour, StoreTimeout: 300 * time.Millisecond, Logger: silent,
			OnError: func(_ context.Context, err error) { s.count("store error") },
		})
		require.NoError(tb, err)
		mux := http.NewServeMux()
		mux.Handle("POST /v1/orders", guard(s.place(o)))
		s.processes = append(s.processes, mux)
	}
	return s
}

// place is the handler of an order.
func (s *shop) place(o *saga.Orchestrator) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.count("handled")
		request, _ := idempotency.FromContext(r.Context())
		id := fmt.Sprintf("%016x%016x", rand.Uint64(), rand.Uint64())
		params := saga.StartParams[orderData]{ID: id, Key: id, Data: orderData{Text: strings.Repeat("x", 1000)}}
		respond := func(i saga.Instance) ([]byte, error) {
			return json.Marshal(map[string]string{"id": i.ID, "text": params.Data.Text})
		}
		if s.withKey {
			params.StartKey = &saga.RequestKey{Key: request.Key.String(), Fingerprint: request.Fingerprint[:], TTL: time.Hour, Respond: respond}
		}
		time.Sleep(rand.N(4 * time.Millisecond)) // work during which something may happen
		started, err := s.definition.Start(r.Context(), o, params)
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		if !s.withKey {
			started.Response, _ = respond(started.Instance)
		}
		time.Sleep(rand.N(4 * time.Millisecond))
		idempotency.Hold(r.Context(), started.ID)
		w.Header().Set("Location", "/v1/orders/"+started.ID)
		w.WriteHeader(http.StatusCreated)
		_, _ = w.Write(started.Response)
	})
}

// post sends a request to one of the processes. It answers whether that gave an order.
func (s *shop) post(key string) (bool, error) {
	r := httptest.NewRequest("POST", "/v1/orders", strings.NewReader(`{"order":"`+key+`"}`))
	r.Header.Set("Idempotency-Key", key)
	w := httptest.NewRecorder()
	s.processes[rand.N(len(s.processes))].ServeHTTP(w, r)
	s.count(strconv.Itoa(w.Code))
	switch w.Code {
	case http.StatusConflict, http.StatusServiceUnavailable: // come again
		return false, nil
	case http.StatusCreated:
	default:
		return false, fmt.Errorf("key %s is answered %d %s", key, w.Code, w.Body)
	}
	if w.Header().Get(idempotency.ReplayedHeader) != "" {
		s.count("replayed")
	}
	answer := w.Header().Get("Location") + " " + w.Body.String()
	s.mu.Lock()
	defer s.mu.Unlock()
	if before := s.placed[key]; before != "" && before != answer {
		return false, fmt.Errorf("key %s is answered %.80s, and before %.80s", key, answer, before)
	}
	s.placed[key] = answer
	return true, nil
}

// serve lets clients order until enough is closed. Most keys are sent by several of them at about the same time, some again
// later. In the end each client asks until it has an order.
func (s *shop) serve(enough <-chan struct{}) error {
	const clients = 8
	var requests atomic.Int64
	errs := make([]error, clients)
	var all sync.WaitGroup
	for client := range clients {
		all.Go(func() {
			for {
				select {
				case <-enough:
					return
				default:
				}
				n := requests.Add(1) / 4
				if rand.N(4) == 0 {
					n = rand.N(n + 1)
				}
				if _, err := s.post(strconv.FormatInt(n, 10)); err != nil {
					errs[client] = err
					return
				}
			}
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for client := range clients {
		all.Go(func() {
			for n := int64(client); n <= requests.Load()/4; n += clients {
				if err := s.insist(strconv.FormatInt(n, 10)); err != nil {
					errs[client] = err
					return
				}
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// insist posts until there is an order.
func (s *shop) insist(key string) error {
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		done, err := s.post(key)
		switch {
		case done || err != nil:
			return err
		case time.Since(began) > 30*time.Second:
			return fmt.Errorf("key %s gets no order", key)
		}
	}
}

// sagas are the IDs of all that were started.
func (s *shop) sagas() (ids []string) {
	s.tb.Helper()
	for after := ""; ; {
		page, next, err := s.any.List(s.tb.Context(), saga.Query{Definition: "order", Limit: 500, After: after})
		require.NoError(s.tb, err)
		for _, i := range page {
			ids = append(ids, i.ID)
		}
		if next == "" {
			return ids
		}
		after = next
	}
}

// check looks at the books.
func (s *shop) check() {
	s.tb.Helper()
	ids := s.sagas()
	require.Len(s.tb, ids, len(s.placed), "one order for each key")
	var told []string
	for _, answer := range s.placed {
		location, _, _ := strings.Cut(answer, " ")
		told = append(told, strings.TrimPrefix(location, "/v1/orders/"))
	}
	slices.Sort(told)
	slices.Sort(ids)
	require.Equal(s.tb, ids, told, "each was told to its customer")
	await(s.tb, "all have been charged", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.charged) == len(ids)
	})
}

// fault is something that happens to Redis, again and again.
type fault struct {
	settings []string
	happen   func(s *server, n int) // the nth time
	times    int
	every    time.Duration
	forgets  bool // Redis forgets what it has answered
}

var faults = map[string]fault{
	"emptied": {
		happen: func(s *server, _ int) { require.NoError(s.tb, s.client().FlushAll(s.tb.Context()).Err()) },
		times:  60, every: 10 * time.Millisecond, forgets: true,
	},
	"killed": {
		happen: func(s *server, _ int) { s.kill(); s.start() },
		times:  8, every: 100 * time.Millisecond, forgets: true,
	},
	"rolled back": {happen: rollBack, times: 8, every: 100 * time.Millisecond, forgets: true},
	"evicting": {
		settings: []string{"--maxmemory-policy", "allkeys-random"},
		happen: func(s *server, n int) {
			if n%2 == 1 {
				s.configure("maxmemory", "0")
				return
			}
			evicted := s.info("evicted_keys")
			s.configure("maxmemory", strconv.Itoa(s.info("used_memory")-20_000))
			await(s.tb, "something is evicted", func() bool { return s.info("evicted_keys") > evicted })
		},
		times: 20, every: 50 * time.Millisecond, forgets: true,
	},
	"out of memory": {
		settings: []string{"--maxmemory-policy", "noeviction"},
		happen:   func(s *server, n int) { s.configure("maxmemory", []string{"1", "0"}[n%2]) },
		times:    20, every: 50 * time.Millisecond,
	},
	"stalled": { // for longer than a lease
		settings: []string{"--enable-debug-command", "yes"},
		happen: func(s *server, _ int) {
			client := s.client(func(o *goredis.Options) { o.ReadTimeout = time.Minute })
			require.NoError(s.tb, client.Do(s.tb.Context(), "debug", "sleep", "0.5").Err())
		},
		times: 4, every: 100 * time.Millisecond,
	},
}

// rollBack kills the server, and starts it with what it had when rollBack was called the time before.
func rollBack(s *server, n int) {
	before, err := os.ReadFile(s.file("dump.rdb"))
	require.Equal(s.tb, n == 0, os.IsNotExist(err))
	require.NoError(s.tb, s.client().Save(s.tb.Context()).Err())
	if n == 0 {
		return
	}
	saved, err := os.ReadFile(s.file("dump.rdb"))
	require.NoError(s.tb, err)
	s.kill()
	require.NoError(s.tb, os.WriteFile(s.file("dump.rdb"), before, 0o600))
	s.start()
	require.NotZero(s.tb, s.client().DBSize(s.tb.Context()).Val())
	require.NoError(s.tb, os.WriteFile(s.file("dump.rdb"), saved, 0o600))
}

func TestRedisIsNeverTheAuthority(t *testing.T) {
	t.Parallel()
	for storeName, store := range map[string]func(tb testing.TB) saga.Store{
		"memory": func(testing.TB) saga.Store { return memory.NewStore() },
		"sqlite": func(tb testing.TB) saga.Store {
			db, err := sqlite.Open(filepath.Join(tb.(*testing.T).TempDir(), "sagas.db"))
			require.NoError(tb, err)
			tb.Cleanup(func() { require.NoError(tb, db.Close()) })
			return sqlite.NewStore(db)
		},
	} {
		for faultName, f := range faults {
			t.Run(storeName+"/"+faultName, func(t *testing.T) {
				t.Parallel()
				s := newServer(t, f.settings...)
				shop := newShop(t, s, store)
				enough := make(chan struct{})
				var faulty sync.WaitGroup
				faulty.Go(func() {
					defer close(enough)
					for n := range f.times {
						time.Sleep(f.every)
						f.happen(s, n)
					}
				})
				err := shop.serve(enough)
				faulty.Wait()
				require.NoError(t, err)
				shop.check()
				t.Logf("%d orders; answers %v", len(shop.placed), shop.answers)
				if f.forgets {
					require.Greater(t, shop.answers["handled"], len(shop.placed), "some handlers ran again")
				}
				handled := shop.answers["handled"]
				for range 10 {
					require.NoError(t, shop.insist("0"))
				}
				require.LessOrEqual(t, shop.answers["handled"], handled+1, "when all is well it answers itself")
			})
		}
	}
}

// The test of the test: if orders are not started by the request's key, an emptied Redis lets a second one in.
func TestWithoutStartKeysThereAreTwoOrders(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	shop := newShop(t, s, func(testing.TB) saga.Store { return memory.NewStore() })
	shop.withKey = false
	for range 2 {
		done, err := shop.post("1")
		require.True(t, done)
		require.NoError(t, err)
	}
	require.Len(t, shop.sagas(), 1)
	require.NoError(t, s.client().FlushAll(t.Context()).Err())
	_, err := shop.post("1")
	require.ErrorContains(t, err, "and before")
	require.Len(t, shop.sagas(), 2)
}
