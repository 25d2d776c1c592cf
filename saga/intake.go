package saga

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// intake holds the inputs that no lane has taken so far, in the order in which they came. Lanes share them: an instance's inputs are
// in one batch at a time, and a batch is what gathered while the last one was committed. A further lane goes to work beside one
// that commits only when enough has gathered for it, or when that one takes long: many small transactions cost a database more
// than few large ones.
type intake struct {
	enough int           // inputs that are worth a batch of their own
	slots  chan struct{} // taken by inputs from outside until they are answered; full: senders wait

	mu     sync.Mutex
	queue  []*job
	taken  map[string]*group // by instance: those that are in a batch
	busy   []*lane           // those at work
	armed  bool              // the timer runs
	closed bool

	changed *sync.Cond
	timer   *time.Timer
}

// longCommit is how long inputs wait for a batch that is committed. After that time its lane is no reason to wait.
const longCommit = 25 * time.Millisecond

func newIntake(c *OrchestratorConfig) *intake {
	in := &intake{enough: max(c.MaxBatch/2, 1), slots: make(chan struct{}, c.Lanes*c.LaneDepth), taken: map[string]*group{}}
	in.changed = sync.NewCond(&in.mu)
	return in
}

// add takes in inputs of the engine's own. It never waits: there are no more of them than effects in flight. False: no lane is there
// any more.
func (in *intake) add(jobs ...*job) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.closed {
		return false
	}
	in.queue = append(in.queue, jobs...)
	in.look()
	return true
}

// room is how many more inputs may wait.
func (in *intake) room() int {
	in.mu.Lock()
	defer in.mu.Unlock()
	return cap(in.slots) - len(in.queue)
}

// close lets the lanes end once there are no more inputs.
func (in *intake) close() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.closed = true
	in.look()
}

// ready tells whether another lane should go to work. The caller holds the lock.
func (in *intake) ready() bool {
	return len(in.queue) > 0 && (len(in.queue) >= in.enough || !slices.ContainsFunc(in.busy, (*lane).isQuick))
}

// isQuick tells whether what waits should wait for the lane. The caller holds the intake's lock.
func (l *lane) isQuick() bool {
	return !l.slow && time.Since(l.since) < longCommit
}

// markSlow notes that a lane at work will take its time: it waits for the store.
func (in *intake) markSlow(l *lane) {
	in.mu.Lock()
	defer in.mu.Unlock()
	l.slow = true
	in.look()
}

// look wakes a lane if there is work for it, now or when those at work have taken long. The caller holds the lock.
func (in *intake) look() {
	switch {
	case in.ready():
		in.changed.Signal()
	case in.closed && len(in.queue) == 0:
		in.changed.Broadcast() // lanes that are idle may end
	case len(in.queue) == 0 || in.armed:
	case in.timer == nil:
		in.armed, in.timer = true, time.AfterFunc(longCommit, in.tooLong)
	default:
		in.armed = true
		in.timer.Reset(longCommit)
	}
}

func (in *intake) tooLong() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.armed = false
	in.look()
}

// next waits until there is work for another lane, and takes a batch for it. Nil: there will be none any more.
func (in *intake) next(l *lane) []*group {
	in.mu.Lock()
	defer in.mu.Unlock()
	for {
		switch {
		case in.ready():
			if groups := in.take(l, nil); len(groups) > 0 {
				return groups
			}
		case in.closed && len(in.queue) == 0:
			return nil // what lanes at work put back they take themselves
		default:
			in.changed.Wait()
		}
	}
}

// take makes a batch of what waits: inputs, in order, of at most MaxBatch instances that are in no other batch. What comes for those that
// are waits until that is over. Test kits take only some. The caller holds the lock.
func (in *intake) take(l *lane, only func(id string) bool) (groups []*group) {
	queue := in.queue
	rest, n := queue[:0], 0
	for ; n < len(queue); n++ {
		j := queue[n]
		g := in.taken[j.id]
		if only != nil && !only(j.id) {
			rest = append(rest, j)
			continue
		}
		if g != nil && (g.lane != l || len(g.held) > 0 || j.alone || g.jobs[0].alone) {
			g.held = append(g.held, j)
			continue
		}
		if g == nil {
			if len(groups) == l.o.config.MaxBatch {
				break
			}
			g = l.newGroup(j.id)
			in.taken[j.id], groups = g, append(groups, g)
		}
		g.jobs = append(g.jobs, j)
	}
	in.queue = append(rest, queue[n:]...)
	clear(queue[len(in.queue):])
	if len(groups) > 0 {
		l.slow, l.since = false, time.Now()
		in.busy = append(in.busy, l)
	}
	if in.armed {
		in.armed = !in.timer.Stop()
	}
	in.look()
	return groups
}

// done says that a batch is over. Those of its inputs that are to be decided again come first, then what came for its instances
// meanwhile.
func (in *intake) done(l *lane, groups []*group, again []*job) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, g := range groups {
		delete(in.taken, g.id)
		again = append(again, g.held...)
	}
	if len(again) > 0 {
		in.queue = append(again, in.queue...)
	}
	in.busy = slices.DeleteFunc(in.busy, func(other *lane) bool { return other == l })
	in.look()
}

// submit takes in an input from outside. It waits for room, until ctx is done or the orchestrator closes.
func (o *Orchestrator) submit(ctx context.Context, j *job) error {
	if o.isClosing() { // also where there is room
		return ErrClosed
	}
	select {
	case o.intake.slots <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("saga: waiting for other inputs to be committed: %w", context.Cause(ctx))
	case <-o.closing:
		return ErrClosed
	}
	j.external = true
	if !o.intake.add(j) {
		<-o.intake.slots
		return ErrClosed
	}
	return nil
}
