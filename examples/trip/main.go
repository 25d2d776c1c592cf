// Trip books a hotel and a flight and charges a card: the smallest useful saga, on a SQLite file.
//
//	go run ./examples/trip
//
// Ada's trip works out. Ben's card is refused, so his flight and hotel are cancelled. Cleo's trip is in the middle of its
// flight when the process is killed (kill -9): the next process finds it in the file and finishes it, booking nothing twice.
package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/sagamill/sagamill/adapters/sqlite"
	"github.com/sagamill/sagamill/saga"
)

// Trip is the saga's data. It is stored with the saga, and changed by nothing but the results of steps.
type Trip struct {
	Traveller, Card string
	Hotel, Flight   string // booking numbers
}

// bookTrip is the saga. Steps run in order. The pivot decides: if the card is refused, what was done before is undone in
// reverse order; once it is charged, the rest is tried until it works.
var bookTrip = saga.Linear("book-trip",
	saga.Call("book-hotel", bookHotel, Trip.withHotel).Undo(cancelHotel),
	saga.Call("book-flight", bookFlight, Trip.withFlight).Undo(cancelFlight),
	saga.Do("charge-card", chargeCard).Pivot(),
	saga.Do("send-itinerary", sendItinerary).Retriable(),
)

func (t Trip) withHotel(number string) Trip  { t.Hotel = number; return t }
func (t Trip) withFlight(number string) Trip { t.Flight = number; return t }

// A step is a plain function. It may run more than once: after a crash nobody knows whether it had worked. So it asks for
// its effect under a key that stays the same, and whoever does the work does it once for each key.

func bookHotel(ctx context.Context, t Trip) (string, error) {
	return world("hotel", "booked", saga.Info(ctx).EffectKey)
}

func bookFlight(ctx context.Context, t Trip) (string, error) {
	number, err := world("flight", "booked", saga.Info(ctx).EffectKey)
	if os.Getenv("TRIP_KILLED") != "" { // Cleo's first process ends here: the flight is booked, but nobody was told
		self, _ := os.FindProcess(os.Getpid())
		_ = self.Kill()
		select {}
	}
	return number, err
}

// A compensation names what it undoes by the key that the action had: perhaps the answer with the number never came.

func cancelHotel(ctx context.Context, t Trip) error {
	_, err := world("hotel", "cancelled", saga.Info(ctx).ActionKey)
	return err
}

func cancelFlight(ctx context.Context, t Trip) error {
	_, err := world("flight", "cancelled", saga.Info(ctx).ActionKey)
	return err
}

func chargeCard(ctx context.Context, t Trip) error {
	if t.Card == "expired" {
		return saga.Reject("the card is expired") // no, for good; any other error means: try again
	}
	_, err := world("card", "charged", saga.Info(ctx).EffectKey)
	return err
}

func sendItinerary(ctx context.Context, t Trip) error {
	_, err := world("itinerary for hotel "+t.Hotel+" and flight "+t.Flight, "sent", saga.Info(ctx).EffectKey)
	return err
}

func main() {
	log.SetFlags(0)
	if dir := os.Getenv("TRIP_DIR"); dir != "" { // Cleo's processes
		run(dir, Trip{Traveller: "Cleo", Card: "4242"})
		return
	}
	dir, err := os.MkdirTemp("", "trip")
	check(err)
	defer func() { _ = os.RemoveAll(dir) }()
	check(os.Setenv("TRIP_DIR", dir))

	fmt.Println("Ada books a trip.")
	run(dir, Trip{Traveller: "Ada", Card: "4242"})

	fmt.Println("\nBen books a trip. His card is expired.")
	run(dir, Trip{Traveller: "Ben", Card: "expired"})

	fmt.Println("\nCleo books a trip. Her process is killed after the flight was booked.")
	err = again("TRIP_KILLED=yes").Run()
	fmt.Printf("  ... the process ended: %v. A new one starts, on the same file,\n  and waits until the first one's lease is over.\n", err)
	check(again().Run())
}

// run starts a trip, or finds the one that was started before, and waits for its end.
func run(dir string, trip Trip) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	db, err := sqlite.Open(filepath.Join(dir, "trips.db"))
	check(err)
	defer func() { check(db.Close()) }()
	orchestrator, err := saga.NewOrchestrator(sqlite.NewStore(db), saga.OrchestratorConfig{
		Definitions: []saga.AnyDefinition{bookTrip},
		Lease:       time.Second, // how soon another process takes over; the default is 5s
	}, nil)
	check(err)
	go func() { check(orchestrator.Run(ctx)) }()
	defer func() { check(orchestrator.Close()) }()

	_, err = bookTrip.Start(ctx, orchestrator, saga.StartParams[Trip]{Key: trip.Traveller, Data: trip})
	check(err)
	done, err := bookTrip.Wait(ctx, orchestrator, trip.Traveller)
	check(err)
	fmt.Printf("  %s's trip: %s. %s\n", trip.Traveller, done.State, done.Cause)
}

// world stands for hotels, airlines and banks: it does a thing once for each key, and answers with its number.
func world(what, done, key string) (string, error) {
	dir := filepath.Join(os.Getenv("TRIP_DIR"), "world")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	number := fmt.Sprintf("%X", sha256.Sum256([]byte(key)))[:6]
	file, err := os.OpenFile(filepath.Join(dir, number+done), os.O_CREATE|os.O_EXCL, 0o644)
	if os.IsExist(err) {
		fmt.Printf("  %s: was %s before, under the same key (%s)\n", what, done, number)
		return number, nil
	}
	if err == nil {
		fmt.Printf("  %s %s (%s)\n", what, done, number)
		err = file.Close()
	}
	return number, err
}

// again runs this program as another process.
func again(env ...string) *exec.Cmd {
	self, err := os.Executable()
	check(err)
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd
}

func check(err error) {
	if err != nil {
		log.Fatalf("trip: %v", err)
	}
}
