package saga

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/sagamill/sagamill/compensation"
)

// world is one instance and what surrounds it: a store with its clock and its index of inputs. After each decision the
// instance is stored and read back. Every decision is checked against the rules of the design.
type world struct {
	plan *plan
	inst *instance
	now  time.Time
	lim  limits

	seen    map[string]bool // inputs that were consumed
	history []Entry
	fates   map[string][]Disposition // of events from outside, by input
	random  float64
	waits   waits
}

var worldBegan = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)

func newWorld(d AnyDefinition) *world {
	p := d.compiled()
	return &world{
		plan: p, inst: &instance{id: p.name + "-1", definition: p.name, version: p.version, key: "1"}, now: worldBegan,
		lim: limits{waiting: 4, data: 400}, seen: map[string]bool{}, fates: map[string][]Disposition{},
	}
}

// decide asks decide, twice, and commits what it answers. The error says which rule was broken.
func (w *world) decide(in input) (decision, error) {
	in.random, in.patience = w.random, w.waits
	before, kept := w.inst, shot(w.inst)
	d := decide(w.plan, before, in, JSON{}, w.lim)
	again := decide(w.plan, before, in, JSON{}, w.lim)
	if diff := gocmp.Diff(kept, shot(before)); diff != "" {
		return d, fmt.Errorf("decide changed the instance that it was given:\n%s", diff)
	}
	if diff := gocmp.Diff(shotOf(d), shotOf(again)); diff != "" {
		return d, fmt.Errorf("decide answered differently when it was asked again:\n%s", diff)
	}
	if d.nothing {
		if len(d.effects) > 0 {
			return d, fmt.Errorf("nothing is to be committed, but there are effects: %v", d.effects)
		}
		return d, nil
	}
	if err := w.check(in, d); err != nil {
		return d, err
	}
	return d, w.commit(in, d)
}

// commit does what the store and the shell do with a decision, and reads the instance back.
func (w *world) commit(in input, d decision) error {
	next := d.next
	next.revision++
	stored := w.stored(next)
	next.committed(w.now)
	if diff := gocmp.Diff(shot(next), shot(stored)); diff != "" {
		return fmt.Errorf("the instance in memory (-) is not the one that is stored (+):\n%s", diff)
	}
	w.inst = stored
	w.inst.leaseTill = next.leaseTill
	if d.lease {
		w.inst.leaseTill = w.now.Add(5 * time.Second)
	}
	entry, err := json.Marshal(d.entry)
	if err != nil {
		return err
	}
	e, err := decodeEntry(HistoryRecord{Revision: next.revision, Entry: entry, At: w.now})
	if err != nil {
		return err
	}
	w.history = append(w.history, e)
	return w.account(in, d)
}

// stored writes the instance and reads it back, as of now.
func (w *world) stored(i *instance) *instance {
	engine, err := i.encode(&object{})
	if err != nil {
		panic(err)
	}
	created := i.created
	if created.IsZero() && i.revision > 0 {
		created = w.now
	}
	updated := w.now
	if i == w.inst {
		updated = i.updated
	}
	read, err := fromRecord(Record{
		ID: i.id, Definition: i.definition, Version: i.version, Key: i.key, Fingerprint: i.fingerprint, Revision: i.revision,
		State: i.state, Settled: i.settled, Attention: i.attention, Engine: engine, Data: i.data.bytes,
		CreatedAt: created, UpdatedAt: updated, LeaseTill: i.leaseTill,
	})
	if err != nil {
		panic(err)
	}
	return read
}

// shot is all that an instance says, to be compared.
func shot(i *instance) string {
	engine, err := i.encode(&object{})
	if err != nil {
		panic(err)
	}
	head := *i
	head.engine, head.data = engine0, document{}
	return fmt.Sprintf("%+v\n%s\n%s", head, i.data.bytes, strings.ReplaceAll(string(engine), ",", ",\n"))
}

var engine0 engine

func shotOf(d decision) string {
	head := d
	head.next, head.effects, head.faults = nil, slices.Clone(d.effects), nil
	messages := ""
	for _, err := range d.faults {
		messages += err.Error() + "\n"
	}
	for k := range head.effects {
		messages += fmt.Sprintf("%+v\n", head.effects[k].message)
		head.effects[k].message, head.effects[k].data.value = nil, nil
	}
	return fmt.Sprintf("%+v\n%s%s", head, messages, shot(d.next))
}

// account: every event from outside has exactly one fate in the end, and until then it waits.
func (w *world) account(in input, d decision) error {
	note := func(source, id string, fate Disposition) {
		if fate != Waits && fate != Buffered && fate != Interrupts {
			w.fates[source+"/"+id] = append(w.fates[source+"/"+id], fate)
		}
	}
	if ev := in.event; ev != nil {
		w.seen[ev.Source+"/"+ev.ID] = true
		note(ev.Source, ev.ID, d.entry.Result)
	}
	for _, j := range d.entry.Judged {
		note(j.Source, j.InputID, j.Result)
	}
	for id := range w.seen {
		waits := 0
		for _, ev := range w.inst.Waiting {
			if ev.Source+"/"+ev.ID == id {
				waits++
			}
		}
		if len(w.fates[id])+waits != 1 {
			return fmt.Errorf("event %s has the fates %v and waits %d times", id, w.fates[id], waits)
		}
	}
	return nil
}

// check looks at one decision.
func (w *world) check(in input, d decision) error {
	for _, check := range []func(before, next *instance, in input, d decision) error{
		w.checkPath, w.checkSettled, w.checkEffects, w.checkLedger, w.checkUndos, w.checkAlive,
	} {
		if err := check(w.inst, d.next, in, d); err != nil {
			return err
		}
	}
	return nil
}

// checkPath: history is a path in the declared graph.
func (w *world) checkPath(before, next *instance, in input, d decision) error {
	at := before.state
	if in.start != nil {
		at = w.plan.machine.Initial()
	}
	for _, m := range d.entry.Moves {
		declared := m.Event == string(ForceCompensate) || slices.ContainsFunc(w.plan.rows, func(r rowPlan) bool {
			when := r.on
			if r.on == "" {
				when = "after " + r.after.String()
			}
			return when == m.Event && r.to == m.To && slices.Contains(w.plan.machine.Members(r.from), m.From)
		})
		if m.From != at || !declared {
			return fmt.Errorf("move %v from state %s is not in the declared graph", m, at)
		}
		at = m.To
	}
	if at != next.state {
		return fmt.Errorf("the moves lead to %s, but the state is %s", at, next.state)
	}
	return nil
}

// checkSettled: a settled instance holds nothing.
func (w *world) checkSettled(_, next *instance, _ input, _ decision) error {
	if !next.settled {
		return nil
	}
	condemned := slices.ContainsFunc(next.Ledger, func(e compensation.Entry) bool { return e.Condemned && e.Undoable && e.MayExist() })
	if !w.plan.machine.IsFinal(next.state) || next.Row != nil || next.Raised != nil || condemned || next.Ledger.Open() ||
		len(next.Waiting)+len(next.Outbox)+len(next.Timers)+len(next.Undecided) > 0 {
		return fmt.Errorf("settled in %s with %+v", next.state, next.engine)
	}
	return nil
}

// checkEffects: what is run or published is in the instance, so that it is found again after a crash, and a wake-up is set.
func (w *world) checkEffects(_, next *instance, _ input, d decision) error {
	for _, e := range d.effects {
		timer := slices.ContainsFunc(next.Timers, func(t timer) bool {
			local := t.Kind == attemptTimer && e.kind == runLocal || t.Kind == replyTimer && e.kind == publish
			return local && t.Step == e.step && t.Run == e.run && t.Undo == e.undo || t.Kind == outboxTimer && e.kind == publish && e.message.Oneway
		})
		outbox := e.kind == runLocal || slices.ContainsFunc(next.Outbox, func(m outgoing) bool {
			return m.Step == e.step && m.Run == e.run && m.Undo == e.undo
		})
		if !timer || !outbox {
			return fmt.Errorf("effect %s/%d (undo %v) has timer %v, outbox %v", e.step, e.run, e.undo, timer, outbox)
		}
		if e.kind == runLocal && !d.lease {
			return fmt.Errorf("local step %s is started without a lease", e.step)
		}
	}
	for _, t := range next.Timers {
		if t.Due.IsZero() && (d.wake < 0 || d.wake > t.In) {
			return fmt.Errorf("timer %s is set to %s, but the wake-up to %s", t.name(), t.In, d.wake)
		}
	}
	if next.waits(false) > w.lim.waiting+1 || next.waits(true) > w.lim.waiting {
		return fmt.Errorf("%d events wait, and %d that could not be judged", next.waits(false), next.waits(true))
	}
	return nil
}

// checkLedger: what an entry may become, and when a new one may be begun.
func (w *world) checkLedger(before, next *instance, in input, d decision) error {
	pivots := 0
	for k, e := range next.Ledger {
		if e.Class == compensation.Pivot && e.Status == compensation.Succeeded && !e.Condemned {
			pivots++
		}
		if k >= len(before.Ledger) {
			if next.Ledger[:k].Compensating() {
				return fmt.Errorf("step %s is begun while something is being undone", e.Step)
			}
			continue
		}
		was := before.Ledger[k]
		if was.Step != e.Step || was.Run != e.Run || was.Order != e.Order {
			return fmt.Errorf("entry %d was %s/%d, and is %s/%d", k, was.Step, was.Run, e.Step, e.Run)
		}
		if was.Status == compensation.Undone && was != e {
			return fmt.Errorf("%s/%d was undone, and is %+v", e.Step, e.Run, e)
		}
		if was.Condemned && was.MayExist() && !e.Condemned && e.Status != compensation.Rejected && e.Status != compensation.Skipped && e.Status != compensation.Undone {
			return fmt.Errorf("%s/%d was condemned, and is %+v", e.Step, e.Run, e)
		}
		late := in.outcome != nil && in.outcome.Step == e.Step && in.outcome.Run == e.Run
		if before.Ledger.PivotPassed() && e.Condemned && !was.Condemned && !late {
			return fmt.Errorf("%s/%d is condemned after the pivot", e.Step, e.Run)
		}
	}
	if pivots > 1 {
		return fmt.Errorf("%d pivots have succeeded", pivots)
	}
	if next.Row != nil && next.Row.Compensate && next.Row.Base < 0 && !next.Ledger.Compensating() && w.plan.byName[next.Row.Name] != nil {
		return fmt.Errorf("row %s has nothing left to undo, and does not go on", next.Row.Name)
	}
	return nil
}

// checkUndos: an undo is begun only when nothing that was started later waits to be undone, and once its action is at rest.
func (w *world) checkUndos(before, next *instance, _ input, d decision) error {
	for _, e := range next.Ledger {
		was := before.Ledger.Find(e.Step, e.Run)
		begun := e.Status == compensation.Undoing && (was == nil || was.Status != compensation.Undoing)
		if !begun {
			continue
		}
		for _, later := range next.Ledger {
			if later.Order > e.Order && (later.Status == compensation.Undoing || later.Condemned && later.Undoable && later.MayExist()) {
				return fmt.Errorf("%s is undone before %s, which was started later", e.Step, later.Step)
			}
		}
		if slices.ContainsFunc(next.Timers, func(t timer) bool { return t.orphanOf(&e) }) {
			return fmt.Errorf("%s is undone while an attempt may be at work", e.Step)
		}
	}
	if next.Row != nil && next.Row.Compensate && next.Ledger.Compensating() && next.compensatingTo() != next.Row.To {
		return fmt.Errorf("readers are not told of %s", next.Row.To)
	}
	return nil
}

// checkAlive: what is under way is woken up again, or a person is told.
func (w *world) checkAlive(_, next *instance, _ input, _ decision) error {
	if next.settled || next.attention != "" {
		return nil
	}
	ticking := slices.ContainsFunc(next.Timers, func(t timer) bool { return !t.Ripe && t.Kind != stateTimer })
	busy := next.Row != nil || next.Raised != nil || next.Ledger.Compensating() || len(next.Outbox) > 0
	if busy && !ticking {
		return fmt.Errorf("something is under way, but nothing will become due: %+v", next.engine)
	}
	if next.Row != nil || next.Ledger.Compensating() {
		return nil
	}
	for _, ev := range next.Waiting {
		if !ev.Buffered {
			return fmt.Errorf("event %s waits for nothing", ev.Event)
		}
	}
	if slices.ContainsFunc(next.Timers, func(t timer) bool { return t.Ripe }) {
		return fmt.Errorf("a time-out waits for nothing")
	}
	return nil
}

// The inputs.

func (w *world) start(data string) (decision, error) {
	return w.decide(input{start: &startInput{data: []byte(data)}, trace: map[string]string{"traceparent": "00-1"}})
}

func (w *world) event(name, source, id, payload string) (decision, error) {
	if w.seen[source+"/"+id] {
		return decision{answer: Duplicated, nothing: true}, nil // the store says so
	}
	ev := &waiting{Event: name, Source: source, ID: id}
	if payload != "" {
		ev.Payload = []byte(payload)
	}
	return w.decide(input{event: ev})
}

func (w *world) wake(after time.Duration, leaseOver bool, runningHere ...string) (decision, error) {
	w.now = w.now.Add(after)
	return w.decide(input{wake: &wake{now: w.now, leaseOver: leaseOver, runningHere: func(step string, _ int, undo bool) bool {
		return slices.Contains(runningHere, step)
	}}})
}

// underWay lists the effects that somebody works on: local attempts and commands.
func (w *world) underWay() []outcome {
	var out []outcome
	for k := range w.inst.Ledger {
		e := &w.inst.Ledger[k]
		if w.inst.attemptInFlight(e) {
			undo := e.Status == compensation.Undoing
			out = append(out, outcome{Step: e.Step, Run: e.Run, Undo: undo, Attempt: attemptsOf(e, undo)})
		}
	}
	return out
}

func (w *world) oneway() []string {
	var ids []string
	for _, m := range w.inst.Outbox {
		if m.Oneway {
			ids = append(ids, m.ID)
		}
	}
	return ids
}

// timers lists what will become due, the earliest first.
func (w *world) timers() []timer {
	timers := slices.Clone(w.inst.Timers)
	slices.SortStableFunc(timers, func(a, b timer) int { return cmp.Or(a.Due.Compare(b.Due), strings.Compare(a.name(), b.name())) })
	return timers
}
