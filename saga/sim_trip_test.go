package saga_test

import (
	"context"
	"slices"
	"time"

	"github.com/sagamill/sagamill/compensation"
	"github.com/sagamill/sagamill/saga"
)

// simData are the data of both sagas.
type simData struct {
	Done []string `json:",omitempty"` // what participants answered

	Key    string // of the order; the rest is the order saga's as well
	Pieces int
	Total  int
	Paid   string `json:",omitempty"` // the first payment's transaction
	Last   string `json:",omitempty"` // the last one's
}

func (d simData) with(answer string) simData {
	d.Done = append(slices.Clone(d.Done), answer)
	return d
}

const simTimeout = 8 * time.Second // of local steps

var simRetry = compensation.Retry{First: 200 * time.Millisecond, Max: 2 * time.Second, Attempts: 5, Alert: 4}

// defineTrip is a linear saga of all kinds of steps.
func (s *sim) defineTrip() *saga.LinearDefinition[simData] {
	ask := func(name string) saga.Step[simData] {
		request := func(simData) simRequest { return simRequest{Step: name} }
		return saga.Ask(name, simDo, request, simData.with).Retry(simRetry).UndoBy(saga.RequestOf(simUndo, request)).UndoRetry(simRetry)
	}
	call := func(name string) saga.Step[simData] {
		return saga.Call(name, s.localCall, simData.with).Undo(s.local).Retry(simRetry).UndoRetry(simRetry).Timeout(simTimeout)
	}
	ticket := func(simData) simRequest { return simRequest{Step: "ticket"} }
	return saga.Linear("trip",
		call("hotel"),
		ask("flight"),
		saga.Parallel(ask("bus"), call("museum"), call("lunch")),
		saga.Emit("tell", simNews, "BOOKED", func(d simData) int { return len(d.Done) }).NoUndo("news"),
		saga.Do("pay", s.local).Pivot().Retry(simRetry).Timeout(simTimeout),
		saga.Ask("ticket", simDo, ticket, simData.with).Retry(simRetry).Retriable(),
		saga.Do("mail", s.local).Retry(simRetry).Retriable().Timeout(simTimeout),
	)
}

// local is a local step's action or compensation. The world outside knows it by its key.
func (s *sim) local(ctx context.Context, _ simData) error {
	info, p := saga.Info(ctx), s.running
	if s.does(crashInStep) {
		p.dead = true
		return errSimulated
	}
	deadline, _ := ctx.Deadline()
	if s.does(pausedInStep) {
		took := s.rest
		if s.does(clockLeapsInStep) {
			s.leap(time.Duration(s.amount(30_000)) * time.Millisecond)
		}
		s.rest = took
		s.meanwhile(p.name, &p.busy, 60)
		if !time.Now().Before(deadline) {
			return context.DeadlineExceeded // it looks at its context
		}
	}
	if s.does(stepFails) {
		return errSimulated
	}
	if pivotDone := info.Step == "pay" && s.world.applied[info.ActionKey] > 0; !info.Undo && !pivotDone && s.does(stepRejects) {
		s.world.refused[info.ActionKey] = info.Step == "pay"
		return saga.Reject("no") // also after an attempt that took effect; but a pivot's cannot be undone
	}
	// Once the store's clock has leapt, the time of an attempt that was begun before may be over though the process does
	// not know: it is a zombie, whose effects nobody promises anything of. The world outside has to turn it away.
	zombie := !s.leapt.Before(deadline.Add(-simTimeout))
	if !s.world.local(info, zombie) || s.does(stepFailsAfterEffect) {
		return errSimulated
	}
	if s.does(crashAfterEffect) {
		p.dead = true
		return errSimulated
	}
	return nil
}

func (s *sim) localCall(ctx context.Context, d simData) (string, error) {
	return saga.Info(ctx).Step, s.local(ctx, d)
}
