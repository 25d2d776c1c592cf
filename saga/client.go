package saga

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Input is an event on its way to a saga. Source and ID identify it: the same event sent again has the same ones, and is
// applied once.
type Input struct {
	Source  string // who produced the event: "gateway", "customer", ...
	ID      string // the producer's own ID for it: of a webhook its ID, of a request its idempotency key
	Payload any    // of the type that the event was declared with; nil for an event without payload
}

// Send gives an event to the saga with a business key. It returns once the event is durably recorded, and says what became
// of it. A refused event is a RefusedError (its refusal is recorded, too). The same event sent again is Duplicated, or the
// same RefusedError; another event under its Source and ID is an ErrInputConflict, and is not recorded. Other errors:
// ErrNotFound, ErrUnknownEvent, ErrTooLarge, ErrInvalid, ErrClosed. After another one (ctx ended, say) the event may have
// been recorded; sending it again is safe.
func (d *Definition[S, E, D]) Send(ctx context.Context, o *Orchestrator, key string, event E, in Input) (Disposition, error) {
	ev := RoutedEvent{Definition: d.Name(), Key: key, Event: string(event), Source: in.Source, ID: in.ID}
	if err := d.encodePayload(o, &ev, in.Payload); err != nil {
		o.badCall(ctx, d.Name(), "", ev.Event, err)
		return "", err
	}
	return o.Send(ctx, ev)
}

func (d *Definition[S, E, D]) encodePayload(o *Orchestrator, ev *RoutedEvent, payload any) (err error) {
	p := d.plan.events[ev.Event]
	if p == nil {
		return fmt.Errorf("%w: %s does not declare %q; it has %v", ErrUnknownEvent, d.Name(), ev.Event, d.plan.eventNames())
	}
	if p.accepts == nil {
		if payload != nil {
			return fmt.Errorf("%w: event %s was declared without a payload, but is sent with a %T", ErrInvalid, ev.Event, payload)
		}
		return nil
	}
	if ok, want := p.accepts(payload); !ok && payload == nil {
		return fmt.Errorf("%w: event %s needs a payload, a %s", ErrInvalid, ev.Event, want)
	} else if !ok {
		return fmt.Errorf("%w: the payload of event %s is a %T, but it was declared with %s", ErrInvalid, ev.Event, payload, want)
	}
	if ev.Payload, err = o.config.Codec.Marshal(payload); err != nil {
		return fmt.Errorf("%w: the payload of event %s cannot be encoded: %w", ErrInvalid, ev.Event, err)
	}
	return nil
}

func (p *plan) eventNames() []string {
	var names []string
	for name := range p.events {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Send gives an event to an instance, untyped: what the typed Send and events from topics come down to.
func (o *Orchestrator) Send(ctx context.Context, ev RoutedEvent) (answer Disposition, err error) {
	defer func() { o.badCall(ctx, ev.Definition, ev.Instance, ev.Event, err) }()
	if err := o.checkEvent(ev); err != nil {
		return "", err
	}
	if err := o.ready(ctx); err != nil {
		return "", err
	}
	var done jobDone
	var id, key string
	send := func(to string) error {
		id = to
		done, err = o.do(ctx, &job{
			id: id, definition: ev.Definition, key: key, input: inputIdentity(ev.Source, ev.ID),
			in: input{event: &waiting{Event: ev.Event, Source: ev.Source, ID: ev.ID, Payload: ev.Payload}, trace: o.traceFrom(ctx)},
		})
		if err != nil {
			return fmt.Errorf("saga: send %s to instance %s: %w", ev.Event, id, err)
		}
		return nil
	}
	switch {
	case ev.Instance != "":
		err = send(ev.Instance)
	case o.latest(ev.Definition) == nil:
		err = fmt.Errorf("%w: %q", ErrUnknownDefinition, ev.Definition)
	default:
		key = ev.Key
		err = o.withKey(ctx, ev.Definition, key, send)
	}
	if err != nil {
		return "", err
	}
	switch done.answer {
	case Refused:
		return Refused, &RefusedError{Instance: id, State: done.inst.state, What: ev.Event, Reason: done.reason}
	case Duplicated:
		return o.duplicate(ctx, done.inst, ev)
	}
	return done.answer, nil
}

// duplicate looks up what was recorded under an event's identity, and what became of it: a refusal is told again, and another
// event is an ErrInputConflict.
func (o *Orchestrator) duplicate(ctx context.Context, i *instance, ev RoutedEvent) (Disposition, error) {
	var result Disposition
	var reason string
	for after := uint64(0); ; {
		entries, err := o.History(ctx, i.id, after, 0)
		if err != nil {
			return "", err
		}
		if len(entries) == 0 {
			break
		}
		for _, e := range entries {
			after = e.Revision
			if e.Kind == "event" && e.Source == ev.Source && e.InputID == ev.ID {
				if e.Event != ev.Event || e.Digest != digest(ev.Payload) {
					return "", &InputConflictError{Instance: i.id, Event: ev.Event, Recorded: e.Event, Source: ev.Source, ID: ev.ID}
				}
				result, reason = e.Result, e.Reason
			}
			for _, j := range e.Judged {
				if j.Source == ev.Source && j.InputID == ev.ID {
					result, reason = j.Result, j.Reason
				}
			}
		}
	}
	if result == Refused {
		return Refused, &RefusedError{Instance: i.id, State: i.state, What: ev.Event, Reason: reason}
	}
	return Duplicated, nil
}

// badCall counts a call whose arguments are wrong, or that the instance refuses. Events that were judged are counted as inputs.
func (o *Orchestrator) badCall(ctx context.Context, definition, instance, what string, err error) {
	for _, kind := range []error{ErrInvalid, ErrUnknownDefinition, ErrUnknownEvent, ErrNotFound, ErrTooLarge, ErrKeyConflict, ErrInputConflict} {
		if errors.Is(err, kind) {
			o.observe(ctx, Observation{What: ObserveBadCall, Definition: definition, Instance: instance, Event: what, Reason: err.Error()})
			return
		}
	}
}

// checkEvent looks at what can be judged without the instance.
func (o *Orchestrator) checkEvent(ev RoutedEvent) error {
	if !storable(ev.Source, 512) || !storable(ev.ID, 512-len(ev.Source)) {
		return fmt.Errorf("%w: event %s needs a Source and an ID (up to 512 bytes of UTF-8 together): they make it harmless to send it twice", ErrInvalid, ev.Event)
	}
	if len(ev.Payload) > o.config.MaxPayload {
		return fmt.Errorf("%w: the payload of event %s has %d bytes, more than the %d allowed", ErrTooLarge, ev.Event, len(ev.Payload), o.config.MaxPayload)
	}
	if ev.Definition == "" {
		return nil
	}
	p := o.latest(ev.Definition)
	if p == nil { // of an instance that its ID names
		return nil
	}
	for v, other := range o.plans {
		if v.Name == ev.Definition && other.events[ev.Event] != nil {
			return nil
		}
	}
	return fmt.Errorf("%w: %s does not declare %q; it has %v", ErrUnknownEvent, ev.Definition, ev.Event, p.eventNames())
}

// Get reads the saga with a business key, or answers ErrNotFound.
func (d *Definition[S, E, D]) Get(ctx context.Context, o *Orchestrator, key string) (Snapshot[S, D], error) {
	i, err := o.lookup(ctx, d.Name(), key)
	if err != nil {
		return Snapshot[S, D]{}, err
	}
	return snapshot[S, D](o, i)
}

// Wait returns the saga with a business key as soon as it is in one of the given states, or settled if none is given. A state
// that the saga only passes through may be missed; so it also returns, with an error, when the saga has settled in another
// one. Changes made by this process are seen at once, those of other processes within PollInterval.
func (d *Definition[S, E, D]) Wait(ctx context.Context, o *Orchestrator, key string, states ...S) (Snapshot[S, D], error) {
	for _, s := range states {
		if !o.hasState(d.Name(), string(s)) {
			return Snapshot[S, D]{}, fmt.Errorf("%w: %s has no state %q; it has %q", ErrInvalid, d.Name(), s, o.latest(d.Name()).machine.States())
		}
	}
	there := func(i *instance) bool { return i.settled || slices.Contains(states, S(i.state)) || i.key != key }
	var i *instance
	err := o.withKey(ctx, d.Name(), key, func(id string) (err error) {
		i, err = o.waitFor(ctx, id, there, true)
		if err == nil && i.key != key {
			err = fmt.Errorf("%w: %s is %q now", ErrNotFound, id, i.key)
		}
		return err
	})
	if err != nil {
		return Snapshot[S, D]{}, fmt.Errorf("saga: waiting for %s %q: %w", d.Name(), key, err)
	}
	s, err := snapshot[S, D](o, i)
	if err == nil && len(states) > 0 && !slices.Contains(states, s.State) {
		err = fmt.Errorf("saga: %s %q has settled in state %s, and will not reach %v", d.Name(), key, s.State, states)
	}
	return s, err
}

// hasState tells whether any version of a definition has a state. Of one that is not known here nothing can be said.
func (o *Orchestrator) hasState(definition, state string) bool {
	known := false
	for v, p := range o.plans {
		if known = known || v.Name == definition; v.Name == definition && p.machine.HasState(state) {
			return true
		}
	}
	return !known
}

// withKey does something with the ID of the instance that has a business key. It asks the store which one that is unless this
// process has committed it lately.
func (o *Orchestrator) withKey(ctx context.Context, definition, key string, do func(id string) error) error {
	if id := o.memory.named(definition, key); id != "" {
		if err := do(id); !errors.Is(err, ErrNotFound) {
			return err
		} // else it was removed, and others may have its key, or its ID
	}
	i, err := o.lookup(ctx, definition, key)
	if err != nil {
		return err
	}
	return do(i.id)
}

// WaitFor returns an instance as soon as a condition holds for it. It is asked when this process has changed the instance, and
// every PollInterval of what the store has, for the changes of others.
func (o *Orchestrator) WaitFor(ctx context.Context, id string, holds func(Instance) bool) (Instance, error) {
	i, err := o.waitFor(ctx, id, func(i *instance) bool { return holds(i.view()) }, false)
	if i == nil {
		return Instance{}, err
	}
	return i.view(), err
}

// waitFor waits for a condition, which is asked by the lanes, too, of each commit, if it is quick. What this process knows is an answer if
// the instance has settled, or if it was so after the wait began; else the store is asked. When ctx ends it answers what was seen last, or
// nil.
func (o *Orchestrator) waitFor(ctx context.Context, id string, holds func(*instance) bool, quick bool) (i *instance, err error) {
	began := time.Now()
	told := holds
	if !quick {
		told = nil
	}
	a, known := o.memory.wait(id, told, began.Add(-o.config.PollInterval))
	defer o.memory.leave(a)
	poll := time.NewTicker(o.config.PollInterval)
	defer poll.Stop()
	for ask := known.instance == nil; ; { // the store
		if ask {
			if i, err = o.get(ctx, id); err != nil || holds(i) {
				return i, err
			}
		} else if ctx.Err() == nil && holds(known.instance) {
			if i = known.instance; i.settled || known.began.After(began) {
				return i, nil
			}
			ask = true
			continue
		}
		ask = false
		select {
		case <-a.changed:
			known = o.memory.latest(a)
		case <-poll.C:
			ask = true
		case <-ctx.Done():
			return givenUp(id, i, known, context.Cause(ctx))
		case <-o.closed:
			return givenUp(id, i, known, ErrClosed)
		}
	}
}

// givenUp answers a wait that is over, with what was seen last, and why it is.
func givenUp(id string, seen *instance, known commit, why error) (*instance, error) {
	if seen == nil || known.instance != nil && known.revision > seen.revision {
		seen = known.instance
	}
	if seen == nil {
		return nil, fmt.Errorf("instance %s: %w", id, why)
	}
	return seen, fmt.Errorf("instance %s is in state %s%s: %w", id, seen.state, seen.hindrance(), why)
}

// hindrance says what an instance waits for, as far as something went wrong with it.
func (i *instance) hindrance() string {
	if i.attention != "" {
		return ", " + i.attention
	}
	for _, e := range i.Ledger {
		if e.InFlight() && e.Reason != "" {
			return fmt.Sprintf(", step %s has failed %d times: %s", e.Step, max(e.Attempts, e.Undos), e.Reason)
		}
	}
	return ""
}

// Get reads an instance, or answers ErrNotFound.
func (o *Orchestrator) Get(ctx context.Context, id string) (Instance, error) {
	return viewOf(o.get(ctx, id))
}

func (o *Orchestrator) get(ctx context.Context, id string) (*instance, error) {
	records, err := o.store.Load(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("saga: get instance %s: %w", id, err)
	}
	if len(records) == 0 {
		return nil, fmt.Errorf("%w: %s", ErrNotFound, id)
	}
	return fromRecord(records[0])
}

// Lookup reads the instance of a definition that has the business key, or answers ErrNotFound.
func (o *Orchestrator) Lookup(ctx context.Context, definition, key string) (Instance, error) {
	return viewOf(o.lookup(ctx, definition, key))
}

func (o *Orchestrator) lookup(ctx context.Context, definition, key string) (*instance, error) {
	r, err := o.store.Lookup(ctx, definition, key)
	if err != nil {
		return nil, fmt.Errorf("saga: look up %s %q: %w", definition, key, err)
	}
	return fromRecord(r)
}

// viewOf makes what is seen of an instance that was read.
func viewOf(i *instance, err error) (Instance, error) {
	if err != nil {
		return Instance{}, err
	}
	return i.view(), nil
}

// List returns a page of instances in order of their IDs (with the default IDs that is by age), and where the next page
// begins: put it into Query.After; empty: this was the last page.
func (o *Orchestrator) List(ctx context.Context, q Query) (page []Instance, next string, err error) {
	if q.Limit <= 0 {
		q.Limit = 100
	}
	for _, text := range []string{q.Definition, q.KeyPrefix, q.State, q.After} {
		if storableText(text) != text {
			return nil, "", fmt.Errorf("%w: a query for %q, which is nothing that a database would keep", ErrInvalid, text)
		}
	}
	records, err := o.store.List(ctx, q)
	if err != nil {
		return nil, "", fmt.Errorf("saga: list: %w", err)
	}
	for _, r := range records {
		i, err := viewOf(fromRecord(r))
		if err != nil {
			return nil, "", err
		}
		page = append(page, i)
	}
	if len(page) == q.Limit {
		next = page[len(page)-1].ID
	}
	return page, next, nil
}

// History returns an instance's history: every input and what followed from it, in order. It starts after a revision (0: at
// the beginning) and has up to limit entries (0: 1000). ErrNotFound: there is no such instance.
func (o *Orchestrator) History(ctx context.Context, id string, after uint64, limit int) ([]Entry, error) {
	if limit <= 0 {
		limit = 1000
	}
	records, err := o.store.History(ctx, id, after, limit)
	if err != nil {
		return nil, fmt.Errorf("saga: history of %s: %w", id, err)
	}
	if len(records) == 0 && after == 0 { // each instance has its start
		return nil, fmt.Errorf("%w: %s", ErrNotFound, id)
	}
	entries := make([]Entry, len(records))
	for k, r := range records {
		if entries[k], err = decodeEntry(r); err != nil {
			return nil, fmt.Errorf("saga: history of %s, revision %d: %w", id, r.Revision, err)
		}
	}
	return entries, nil
}

// DeadLetters returns messages that could not be given to any instance, in pages like List.
func (o *Orchestrator) DeadLetters(ctx context.Context, after string, limit int) ([]DeadLetter, error) {
	if limit <= 0 {
		limit = 100
	}
	if storableText(after) != after {
		return nil, fmt.Errorf("%w: dead letters after %q, which is nothing that a database would keep", ErrInvalid, after)
	}
	return o.store.DeadLetters(ctx, after, limit)
}

// RemoveDeadLetters removes those with the given IDs, once somebody has seen to them, and returns how many there were. [Clean] removes old
// ones.
func (o *Orchestrator) RemoveDeadLetters(ctx context.Context, ids ...string) (int, error) {
	if len(ids) == 0 {
		return 0, fmt.Errorf("%w: RemoveDeadLetters needs IDs", ErrInvalid)
	}
	n, err := o.store.Unbury(ctx, Unburial{IDs: ids})
	return n, wrap(err, "saga: remove dead letters")
}

// Operation is what a person does to an instance by hand. Who and Why are kept in its history.
type Operation struct {
	Verb Verb
	Who  string // required, up to 255 bytes
	Why  string // required, up to 1024 bytes

	Step  string        // RetryNow, SkipStep, MarkDone, MarkRejected
	Data  any           // EditData: the new data; MarkDone: the step's result, or nil. Of the declared type, or bytes as the codec writes them
	Timer string        // MoveTimer: its name, see Instance.Timers
	In    time.Duration // MoveTimer: due so long from now
	To    string        // ForceCompensate: the failed state to end in

	Source, ID string // DropEvent: of the event, see Instance.Waiting
}

// encodedData tells whether the data come as bytes, as an Instance has them.
func encodedData(data any) ([]byte, bool) {
	switch b := data.(type) {
	case []byte:
		return b, true
	case json.RawMessage:
		return b, true
	}
	return nil, false
}

// Operate does to an instance what an operator asks, and returns it as it is then. What makes no sense in its state is a
// RefusedError, and changes nothing. Like Start and Send it waits until the orchestrator runs, for what follows may be a step.
func (o *Orchestrator) Operate(ctx context.Context, id string, op Operation) (after Instance, err error) {
	defer func() { o.badCall(ctx, "", id, string(op.Verb), err) }()
	if !storable(op.Who, maxName) || !storable(op.Why, maxReason) {
		return Instance{}, fmt.Errorf("%w: %s needs Who and Why (up to %d and %d bytes of UTF-8): they are kept in the history", ErrInvalid, op.Verb, maxName, maxReason)
	}
	if op.In < 0 {
		return Instance{}, fmt.Errorf("%w: %s to %s ago: In is not negative", ErrInvalid, op.Verb, -op.In)
	}
	in := operation{verb: op.Verb, who: op.Who, why: op.Why, step: op.Step, timer: op.Timer, in: op.In, source: op.Source, inputID: op.ID, toState: op.To}
	if data, encoded := encodedData(op.Data); encoded {
		in.data = data
	} else if op.Data != nil {
		in.value = op.Data
		data, err := o.config.Codec.Marshal(op.Data)
		if err != nil {
			return Instance{}, fmt.Errorf("%w: the data of %s cannot be encoded: %w", ErrInvalid, op.Verb, err)
		}
		in.data = data
	} else if op.Verb == EditData {
		return Instance{}, fmt.Errorf("%w: %s needs Data", ErrInvalid, op.Verb)
	}
	if err := o.ready(ctx); err != nil {
		return Instance{}, err
	}
	done, err := o.do(ctx, &job{id: id, in: input{operator: &in}})
	if err != nil {
		return Instance{}, fmt.Errorf("saga: %s on instance %s: %w", op.Verb, id, err)
	}
	if done.answer == Refused {
		return done.inst.view(), &RefusedError{Instance: id, State: done.inst.state, What: string(op.Verb), Reason: done.reason}
	}
	return done.inst.view(), nil
}
