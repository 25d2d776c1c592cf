package saga

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// lane takes the inputs of its instances, decides them, and commits the decisions in batches. All inputs of an instance go
// through one lane of a process. The batch is what gathered while the last one was committed: an idle lane waits for
// nothing, a busy one commits many transitions at once.
type lane struct {
	o     *Orchestrator
	cache *cache

	mu     sync.Mutex
	queue  []*job
	closed bool
	wake   chan struct{} // capacity 1: the queue is not empty, or the lane is closed
	slots  chan struct{} // taken by inputs from outside; full: senders wait

	// The lane's goroutine only:
	back  []*job        // inputs of the batch in the making that are to be decided again
	delay time.Duration // before that
	used  struct {      // room of the last batch, for the next one
		groups      []*group
		byID        map[string]*group
		transitions []Transition
	}
}

// job is one input for one instance.
type job struct {
	id       string
	in       input
	input    string        // identity of an input from outside, see HistoryRecord.Input
	start    *Start        // of a new instance
	record   *Record       // from a sweep
	inst     *instance     // of an outcome: as it was when the step began, which saves reading it if nothing came between
	done     func(jobDone) // called once; nil: nobody waits
	external bool          // it holds one of the lane's slots
	alone    bool          // with no other input in one transition: the database rejected one that had several
	fresh    bool          // to be decided on what the store says, not the cache
	tries    int

	definition string // of an event that names it: the instance must be one of it
}

type jobDone struct {
	answer   Disposition
	reason   string
	instance Instance  // after the input
	existing *Record   // of a start whose key is taken
	startKey *StartKey // of a start whose start key is taken
	err      error
}

// errAbandoned answers inputs that were under way when Close would wait no longer. A message with one is not acknowledged.
var errAbandoned = errors.New("saga: the orchestrator closed while the store was away: it is not known whether the input is recorded")

func newLane(o *Orchestrator) *lane {
	l := &lane{
		o: o, cache: newCache(max(o.config.CacheSize/o.config.Lanes, 1)),
		wake: make(chan struct{}, 1), slots: make(chan struct{}, o.config.LaneDepth),
	}
	l.used.byID = map[string]*group{}
	return l
}

// submit gives the lane an input from outside. It waits for room, until ctx is done or the orchestrator closes.
func (l *lane) submit(ctx context.Context, j *job) error {
	if l.o.isClosing() { // also where there is room
		return ErrClosed
	}
	select {
	case l.slots <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("saga: waiting for room in the lane: %w", context.Cause(ctx))
	case <-l.o.closing:
		return ErrClosed
	}
	j.external = true
	if !l.add(j) {
		<-l.slots
		return ErrClosed
	}
	return nil
}

// add gives the lane an input of the engine's own. It never waits: there are no more of them than effects in flight.
func (l *lane) add(jobs ...*job) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.queue = append(l.queue, jobs...)
	l.signal()
	return true
}

func (l *lane) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// close lets the lane end once its queue is empty.
func (l *lane) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.signal()
}

// run is the lane's loop.
func (l *lane) run(ctx context.Context) {
	for range l.wake {
		for batch := l.take(); len(batch) > 0; batch = l.take() {
			l.process(ctx, batch)
		}
		l.mu.Lock()
		over := l.closed && len(l.queue) == 0
		l.mu.Unlock()
		if over {
			return
		}
	}
}

// take removes the next batch from the queue: inputs, in order, of at most MaxBatch instances.
func (l *lane) take() []*group {
	l.mu.Lock()
	defer l.mu.Unlock()
	var groups []*group
	byID := l.used.byID
	defer clear(byID)
	n := 0
	for ; n < len(l.queue); n++ {
		j := l.queue[n]
		g := byID[j.id]
		if g != nil && (j.alone || g.jobs[0].alone) {
			break
		}
		if g == nil {
			if len(groups) == l.o.config.MaxBatch {
				break
			}
			g = l.newGroup(j.id)
			byID[j.id], groups = g, append(groups, g)
		}
		g.jobs = append(g.jobs, j)
	}
	l.queue = slices.Delete(l.queue, 0, n)
	return groups
}

// again puts the inputs of a group back, to be decided on what the store holds now.
func (l *lane) again(ctx context.Context, g *group, keep func(*job) bool) {
	for _, j := range g.after {
		j.record, j.inst = nil, nil // judged by the same instance, which the store has a newer one of
	}
	var jobs []*job
	delay := time.Duration(0) // once for a batch, and short: others of the lane wait as well
	for _, s := range g.steps {
		j := s.job
		if j == nil || !keep(j) {
			continue
		}
		j.record, j.inst = nil, nil // the store has a newer one
		if j.in.wake != nil {
			continue // the sweep comes again
		}
		if j.tries++; j.tries > 3 {
			delay = min(time.Duration(j.tries)*time.Millisecond, 25*time.Millisecond)
		}
		jobs = append(jobs, j)
	}
	l.back, l.delay = append(l.back, jobs...), max(l.delay, delay)
}

// later puts a whole batch back, because the store is away.
func (l *lane) later(ctx context.Context, groups []*group) {
	var jobs []*job
	for _, g := range groups {
		for _, j := range g.jobs {
			if j.in.wake == nil {
				jobs = append(jobs, j)
			}
		}
	}
	l.readd(ctx, jobs, 100*time.Millisecond)
}

// readd puts jobs back in front of what came later, in their order. Once Close waits no longer they are given up.
func (l *lane) readd(ctx context.Context, jobs []*job, delay time.Duration) {
	if len(jobs) == 0 {
		return
	}
	if !pause(ctx, delay) { // nothing else of this lane would fare better meanwhile
		for _, j := range jobs {
			l.answer(j, jobDone{err: errAbandoned})
		}
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue = append(jobs, l.queue...)
	l.signal()
}

// pause waits. It answers false if ctx is done.
func pause(ctx context.Context, d time.Duration) bool {
	if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
		}
	}
	return ctx.Err() == nil
}

// length is the number of inputs that wait.
func (l *lane) length() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.queue)
}

// answer tells whoever waits for an input what became of it, once.
func (l *lane) answer(j *job, d jobDone) {
	if j == nil {
		return
	}
	if j.external {
		j.external = false
		<-l.slots
	}
	if done := j.done; done != nil {
		j.done = nil
		done(d)
	}
}
