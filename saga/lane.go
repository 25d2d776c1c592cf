package saga

import (
	"context"
	"errors"
	"time"
)

// lane takes a batch of inputs from the intake, decides them, and commits the decisions; then it takes the next one.
type lane struct {
	o *Orchestrator

	// The intake's, under its lock:
	since time.Time // when the batch was taken
	slow  bool      // what waits does not wait for it

	// Of the batch in the making:
	again []*job        // inputs that are to be decided again
	after []*job        // inputs that were waiting for the transition of another one
	delay time.Duration // before that
	used  struct {      // room of the last batch, for the next one
		groups      []*group
		transitions []Transition
		text        object // the transitions' Engine and Entries
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
	external bool          // it holds one of the intake's slots
	alone    bool          // with no other input in one transition: a start, or the database rejected one that had several
	fresh    bool          // to be decided on what the store says, not the memory
	tries    int32

	definition, key string // of an event that names them: the instance must be that
}

type jobDone struct {
	answer   Disposition
	reason   string
	inst     *instance // after the input
	existing *Record   // of a start whose key is taken
	startKey *StartKey // of a start whose start key is taken
	err      error
}

// errAbandoned answers inputs that were under way when Close would wait no longer. A message with one is not acknowledged.
var errAbandoned = errors.New("saga: the orchestrator closed while the store was away: it is not known whether the input is recorded")

// run is the lane's loop.
func (l *lane) run(ctx context.Context) {
	for groups := l.o.intake.next(l); groups != nil; groups = l.o.intake.next(l) {
		l.process(ctx, groups)
	}
}

// retry lets the inputs of a group be decided again, on what the store holds now.
func (l *lane) retry(g *group, keep func(*job) bool) {
	for _, j := range g.after {
		j.record, j.inst = nil, nil // judged by the same instance, which the store has a newer one of
	}
	for _, s := range g.steps {
		j := s.job
		if j == nil || !keep(j) {
			continue
		}
		j.record, j.inst = nil, nil // the store has a newer one
		if j.in.wake != nil {
			continue // the sweep comes again
		}
		if j.tries++; j.tries > 3 { // once for a batch, and short: others of it wait as well
			l.delay = max(l.delay, min(time.Duration(j.tries)*time.Millisecond, 25*time.Millisecond))
		}
		l.again = append(l.again, j)
	}
}

// later lets a whole batch be decided again, because the store is away.
func (l *lane) later(groups []*group) {
	l.delay = 100 * time.Millisecond
	for _, g := range groups {
		for _, j := range g.jobs {
			if j.in.wake == nil {
				l.again = append(l.again, j)
			}
		}
	}
}

// done ends a batch. What is to be decided again is put back in front of what came later, or given up once Close waits no longer.
func (l *lane) done(ctx context.Context, groups []*group) {
	again := append(l.again, l.after...)
	if l.delay > 0 {
		l.o.intake.markSlow(l)
	}
	if len(again) > 0 && !pause(ctx, l.delay) {
		for _, j := range again {
			l.answer(j, jobDone{err: errAbandoned})
		}
		again = nil
	}
	l.again, l.after, l.delay = nil, nil, 0
	l.o.intake.done(l, groups, again)
	l.over(groups)
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

// answer tells whoever waits for an input what became of it, once.
func (l *lane) answer(j *job, d jobDone) {
	if j == nil {
		return
	}
	if j.external {
		j.external = false
		<-l.o.intake.slots
	}
	if done := j.done; done != nil {
		j.done = nil
		done(d)
	}
}
