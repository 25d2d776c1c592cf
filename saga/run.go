package saga

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill"

	"github.com/sagamill/sagamill/saga/internal/stepped"
)

// What is done with the effects of a committed decision: local steps run, messages are published. Both may be lost by a
// crash at any moment: the instance in the store knows what is under way, and the sweep does it again.

// dispatch hands effects over. It never waits. They were committed no earlier than began.
func (o *Orchestrator) dispatch(i *instance, effects []effect, began time.Time) {
	for k := range effects {
		e := &effects[k]
		if e.kind == runLocal {
			s := o.plan(i.definition, i.version).steps[e.step]
			o.runner.add(&task{inst: i, effect: e, plan: s, until: began.Add(timeoutOf(s))})
		} else {
			o.publisher.add(outbound{
				topic: e.message.Topic, msg: commandMessage(i, *e, cmp.Or(e.message.Replies, o.replyTopic())), instance: i.id, id: e.message.ID, oneway: e.message.Oneway,
			})
		}
	}
}

func (o *Orchestrator) replyTopic() string { return o.config.Name + ".replies" }

// task is one attempt of a local step or compensation.
type task struct {
	inst *instance
	*effect
	plan  *stepPlan
	until time.Time // when its time is over, by this process's clock. The store's timer says so no earlier
}

type runningKey struct {
	instance, step string
	run            int
	undo           bool
}

// runner runs local steps, a bounded number at a time, and renews the leases of those that take long.
type runner struct {
	o *Orchestrator

	mu      sync.Mutex
	queue   taskQueue
	workers int
	coming  bool // a worker is on its way
	closed  bool
	left    []*task // begun in the store, and not run any more
	running map[runningKey]atWork
	idle    sync.WaitGroup

	ctx     context.Context
	cancel  context.CancelCauseFunc
	stop    chan struct{}
	renewal sync.WaitGroup

	around stepped.Around // nil, but in test kits
}

// atWork is what this process does for an effect: an attempt whose time is over may still run when the next one begins.
type atWork struct {
	attempts int
	since    time.Time // when the last one was taken on, by this process's clock
	until    time.Time // when its time is over: from then on it may hang, but holds no lease
}

func newRunner(o *Orchestrator) *runner {
	return &runner{o: o, running: map[runningKey]atWork{}, stop: make(chan struct{})}
}

func (r *runner) begin(ctx context.Context) {
	r.ctx, r.cancel = context.WithCancelCause(ctx)
	r.renewal.Go(func() { r.renew(ctx) })
}

// add queues a task. After drain has begun it does nothing: another process, or the next one, takes it over.
func (r *runner) add(t *task) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		r.left = append(r.left, t)
		return
	}
	r.running[t.key()] = atWork{attempts: r.running[t.key()].attempts + 1, since: time.Now(), until: t.until}
	r.queue.add(t)
	r.hire()
}

func (t *task) key() runningKey { return runningKey{t.inst.id, t.step, t.run, t.undo} }

// hire begins a worker if tasks wait, there may be one more, and none is on its way: who comes, and leaves tasks waiting, hires the next
// one. So steps that are quick are done by few. The caller holds the lock.
func (r *runner) hire() {
	if r.queue.n > 0 && !r.coming && r.workers < r.o.config.Workers {
		r.workers++
		r.coming = true
		r.idle.Add(1)
		go r.work()
	}
}

// work runs tasks until none is left.
func (r *runner) work() {
	defer r.idle.Done()
	r.mu.Lock()
	r.coming = false
	t := r.take(nil)
	r.mu.Unlock()
	endedByStep := true // with runtime.Goexit, which t.FailNow calls
	defer func() {
		if endedByStep {
			r.lost(t)
		}
	}()
	for t != nil {
		if j := r.attempt(t); j != nil {
			r.o.intake.add(j)
		}
		r.mu.Lock()
		t = r.take(t)
		r.mu.Unlock()
	}
	endedByStep = false
}

// take notes that a worker's last task is over (nil: the worker has just come), and answers its next one; nil: there is none, and the
// worker goes. The caller holds the lock.
func (r *runner) take(last *task) (next *task) {
	if last != nil {
		r.leave(last)
		r.queue.over(last)
	}
	if next = r.queue.next(); next == nil {
		r.workers--
	}
	r.hire() // for what is left
	return next
}

// lost stands in for a worker whose goroutine was ended by the step: its attempt has failed.
func (r *runner) lost(t *task) {
	o := outcome{Step: t.step, Run: t.run, Undo: t.undo, Attempt: t.effect.attempt, Kind: outcomeFailed, Reason: "the step ended its goroutine"}
	r.o.intake.add(&job{id: t.inst.id, in: input{outcome: &o}, inst: t.inst})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.leave(t)
	r.queue.over(t)
	r.workers--
	r.hire()
}

// leave notes that a task is over. The caller holds the lock.
func (r *runner) leave(t *task) {
	w := r.running[t.key()]
	if w.attempts--; w.attempts > 0 {
		r.running[t.key()] = w
	} else {
		delete(r.running, t.key())
	}
}

// answered is an attempt's answer as an input for the lanes.
type answered struct {
	job
	outcome outcome
}

// attempt calls the step's function, and makes its answer an input for the lanes. One that waited for a worker until its time was
// over is not made: the store's timer speaks for it, and an undo may have begun.
func (r *runner) attempt(t *task) *job {
	ctx := &stepContext{Context: r.ctx, deadline: t.until}
	defer ctx.end()
	if ctx.Err() != nil {
		return nil
	}
	if len(t.inst.Trace) > 0 {
		ctx.Context = r.o.config.Propagator.Extract(ctx.Context, t.inst.Trace)
	}
	effectKey, actionKey := effectKeys(t.id, t.undo)
	ctx.info = StepInfo{
		Definition: t.inst.definition, Instance: t.inst.id, Key: t.inst.key, Step: t.step, Run: t.run, Attempt: t.effect.attempt,
		Undo: t.undo, EffectKey: effectKey, ActionKey: actionKey,
	}
	j := &answered{outcome: r.call(ctx, t)}
	j.job = job{id: t.inst.id, in: input{outcome: &j.outcome}, inst: t.inst}
	return &j.job
}

func (r *runner) call(ctx context.Context, t *task) outcome {
	o := outcome{Step: t.step, Run: t.run, Undo: t.undo, Attempt: t.effect.attempt, Kind: outcomeSucceeded}
	began := time.Now()
	result, err := r.callLocal(ctx, t)
	var no *Rejection
	switch {
	case errors.As(err, &no):
		o.Kind, o.Reason = outcomeRejected, shorten(no.Reason)
	case err != nil:
		_, o.Fault = errors.AsType[*unreadableError](err)
		o.Kind, o.Reason = outcomeFailed, shorten(err.Error())
	case len(result) > r.o.config.MaxData:
		o.Kind, o.Reason = outcomeFailed, fmt.Sprintf("the result has %d bytes, more than the %d allowed", len(result), r.o.config.MaxData)
	default:
		o.Result = result
	}
	if err != nil {
		r.o.logAttempt(t, o, err)
	}
	r.o.observe(ctx, Observation{
		What: ObserveStep, Definition: t.inst.definition, Instance: t.inst.id, Step: t.step, Undo: t.undo, Attempt: t.effect.attempt,
		Outcome: string(o.Kind), Reason: o.Reason, Duration: time.Since(began),
	})
	return o
}

func (r *runner) callLocal(ctx context.Context, t *task) ([]byte, error) {
	f, codec, data := t.plan.effect(t.undo).local, r.o.config.Codec, t.data
	if r.around == nil {
		return call(ctx, f, codec, data, t.plan.name)
	}
	return r.around(ctx, func() ([]byte, error) { return call(ctx, f, codec, data, t.plan.name) })
}

// logAttempt logs an attempt that did not succeed. A panic is an error of the program, the others are the day's work.
func (o *Orchestrator) logAttempt(t *task, out outcome, err error) {
	fields := watermill.LogFields{
		"definition": t.inst.definition, "instance": t.inst.id, "key": t.inst.key, "step": effectName(t.step, t.undo, 1), "attempt": t.effect.attempt,
		"outcome": string(out.Kind), "reason": out.Reason,
	}
	var panicked *PanicError
	if errors.As(err, &panicked) {
		o.logger.Error("Step panicked", err, fields.Add(watermill.LogFields{"stack": string(panicked.Stack)}))
		return
	}
	o.logger.Info("Step did not succeed", fields)
}

func call(ctx context.Context, f localFunc, c Codec, data document, step string) (result []byte, err error) {
	defer recoverTo(&err, "step", step)
	return f(ctx, c, data)
}

// maxReason is how many bytes of a reason are kept: they are stored with every instance.
const maxReason = 1024

// shorten keeps reasons to that, and to what databases take for text.
func shorten(s string) string {
	if len(s) > maxReason {
		s = s[:maxReason] + "..."
	}
	return storableText(s)
}

func (r *runner) isRunning(instance, step string, run int, undo bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, running := r.running[runningKey{instance, step, run, undo}]
	return running
}

// queueRoom tells how many tasks of a definition may still be queued before new work should be held back, and what is told when
// there may be more. Those for which there are workers do not count: they are about to begin.
func (r *runner) queueRoom(definition string) (int, *taskLine) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.queue.line(definition)
	return r.o.config.StepQueue - max(0, len(l.waiting())-(r.o.config.Workers-r.workers)), l
}

// waitRoom holds a new saga back while too many steps of its definition wait for a worker.
func (r *runner) waitRoom(ctx context.Context, definition string) error {
	room, line := r.queueRoom(definition)
	for ; room <= 0; room, _ = r.queueRoom(definition) {
		select {
		case <-line.room:
		case <-ctx.Done():
			return fmt.Errorf("saga: waiting for local steps to be done: %w", context.Cause(ctx))
		case <-r.o.closing:
			return ErrClosed
		}
	}
	line.signal() // pass it on: others may wait, too
	return nil
}

// renew keeps the leases of steps that this process is at.
func (r *runner) renew(ctx context.Context) {
	tick := time.NewTicker(r.o.config.Lease / 3)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			r.renewOnce(ctx)
		case <-r.stop:
			return
		}
	}
}

// renewOnce renews the leases of attempts that are not quite new. One whose time is over holds none.
func (r *runner) renewOnce(ctx context.Context) {
	var touches []Touch
	seen := map[string]bool{}
	r.mu.Lock()
	for k, w := range r.running {
		if time.Since(w.since) >= r.o.config.Lease/6 && time.Now().Before(w.until) && !seen[k.instance] {
			seen[k.instance] = true
			touches = append(touches, Touch{ID: k.instance, Wake: KeepWake, Lease: r.o.config.Lease})
		}
	}
	r.mu.Unlock()
	if len(touches) == 0 {
		return
	}
	if err := r.o.store.Touch(ctx, touches); err != nil {
		r.o.away(ctx, "renew leases", err)
		return
	}
	r.o.works("renew leases")
}

// release gives up the leases of steps that were begun and will not be run here, so that nobody has to wait until they are over. It is
// called when there are no lanes any more. If it fails they are waited for.
func (r *runner) release(ctx context.Context) {
	r.mu.Lock()
	left := map[runningKey]bool{}
	latest := map[string]*instance{}
	for _, t := range r.left {
		left[t.key()] = true
		if i := latest[t.inst.id]; i == nil || i.revision < t.inst.revision {
			latest[t.inst.id] = t.inst
		}
	}
	r.mu.Unlock()
	var touches []Touch
	for _, id := range slices.Sorted(maps.Keys(latest)) {
		i := latest[id]
		elsewhere := func(tm timer) bool { // it runs in another process, or was left behind: its lease is the same
			return tm.Kind == attemptTimer && !left[runningKey{id, tm.Step, tm.Run, tm.Undo}]
		}
		if !slices.ContainsFunc(i.Timers, elsewhere) {
			touches = append(touches, Touch{ID: id, Revision: i.revision, Lease: time.Microsecond})
		}
	}
	for batch := range slices.Chunk(touches, r.o.config.MaxBatch) {
		if err := r.o.store.Touch(ctx, batch); err != nil {
			r.o.logger.Error("Leases of steps that were not run are not given up", err, nil)
			return
		}
	}
}

// drain takes no more tasks, and waits for those that run. When the time is over it cancels them, and those that do not
// return for all that are left behind.
func (r *runner) drain(timeout time.Duration) (err error) {
	r.mu.Lock()
	r.closed = true
	for _, t := range r.queue.all() { // not begun: whoever comes next finds them in the store
		r.leave(t)
		r.left = append(r.left, t)
	}
	r.queue = taskQueue{}
	r.mu.Unlock()
	idle := make(chan struct{})
	go func() {
		r.idle.Wait()
		close(idle)
	}()
	over := time.AfterFunc(timeout, func() { r.cancel(ErrClosed) })
	defer over.Stop()
	select {
	case <-idle:
	case <-time.After(timeout + drainGrace):
		err = fmt.Errorf("saga: local steps did not return %s after their contexts ended, and are left behind", drainGrace)
	}
	r.cancel(ErrClosed)
	close(r.stop)
	r.renewal.Wait()
	return err
}
