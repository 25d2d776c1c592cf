package sagatest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/memory"
	"github.com/sagamill/sagamill/saga"
	"github.com/sagamill/sagamill/saga/sagatest"
	"github.com/sagamill/sagamill/statemachine"
)

// Sagas with one bug each, of a kind that no test of a single path finds. Explore does, with as few faults as it takes.

// bank is what they act upon: the transfers that were made, by the key that the saga gave. Calls under one key are one transfer.
type bank struct {
	transfers map[string]int
	account   int // the bank's: what was taken, less what was given back
}

var theBank *bank

func (b *bank) transfer(key string, amount int) {
	if _, again := b.transfers[key]; !again {
		b.transfers[key] = amount
		b.account += amount
	}
}

type purchase struct{ Paid bool }

func (p purchase) paid(struct{}) purchase { p.Paid = true; return p }

func charge(ctx context.Context, _ purchase) error {
	theBank.transfer(saga.Info(ctx).EffectKey, 100)
	return nil
}

func refund(ctx context.Context, _ purchase) error {
	theBank.transfer(saga.Info(ctx).ActionKey, 0) // if it did not come so far it shall not any more
	theBank.transfer(saga.Info(ctx).EffectKey, -theBank.transfers[saga.Info(ctx).ActionKey])
	return nil
}

var (
	deposit = saga.Do("deposit", charge).Undo(refund)
	ship    = saga.Do("ship", func(context.Context, purchase) error { return nil }).Pivot()
)

// Commands to the bank, which is outside of the participant's transaction.
var (
	take     = saga.Command[struct{}, struct{}]{Name: "take", Topic: "bank"}
	giveBack = saga.Command[struct{}, struct{}]{Name: "give-back", Topic: "bank"}
	ofBank   = saga.Ask("deposit", take, func(purchase) (none struct{}) { return none }, nil).
			UndoBy(saga.RequestOf(giveBack, func(purchase) (none struct{}) { return none }))
)

// teller makes the participant that passes commands on to the bank.
func teller(options ...saga.HandlerOption) func(*sagatest.Run) {
	return func(r *sagatest.Run) {
		p := sagatest.NewParticipant(r, memory.NewInbox())
		if err := errors.Join(
			saga.Handle(p, take, func(ctx context.Context, _ *memory.Tx, none struct{}) (struct{}, error) {
				return none, charge(ctx, purchase{})
			}),
			saga.Handle(p, giveBack, func(ctx context.Context, _ *memory.Tx, none struct{}) (struct{}, error) {
				return none, refund(ctx, purchase{})
			}, options...),
		); err != nil {
			panic(err)
		}
	}
}

func TestExploreFindsBugsWithAsFewFaultsAsTheyTake(t *testing.T) {
	nobody := func(*sagatest.Run) {}
	for name, c := range map[string]struct {
		definition   *saga.LinearDefinition[purchase]
		participants func(*sagatest.Run)
		faults       int              // 0: it is right
		among        []sagatest.Fault // one of them is there
	}{
		"none":         {saga.Linear("shop", deposit, ship), nobody, 0, nil},
		"none, either": {saga.Linear("shop", ofBank, ship), teller(saga.NullCompensation), 0, nil},

		"an undo that does nothing": {saga.Linear("shop",
			saga.Do("deposit", charge).Undo(func(context.Context, purchase) error { return nil }), ship),
			nobody, 1, []sagatest.Fault{sagatest.InputNow, sagatest.StepRejects}},

		"an undo that is said not to be needed": {saga.Linear("shop", saga.Do("deposit", charge).NoUndo("nobody cancels"), ship),
			nobody, 1, []sagatest.Fault{sagatest.InputNow, sagatest.StepRejects}},

		"an undo that looks whether the saga has heard of the action": {saga.Linear("shop",
			saga.Call("deposit", func(ctx context.Context, p purchase) (none struct{}, _ error) { return none, charge(ctx, p) }, purchase.paid).
				Undo(func(ctx context.Context, p purchase) error {
					if !p.Paid {
						return nil
					}
					return refund(ctx, p)
				}), ship),
			nobody, 2, []sagatest.Fault{sagatest.StepFailsAfterEffect, sagatest.StepHangs, sagatest.CrashAfterEffect, sagatest.CrashBeforeCommit}},

		"a charge without a key": {saga.Linear("shop",
			saga.Do("charge", func(context.Context, purchase) error { theBank.account += 100; return nil }).Pivot()),
			nobody, 1, []sagatest.Fault{sagatest.StepFailsAfterEffect, sagatest.StepHangs, sagatest.CrashAfterEffect, sagatest.CrashBeforeCommit, sagatest.ProcessPauses}},

		"a charge whose key is that of the attempt": {saga.Linear("shop",
			saga.Do("charge", func(ctx context.Context, _ purchase) error {
				theBank.transfer(fmt.Sprint(saga.Info(ctx).EffectKey, saga.Info(ctx).Attempt), 100)
				return nil
			}).Pivot()),
			nobody, 1, []sagatest.Fault{sagatest.StepFailsAfterEffect, sagatest.StepHangs, sagatest.CrashAfterEffect, sagatest.CrashBeforeCommit, sagatest.ProcessPauses}},

		"a refund whose key is that of the attempt": {saga.Linear("shop",
			saga.Do("deposit", charge).Undo(func(ctx context.Context, _ purchase) error {
				info := saga.Info(ctx)
				theBank.transfer(info.ActionKey, 0)
				theBank.transfer(fmt.Sprint(info.EffectKey, info.Attempt), -theBank.transfers[info.ActionKey])
				return nil
			}), ship),
			nobody, 2, []sagatest.Fault{sagatest.InputNow, sagatest.StepRejects}},

		"a refund that is not asked for because the participant's database knows nothing": {saga.Linear("shop", ofBank, ship),
			teller(), 2, []sagatest.Fault{sagatest.HandlerFailsAfterEffect, sagatest.ParticipantCrashesBefore}},
	} {
		t.Run(name, func(t *testing.T) {
			f := sagatest.Find(t, c.definition, func(r *sagatest.Run) {
				theBank = &bank{transfers: map[string]int{}}
				c.participants(r)
				sagatest.Start(r, c.definition, "purchase-1", purchase{}).Send(saga.Cancel, nil).Anytime()
			}, sagatest.Finally("the customer has paid exactly if the purchase is completed", func(r *sagatest.Run) error {
				want := map[string]int{string(saga.Completed): 100}[r.Saga("purchase-1").State]
				if theBank.account != want {
					return fmt.Errorf("it is %s, and the bank has %d", r.Saga("purchase-1").State, theBank.account)
				}
				return nil
			}), sagatest.Runs(1000), sagatest.Seeds(150))
			if c.faults == 0 {
				require.Nil(t, f)
				return
			}
			found(t, c.faults, f)
			require.Contains(t, f.Violations[0], "the customer has paid exactly if the purchase is completed")
			require.True(t, slices.ContainsFunc(c.among, func(one sagatest.Fault) bool { return contains(f, one) }), "none of %v: %s", c.among, f)
		})
	}
}

// A webhook may be quicker than what it tells of is known. A table that ignores it then loses the payment.
func TestExploreFindsAnEventThatComesTooEarly(t *testing.T) {
	lifecycle := func(early statemachine.Policy) *saga.Definition[orderState, orderEvent, order] {
		return saga.Define(saga.Spec[orderState, orderEvent, order]{
			Name: "order", Initial: "NEW", Succeeded: []orderState{"PAID"}, Failed: []orderState{"CANCELLED"},
			Events: []saga.Event[orderEvent, order]{{Name: "checkout"}, saga.On(orderEvent("paid"), order.paid)},
			Table: saga.Table[orderState, orderEvent, order]{
				{From: "NEW", On: "checkout", To: "PENDING"},
				{From: "NEW", On: "paid", Policy: early},
				{From: "NEW", After: time.Hour, To: "CANCELLED", Compensate: true},
				{From: "PENDING", On: "paid", To: "PAID"},
				{From: "PENDING", After: time.Hour, To: "CANCELLED", Compensate: true},
			},
			Otherwise: saga.Refuse,
		})
	}
	find := func(d *saga.Definition[orderState, orderEvent, order], options ...sagatest.Option) *sagatest.Finding {
		return sagatest.Find(t, d, func(r *sagatest.Run) {
			o := sagatest.Start(r, d, "order-1", order{})
			o.Send("checkout", nil).After(time.Minute)
			o.Send("paid", 60).When("PENDING")
		}, append(options, sagatest.Runs(500), sagatest.Seeds(50), sagatest.Finally("who pays gets something", func(r *sagatest.Run) error {
			paid := slices.ContainsFunc(r.History("saga-1"), func(e saga.Entry) bool { return e.Event == "paid" && e.Result != saga.Refused })
			if i := r.Saga("order-1"); paid && i.State != "PAID" {
				return errors.New("it is " + i.State)
			}
			return nil
		}))...)
	}
	f := found(t, 1, find(lifecycle(saga.Ignore)))
	require.True(t, contains(f, sagatest.InputEarly), "%s", f)
	require.Nil(t, find(lifecycle(saga.Ignore), sagatest.Without(sagatest.InputEarly)))
	require.Nil(t, find(lifecycle(saga.Buffer), sagatest.Without(sagatest.InputLate)))
}

func contains(f *sagatest.Finding, fault sagatest.Fault) bool {
	return slices.Contains(faultsOf(f), string(fault))
}
