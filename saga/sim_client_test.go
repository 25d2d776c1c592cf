package saga_test

import (
	"context"
	"fmt"

	"github.com/sagamill/sagamill/compensation"
	"github.com/sagamill/sagamill/saga"
)

// simInput is what the client wants the sagas to know: it is sent until somebody has recorded it, and perhaps again.
type simInput struct {
	key, event, id string
	payment        string // the transaction of an event that tells of one
	trip           bool
	start          bool
	data           simData // of a start

	recorded bool
	via      *simProcess // who has been asked, and has not answered
}

func (s *sim) addInputs() {
	for n := range 1 + s.rng.IntN(3) {
		key, trip := fmt.Sprint("saga-", n), s.chance(500)
		data := simData{Key: key, Pieces: 1 + s.rng.IntN(2), Total: 10 + n}
		add := func(event, id, payment string, perMille int) {
			if s.chance(perMille) {
				s.clients = append(s.clients, &simInput{key: key, event: event, id: id, payment: payment, trip: trip})
			}
		}
		s.books.orders[key] = data
		s.clients = append(s.clients, &simInput{key: key, start: true, trip: trip, data: data})
		if trip {
			add("cancel", "c1", "", 450)
			add("cancel", "c2", "", 100)
			continue
		}
		add("pay", "p1", "", 950)
		add("pay", "p2", "", 100)
		add("success", "s1", "tx-1-"+key, 900)
		add("success", "s2", "tx-1-"+key, 150) // the same payment, told again
		add("success", "s3", "tx-2-"+key, 200) // another payment
		add("no-success", "n1", "", 80)
		add("valid", "v1", "", 900)
		add("fraud", "f1", "", 80)
		add("packed", "k1", "", 900)
		add("packed", "k2", "", 100)
		add("scan", "x1", "", 700)
		add("cancel", "c1", "", 200)
		add("cancel", "c2", "", 100)
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
		ctx, over := context.WithCancel(s.ctx)
		defer over() // callers do not wait for what they have begun
		if err := p.stepped.Operate(ctx, i.ID, verb, e.Step, func(answer saga.Disposition, _ error) {
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
			in.recorded = true
			s.note("recorded: %s of %s: %s", in.event, in.key, answer)
		}
	}
	p.do(func() {
		in.via = p
		ctx, over := context.WithCancel(s.ctx)
		defer over()
		var err error
		switch params := (saga.StartParams[simData]{Key: in.key, Data: in.data}); {
		case in.start && in.trip:
			err = saga.StartStepped(ctx, p.stepped, s.trip, params, func(_ bool, err error) { done("", err) })
		case in.start:
			err = saga.StartStepped(ctx, p.stepped, s.order, params, func(_ bool, err error) { done("", err) })
		default:
			err = in.tell(ctx, s, p, done)
		}
		if err != nil {
			panic(err)
		}
	})
}

func (in *simInput) tell(ctx context.Context, s *sim, p *simProcess, done func(saga.Disposition, error)) error {
	definition := "order"
	if in.trip {
		definition = "trip"
	}
	r, err := s.store.Lookup(ctx, definition, in.key)
	if err != nil {
		in.via = nil
		return nil // it is not started so far
	}
	var payload []byte
	if in.payment != "" {
		payload = fmt.Appendf(nil, "%q", in.payment)
		s.books.pay(in)
	}
	return p.stepped.Event(ctx, r.ID, in.event, "client", in.id, payload, done)
}
