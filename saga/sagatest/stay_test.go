package sagatest_test

import (
	"context"
	"fmt"
	"maps"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/saga"
	"github.com/sagamill/sagamill/saga/sagatest"
)

// Stay is a saga's data.
type Stay struct{ Guest, Room string }

func (s Stay) withRoom(number string) Stay { s.Room = number; return s }

// Hotel is what the saga acts upon: rooms by number, each booked under a key.
type Hotel struct{ booked map[string]string }

func (h *Hotel) book(key string) string {
	for number, of := range h.booked {
		if of == key {
			return number // asked again
		}
	}
	number := fmt.Sprint("room ", len(h.booked)+1)
	h.booked[number] = key
	return number
}

func (h *Hotel) cancel(key string) {
	maps.DeleteFunc(h.booked, func(_, of string) bool { return of == key })
}

var hotel *Hotel

func bookRoom(ctx context.Context, _ Stay) (string, error) {
	return hotel.book(saga.Info(ctx).EffectKey), nil
}

func cancelRoom(ctx context.Context, _ Stay) error {
	hotel.cancel(saga.Info(ctx).ActionKey)
	return nil
}

func chargeCard(context.Context, Stay) error { return nil }

var stay = saga.Linear("stay",
	saga.Call("book-room", bookRoom, Stay.withRoom).Undo(cancelRoom),
	saga.Do("charge-card", chargeCard).Pivot(),
)

func TestStay(t *testing.T) {
	sagatest.Explore(t, stay, func(r *sagatest.Run) {
		hotel = &Hotel{booked: map[string]string{}} // each run has its own
		s := sagatest.Start(r, stay, "ada", Stay{Guest: "Ada"})
		s.Send(saga.Cancel, nil).Anytime()
	}, sagatest.Finally("a room is booked exactly if the stay is", bookedExactly))
}

func bookedExactly(r *sagatest.Run) error {
	state, rooms := r.Saga("ada").State, len(hotel.booked)
	if booked := state == string(saga.Completed); booked != (rooms == 1) {
		return fmt.Errorf("the stay is %s, and the hotel has %v", state, hotel.booked)
	}
	return nil
}

// The same with a bug that no test of a single path finds: the room is cancelled by the number that booking it returned.

func cancelByNumber(_ context.Context, s Stay) error {
	delete(hotel.booked, s.Room)
	return nil
}

var wrongStay = saga.Linear("stay",
	saga.Call("book-room", bookRoom, Stay.withRoom).Undo(cancelByNumber),
	saga.Do("charge-card", chargeCard).Pivot(),
)

func exploreWrongStay(t *testing.T) *sagatest.Finding {
	return sagatest.Find(t, wrongStay, func(r *sagatest.Run) {
		hotel = &Hotel{booked: map[string]string{}}
		s := sagatest.Start(r, wrongStay, "ada", Stay{Guest: "Ada"})
		s.Send(saga.Cancel, nil).Anytime()
	}, sagatest.Finally("a room is booked exactly if the stay is", bookedExactly))
}

func TestExploreFindsACompensationThatNeedsAResult(t *testing.T) {
	require.Equal(t, `violated: a room is booked exactly if the stay is: the stay is cancelled, and the hotel has map[room 1:saga-1/book-room/1]
with these faults: 2:input-now, 6:step-fails-after-effect

         0s  process A: commits start; begins book-room
         0s  process A: start of ada is recorded
         0s  FAULT 2:input-now  cancel to ada
         0s  process A: commits event cancel interrupt
         0s  process A: cancel to ada is recorded: interrupt
         0s  FAULT 6:step-fails-after-effect  book-room, attempt 1
         0s  process A: book-room, attempt 1 of ada returns "room 1"
         0s  process A: commits outcome book-room failed (sagatest: injected fault); begins book-room/undo
         0s  process A: book-room/undo, attempt 1 of ada returns nothing
         0s  process A: commits outcome book-room/undo succeeded; running -> cancelled
         0s  VIOLATED: a room is booked exactly if the stay is: the stay is cancelled, and the hotel has map[room 1:saga-1/book-room/1]

to see it again: go test -run '^TestExploreFindsACompensationThatNeedsAResult$' -sagatest.replay '2:input-now,6:step-fails-after-effect'
`, exploreWrongStay(t).String())
}
