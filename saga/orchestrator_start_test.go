package saga_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/memory"
	"github.com/sagamill/sagamill/adapters/sqlite"
	"github.com/sagamill/sagamill/saga"
)

// Start is idempotent by business key and by start key, and may join the user's own transaction.

func TestStartIsIdempotentByBusinessKey(t *testing.T) {
	t.Parallel()
	db, err := sqlite.Open(filepath.Join(t.TempDir(), "sagas.db"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	for name, store := range map[string]saga.Store{"memory": memory.NewStore(), "sqlite": sqlite.NewStore(db)} {
		t.Run(name, func(t *testing.T) {
			done := &rigWorld{}
			def := saga.Linear("start", done.undoable("one"))
			both := []*saga.Orchestrator{runRig(t, store, rigOf(def)), runRig(t, store, rigOf(def))}
			var wg sync.WaitGroup
			started := make([]saga.Started[saga.LinearState, rigData], 64)
			for k := range started {
				wg.Go(func() {
					s, err := def.Start(t.Context(), both[k%2], saga.StartParams[rigData]{Key: "a", Data: rigData{Card: "x"}})
					require.NoError(t, err)
					started[k] = s
				})
			}
			wg.Wait()
			fresh := 0
			for _, s := range started {
				require.Equal(t, started[0].ID, s.ID)
				require.Equal(t, "x", s.Data.Card)
				if !s.Existing {
					fresh++
				}
			}
			require.Equal(t, 1, fresh)
			waitSettled(t, def, both[0], "a")
			require.Equal(t, []string{"one"}, done.list())
			_, err := def.Start(t.Context(), both[0], saga.StartParams[rigData]{Key: "a", Data: rigData{Card: "y"}})
			require.ErrorIs(t, err, saga.ErrKeyConflict)
			var conflict *saga.KeyConflictError
			require.ErrorAs(t, err, &conflict)
			require.Equal(t, saga.KeyConflictError{Instance: started[0].ID, Definition: def.Name(), Key: "a"}, *conflict)
			_, err = def.Start(t.Context(), both[0], saga.StartParams[rigData]{Key: "b", ID: started[0].ID})
			require.ErrorAs(t, err, &conflict)
			require.Equal(t, saga.KeyConflictError{Instance: started[0].ID, Definition: def.Name(), Key: "a", ByID: true}, *conflict)
			s := startSaga(t, def, both[1], "a", rigData{Card: "x"})
			require.True(t, s.Existing, "ever: also when it is over")
			require.Equal(t, saga.Completed, s.State)
		})
	}
}

func TestStartKeyGivesTheSameResponseAndIsFreedWhenOverAndSettled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		done := &rigWorld{}
		def, letGo := parked(done)
		other := saga.Linear("other", done.undoable("one"))
		o := runRig(t, memory.NewStore(), rigOf(def, other))
		request := func(key, fingerprint string) saga.StartParams[rigData] {
			return saga.StartParams[rigData]{Key: key, StartKey: &saga.RequestKey{
				Key: "tenant/route/1", Fingerprint: []byte(fingerprint), TTL: time.Hour,
				Respond: func(i saga.Instance) ([]byte, error) {
					return fmt.Appendf(nil, "%s of %s at revision %d: %v", i.ID, i.Key, i.Revision, time.Now()), nil
				},
			}}
		}
		first, err := def.Start(t.Context(), o, request("a", "print"))
		require.NoError(t, err)
		require.Contains(t, string(first.Response), first.ID+" of a at revision 1")
		time.Sleep(time.Minute)
		again, err := def.Start(t.Context(), o, request("another business key", "print"))
		require.NoError(t, err)
		require.True(t, again.Existing)
		require.Equal(t, first.ID, again.ID)
		require.Equal(t, first.Response, again.Response, "byte by byte")
		_, err = def.Start(t.Context(), o, request("a", "other print"))
		require.ErrorIs(t, err, saga.ErrKeyConflict)
		var conflict *saga.KeyConflictError
		require.ErrorAs(t, err, &conflict)
		require.Equal(t, saga.KeyConflictError{Instance: first.ID, Definition: def.Name(), Key: "a", StartKey: "tenant/route/1"}, *conflict)
		require.ErrorContains(t, err, `start key "tenant/route/1" was used for another request`)
		_, err = other.Start(t.Context(), o, request("a", "print"))
		require.ErrorIs(t, err, saga.ErrKeyConflict, "the key is unique in the whole store")

		time.Sleep(2 * time.Hour)
		again, err = def.Start(t.Context(), o, request("b", "print"))
		require.NoError(t, err)
		require.Equal(t, first.ID, again.ID, "its time is over, but the saga is not settled")
		close(letGo)
		waitSettled(t, def, o, "a")
		again, err = def.Start(t.Context(), o, request("b", "other print"))
		require.NoError(t, err)
		require.False(t, again.Existing)
		require.NotEqual(t, first.ID, again.ID)
		waitSettled(t, def, o, "b")
		again, err = def.Start(t.Context(), o, request("c", "other print"))
		require.NoError(t, err)
		require.True(t, again.Existing, "settled, but its time is not over")

		_, err = def.Start(t.Context(), o, saga.StartParams[rigData]{Key: "c", StartKey: &saga.RequestKey{
			Key: "2", Respond: func(saga.Instance) ([]byte, error) { return nil, errors.New("no response") },
		}})
		require.ErrorContains(t, err, "no response")
		_, err = def.Get(t.Context(), o, "c")
		require.ErrorIs(t, err, saga.ErrNotFound)
	})
}

// inTransaction is a shop with a table of its own beside the sagas.
type inTransaction struct {
	db    *sqlite.DB
	store *sqlite.Store
	now   func(time.Duration) // moves the store's clock
}

func newInTransaction(t *testing.T) *inTransaction {
	db, err := sqlite.Open(filepath.Join(t.TempDir(), "shop.db"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	_, err = db.Exec(`CREATE TABLE orders (key TEXT)`)
	require.NoError(t, err)
	var mu sync.Mutex
	ahead := time.Duration(0)
	clock := func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return time.Now().Add(ahead)
	}
	return &inTransaction{db: db, store: sqlite.NewStore(db, sqlite.WithClock(clock)), now: func(d time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		ahead += d
	}}
}

var errRollback = errors.New("changed our mind")

func (x *inTransaction) start(t *testing.T, def *saga.LinearDefinition[rigData], o *saga.Orchestrator, p saga.StartParams[rigData], end error) (started saga.Started[saga.LinearState, rigData], kick func(), err error) {
	t.Helper()
	txErr := x.db.Write(t.Context(), func(tx *sql.Tx) error {
		_, insert := tx.Exec(`INSERT INTO orders VALUES (?)`, p.Key)
		require.NoError(t, insert)
		started, kick, err = def.StartIn(t.Context(), o, x.store.In(tx), p)
		return end
	})
	require.ErrorIs(t, txErr, end)
	return started, kick, err
}

func TestStartInTheUsersTransaction(t *testing.T) {
	t.Parallel()
	x, ran := newInTransaction(t), make(chan string, 10)
	def := saga.Linear("joined", saga.Do("one", func(ctx context.Context, _ rigData) error { ran <- saga.Info(ctx).Key; return nil }).NoUndo("test"))
	config := rigOf(def)
	config.PollInterval = 10 * time.Millisecond
	o := runRig(t, x.store, config)
	orders := func() (n int) {
		require.NoError(t, x.db.QueryRow(`SELECT count(*) FROM orders`).Scan(&n))
		return n
	}

	s, kick, err := x.start(t, def, o, saga.StartParams[rigData]{Key: "committed", Data: rigData{Card: "x"}}, nil)
	require.NoError(t, err)
	require.Equal(t, saga.Running, s.State)
	require.Equal(t, uint64(1), s.Revision)
	require.Equal(t, "x", s.Data.Card)
	require.Equal(t, 1, orders())
	began := time.Now()
	kick()
	kick()
	require.Equal(t, "committed", <-ran)
	require.Less(t, time.Since(began), 4*time.Second, "at once: no lease was waited for")
	waitSettled(t, def, o, "committed")

	_, kick, err = x.start(t, def, o, saga.StartParams[rigData]{Key: "rolled back"}, errRollback)
	require.NoError(t, err)
	kick() // it does not know
	_, err = def.Get(t.Context(), o, "rolled back")
	require.ErrorIs(t, err, saga.ErrNotFound)
	require.Equal(t, 1, orders())

	_, _, err = x.start(t, def, o, saga.StartParams[rigData]{Key: "lost kick"}, nil)
	require.NoError(t, err)
	require.Empty(t, ran, "nothing has begun, and the kick was once")
	x.now(6 * time.Second) // the lease that a kick would have had
	require.Equal(t, "lost kick", <-ran)
	waitSettled(t, def, o, "lost kick")
}

func TestKeysThatAreTakenAreToldInsideOfTheTransaction(t *testing.T) {
	t.Parallel()
	x := newInTransaction(t)
	def := saga.Linear("joined", (&rigWorld{}).undoable("one"))
	o := runRig(t, x.store, rigOf(def))
	key := func(fingerprint string) *saga.RequestKey {
		return &saga.RequestKey{
			Key: "request", Fingerprint: []byte(fingerprint),
			Respond: func(i saga.Instance) ([]byte, error) { return []byte("started " + i.ID), nil },
		}
	}
	first, _, err := x.start(t, def, o, saga.StartParams[rigData]{Key: "a", StartKey: key("1")}, nil)
	require.NoError(t, err)
	require.Equal(t, "started "+first.ID, string(first.Response))

	again, kick, err := x.start(t, def, o, saga.StartParams[rigData]{Key: "a"}, nil)
	require.NoError(t, err)
	kick()
	require.True(t, again.Existing)
	require.Equal(t, first.ID, again.ID)
	again, _, err = x.start(t, def, o, saga.StartParams[rigData]{Key: "b", StartKey: key("1")}, nil)
	require.NoError(t, err)
	require.Equal(t, first.Response, again.Response)
	_, _, err = x.start(t, def, o, saga.StartParams[rigData]{Key: "a", Data: rigData{Card: "other"}}, nil)
	require.ErrorIs(t, err, saga.ErrKeyConflict)
	_, _, err = x.start(t, def, o, saga.StartParams[rigData]{Key: "b", StartKey: key("2")}, nil)
	require.ErrorIs(t, err, saga.ErrKeyConflict)
	var orders int
	require.NoError(t, x.db.QueryRow(`SELECT count(*) FROM orders`).Scan(&orders))
	require.Equal(t, 5, orders, "the transactions were still good")
}

// A process that only starts sagas need not run an orchestrator; its kick does nothing, and does not wait.
func TestKickOfAnOrchestratorThatDoesNotRun(t *testing.T) {
	t.Parallel()
	x := newInTransaction(t)
	def := saga.Linear("joined", (&rigWorld{}).undoable("one"))
	idle, err := saga.NewOrchestrator(x.store, rigOf(def), nil)
	require.NoError(t, err)
	_, kick, err := x.start(t, def, idle, saga.StartParams[rigData]{Key: "a"}, nil)
	require.NoError(t, err)
	kick()
	require.NoError(t, idle.Close())
	kick()
	o := runRig(t, x.store, rigOf(def))
	x.now(6 * time.Second)
	require.Equal(t, saga.Completed, waitSettled(t, def, o, "a").State)
}

func TestStartUnderAnIDOfTheCallersOwn(t *testing.T) {
	t.Parallel()
	db, err := sqlite.Open(filepath.Join(t.TempDir(), "sagas.db"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	for name, store := range map[string]saga.Store{"memory": memory.NewStore(), "sqlite": sqlite.NewStore(db)} {
		t.Run(name, func(t *testing.T) {
			def := saga.Linear("named", (&rigWorld{}).undoable("one"))
			o := runRig(t, store, rigOf(def))
			start := func(id, key, card string) (saga.Started[saga.LinearState, rigData], error) {
				return def.Start(t.Context(), o, saga.StartParams[rigData]{ID: id, Key: key, Data: rigData{Card: card}})
			}
			s, err := start("id-1", "a", "x")
			require.NoError(t, err)
			require.Equal(t, "id-1", s.ID)
			require.False(t, s.Existing)
			s, err = start("id-1", "a", "x")
			require.NoError(t, err)
			require.True(t, s.Existing)
			s, err = start("id-2", "a", "x")
			require.NoError(t, err)
			require.Equal(t, "id-1", s.ID, "the business key has an instance already")
			_, err = start("id-1", "b", "x")
			require.ErrorIs(t, err, saga.ErrKeyConflict)
			require.ErrorContains(t, err, `ID id-1 is that of named "a"`)
			_, err = start("id-1", "a", "y")
			require.ErrorIs(t, err, saga.ErrKeyConflict)
			_, err = start(string(make([]byte, 256)), "c", "x")
			require.ErrorIs(t, err, saga.ErrInvalid)
		})
	}
}
