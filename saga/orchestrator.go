package saga

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill"

	"github.com/sagamill/sagamill/compensation"
)

// Orchestrator runs sagas: it is the shell around decide. It moves data only: load, decide, commit, and then publish or run.
//
// Any number of orchestrators, in one process or many, may work on one store; the store's revisions decide between them.
// An Orchestrator is safe for concurrent use.
//
//	go func() { log.Println(orchestrator.Run(ctx)) }()
//	_, err := bookTrip.Start(ctx, orchestrator, saga.StartParams[Trip]{Key: "trip-1", Data: Trip{...}})
type Orchestrator struct {
	store   Store
	config  OrchestratorConfig
	logger  watermill.LoggerAdapter
	process string // names this process, and no other
	plans   map[DefinitionVersion]*plan

	intake    *intake
	memory    *memory
	patience  patience
	runner    *runner
	publisher *publisher
	sweeper   *sweeper
	outages   outages
	errands   sync.WaitGroup // dead letters on their way to the store; what is told when work begins
	errand    func(func())   // begins one; a lane must not wait for it

	inline func(ctx context.Context, id string) // of test kits, that have no goroutines: decides what waits for an instance

	running   chan struct{}
	closing   chan struct{}
	closed    chan struct{} // Run has returned, or will never begin
	err       error         // what Run returned; read it after closed
	begin     sync.Once
	begun     bool // by Run, not by Close; read it after begin
	closeOnce sync.Once
}

// NewOrchestrator makes an orchestrator on a store. It returns everything that is wrong with the configuration and with
// its definitions, joined. A nil logger means no logging.
func NewOrchestrator(store Store, config OrchestratorConfig, logger watermill.LoggerAdapter) (*Orchestrator, error) {
	err := config.Validate()
	if store == nil {
		err = errors.Join(fmt.Errorf("%w: the store is nil", ErrInvalid), err)
	}
	if err != nil {
		return nil, err
	}
	if logger == nil {
		logger = watermill.NopLogger{}
	}
	o := &Orchestrator{
		store: namesStore{store}, config: config.withDefaults(), logger: logger, process: rand.Text()[:8], plans: map[DefinitionVersion]*plan{},
		running: make(chan struct{}), closing: make(chan struct{}), closed: make(chan struct{}),
	}
	for _, d := range config.Definitions {
		o.plans[DefinitionVersion{d.Name(), d.Version()}] = d.compiled()
	}
	o.errand = o.errands.Go
	o.memory = newMemory(o.config.CacheSize)
	o.runner = newRunner(o)
	o.publisher = newPublisher(o)
	o.sweeper = newSweeper(o)
	o.intake = newIntake(&o.config)
	return o, nil
}

// Run recovers what earlier processes left, and works until ctx is done or Close is called. It then drains: no more inputs are
// taken, the local steps that run are waited for (up to DrainTimeout) and their outcomes committed. It returns nil after
// that, the reason why it could not begin (an ErrIncompatible names the definition), or what it had to leave behind. Run may
// be called once; after Close it returns nil at once.
func (o *Orchestrator) Run(ctx context.Context) (err error) {
	first := false
	o.begin.Do(func() { first, o.begun = true, true })
	if !first && o.begun {
		return fmt.Errorf("%w: Run may be called once", ErrInvalid)
	}
	if !first {
		return nil
	}
	defer func() {
		o.shut()
		o.err = err
		close(o.closed)
	}()
	if err := o.register(ctx); err != nil {
		return err
	}
	// What is under way is finished when ctx ends: the work itself runs on a context that does not.
	work, abandon := context.WithCancel(context.WithoutCancel(ctx))
	defer abandon()
	receive, stopReceivers := context.WithCancel(work)
	sweep, stopSweep := context.WithCancel(work)
	defer stopSweep()
	var lanes, sweeper sync.WaitGroup
	for range o.config.Lanes {
		lanes.Go(func() { (&lane{o: o}).run(work) })
	}
	o.runner.begin(work)
	o.publisher.begin(work)
	waitForSubscribers, err := o.subscribe(receive)
	if err == nil {
		sweeper.Go(func() { o.sweeper.run(sweep) })
		close(o.running)
		o.logger.Info("Orchestrator is running", watermill.LogFields{"name": o.config.Name, "definitions": len(o.plans)})
		o.errands.Go(func() { o.remind(sweep) })
		select {
		case <-ctx.Done():
		case <-o.closing:
		}
	}
	o.shut() // from here on no inputs are taken
	defer time.AfterFunc(o.config.DrainTimeout+2*drainGrace, abandon).Stop()
	stopSweep()
	sweeper.Wait()
	left := o.runner.drain(o.config.DrainTimeout) // the outcomes are in the lanes now
	o.intake.close()
	lanes.Wait()
	o.runner.release(work)
	o.errands.Wait()
	stopReceivers() // what came in is committed and acknowledged
	left = errors.Join(left, o.publisher.close(work), waitForSubscribers())
	return errors.Join(err, left)
}

// Running is closed once the orchestrator takes inputs.
func (o *Orchestrator) Running() <-chan struct{} { return o.running }

// Close ends Run, waits until it has drained (DrainTimeout and a few seconds at most), and returns what Run returned. It may be
// called any number of times, also before Run, but not by a step or an Observer.
func (o *Orchestrator) Close() error {
	o.shut()
	o.begin.Do(func() { close(o.closed) })
	<-o.closed
	return o.err
}

func (o *Orchestrator) shut() { o.closeOnce.Do(func() { close(o.closing) }) }

func (o *Orchestrator) isClosing() bool { return closed(o.closing) }

// ready waits until inputs are taken.
func (o *Orchestrator) ready(ctx context.Context) error {
	if o.isClosing() {
		return o.whyClosed(ctx)
	}
	select {
	case <-o.running:
		return nil
	default:
	}
	select {
	case <-o.running:
		return nil
	case <-o.closing:
		return o.whyClosed(ctx)
	case <-ctx.Done():
		return fmt.Errorf("saga: waiting for the orchestrator to run: %w", context.Cause(ctx))
	}
}

// whyClosed is ErrClosed, along with the reason for which Run could not begin, or ended, if that is known.
func (o *Orchestrator) whyClosed(ctx context.Context) error {
	if !closed(o.running) {
		select {
		case <-o.closed:
		case <-ctx.Done():
		}
	}
	if closed(o.closed) && o.err != nil {
		return fmt.Errorf("%w: %w", ErrClosed, o.err)
	}
	return ErrClosed
}

// register refuses to begin with definitions that stored instances do not fit.
func (o *Orchestrator) register(ctx context.Context) error {
	for v, p := range o.plans {
		names, err := json.Marshal(p.names())
		if err != nil {
			return err
		}
		shape := Shape{Definition: v.Name, Version: v.Version, Names: names}
		before, live, err := o.store.Register(ctx, shape, false)
		if err != nil {
			return fmt.Errorf("saga: register definition %s: %w", v.Name, err)
		}
		missing, err := p.missing(before)
		if err != nil {
			return err
		}
		if len(missing) > 0 && live > 0 {
			return &IncompatibleError{Definition: v.Name, Version: v.Version, Live: live, Missing: missing}
		}
		if before != nil && live > 0 && !slices.Equal(before, names) {
			if _, _, err := o.store.Register(ctx, shape, true); err != nil {
				return fmt.Errorf("saga: register definition %s: %w", v.Name, err)
			}
		}
	}
	return nil
}

// names lists what stored instances of the plan rely on: the names that they refer to, the order of a row's steps, and what kind
// of step each is. To add to it (also steps, at the end of a row) is safe, to change any of it is not.
func (p *plan) names() []string {
	var names []string
	for _, s := range p.machine.States() {
		names = append(names, "state "+s)
	}
	for name, r := range p.byName {
		if r.policy != 0 {
			continue // it is never in progress
		}
		names = append(names, "row "+name+" to "+r.to)
		if len(r.groups) > 0 {
			names = append(names, "row "+name+" running "+r.runs())
		}
	}
	for _, s := range p.steps {
		names = append(names, "step "+s.name+" as "+s.nature())
	}
	for name := range p.events {
		names = append(names, "event "+name)
	}
	slices.Sort(names)
	return names
}

// runs says which steps a row runs, in their order.
func (r *rowPlan) runs() string {
	groups := make([]string, len(r.groups))
	for k, g := range r.groups {
		names := make([]string, len(g))
		for n, s := range g {
			names[n] = s.name
		}
		groups[k] = strings.Join(names, " & ")
	}
	return strings.Join(groups, ", ")
}

// nature says what kind of step it is, as far as an instance in the middle of it relies on that.
func (s *stepPlan) nature() string {
	kind := func(e *effectPlan) string {
		switch {
		case e.oneway:
			return "event"
		case e.command != nil:
			return "command"
		case e.local != nil:
			return "local"
		}
		return "nothing"
	}
	return classOf(s.class) + " " + kind(&s.action) + ", undone by " + kind(&s.undo)
}

func classOf(c compensation.Class) string {
	if c == compensation.Compensatable {
		return "compensatable"
	}
	return string(c)
}

func (p *plan) missing(before []byte) ([]string, error) {
	if before == nil {
		return nil, nil
	}
	var old []string
	if err := json.Unmarshal(before, &old); err != nil {
		return nil, fmt.Errorf("saga: the stored shape of definition %s cannot be read: %w", p.name, err)
	}
	return gone(old, p.names()), nil
}

// plan returns the plan of a version, or nil.
func (o *Orchestrator) plan(definition string, version int) *plan {
	return o.plans[DefinitionVersion{definition, version}]
}

// latest returns the highest version of a definition that this process knows, or nil.
func (o *Orchestrator) latest(definition string) *plan {
	var latest *plan
	for v, p := range o.plans {
		if v.Name == definition && (latest == nil || v.Version > latest.version) {
			latest = p
		}
	}
	return latest
}

// known lists what this process can decide, in an order that is always the same.
func (o *Orchestrator) known() []DefinitionVersion {
	return slices.SortedFunc(maps.Keys(o.plans), func(a, b DefinitionVersion) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), cmp.Compare(a.Version, b.Version))
	})
}

func (o *Orchestrator) limits() limits {
	return limits{waiting: o.config.MaxWaiting, data: o.config.MaxData}
}

func (o *Orchestrator) observe(ctx context.Context, ob Observation) {
	if o.config.Observer == nil {
		return
	}
	var err error
	defer func() {
		if err != nil {
			o.logger.Error("The Observer panicked", err, nil)
		}
	}()
	defer recoverTo(&err, "Observer")
	o.config.Observer.Observe(ctx, ob)
}

// failing reports an error after which the work is tried again, and which is one instance's or one subscription's.
func (o *Orchestrator) failing(ctx context.Context, what string, err error) {
	o.logger.Error("Saga: "+what+" failed, trying again", err, nil)
	o.observe(ctx, Observation{What: ObserveError, Outcome: what, Reason: err.Error()})
}
