package fulfillment

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/examples/ordersaga/contract"
	"github.com/sagamill/sagamill/examples/ordersaga/data"
	"github.com/sagamill/sagamill/examples/ordersaga/listen"
)

// yard is a warehouse that remembers what it was asked.
type yard struct {
	asked  []string
	away   bool
	before func(what string) error // nil: nothing happens before it hears; an error is told after it has heard
}

func (y *yard) Pack(_ context.Context, order string) error { return y.ask("pack " + order) }
func (y *yard) Stop(_ context.Context, order string) error { return y.ask("stop " + order) }

func (y *yard) ask(what string) error {
	if y.away {
		return errors.New("nobody there")
	}
	var err error
	if y.before != nil {
		err = y.before(what)
	}
	y.asked = append(y.asked, what)
	return err
}

func newFulfillment(t *testing.T, y *yard) *Fulfillment {
	t.Helper()
	return openFulfillment(t, filepath.Join(t.TempDir(), "shop.db"), y)
}

func openFulfillment(t *testing.T, path string, y *yard) *Fulfillment {
	t.Helper()
	db, err := data.Open(t.Context(), "sqlite:"+path, "fulfillment")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	f, err := New(t.Context(), db, y, nil)
	require.NoError(t, err)
	return f
}

func (f *Fulfillment) hears(t *testing.T, name string, revision uint64) {
	t.Helper()
	require.NoError(t, f.Hear(t.Context(), listen.Event{Name: name, Order: "o", Revision: revision}))
}

func TestConfirmedOrdersArePackedAndCancelledOnesStopped(t *testing.T) {
	t.Parallel()
	y := &yard{}
	f := newFulfillment(t, y)
	f.hears(t, contract.OrderCreated, 1)
	f.hears(t, contract.OrderConfirmed, 5)
	f.hears(t, contract.OrderConfirmed, 5) // delivered again
	require.NoError(t, f.ask(t.Context()))
	require.NoError(t, f.ask(t.Context()))
	f.hears(t, contract.OrderCancelled, 7)
	require.NoError(t, f.ask(t.Context()))
	require.Equal(t, []string{"pack o", "stop o"}, y.asked)
}

func TestConfirmationThatIsOvertakenByACancellationPacksNothing(t *testing.T) {
	t.Parallel()
	y := &yard{}
	f := newFulfillment(t, y)
	f.hears(t, contract.OrderCancelled, 7)
	f.hears(t, contract.OrderConfirmed, 5)
	require.NoError(t, f.ask(t.Context()))
	require.Equal(t, []string{"stop o"}, y.asked)
}

func TestWarehouseThatIsAwayIsAskedAgainAndHoldsUpNobody(t *testing.T) {
	t.Parallel()
	y := &yard{away: true}
	f := newFulfillment(t, y)
	f.hears(t, contract.OrderConfirmed, 5)
	require.Error(t, f.ask(t.Context()))
	f.hears(t, contract.OrderShipped, 6)
	y.away = false
	require.NoError(t, f.ask(t.Context()))
	require.Equal(t, []string{"pack o"}, y.asked)
}

// A process reads that an order is to be packed, and pauses. Meanwhile another one hears of the cancellation, and stops the order.
func TestStopIsTheLastWordThoughAnotherProcessWasAboutToPack(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]error{"the answer comes": nil, "the answer is lost": errors.New("no answer in time")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			y, path := &yard{}, filepath.Join(t.TempDir(), "shop.db")
			one, other := openFulfillment(t, path, y), openFulfillment(t, path, y)
			one.hears(t, contract.OrderConfirmed, 5)
			y.before = func(what string) error {
				require.Equal(t, "pack o", what)
				y.before = nil
				other.hears(t, contract.OrderCancelled, 7)
				require.NoError(t, other.ask(t.Context()))
				return answer
			}
			require.ErrorIs(t, one.ask(t.Context()), answer)
			for range 3 {
				require.NoError(t, other.ask(t.Context()))
				require.NoError(t, one.ask(t.Context()))
			}
			require.Equal(t, []string{"stop o", "pack o", "stop o"}, y.asked)
		})
	}
}
