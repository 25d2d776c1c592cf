package saga

import (
	"context"
	"errors"
	"strconv"

	"github.com/ThreeDotsLabs/watermill"
)

// report tells log and observer what a committed step of an instance meant.
func (o *Orchestrator) report(ctx context.Context, i *instance, s step) {
	if s.alarms {
		o.logger.Error("Saga needs attention", errors.New(s.next.attention), i.logFields())
	}
	if s.calms {
		o.logger.Info("Saga needs no attention any more", i.logFields())
	}
	if o.config.Observer == nil {
		return
	}
	at := Observation{Definition: i.definition, Instance: i.id, State: s.next.state}
	tell := func(what What, set func(*Observation)) {
		ob := at
		ob.What = what
		set(&ob)
		o.observe(ctx, ob)
	}
	tell(ObserveTransition, func(ob *Observation) { ob.Event, ob.Step, ob.Undo = s.entry.Kind, s.entry.Step, s.entry.Undo })
	if s.entry.Result != "" {
		tell(ObserveInput, func(ob *Observation) {
			ob.Event, ob.Outcome, ob.Reason = s.entry.Event, string(s.entry.Result), s.entry.Reason
		})
	}
	for _, j := range s.entry.Judged {
		tell(ObserveInput, func(ob *Observation) { ob.Event, ob.Outcome, ob.Reason = j.Event, string(j.Result), j.Reason })
	}
	for _, e := range s.effects {
		if e.attempt > 1 {
			tell(ObserveResend, func(ob *Observation) { ob.Step, ob.Undo, ob.Attempt = e.step, e.undo, e.attempt })
		}
	}
	if s.alarms {
		tell(ObserveAttention, func(ob *Observation) { ob.Reason = s.next.attention })
	}
	if s.calms {
		tell(ObserveCalm, func(*Observation) {})
	}
}

// remind logs that sagas have needed attention since before this process began: it will not say so of each by itself.
func (o *Orchestrator) remind(ctx context.Context) {
	const most = 100
	stuck, err := o.store.List(ctx, Query{NeedsAttention: true, Limit: most})
	if err != nil && ctx.Err() == nil {
		o.logger.Error("Saga: what needs attention could not be listed", err, nil)
	}
	if len(stuck) == 0 {
		return
	}
	count := strconv.Itoa(len(stuck))
	if len(stuck) == most {
		count += " or more"
	}
	o.logger.Error("Sagas need attention since before this process began", errors.New(stuck[0].Attention), watermill.LogFields{
		"count": count, "definition": stuck[0].Definition, "instance": stuck[0].ID, "key": stuck[0].Key, "state": stuck[0].State,
	})
}

// logFaults logs what failed in functions of the definition's.
func (o *Orchestrator) logFaults(i *instance, faults []error) {
	for _, err := range faults {
		fields := i.logFields()
		if panicked := (*PanicError)(nil); errors.As(err, &panicked) {
			fields["stack"] = string(panicked.Stack)
		}
		o.logger.Error("Saga: what is to be decided fails", err, fields)
	}
}

func (i *instance) logFields() watermill.LogFields {
	return watermill.LogFields{"definition": i.definition, "instance": i.id, "key": i.key, "state": i.state}
}
