package saga

import (
	"context"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill"
)

// sweeper finds what is due: timers, retries, unanswered commands, and whatever a crashed process left. It asks the store,
// whose clock decides; the process's own clock only says when to ask.
type sweeper struct {
	o    *Orchestrator
	mu   sync.Mutex
	next time.Time // when to ask; zero: with the next poll
	wake chan struct{}
}

func newSweeper(o *Orchestrator) *sweeper { return &sweeper{o: o, wake: make(chan struct{}, 1)} }

// sweepPause is the least time between two sweeps, so that a busy process does not ask all the time.
const sweepPause = 20 * time.Millisecond

// poke lets the sweeper ask the store in so long a time, and a little more: stores count microseconds.
func (s *sweeper) poke(in time.Duration) {
	at := time.Now().Add(in + 2*time.Microsecond)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next.IsZero() || at.Before(s.next) {
		s.next = at
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}

// run is the sweeper's loop.
func (s *sweeper) run(ctx context.Context) {
	for {
		again := s.once(ctx)
		s.pause(ctx, again)
		if ctx.Err() != nil {
			return
		}
	}
}

// pause waits for the next time to ask.
func (s *sweeper) pause(ctx context.Context, atMost time.Duration) {
	least := time.Now().Add(sweepPause)
	s.mu.Lock()
	if at := time.Now().Add(atMost); s.next.IsZero() || at.Before(s.next) {
		s.next = at
	}
	s.mu.Unlock()
	for {
		s.mu.Lock()
		until := s.next
		s.mu.Unlock()
		if until.Before(least) {
			until = least
		}
		wait := time.NewTimer(time.Until(until))
		select {
		case <-wait.C:
			s.mu.Lock()
			s.next = time.Time{}
			s.mu.Unlock()
			return
		case <-s.wake:
			wait.Stop()
		case <-ctx.Done():
			wait.Stop()
			return
		}
	}
}

// room tells how many instances may be claimed now, and of which definitions: not of those that have too many steps waiting.
func (s *sweeper) room() (definitions []DefinitionVersion, room int) {
	room = min(s.o.config.StepQueue, s.o.intake.room())
	for _, d := range s.o.known() {
		if its, _ := s.o.runner.queueRoom(d.Name); its > 0 {
			definitions, room = append(definitions, d), min(room, its)
		}
	}
	if len(definitions) == 0 {
		return nil, 0
	}
	return definitions, room
}

// once claims what is due and gives it to the lanes. It answers how long to wait at most until the next time.
func (s *sweeper) once(ctx context.Context) time.Duration {
	definitions, room := s.room()
	if room <= 0 {
		return s.o.config.PollInterval
	}
	records, next, err := s.o.store.Claim(ctx, Claim{Definitions: definitions, Limit: min(room, s.o.config.MaxBatch), Hold: s.o.config.Lease})
	if err != nil {
		if ctx.Err() == nil {
			s.o.away(ctx, "claim", err)
		}
		return s.o.config.PollInterval
	}
	s.o.works("claim")
	if len(records) > 0 {
		s.o.logger.Debug("Found instances that are due", watermill.LogFields{"count": len(records)})
	}
	for k := range records {
		r := &records[k]
		s.o.intake.add(&job{id: r.ID, in: input{wake: &wake{}}, record: r})
	}
	if next < 0 || next > s.o.config.PollInterval {
		return s.o.config.PollInterval
	}
	return next
}
