package mysql_test

import (
	"context"
	"database/sql"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/internal/baddaytest"
	sagamysql "github.com/sagamill/sagamill/adapters/mysql"
	"github.com/sagamill/sagamill/idempotency"
	"github.com/sagamill/sagamill/saga"
)

// When the answer to a commit is lost, Commit says so, whatever became of it: there is no verdict that might be wrong.
func TestAnswerToCommitLost(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	p := d.newProxy()
	store := sagamysql.NewStore(d.openOn(d.newPool(through(p))))
	outcomes(t, store, start("a"), start("b"))

	p.CutAt("\x03COMMIT", baddaytest.Before)
	_, err := store.Commit(t.Context(), []saga.Transition{next("a", 1), next("b", 1)})
	require.Error(t, err)
	require.Eventually(t, func() bool { // the server takes a moment to see that the connection is gone
		verdicts, err := store.Commit(t.Context(), []saga.Transition{next("b", 1)})
		return err == nil && verdicts[0].Outcome == saga.Committed
	}, 30*time.Second, 10*time.Millisecond)
	require.Equal(t, 1, d.revision("a"), "the server has rolled back")

	p.CutAt("\x03COMMIT", baddaytest.After)
	verdicts, err := store.Commit(t.Context(), []saga.Transition{next("a", 1), next("b", 2)})
	require.Error(t, err)
	require.Nil(t, verdicts)
	require.Equal(t, 2, d.revision("a"), "it is committed all the same")
	require.Equal(t, []saga.Outcome{saga.Conflict, saga.Committed}, outcomes(t, store, next("a", 1), next("b", 3)))
	require.EqualValues(t, 2, p.Cuts.Load())
}

func (d *database) revision(id string) int {
	return scan[int](d, `SELECT revision FROM `+d.table("instances")+` WHERE id = ?`, id)
}

// The same for keys: to complete once more is no harm.
func TestAnswerToCompleteLost(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	p := d.newProxy()
	keys := sagamysql.NewIdempotencyStore(d.openOn(d.newPool(through(p))))
	key := idempotency.Key{Tenant: "acme", Route: "r", Key: "k"}
	claim, err := keys.Begin(t.Context(), key, idempotency.Fingerprint{}, time.Minute)
	require.NoError(t, err)
	done := idempotency.Completion{Response: idempotency.Response{Status: 201}, TTL: time.Hour}
	p.CutAt("\x03COMMIT", baddaytest.After)
	err = keys.Complete(t.Context(), key, claim.Token, done)
	require.Error(t, err)
	require.NotErrorIs(t, err, idempotency.ErrFenced)
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
	inbox := sagamysql.NewInbox(d.openOn(d.newPool(through(p))))
	d.withWrites()
	handle := func(ctx context.Context, tx *sql.Tx) ([]byte, error) { return []byte("done"), d.write(ctx, tx, "a") }
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
