package outside

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/examples/ordersaga/contract"
	"github.com/sagamill/sagamill/examples/ordersaga/data"
	"github.com/sagamill/sagamill/examples/ordersaga/payment"
)

func newWorld(t *testing.T) *World {
	t.Helper()
	db, err := data.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "shop.db"), "outside")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	w, err := New(t.Context(), db, false, 0)
	require.NoError(t, err)
	return w
}

func charge(method string) contract.Charge {
	return contract.Charge{Order: "o", Tenant: "t", Amount: 100, Currency: "EUR", Method: method}
}

func money(transaction string) contract.Money {
	return contract.Money{Order: "o", Tenant: "t", Amount: 100, Currency: "EUR", Transaction: transaction}
}

func (w *World) moved(t *testing.T) (types []string) {
	t.Helper()
	list, err := w.Movements(t.Context(), "o")
	require.NoError(t, err)
	for _, m := range list {
		types = append(types, string(m.Type))
	}
	return types
}

func TestCallsUnderOneKeyAreOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first, err := w.Authorize(t.Context(), "a", charge(Visa))
	require.NoError(t, err)
	for range 2 {
		again, err := w.Authorize(t.Context(), "a", charge(Visa))
		require.NoError(t, err)
		require.Equal(t, first, again)
		require.NoError(t, w.Capture(t.Context(), "c", money("tx-webhook")))
		statement, err := w.GiveBack(t.Context(), "r", "c", money("tx-webhook"))
		require.NoError(t, err)
		require.Len(t, statement, 3)
		require.Equal(t, payment.Movement{Type: payment.Refund, Transaction: "tx-webhook", Amount: 100}, statement[2])
	}
	require.Equal(t, []string{"authorize", "capture", "refund"}, w.moved(t), "the webhook's id names what was authorized")
}

func TestFlakyCard(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, err := w.Authorize(t.Context(), "a", charge(Flaky))
	require.ErrorIs(t, err, ErrUnavailable)
	require.Empty(t, w.moved(t))
	_, err = w.Authorize(t.Context(), "a", charge(Flaky))
	require.ErrorIs(t, err, ErrTimeout)
	require.Equal(t, []string{"authorize"}, w.moved(t), "after the effect")
	_, err = w.Authorize(t.Context(), "a", charge(Flaky))
	require.NoError(t, err)
	require.Equal(t, []string{"authorize"}, w.moved(t))
}

func TestDeclinedCard(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, method := range []string{ChargeDecline, "pm_card_of_nobody"} {
		for range 2 {
			_, err := w.Authorize(t.Context(), method, charge(method))
			require.ErrorIs(t, err, payment.ErrDeclined)
		}
	}
	require.Empty(t, w.moved(t))
}

func TestWhatWasOnlyAuthorizedIsVoided(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, err := w.Authorize(t.Context(), "a", charge(Visa))
	require.NoError(t, err)
	statement, err := w.GiveBack(t.Context(), "a/undo", "a", money(""))
	require.NoError(t, err)
	require.Equal(t, payment.Void, statement[1].Type)
	require.ErrorIs(t, w.Capture(t.Context(), "c", money(statement[1].Transaction)), payment.ErrDeclined, "its money is gone")
	require.Equal(t, []string{"authorize", "void"}, w.moved(t))
}

func TestWhatIsGivenBackBeforeItCameNeverComes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	statement, err := w.GiveBack(t.Context(), "a/undo", "a", money(""))
	require.NoError(t, err)
	require.Empty(t, statement)
	_, err = w.Authorize(t.Context(), "a", charge(Visa))
	require.ErrorIs(t, err, payment.ErrDeclined)
	require.Empty(t, w.moved(t))
}

func TestEachTransactionIsGivenBackForItself(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, err := w.Authorize(t.Context(), "a", charge(Visa))
	require.NoError(t, err)
	require.NoError(t, w.Capture(t.Context(), "c", money("tx-1")))
	for _, transaction := range []string{"tx-2", "tx-2", "tx-3"} {
		_, err := w.GiveBack(t.Context(), "late/"+transaction, "", money(transaction))
		require.NoError(t, err)
	}
	require.Equal(t, []string{"authorize", "capture", "authorize", "void", "authorize", "void"}, w.moved(t))
	net, err := w.Net(t.Context(), "o")
	require.NoError(t, err)
	require.Equal(t, int64(100), net)
}

// Whoever signs webhooks may give two orders' payments one id.
func TestTransactionsOfTwoOrdersWithOneID(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, order := range []string{"o", "o2"} {
		c, m := charge(Visa), money("tx-1")
		c.Order, m.Order = order, order
		_, err := w.Authorize(t.Context(), "a"+order, c)
		require.NoError(t, err)
		require.NoError(t, w.Capture(t.Context(), "c"+order, m))
	}
	statement, err := w.GiveBack(t.Context(), "r", "", money("tx-1"))
	require.NoError(t, err)
	require.Len(t, statement, 3)
	net, err := w.Net(t.Context(), "o2")
	require.NoError(t, err)
	require.Equal(t, int64(100), net, "the other order's payment stays")
}
