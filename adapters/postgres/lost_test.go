package postgres_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/internal/baddaytest"
	"github.com/sagamill/sagamill/adapters/postgres"
	"github.com/sagamill/sagamill/idempotency"
	"github.com/sagamill/sagamill/saga"
)

// When the answer to a commit is lost, Commit says so, whatever became of it: there is no verdict that might be wrong.
func TestAnswerToCommitLost(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	p := d.newProxy()
	pool := d.newPool(through(p), func(c *pgxpool.Config) { c.MaxConns = 1 })
	store := postgres.NewStore(d.openOn(pool))
	outcomes(t, store, start("a"), start("b"), start("c"))
	outcomes(t, store, next("a", 1), next("b", 1)) // has the statement parsed

	p.CutIn(0, baddaytest.Before)
	_, err := store.Commit(t.Context(), []saga.Transition{next("a", 2), next("b", 2)})
	require.Error(t, err)
	require.Equal(t, "2", d.revision("a"), "the server has heard nothing")

	outcomes(t, store, next("b", 2), next("c", 1)) // a new connection
	p.CutIn(0, baddaytest.After)
	verdicts, err := store.Commit(t.Context(), []saga.Transition{next("a", 2), next("b", 3)})
	require.Error(t, err)
	require.Nil(t, verdicts)
	require.Equal(t, "3", d.revision("a"), "it is committed all the same")
	require.Equal(t, []saga.Outcome{saga.Conflict, saga.Committed}, outcomes(t, store, next("a", 2), next("b", 4)))

	outcomes(t, store, next("c", 2)) // a single one has a statement of its own
	p.CutIn(0, baddaytest.After)
	_, err = store.Commit(t.Context(), []saga.Transition{next("c", 3)})
	require.Error(t, err)
	require.Equal(t, "4", d.revision("c"))
	require.Equal(t, []saga.Outcome{saga.Conflict}, outcomes(t, store, next("c", 3)))
	require.EqualValues(t, 3, p.Cuts.Load())
}

func (d *database) revision(id string) string {
	return scan[string](d, `SELECT revision::text FROM `+d.table("instances")+` WHERE id = $1`, id)
}

// The same for keys: to complete once more is no harm.
func TestAnswerToCompleteLost(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	p := d.newProxy()
	keys := postgres.NewIdempotencyStore(d.openOn(d.newPool(through(p), func(c *pgxpool.Config) { c.MaxConns = 1 })))
	key := idempotency.Key{Tenant: "acme", Route: "r", Key: "k"}
	claim, err := keys.Begin(t.Context(), key, idempotency.Fingerprint{}, time.Minute)
	require.NoError(t, err)
	done := idempotency.Completion{Response: idempotency.Response{Status: 201}, TTL: time.Hour}
	p.CutIn(0, baddaytest.After) // of what parses the statement
	err = keys.Complete(t.Context(), key, claim.Token, done)
	require.Error(t, err)
	require.NotErrorIs(t, err, idempotency.ErrFenced)
	p.CutIn(0, baddaytest.Never)
	require.NoError(t, keys.Complete(t.Context(), key, claim.Token, done))
	p.CutIn(0, baddaytest.After)
	require.Error(t, keys.Complete(t.Context(), key, claim.Token, done))
	require.NoError(t, keys.Complete(t.Context(), key, claim.Token, done))
	claim, err = keys.Begin(t.Context(), key, idempotency.Fingerprint{}, time.Minute)
	require.NoError(t, err)
	require.Equal(t, idempotency.Completed, claim.State)
}

// And for a participant: the command comes again, and is answered from the record.
func TestAnswerToHandlersCommitLost(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	p := d.newProxy()
	inbox := postgres.NewInbox(d.openOn(d.newPool(through(p), func(c *pgxpool.Config) { c.MaxConns = 1 })))
	d.withWrites()
	handle := func(ctx context.Context, tx pgx.Tx) ([]byte, error) { return []byte("done"), d.write(ctx, tx, "a") }
	lost := 0
	for n := range 12 { // one after the other of what is sent
		effect := saga.Effect{ID: fmt.Sprint("e", n)}
		p.CutIn(n, baddaytest.After)
		if _, err := inbox.Handle(t.Context(), effect, handle); err != nil {
			lost++
		}
		p.CutIn(0, baddaytest.Never)
		reply, err := inbox.Handle(t.Context(), effect, handle)
		require.NoError(t, err)
		require.Equal(t, "done", string(reply.Payload))
	}
	require.Greater(t, lost, 4)
	n, err := d.count(t.Context(), "a")
	require.NoError(t, err)
	require.Equal(t, 12, n)
}
