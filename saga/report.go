package saga

import "context"

// report tells the observer what a committed step of an instance meant.
func (o *Orchestrator) report(ctx context.Context, i *instance, s step) {
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
