package saga

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/sagamill/sagamill/compensation"
)

// StartParams says what to start.
type StartParams[D any] struct {
	// Key is the business key: the order's number, the trip's. A definition has one instance of a key, ever: starting it
	// again with the same data gives that instance back, also when it has failed, and with other data it is an ErrKeyConflict. If there
	// may be a second try after a failure, let the key name the try as well ("order-7/2").
	Key  string
	Data D
	// ID names the instance, for those who want to know it before it exists. It is unique in the store, up to 255 bytes, and
	// should sort by age. Default: what OrchestratorConfig.NewID makes.
	ID string
	// StartKey makes the start idempotent by a key of the request that asks for it, besides.
	StartKey *RequestKey
}

// RequestKey is a request's idempotency key, kept in the saga store in the same transaction as the instance: what a cache
// in front of it says is only a copy of this.
type RequestKey struct {
	Key         string        // unique in the store; see idempotency.Key.String
	Fingerprint []byte        // of the request: the same key with another one is an ErrKeyConflict. Default: of business key and data
	TTL         time.Duration // how long it is kept at least; it is never freed before the saga has settled. Default 24h

	// Respond makes the response that is stored with the key, from the new instance; nil: none is.
	Respond func(Instance) ([]byte, error)
}

// Started is the answer to a start.
type Started[S ~string, D any] struct {
	Snapshot[S, D]
	// Existing: the saga had been started before, by the same key with the same data.
	Existing bool
	// Response is what Respond made when the saga was started by this RequestKey. Empty if it had been started by the business key alone,
	// or by another RequestKey.
	Response []byte
}

// Start starts a saga, and returns once that is durable: from then on it reaches an end whatever crashes. It does not wait
// for steps; see Wait. It waits until the orchestrator runs, and while too many local steps wait for a worker.
//
// Errors: ErrKeyConflict (a *KeyConflictError), ErrUnknownDefinition, ErrTooLarge, ErrInvalid, ErrClosed. After another one (ctx ended, say) the saga
// may have been started; starting it again by the same key is safe.
func (d *Definition[S, E, D]) Start(ctx context.Context, o *Orchestrator, params StartParams[D]) (started Started[S, D], err error) {
	defer func() { o.badCall(ctx, d.Name(), "", "start", err) }()
	var none Started[S, D]
	j, response, err := d.startJob(ctx, o, params)
	if err != nil {
		return none, err
	}
	if err := o.ready(ctx); err != nil {
		return none, err
	}
	if err := o.runner.waitRoom(ctx, d.Name()); err != nil {
		return none, err
	}
	done, err := o.do(ctx, j)
	if err != nil {
		return none, fmt.Errorf("saga: start %s %q: %w", d.Name(), params.Key, err)
	}
	switch {
	case done.existing == nil: // what was stored is what was given
		s := Snapshot[S, D]{Instance: done.inst.view(), State: S(done.inst.state), Data: params.Data}
		return Started[S, D]{Snapshot: s, Response: response}, nil
	case done.existing.ID != j.id || params.ID != "":
		return d.existing(o, params, j.start, done)
	default: // the answer to an earlier commit of ours was lost
		if done.inst, err = fromRecord(*done.existing); err != nil {
			return none, err
		}
	}
	s, err := snapshot[S, D](o, done.inst)
	return Started[S, D]{Snapshot: s, Response: response}, err
}

// StartIn starts a saga in the caller's own database transaction, which the store's Committer has joined: the saga exists
// exactly if that transaction commits. Call kick after the commit, so that it begins at once; if that is lost the sweep
// begins it within seconds. Keys that are taken are told as by Start, and the transaction is still good. An Observer hears of what
// follows, but not of the start itself: nobody knows here whether the transaction commits.
func (d *Definition[S, E, D]) StartIn(ctx context.Context, o *Orchestrator, tx Committer, params StartParams[D]) (started Started[S, D], kick func(), err error) {
	kick = func() {}
	defer func() { o.badCall(ctx, d.Name(), "", "start", err) }()
	j, response, err := d.startJob(ctx, o, params)
	if err != nil {
		return started, kick, err
	}
	j.done = func(d jobDone) { err = d.err }
	l := &lane{o: o}
	g := &group{id: j.id, jobs: []*job{j}}
	if !l.decide(g) {
		return started, kick, fmt.Errorf("saga: start %s %q: %w", d.Name(), params.Key, err)
	}
	verdicts, err := tx.Commit(ctx, []Transition{g.transition})
	if err != nil {
		return started, kick, fmt.Errorf("saga: start %s %q: %w", d.Name(), params.Key, err)
	}
	switch v := verdicts[0]; v.Outcome {
	case Committed:
		g.inst.committed(v.At)
		started.Response = response
		started.Snapshot, err = snapshot[S, D](o, g.inst)
		return started, sync.OnceFunc(func() { o.kick(context.WithoutCancel(ctx), j.id) }), err
	case Exists:
		started, err = d.existing(o, params, j.start, jobDone{existing: v.Existing, startKey: v.StartKey})
		return started, kick, err
	case Unwritable:
		return started, kick, fmt.Errorf("saga: start %s %q: the store rejects it: %w", d.Name(), params.Key, v.Err)
	default:
		return started, kick, fmt.Errorf("%w: start %s %q", ErrBusy, d.Name(), params.Key)
	}
}

// kick begins the effects of an instance that was committed in a transaction of the caller's. It looks first: the
// transaction may have been rolled back, or a sweep may have been quicker. If the orchestrator does not run it does nothing.
func (o *Orchestrator) kick(ctx context.Context, id string) {
	select {
	case <-o.running:
	default:
		return
	}
	now := time.Now()
	records, err := o.store.Load(ctx, id)
	if err != nil || len(records) == 0 || records[0].Revision != 1 {
		return
	}
	inst, err := fromRecord(records[0])
	if err != nil {
		return
	}
	began := now.Add(-records[0].ReadAt.Sub(records[0].UpdatedAt)) // both by the store's clock
	o.dispatch(inst, o.plan(inst.definition, inst.version).underWay(inst), began)
}

// underWay lists the effects that an instance waits for.
func (p *plan) underWay(i *instance) []effect {
	var effects []effect
	for k := range i.Ledger {
		e := &i.Ledger[k]
		undo := e.Status == compensation.Undoing
		if s := p.steps[e.Step]; s != nil && i.attemptInFlight(e) && s.effect(undo).local != nil {
			effects = append(effects, effect{
				kind: runLocal, step: e.Step, run: e.Run, undo: undo, attempt: attemptsOf(e, undo), id: effectID(i, e), data: i.data,
			})
		}
	}
	for _, m := range i.Outbox {
		attempt := 1
		if e := i.Ledger.Find(m.Step, m.Run); e != nil {
			attempt = attemptsOf(e, m.Undo)
		}
		effects = append(effects, effect{kind: publish, step: m.Step, run: m.Run, undo: m.Undo, attempt: attempt, message: &m})
	}
	return effects
}

func (d *Definition[S, E, D]) startJob(ctx context.Context, o *Orchestrator, params StartParams[D]) (*job, []byte, error) {
	p := o.plan(d.Name(), d.Version())
	if p != nil && p != d.plan {
		return nil, nil, fmt.Errorf("%w: this orchestrator has %s version %d, but not this value of it: build a definition once, and use that for both",
			ErrUnknownDefinition, d.Name(), d.Version())
	}
	if p == nil {
		return nil, nil, fmt.Errorf("%w: %s version %d is not among this orchestrator's Definitions", ErrUnknownDefinition, d.Name(), d.Version())
	}
	if !storable(params.Key, maxName) {
		return nil, nil, fmt.Errorf("%w: a business key is 1 to 255 bytes of UTF-8 without NUL, this one is %.300q", ErrInvalid, params.Key)
	}
	data, err := o.config.Codec.Marshal(params.Data)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: the data of %q cannot be encoded: %w", ErrInvalid, params.Key, err)
	}
	if len(data) > o.config.MaxData {
		return nil, nil, fmt.Errorf("%w: the data of %q has %d bytes, more than the %d allowed", ErrTooLarge, params.Key, len(data), o.config.MaxData)
	}
	sum := sha256.Sum256(data)
	s := &Start{Definition: d.Name(), Version: d.Version(), Key: params.Key, Fingerprint: sum[:16]}
	id := params.ID
	if id == "" {
		id = o.config.NewID()
	}
	if !storable(id, maxName) {
		return nil, nil, fmt.Errorf("%w: an instance's ID is 1 to 255 bytes of UTF-8 without NUL, this one is %.300q", ErrInvalid, id)
	}
	// Alone: the ID may be that of an instance that has other inputs under way, and a start is decided on no instance.
	j := &job{id: id, start: s, alone: true, in: input{start: &startInput{data: data}, trace: o.traceFrom(ctx)}}
	k := params.StartKey
	if k == nil {
		return j, nil, nil
	}
	if !storable(k.Key, 1024) {
		return nil, nil, fmt.Errorf("%w: a StartKey is 1 to 1024 bytes of UTF-8 without NUL, this one is %.300q", ErrInvalid, k.Key)
	}
	s.StartKey = &StartKey{Key: k.Key, Fingerprint: k.Fingerprint, TTL: k.TTL}
	if len(k.Fingerprint) == 0 {
		same := sha256.Sum256(fmt.Appendf(nil, "%q %q %s", d.Name(), params.Key, data))
		s.StartKey.Fingerprint = same[:16]
	}
	if k.TTL == 0 {
		s.StartKey.TTL = 24 * time.Hour
	}
	if k.Respond != nil {
		first := decide(p, &instance{id: j.id, definition: s.Definition, version: s.Version, key: s.Key}, j.in, o.config.Codec, o.limits())
		first.next.revision = 1
		if s.StartKey.Response, err = k.Respond(first.next.view()); err != nil {
			return nil, nil, fmt.Errorf("saga: response for %q: %w", params.Key, err)
		}
	}
	return j, s.StartKey.Response, nil
}

// existing answers a start whose key is taken.
func (d *Definition[S, E, D]) existing(o *Orchestrator, params StartParams[D], want *Start, done jobDone) (Started[S, D], error) {
	var none Started[S, D]
	if k := done.startKey; k != nil {
		if !bytes.Equal(k.Fingerprint, want.StartKey.Fingerprint) || done.existing.Definition != d.Name() {
			return none, &KeyConflictError{Instance: done.existing.ID, Definition: done.existing.Definition, Key: done.existing.Key, StartKey: k.Key}
		}
	} else if e := done.existing; e.Definition != d.Name() || e.Key != params.Key {
		return none, &KeyConflictError{Instance: e.ID, Definition: e.Definition, Key: e.Key, ByID: true}
	} else if !bytes.Equal(e.Fingerprint, want.Fingerprint) {
		return none, &KeyConflictError{Instance: e.ID, Definition: e.Definition, Key: e.Key}
	}
	inst, err := fromRecord(*done.existing)
	if err != nil {
		return none, err
	}
	started := Started[S, D]{Existing: true}
	if done.startKey != nil {
		started.Response = done.startKey.Response
	}
	started.Snapshot, err = snapshot[S, D](o, inst)
	return started, err
}

// do submits a job and waits for its answer.
func (o *Orchestrator) do(ctx context.Context, j *job) (jobDone, error) {
	answer := make(chan jobDone, 1)
	j.done = func(d jobDone) { answer <- d }
	if err := o.submit(ctx, j); err != nil {
		return jobDone{}, err
	}
	if o.inline != nil {
		o.inline(ctx, j.id)
	}
	select {
	case d := <-answer:
		return d, d.err
	case <-ctx.Done():
		return jobDone{}, fmt.Errorf("waiting for the commit: %w", context.Cause(ctx))
	}
}

// inputIdentity makes one string of an input's source and the producer's ID, so that no two inputs share one.
func inputIdentity(source, id string) string {
	return strconv.Itoa(len(source)) + ":" + source + "/" + id
}

func (o *Orchestrator) traceFrom(ctx context.Context) map[string]string {
	carrier := map[string]string{}
	o.config.Propagator.Inject(ctx, carrier)
	if len(carrier) == 0 {
		return nil
	}
	return carrier
}

func snapshot[S ~string, D any](o *Orchestrator, i *instance) (Snapshot[S, D], error) {
	data, err := readAs[D](o.config.Codec, i.data)
	if err != nil {
		return Snapshot[S, D]{}, fmt.Errorf("saga: data of instance %s: %w", i.id, err)
	}
	return Snapshot[S, D]{Instance: i.view(), State: S(i.state), Data: data}, nil
}
