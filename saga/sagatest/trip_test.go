package sagatest_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/memory"
	"github.com/sagamill/sagamill/saga"
	"github.com/sagamill/sagamill/saga/sagatest"
)

type trip struct{ Room, Seat string }

func (t trip) withRoom(number string) trip { t.Room = number; return t }
func (t trip) withSeat(number string) trip { t.Seat = number; return t }

// agency is the world that trips act upon. A careless one does not use the keys that steps are given.
type agency struct {
	careless bool
	booked   map[string]bool // rooms and seats, by number
	gone     map[string]bool // what was cancelled before it was booked
	charged  map[string]int
}

func newAgency(careless bool) *agency {
	return &agency{careless: careless, booked: map[string]bool{}, gone: map[string]bool{}, charged: map[string]int{}}
}

func (a *agency) book(key string) (string, error) {
	if a.careless {
		key = fmt.Sprintf("%s-%d", key, len(a.booked))
	}
	if a.gone[key] {
		return "", errors.New("it was cancelled")
	}
	a.booked[key] = true
	return key, nil
}

func (a *agency) cancel(key string) {
	a.gone[key] = true
	delete(a.booked, key)
}

var (
	bookSeat   = saga.Command[string, string]{Name: "book-seat", Topic: "airline"}
	cancelSeat = saga.Command[string, struct{}]{Name: "cancel-seat", Topic: "airline"}
)

func bookTrip(a **agency) *saga.LinearDefinition[trip] {
	return saga.Linear("book-trip",
		saga.Call("room", func(ctx context.Context, _ trip) (string, error) { return (*a).book(saga.Info(ctx).ActionKey) }, trip.withRoom).
			Undo(func(ctx context.Context, t trip) error {
				if (*a).careless {
					(*a).cancel(t.Room)
				} else {
					(*a).cancel(saga.Info(ctx).ActionKey)
				}
				return nil
			}),
		saga.Ask("seat", bookSeat, func(trip) string { return "window" }, trip.withSeat).
			UndoBy(saga.RequestOf(cancelSeat, func(t trip) string { return t.Seat })),
		saga.Do("card", func(ctx context.Context, _ trip) error { (*a).charged[saga.Info(ctx).EffectKey] = 1; return nil }).Pivot(),
		saga.Do("mail", func(context.Context, trip) error { return nil }).Retriable(),
	)
}

func (a *agency) airline(r *sagatest.Run) {
	p := sagatest.NewParticipant(r, memory.NewInbox())
	err := errors.Join(
		saga.Handle(p, bookSeat, func(ctx context.Context, tx *memory.Tx, _ string) (string, error) {
			key := saga.Info(ctx).ActionKey
			a.booked[key] = true
			tx.OnRollback(func() { delete(a.booked, key) })
			return key, nil
		}),
		saga.Handle(p, cancelSeat, func(ctx context.Context, tx *memory.Tx, _ string) (struct{}, error) {
			key := saga.Info(ctx).ActionKey
			delete(a.booked, key)
			tx.OnRollback(func() { a.booked[key] = true })
			return struct{}{}, nil
		}),
	)
	if err != nil {
		panic(err)
	}
}

func script(a **agency, d *saga.LinearDefinition[trip], careless bool) func(*sagatest.Run) {
	return func(r *sagatest.Run) {
		*a = newAgency(careless)
		(*a).airline(r)
		sagatest.Start(r, d, "trip-1", trip{}).Send(saga.Cancel, nil).Anytime()
	}
}

func books(a **agency) sagatest.Option {
	return sagatest.Finally("a trip that failed leaves nothing booked, one that worked a room and a seat", func(r *sagatest.Run) error {
		i, want := r.Saga("trip-1"), 0
		if i.State == string(saga.Completed) {
			want = 2
		}
		if len((*a).booked) != want {
			return fmt.Errorf("it is %s, and booked is %v", i.State, (*a).booked)
		}
		return nil
	})
}

func TestExploreATripThatIsRight(t *testing.T) {
	var a *agency
	d := bookTrip(&a)
	sagatest.Explore(t, d, script(&a, d, false), books(&a), sagatest.FullCoverage())
}

func TestExploreFindsWhatIsWrong(t *testing.T) {
	var a *agency
	d := bookTrip(&a)
	f := sagatest.Find(t, d, script(&a, d, true), books(&a))
	require.NotNil(t, f)
	t.Log(f)
	require.Less(t, strings.Count(f.Faults, ","), 2)
}
