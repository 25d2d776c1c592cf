package saga_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sagamill/sagamill/adapters/memory"
	"github.com/sagamill/sagamill/compensation"
	"github.com/sagamill/sagamill/saga"
)

// What the simulated sagas do, and to whom.

type simData struct {
	Done  []string `json:",omitempty"`
	Money string   `json:",omitempty"` // transaction of the last payment
}

func (d simData) with(what string) simData {
	return simData{Done: append(append([]string(nil), d.Done...), what), Money: d.Money}
}

func (d simData) paid(transaction string) simData { d.Money = transaction; return d }

// simWorld is everybody outside. It remembers each effect under its key.
type simWorld struct {
	sim     *sim
	applied map[string]int // effects, and how often they were applied
	undos   []string       // the keys of those that were undone, in order
	undone  map[string]int // and undone
	heard   map[string]int // events, by their identity
}

// act applies or undoes an effect. It checks that the saga has committed to it before.
func (w *simWorld) act(info saga.StepInfo, once bool) (takeBack func()) {
	key := info.ActionKey
	if why := w.uncommitted(info); why != "" {
		w.sim.violated("%s (undo %t) takes effect, but %s", key, info.Undo, why)
	}
	count := w.applied
	if info.Undo {
		count = w.undone
	} else if w.undone[key] > 0 {
		w.sim.violated("%s takes effect after it was undone", key)
	}
	w.sim.note("effect: %s (undo %t)", key, info.Undo)
	if once && count[key] > 0 {
		return func() {} // it knows the key
	}
	count[key]++
	if info.Undo {
		w.undos = append(w.undos, key)
	}
	return func() { count[key]-- }
}

// uncommitted tells why an effect must not be: no commit says that it has begun.
func (w *simWorld) uncommitted(info saga.StepInfo) string {
	records, err := w.sim.store.Load(context.Background(), info.Instance)
	if err != nil || len(records) != 1 {
		return fmt.Sprintf("the store has no instance %s", info.Instance)
	}
	i, err := saga.ReadInstance(records[0])
	if err != nil {
		return err.Error()
	}
	for _, e := range i.Steps {
		if e.Step == info.Step && e.Run == info.Run {
			if info.Undo && e.Undos == 0 {
				return "no commit has begun its compensation"
			}
			return ""
		}
	}
	return "no commit has begun it"
}

// local is a local step's action or compensation. The world outside knows it by its key.
func (s *sim) local(ctx context.Context, d simData) error {
	info := saga.Info(ctx)
	p := s.running
	if s.does(crashInStep) {
		p.dead = true
		return errSimulated
	}
	if s.does(stepFails) {
		return errSimulated
	}
	if pivotDone := info.Step == "pay" && s.world.applied[info.ActionKey] > 0; !info.Undo && !pivotDone && s.does(stepRejects) {
		return saga.Reject("no") // also after an attempt that took effect; but a pivot's cannot be undone
	}
	s.world.act(info, true)
	if s.does(crashAfterEffect) {
		p.dead = true
		return errSimulated
	}
	if s.does(stepFailsAfterEffect) {
		return errSimulated
	}
	return nil
}

func (s *sim) localCall(ctx context.Context, d simData) (string, error) {
	return saga.Info(ctx).Step, s.local(ctx, d)
}

// simParticipant is a process of the participant. Both share the inbox.
type simParticipant struct {
	sim *sim
	p   *saga.Participant[*memory.Tx]
}

var (
	simDo   = saga.Command[string, string]{Name: "do", Topic: simCommands, Replies: simReplies}
	simUndo = saga.Command[string, string]{Name: "undo", Topic: simCommands, Replies: simReplies}
)

func newSimParticipant(s *sim, name string) *simParticipant {
	p, err := saga.NewParticipant(s.inbox, saga.ParticipantConfig{
		Name: name, Transport: saga.Transport{Publisher: simPublisher{s, nil}, Subscriber: noSubscriber},
	}, nil)
	err = errors.Join(err, saga.Handle(p, simDo, s.handle), saga.Handle(p, simUndo, s.handle))
	if err != nil {
		panic(err)
	}
	return &simParticipant{s, p}
}

func (x *simParticipant) take(m *simMessage) {
	if x.sim.does(replyLost) { // it is killed after its commit: the command comes again
		published := len(x.sim.broker.waiting)
		saga.CommandStepped(x.sim.ctx, x.p, m.topic, m.sent)
		x.sim.broker.waiting = append(x.sim.broker.waiting[:min(published, len(x.sim.broker.waiting))], m)
		return
	}
	saga.CommandStepped(x.sim.ctx, x.p, m.topic, m.sent)
}

// handle is a participant's handler: its effect is in the transaction.
func (s *sim) handle(ctx context.Context, tx *memory.Tx, what string) (string, error) {
	info := saga.Info(ctx)
	tx.OnRollback(s.world.act(info, false))
	if s.does(handlerFails) {
		return "", errSimulated
	}
	if !info.Undo && s.does(handlerRejects) {
		return "", saga.Reject("no")
	}
	return what, nil
}

// The definitions.

type (
	simState string
	simEvent string
)

var simRetry = compensation.Retry{First: 200 * time.Millisecond, Max: 2 * time.Second, Attempts: 5, Alert: 4}

func (s *sim) ask(name string) saga.Step[simData] {
	request := func(simData) string { return name }
	return saga.Ask(name, simDo, request, simData.with).Retry(simRetry).UndoBy(saga.RequestOf(simUndo, request)).UndoRetry(simRetry)
}

func (s *sim) defineTrip() *saga.LinearDefinition[simData] {
	return saga.Linear("trip",
		saga.Call("hotel", s.localCall, simData.with).Undo(s.local).Retry(simRetry).UndoRetry(simRetry).Timeout(4*time.Second),
		s.ask("flight"),
		saga.Parallel(s.ask("bus"), s.ask("museum"), s.ask("lunch")),
		saga.Emit("tell", simNews, "BOOKED", func(d simData) int { return len(d.Done) }).NoUndo("news"),
		saga.Do("pay", s.local).Pivot().Retry(simRetry).Timeout(2*time.Second),
		saga.Ask("ticket", simDo, func(simData) string { return "ticket" }, simData.with).Retry(simRetry).Retriable(),
		saga.Do("mail", s.local).Retry(simRetry).Retriable().Timeout(2*time.Second),
	)
}

const (
	simNew       simState = "NEW"
	simReserved  simState = "RESERVED"
	simPending   simState = "PENDING"
	simPaid      simState = "PAID"
	simShipped   simState = "SHIPPED"
	simFailed    simState = "FAILED"
	simCancelled simState = "CANCELLED"
	simOpen      simState = "open"

	simCheckout simEvent = "checkout"
	simPay      simEvent = "pay"
	simSuccess  simEvent = "success"
	simPacked   simEvent = "packed"
	simCancel   simEvent = "cancel"
)

// defineShop is a small order saga: events that come early, late and twice; a time to live; a refund for each late payment.
func (s *sim) defineShop() *saga.Definition[simState, simEvent, simData] {
	giveBack := saga.Ask("give-back", simDo, func(d simData) string { return d.Money }, nil).Retry(simRetry).
		Key(func(d simData) string { return d.Money }).Retriable().NoUndo("it stays with the customer")
	return saga.Define(saga.Spec[simState, simEvent, simData]{
		Name: "shop", Initial: simNew, Start: simCheckout, Succeeded: []simState{simShipped}, Failed: []simState{simFailed, simCancelled},
		Groups: map[simState][]simState{simOpen: {simNew, simReserved, simPending, simPaid}},
		Events: []saga.Event[simEvent, simData]{saga.On(simSuccess, simData.paid), {Name: simPay}, {Name: simPacked}, {Name: simCancel}},
		Table: saga.Table[simState, simEvent, simData]{
			{From: simNew, On: simCheckout, To: simReserved, Run: saga.Run(s.ask("reserve"))},
			{From: simNew, On: "reserve.rejected", To: simFailed},
			{From: simReserved, On: simPay, To: simPending, Run: saga.Run(s.ask("authorize"))},
			{From: simReserved, On: "authorize.rejected", To: simFailed, Compensate: true},
			{From: simReserved, After: 15 * time.Second, To: simCancelled, Compensate: true},
			{From: simPending, On: simSuccess, To: simPaid, Run: saga.Run(s.ask("capture"))},
			{From: simPending, On: "capture.rejected", To: simFailed, Compensate: true},
			{From: simPending, After: 10 * time.Second, To: simFailed, Compensate: true},
			{From: simPaid, On: simPacked, To: simShipped, Rejected: "no-shipment", Run: saga.Run(
				saga.Ask("ship", simDo, func(simData) string { return "ship" }, nil).Retry(simRetry).Pivot(),
				saga.Ask("commit", simDo, func(simData) string { return "commit" }, nil).Retry(simRetry).Retriable(),
				saga.Emit("tell", simNews, "SHIPPED", func(d simData) int { return 1 }).Retriable().NoUndo("news"),
			)},
			{From: simPaid, On: "no-shipment", To: simFailed, Compensate: true},
			{From: simPaid, After: 20 * time.Second, To: simFailed, Compensate: true},
			{From: simOpen, On: simCancel, To: simCancelled, Compensate: true, Interrupts: true},
			{From: simFailed, On: simSuccess, To: simFailed, Run: saga.Run(giveBack)},
			{From: simCancelled, On: simSuccess, To: simCancelled, Run: saga.Run(giveBack)},
			{From: simNew, On: simSuccess, Policy: saga.Buffer},
			{From: simReserved, On: simSuccess, Policy: saga.Buffer},
			{From: simOpen, On: simPacked, Policy: saga.Buffer},
			{From: saga.Any, On: simSuccess, Policy: saga.Ignore},
			{From: saga.Any, On: simPacked, Policy: saga.Ignore},
		},
		Otherwise: saga.Refuse,
	})
}

// simInput is what the client wants the sagas to know: it is sent until somebody has recorded it, and perhaps again.
type simInput struct {
	key, event, id string
	payload        []byte
	trip           bool
	start          bool

	recorded bool
	answered saga.Disposition
	via      *simProcess // who has been asked, and has not answered
}

func (s *sim) addInputs() {
	for n := range 1 + s.rng.IntN(3) {
		key, trip := fmt.Sprint("saga-", n), s.chance(500)
		add := func(event, id string, payload []byte, perMille int) {
			if s.chance(perMille) {
				s.clients = append(s.clients, &simInput{key: key, event: event, id: id, payload: payload, trip: trip})
			}
		}
		s.clients = append(s.clients, &simInput{key: key, start: true, trip: trip})
		if trip {
			add("cancel", "c1", nil, 300)
			add("cancel", "c2", nil, 100)
			continue
		}
		add("pay", "p1", nil, 900)
		add("pay", "p2", nil, 100)
		add("success", "s1", []byte(`"tx-1-`+key+`"`), 850)
		add("success", "s2", []byte(`"tx-1-`+key+`"`), 150) // the same payment, told again
		add("success", "s3", []byte(`"tx-2-`+key+`"`), 150) // another payment
		add("packed", "k1", nil, 800)
		add("packed", "k2", nil, 200)
		add("cancel", "c1", nil, 250)
		add("cancel", "c2", nil, 100)
	}
}

// operate lets an operator skip a step that can be undone, or retry one now. What comes of it late is undone.
func (s *sim) operate() {
	records := s.records()
	if len(records) == 0 {
		return
	}
	r, p := records[s.rng.IntN(len(records))], s.procs[s.rng.IntN(len(s.procs))]
	i, err := saga.ReadInstance(r)
	if err != nil || len(i.Steps) == 0 || p.paused() {
		return
	}
	e, verb := i.Steps[s.rng.IntN(len(i.Steps))], saga.RetryNow
	if e.Undoable && s.does(stepSkipped) {
		verb = saga.SkipStep
		if e.Status == compensation.Undoing {
			return // then its effect stays, as the operator says
		}
	}
	p.do(func() {
		if err := p.stepped.Operate(s.ctx, i.ID, verb, e.Step, func(answer saga.Disposition, _ error) {
			s.note("operator: %s %s of %s: %s", verb, e.Step, i.ID, answer)
		}); err != nil {
			panic(err)
		}
	})
}

// input sends one of the client's inputs, whichever.
func (s *sim) input() {
	in := s.clients[s.rng.IntN(len(s.clients))]
	if in.recorded && !s.does(inputRepeated) {
		return
	}
	in.recorded = false
	in.send(s)
}

func (in *simInput) lost(p *simProcess) {
	if in.via == p {
		in.via = nil
	}
}

// send gives the input to one of the processes, unless it is recorded, or one of them has it.
func (in *simInput) send(s *sim) {
	p := s.procs[s.rng.IntN(len(s.procs))]
	if in.recorded || in.via != nil || p.paused() {
		return
	}
	done := func(answer saga.Disposition, err error) {
		in.via = nil
		if err == nil {
			in.recorded, in.answered = true, answer
			s.note("recorded: %s of %s: %s", in.event, in.key, answer)
		}
	}
	definition := "shop"
	if in.trip {
		definition = "trip"
	}
	p.do(func() {
		in.via = p
		var err error
		switch {
		case in.start && in.trip:
			err = saga.StartStepped(s.ctx, p.stepped, s.trip, saga.StartParams[simData]{Key: in.key}, func(_ bool, err error) { done("", err) })
		case in.start:
			err = saga.StartStepped(s.ctx, p.stepped, s.shop, saga.StartParams[simData]{Key: in.key}, func(_ bool, err error) { done("", err) })
		default:
			r, lookup := s.store.Lookup(s.ctx, definition, in.key)
			if lookup != nil {
				in.via = nil
				return // it is not started so far
			}
			err = p.stepped.Event(s.ctx, r.ID, in.event, "client", in.id, in.payload, done)
		}
		if err != nil {
			panic(err)
		}
	})
}
