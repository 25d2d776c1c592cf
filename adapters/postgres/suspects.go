package postgres

import (
	"sync"
	"time"

	"github.com/sagamill/sagamill/adapters/internal/batch"
	"github.com/sagamill/sagamill/saga"
)

// suspects are instances and keys that somebody else had locked a moment ago, and for long. A transition of one does not go
// into a batch that would wait for it. That is only a guess, so the process's own clock is good enough.
type suspects struct {
	mu    sync.Mutex
	until map[string]time.Time
}

const (
	suspectFor  = 5 * time.Second
	maxSuspects = 4096
)

// suspectNames are the names under which a transition may meet somebody else's lock.
func suspectNames(t *saga.Transition) []string {
	names := []string{"i" + t.ID}
	if t.Start != nil {
		names = append(names, batch.Keys(t.Start)...)
	}
	return names
}

func (s *suspects) add(t *saga.Transition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.until == nil || len(s.until) >= maxSuspects { // what is still locked will be met again
		s.until = map[string]time.Time{}
	}
	for _, name := range suspectNames(t) {
		s.until[name] = time.Now().Add(suspectFor)
	}
}

func (s *suspects) remove(t *saga.Transition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.until) == 0 {
		return
	}
	for _, name := range suspectNames(t) {
		delete(s.until, name)
	}
}

func (s *suspects) has(t *saga.Transition) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.until) == 0 {
		return false
	}
	for _, name := range suspectNames(t) {
		if time.Now().Before(s.until[name]) {
			return true
		}
	}
	return false
}
