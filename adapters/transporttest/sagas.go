package transporttest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sagamill/sagamill/adapters/memory"
	"github.com/sagamill/sagamill/saga"
)

const (
	sagasRun   = 100
	sagasAlive = 50 // at one time

	disturbances = 5
)

func sagaChecks() []check {
	return []check{
		{
			name: "sagas", test: func(s *script) error { return runSagas(s, nil) },
			rule: "sagas of an orchestrator and a participant complete, each with one effect per step",
		}, {
			name: "sagas while connections are cut", needs: []Promise{Reconnects},
			test: func(s *script) error { return runSagas(s, cut) },
			rule: "sagas of an orchestrator and a participant complete though connections are cut, each with one effect per step",
		},
	}
}

// trip is what the sagas are about: two commands to a participant.
type trip struct {
	Hotel, Flight string
}

// system is an orchestrator and a participant, in processes of their own as far as the transport is concerned.
type system struct {
	definition   *saga.LinearDefinition[trip]
	orchestrator *saga.Orchestrator
	participant  *saga.Participant[*memory.Tx]
	booked       sync.Map // by effect: how often its handler committed
	ran          chan error
}

// runSagas runs sagas to their end. disturb is called again and again meanwhile, if there is one.
func runSagas(s *script, disturb func([]Process)) (err error) {
	processes := []Process{s.open(), s.open()}
	sys, err := newSystem(s, processes)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(s.ctx, 3*s.Patience)
	defer cancel()
	defer func() { err = errors.Join(err, sys.end()) }()
	if err := sys.begin(ctx); err != nil {
		return err
	}

	var done atomic.Bool
	var disturbing sync.WaitGroup
	if disturb != nil {
		disturbing.Go(func() {
			time.Sleep(cutFor / 3)
			for range disturbances {
				disturb(processes)
				time.Sleep(cutEvery)
				if done.Load() {
					return
				}
			}
		})
	}
	err = sys.trips(ctx)
	done.Store(true)
	disturbing.Wait()
	return err
}

func newSystem(s *script, processes []Process) (*system, error) {
	commands := s.topic("commands")
	s.topic("trips.replies") // the orchestrator's
	book := func(name string) saga.Command[string, string] {
		return saga.Command[string, string]{Name: name, Topic: commands}
	}
	hotel, flight := book("book-hotel"), book("book-flight")
	sys := &system{ran: make(chan error, 2)}
	sys.definition = saga.Linear("trip",
		saga.Ask("hotel", hotel, func(trip) string { return "a room" }, func(t trip, r string) trip { t.Hotel = r; return t }).NoUndo("it is a test"),
		saga.Ask("flight", flight, func(t trip) string { return t.Hotel }, func(t trip, r string) trip { t.Flight = r; return t }).Pivot(),
	)
	var err error
	sys.orchestrator, err = saga.NewOrchestrator(memory.NewStore(), saga.OrchestratorConfig{
		Name: s.run + ".trips", Definitions: []saga.AnyDefinition{sys.definition}, Transport: processes[0].Transport(), Subscribers: 2,
	}, nil)
	if err != nil {
		return nil, err
	}
	sys.participant, err = saga.NewParticipant(memory.NewInbox(), saga.ParticipantConfig{
		Name: "agency", Transport: processes[1].Transport(), Subscribers: 2,
	}, nil)
	if err != nil {
		return nil, err
	}
	answer := func(ctx context.Context, _ *memory.Tx, ask string) (string, error) {
		time.Sleep(time.Millisecond) // so that all of it takes longer than until the first cut
		n, _ := sys.booked.LoadOrStore(saga.Info(ctx).EffectKey, new(atomic.Int32))
		n.(*atomic.Int32).Add(1)
		return saga.Info(ctx).Step + " for " + ask, nil
	}
	return sys, errors.Join(saga.Handle(sys.participant, hotel, answer), saga.Handle(sys.participant, flight, answer))
}

// begin returns when both have subscribed.
func (sys *system) begin(ctx context.Context) error {
	go func() { sys.ran <- sys.participant.Run(ctx) }()
	go func() { sys.ran <- sys.orchestrator.Run(ctx) }()
	for _, running := range []<-chan struct{}{sys.participant.Running(), sys.orchestrator.Running()} {
		select {
		case <-running:
		case err := <-sys.ran:
			sys.ran <- err
			return errors.New("a process ended before it ran")
		case <-ctx.Done():
			return fmt.Errorf("the processes do not run: %w", ctx.Err())
		}
	}
	return nil
}

func (sys *system) end() error {
	return errors.Join(sys.orchestrator.Close(), sys.participant.Close(), <-sys.ran, <-sys.ran)
}

// trips starts sagas and waits for them, some at one time.
func (sys *system) trips(ctx context.Context) error {
	faults := make(chan error, sagasRun)
	places := make(chan struct{}, sagasAlive)
	for i := range sagasRun {
		places <- struct{}{}
		go func() {
			defer func() { <-places }()
			faults <- sys.trip(ctx, fmt.Sprint("trip-", i))
		}()
	}
	var err error
	failed := 0
	for range sagasRun {
		if fault := <-faults; fault != nil {
			failed++
			err = fault
		}
	}
	if err != nil {
		return fmt.Errorf("%d of %d sagas did not complete; one of them: %w", failed, sagasRun, err)
	}
	effects, repeated := 0, ""
	sys.booked.Range(func(effect, n any) bool {
		effects++
		if n.(*atomic.Int32).Load() != 1 {
			repeated = effect.(string)
		}
		return true
	})
	if effects != 2*sagasRun || repeated != "" {
		return fmt.Errorf("%d sagas of two steps had %d effects (done again: %q)", sagasRun, effects, repeated)
	}
	return nil
}

func (sys *system) trip(ctx context.Context, key string) error {
	if _, err := sys.definition.Start(ctx, sys.orchestrator, saga.StartParams[trip]{Key: key}); err != nil {
		return fmt.Errorf("start %s: %w", key, err)
	}
	end, err := sys.definition.Wait(ctx, sys.orchestrator, key)
	if err != nil {
		return fmt.Errorf("wait for %s: %w", key, err)
	}
	if end.State != saga.Completed || end.Data.Flight == "" {
		return fmt.Errorf("%s is %s: %+v", key, end.State, end.Data)
	}
	return nil
}
