package saga

import (
	"context"
	"errors"

	"github.com/ThreeDotsLabs/watermill"
)

// report tells log and observer what a committed step of an instance meant.
func (o *Orchestrator) report(ctx context.Context, i *instance, s step) {
	if s.alarms {
		o.logger.Error("Saga needs attention", errors.New(s.next.attention), i.logFields())
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
			tell(ObserveResend, func(ob *Observation) { ob.Step, ob.Undo = e.step, e.undo })
		}
	}
	if s.alarms {
		tell(ObserveAttention, func(ob *Observation) { ob.Reason = s.next.attention })
	}
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
