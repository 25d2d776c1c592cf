package idempotencytest_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/jackc/pgx/v5/pgxpool"
	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/memory"
	"github.com/sagamill/sagamill/adapters/mysql"
	"github.com/sagamill/sagamill/adapters/postgres"
	"github.com/sagamill/sagamill/adapters/redis"
	"github.com/sagamill/sagamill/adapters/sqlite"
	"github.com/sagamill/sagamill/idempotency"
	"github.com/sagamill/sagamill/internal/services"
	"github.com/sagamill/sagamill/internal/services/mariadbtest"
)

// What stores answer to many callers at once is compared with what one caller at a time could have been answered: each history of
// calls must have an order, in agreement with which call was over before which began, that a plain sequential store explains
// (M. Herlihy and J. Wing, "Linearizability", 1990). Porcupine looks for that order. The sequential store below was written from
// the comments of idempotency.Store, not from the code of any.

// keptKeys is how many keys the callers quarrel about.
const keptKeys = 3

// kept is what the sequential store has of a key.
type kept struct {
	status      byte              // 0: nothing, 'p': in progress, 'c': completed
	token       idempotency.Token // of the last claim
	fingerprint byte
	body        string
	until       time.Duration
}

// keptState is the sequential store: a value.
type keptState struct {
	last idempotency.Token // the greatest that was ever given, for any key
	keys [keptKeys]kept
	now  time.Duration
}

type keptInput struct {
	op          string // begin, renew, complete, release, advance
	key         int
	token       idempotency.Token
	fingerprint byte
	body        string
	duration    time.Duration // lease, TTL, or how far the clock is moved
}

type keptOutput struct {
	state      idempotency.State // of begin
	token      idempotency.Token
	body       string
	retryAfter time.Duration
	fenced     bool
}

// keptModel is the sequential store as porcupine wants it. Unless time is given, none passes: nothing lapses.
func keptModel(timed bool) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return keptState{} },
		Step: func(state, input, output any) (bool, any) {
			s, in, out := state.(keptState), input.(keptInput), output.(keptOutput)
			return s.step(in, out, timed)
		},
		DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v -> %+v", input, output) },
	}
}

// step tells whether the answer is one that the store may give, and what it has then.
func (s keptState) step(in keptInput, out keptOutput, timed bool) (bool, keptState) {
	k := &s.keys[in.key]
	holds := k.status == 'p' && k.token == in.token
	switch in.op {
	case "advance":
		s.now += in.duration
		return true, s
	case "begin":
		return s.begin(in, out, timed)
	case "renew":
		if holds {
			k.until = s.now + in.duration
		}
		return out.fenced == !holds, s
	case "release":
		if holds {
			*k = kept{}
		}
		return out.fenced == !holds, s
	case "complete":
		if holds {
			*k = kept{status: 'c', token: k.token, fingerprint: k.fingerprint, body: in.body, until: s.now + in.duration}
		}
		again := k.status == 'c' && k.token == in.token // what was stored first stands
		return out.fenced == !again, s
	}
	return false, s
}

func (s keptState) begin(in keptInput, out keptOutput, timed bool) (bool, keptState) {
	k := &s.keys[in.key]
	over := s.now >= k.until
	switch {
	case k.status == 0, k.status == 'c' && over: // free
	case k.fingerprint != in.fingerprint:
		return out.state == idempotency.Mismatch, s
	case k.status == 'c':
		return out.state == idempotency.Completed && out.body == k.body, s
	case !over:
		return out.state == idempotency.InFlight && (!timed || out.retryAfter == k.until-s.now), s
	} // else taken over
	if out.state != idempotency.Acquired || out.token <= s.last {
		return false, s
	}
	s.last = out.token
	*k = kept{status: 'p', token: out.token, fingerprint: in.fingerprint, until: s.now + in.duration}
	return true, s
}

// keptHistory records who called what. Its times only count: what was over before something else began has the lesser one.
type keptHistory struct {
	store  idempotency.Store
	ticks  atomic.Int64
	mu     sync.Mutex
	calls  []porcupine.Operation
	seen   map[string]int                // answers of each kind
	tokens [keptKeys][]idempotency.Token // that were given to anybody
}

func newKeptHistory(store idempotency.Store) *keptHistory {
	return &keptHistory{store: store, seen: map[string]int{}}
}

func keptKey(n int) idempotency.Key {
	return idempotency.Key{Tenant: "acme", Route: "POST /v1/orders", Key: fmt.Sprint("key-", n)}
}

// do makes a call, for a caller.
func (h *keptHistory) do(ctx context.Context, caller int, in keptInput, advance func(time.Duration)) (keptOutput, error) {
	called := h.ticks.Add(1)
	out, err := h.call(ctx, in, advance)
	returned := h.ticks.Add(1)
	if err != nil {
		return out, fmt.Errorf("%+v: %w", in, err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls = append(h.calls, porcupine.Operation{ClientId: caller, Input: in, Output: out, Call: called, Return: returned})
	answer := in.op
	switch {
	case in.op == "begin":
		answer += " " + out.state.String()
	case out.fenced:
		answer += " fenced"
	}
	h.seen[answer]++
	if out.state == idempotency.Acquired {
		h.tokens[in.key] = append(h.tokens[in.key], out.token)
	}
	return out, nil
}

func (h *keptHistory) call(ctx context.Context, in keptInput, advance func(time.Duration)) (out keptOutput, err error) {
	key := keptKey(in.key)
	switch in.op {
	case "advance":
		advance(in.duration)
		return out, nil
	case "begin":
		claim, err := h.store.Begin(ctx, key, idempotency.FingerprintOf([]byte{in.fingerprint}), in.duration)
		return keptOutput{state: claim.State, token: claim.Token, body: string(claim.Response.Body), retryAfter: claim.RetryAfter}, err
	case "renew":
		err = h.store.Renew(ctx, key, in.token, in.duration)
	case "release":
		err = h.store.Release(ctx, key, in.token)
	case "complete":
		err = h.store.Complete(ctx, key, in.token, idempotency.Completion{
			Response: idempotency.Response{Status: 200, Body: []byte(in.body)}, TTL: in.duration,
		})
	}
	if errors.Is(err, idempotency.ErrFenced) {
		return keptOutput{fenced: true}, nil
	}
	return out, err
}

// someToken is one that was given for the key: mostly the last one.
func (h *keptHistory) someToken(key int, random *rand.Rand) idempotency.Token {
	h.mu.Lock()
	defer h.mu.Unlock()
	given := h.tokens[key]
	if len(given) == 0 {
		return 1
	}
	return given[len(given)-1-random.IntN(min(2, len(given)))]
}

// quarrel lets callers do what comes to their minds. With a clock, one of them moves it now and then.
func (h *keptHistory) quarrel(ctx context.Context, seed uint64, advance func(time.Duration)) error {
	const callers, each = 5, 24
	errs := make([]error, callers)
	var all sync.WaitGroup
	for caller := range callers {
		all.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(caller)))
			for n := range each {
				in := keptInput{key: random.IntN(keptKeys), duration: 24 * time.Hour, fingerprint: 'a'}
				in.token = h.someToken(in.key, random)
				switch dice := random.IntN(20); {
				case dice == 0 && advance != nil, dice == 1 && advance != nil:
					in = keptInput{op: "advance", duration: time.Duration(random.IntN(3)+1) * 10 * time.Hour}
				case dice < 9:
					in.op = "begin"
					if random.IntN(8) == 0 {
						in.fingerprint = 'b'
					}
				case dice < 12:
					in.op = "renew"
				case dice < 18:
					in.op = "release"
				default:
					in.op, in.body = "complete", fmt.Sprintf("call %d of %d", n, caller)
				}
				if _, err := h.do(ctx, caller, in, advance); err != nil {
					errs[caller] = err
					return
				}
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

func (h *keptHistory) check(timed bool) porcupine.CheckResult {
	return porcupine.CheckOperationsTimeout(keptModel(timed), h.calls, time.Minute)
}

// String lists the calls in the order in which they began.
func (h *keptHistory) String() string {
	var text strings.Builder
	slices.SortFunc(h.calls, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
	for _, c := range h.calls {
		fmt.Fprintf(&text, "%4d-%4d caller %d: %+v -> %+v\n", c.Call, c.Return, c.ClientId, c.Input, c.Output)
	}
	return text.String()
}

// keptStores open stores on a clock (nil: their own). What one call returns is one store, seen by several processes.
var keptStores = map[string]func(t *testing.T, now func() time.Time) idempotency.Store{
	"memory": func(_ *testing.T, now func() time.Time) idempotency.Store {
		if now == nil {
			return memory.NewIdempotencyStore()
		}
		return memory.NewIdempotencyStore(memory.WithClock(now))
	},
	"sqlite": func(t *testing.T, now func() time.Time) idempotency.Store { return keptSQLite(t, now, 1) },
	// Each process has a connection and a writer's queue of its own.
	"sqlite in two processes": func(t *testing.T, now func() time.Time) idempotency.Store { return keptSQLite(t, now, 2) },
}

func keptSQLite(t *testing.T, now func() time.Time, processes int) idempotency.Store {
	if now == nil {
		now = time.Now
	}
	path := filepath.Join(t.TempDir(), "keys.db")
	all := &takingTurns{}
	for range processes {
		db, err := sqlite.Open(path)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, db.Close()) })
		all.stores = append(all.stores, sqlite.NewIdempotencyStore(db, sqlite.WithClock(now)))
	}
	return all
}

// serverStores keep their own time: that of the server.
var serverStores = map[string]func(t *testing.T, now func() time.Time) idempotency.Store{
	"postgres":                  func(t *testing.T, _ func() time.Time) idempotency.Store { return keptPostgres(t, 1) },
	"postgres in two processes": func(t *testing.T, _ func() time.Time) idempotency.Store { return keptPostgres(t, 2) },
	"mysql":                     func(t *testing.T, _ func() time.Time) idempotency.Store { return keptMySQL(t, 1) },
	"mysql in two processes":    func(t *testing.T, _ func() time.Time) idempotency.Store { return keptMySQL(t, 2) },
	"redis":                     func(t *testing.T, _ func() time.Time) idempotency.Store { return keptRedis(t, 1) },
	"redis in two processes":    func(t *testing.T, _ func() time.Time) idempotency.Store { return keptRedis(t, 2) },
}

func keptPostgres(t *testing.T, processes int) idempotency.Store {
	all, url, schema := &takingTurns{}, services.Postgres.URL(t), services.Name()
	for k := range processes {
		pool, err := pgxpool.New(t.Context(), url)
		require.NoError(t, err)
		t.Cleanup(func() {
			if k == 0 {
				_, err := pool.Exec(context.Background(), `DROP SCHEMA `+schema+` CASCADE`)
				require.NoError(t, err)
			}
			pool.Close()
		})
		db, err := postgres.Open(t.Context(), pool, postgres.WithSchema(schema), postgres.AcceptDataLoss())
		require.NoError(t, err)
		all.stores = append(all.stores, postgres.NewIdempotencyStore(db))
	}
	return all
}

func keptMySQL(t *testing.T, processes int) idempotency.Store {
	all := &takingTurns{}
	pools, schema := mariadbtest.Pools(t, processes)
	for _, pool := range pools {
		db, err := mysql.Open(t.Context(), pool, mysql.WithSchema(schema), mysql.AcceptDataLoss())
		require.NoError(t, err)
		all.stores = append(all.stores, mysql.NewIdempotencyStore(db))
	}
	return all
}

func keptRedis(t *testing.T, processes int) idempotency.Store {
	all, url, prefix := &takingTurns{}, services.Redis.URL(t), services.Name()
	options, err := goredis.ParseURL(url)
	require.NoError(t, err)
	options.ContextTimeoutEnabled = true
	for k := range processes {
		client := goredis.NewClient(options)
		t.Cleanup(func() {
			if k == 0 {
				keys, err := client.Keys(context.Background(), "{"+prefix+"}*").Result()
				require.NoError(t, err)
				require.NotEmpty(t, keys)
				require.NoError(t, client.Del(context.Background(), keys...).Err())
			}
			require.NoError(t, client.Close())
		})
		store, err := redis.NewIdempotencyStore(t.Context(), client, redis.WithPrefix(prefix), redis.WithLogger(slog.New(slog.DiscardHandler)))
		require.NoError(t, err)
		all.stores = append(all.stores, store)
	}
	return all
}

// takingTurns asks one store after the other.
type takingTurns struct {
	stores []idempotency.Store
	calls  atomic.Int64
}

func (s *takingTurns) next() idempotency.Store {
	return s.stores[s.calls.Add(1)%int64(len(s.stores))]
}

func (s *takingTurns) Begin(ctx context.Context, k idempotency.Key, f idempotency.Fingerprint, lease time.Duration) (idempotency.Claim, error) {
	return s.next().Begin(ctx, k, f, lease)
}

func (s *takingTurns) Renew(ctx context.Context, k idempotency.Key, t idempotency.Token, lease time.Duration) error {
	return s.next().Renew(ctx, k, t, lease)
}

func (s *takingTurns) Complete(ctx context.Context, k idempotency.Key, t idempotency.Token, c idempotency.Completion) error {
	return s.next().Complete(ctx, k, t, c)
}

func (s *takingTurns) Release(ctx context.Context, k idempotency.Key, t idempotency.Token) error {
	return s.next().Release(ctx, k, t)
}

func (s *takingTurns) Expire(ctx context.Context, limit int, live idempotency.Live) (int, error) {
	return s.next().Expire(ctx, limit, live)
}

const keptRounds = 4

// Leases are so long that none lapses: time has no part in it.
func TestStoresAreLinearizable(t *testing.T) {
	t.Parallel()
	stores := maps.Clone(keptStores)
	maps.Copy(stores, serverStores)
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			seen := map[string]int{}
			for seed := range uint64(keptRounds) {
				h := newKeptHistory(open(t, nil))
				require.NoError(t, h.quarrel(t.Context(), seed, nil))
				require.Equal(t, porcupine.Ok, h.check(false), "no order of these calls is that of a sequential store:\n%s", h)
				for what, n := range h.seen {
					seen[what] += n
				}
			}
			for _, what := range []string{
				"begin acquired", "begin in flight", "begin completed", "begin mismatch", "renew", "renew fenced",
				"complete", "complete fenced", "release", "release fenced",
			} {
				require.NotZero(t, seen[what], "nobody was answered %q: %v", what, seen)
			}
		})
	}
}

// The clock is moved by the callers, so that leases and TTLs lapse under their hands. Moving it is a call like the others.
func TestStoresAreLinearizableWhenLeasesLapse(t *testing.T) {
	t.Parallel()
	for name, open := range keptStores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(keptRounds) {
				var passed atomic.Int64
				began := time.Date(2026, time.March, 29, 1, 30, 0, 0, time.UTC)
				h := newKeptHistory(open(t, func() time.Time { return began.Add(time.Duration(passed.Load())) }))
				require.NoError(t, h.quarrel(t.Context(), seed, func(d time.Duration) { passed.Add(int64(d)) }))
				require.NotZero(t, h.seen["advance"])
				require.Equal(t, porcupine.Ok, h.check(true), "no order of these calls is that of a sequential store:\n%s", h)
			}
		})
	}
}

// The tests of the test: stores with a fault, of which no order makes sense.

// tokensAnew gives tokens that begin again at 1 after each Release.
type tokensAnew struct {
	idempotency.Store
	mu   sync.Mutex
	base idempotency.Token // what is taken off
	last idempotency.Token
}

func (s *tokensAnew) Begin(ctx context.Context, k idempotency.Key, f idempotency.Fingerprint, lease time.Duration) (idempotency.Claim, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	claim, err := s.Store.Begin(ctx, k, f, lease)
	if claim.State == idempotency.Acquired {
		s.last = claim.Token
		claim.Token -= s.base
	}
	return claim, err
}

func (s *tokensAnew) Release(ctx context.Context, k idempotency.Key, t idempotency.Token) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.Store.Release(ctx, k, t+s.base)
	if err == nil {
		s.base = s.last
	}
	return err
}

// noFence completes whoever holds the key.
type noFence struct {
	idempotency.Store
	mu   sync.Mutex
	held map[idempotency.Key]idempotency.Token
}

func (s *noFence) Begin(ctx context.Context, k idempotency.Key, f idempotency.Fingerprint, lease time.Duration) (idempotency.Claim, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	claim, err := s.Store.Begin(ctx, k, f, lease)
	if claim.State == idempotency.Acquired {
		s.held[k] = claim.Token
	}
	return claim, err
}

func (s *noFence) Complete(ctx context.Context, k idempotency.Key, _ idempotency.Token, c idempotency.Completion) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Store.Complete(ctx, k, s.held[k], c)
}

// forgetsToLock takes a claim that it finds for one whose lease is over, as a store does that judges by what it read before.
type forgetsToLock struct{ idempotency.Store }

func (s forgetsToLock) Begin(ctx context.Context, k idempotency.Key, f idempotency.Fingerprint, lease time.Duration) (idempotency.Claim, error) {
	claim, err := s.Store.Begin(ctx, k, f, lease)
	if claim.State == idempotency.InFlight {
		claim = idempotency.Claim{State: idempotency.Acquired, Token: 1 << 40}
	}
	return claim, err
}

func TestStoresWithAFaultAreNotLinearizable(t *testing.T) {
	t.Parallel()
	for name, plant := range map[string]func(good idempotency.Store) idempotency.Store{
		"tokens begin again": func(good idempotency.Store) idempotency.Store { return &tokensAnew{Store: good} },
		"no fence on Complete": func(good idempotency.Store) idempotency.Store {
			return &noFence{Store: good, held: map[idempotency.Key]idempotency.Token{}}
		},
		"a claimed key is claimed":  func(good idempotency.Store) idempotency.Store { return forgetsToLock{good} },
		"answers before it is done": func(good idempotency.Store) idempotency.Store { return &lateRelease{Store: good} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(keptRounds) {
				h := newKeptHistory(plant(memory.NewIdempotencyStore()))
				require.NoError(t, h.quarrel(t.Context(), seed, nil))
				if h.check(false) == porcupine.Illegal {
					return
				}
			}
			t.Error("the fault is not noticed")
		})
	}
}

// lateRelease answers a Release, and does it at the next call.
type lateRelease struct {
	idempotency.Store
	mu      sync.Mutex
	pending func() error
}

func (s *lateRelease) Begin(ctx context.Context, k idempotency.Key, f idempotency.Fingerprint, lease time.Duration) (idempotency.Claim, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	claim, err := s.Store.Begin(ctx, k, f, lease)
	if s.pending != nil {
		err = errors.Join(err, s.pending())
		s.pending = nil
	}
	return claim, err
}

func (s *lateRelease) Release(ctx context.Context, k idempotency.Key, t idempotency.Token) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pending != nil {
		return s.Store.Release(ctx, k, t)
	}
	if err := s.Store.Renew(ctx, k, t, time.Hour); err != nil { // whether it may
		return err
	}
	s.pending = func() error {
		if err := s.Store.Release(ctx, k, t); !errors.Is(err, idempotency.ErrFenced) {
			return err
		}
		return nil
	}
	return nil
}
