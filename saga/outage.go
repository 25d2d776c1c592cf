package saga

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill"
)

// outages keeps the log readable while the store or the broker is away: that something fails is told when it begins, every half minute
// while it lasts, and when it works again. An Observer hears of each failure.
type outages struct {
	any  atomic.Bool // whether there is one: asked after each commit
	mu   sync.Mutex
	what map[string]*outage
}

type outage struct {
	began, told time.Time
	failures    int
}

// outageReminder is how often an outage that lasts is told of.
const outageReminder = 30 * time.Second

// away reports that something failed which will be tried again, until it works.
func (o *Orchestrator) away(ctx context.Context, what string, err error) {
	o.observe(ctx, Observation{What: ObserveError, Outcome: what, Reason: err.Error()})
	if told := o.outages.begin(what); told != nil {
		o.logger.Error("Saga: "+what+" failed, trying again", err, told)
	}
}

// begin counts a failure, and answers what is to be told of it, if anything is.
func (s *outages) begin(what string) (told watermill.LogFields) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.what == nil {
		s.what = map[string]*outage{}
	}
	it := s.what[what]
	if it == nil {
		it = &outage{began: now}
		s.what[what] = it
		s.any.Store(true)
	}
	it.failures++
	if it.failures == 1 || now.Sub(it.told) >= outageReminder {
		it.told = now
		told = watermill.LogFields{"failures": it.failures, "for": now.Sub(it.began).String()}
	}
	return told
}

// works reports that it did.
func (o *Orchestrator) works(what string) {
	if !o.outages.any.Load() {
		return
	}
	if it := o.outages.end(what); it != nil {
		o.logger.Info("Saga: "+what+" works again", watermill.LogFields{"failures": it.failures, "after": time.Since(it.began).String()})
	}
}

func (s *outages) end(what string) *outage {
	s.mu.Lock()
	defer s.mu.Unlock()
	it := s.what[what]
	delete(s.what, what)
	s.any.Store(len(s.what) > 0)
	return it
}
