package sagatest_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/compensation"
	"github.com/sagamill/sagamill/saga"
	"github.com/sagamill/sagamill/saga/sagatest"
)

func TestCaseOfATrip(t *testing.T) {
	var a *agency
	d := bookTrip(&a)
	world := func(r *sagatest.Run) { a = newAgency(false); a.airline(r) }
	result := sagatest.Given(d, trip{}, world).Then(t, saga.Completed)
	require.Len(t, a.booked, 2)
	require.Contains(t, result.Data.Room, "room")

	result = sagatest.Given(d, trip{}, world).
		Meets("room", sagatest.StepFails, sagatest.CrashAfterEffect, sagatest.StepHangs).
		Meets("seat", sagatest.ReplyLost, sagatest.HandlerFails).
		Meets("card", sagatest.StepRejects).
		Meets("room/undo", sagatest.StepFails, sagatest.StepFailsAfterEffect).
		Then(t, saga.Failed)
	require.Empty(t, a.booked)
	require.Equal(t, compensation.Undone, result.Status("room"))
	require.Equal(t, compensation.Undone, result.Status("seat"))
	require.Equal(t, compensation.Rejected, result.Status("card"))
	require.Equal(t, compensation.Never, result.Status("mail"))
}

type (
	orderState string
	orderEvent string
)

type order struct{ Paid int }

func (o order) paid(amount int) order { o.Paid += amount; return o }

// lifecycle waits for a payment, and then for a parcel.
func lifecycle() *saga.Definition[orderState, orderEvent, order] {
	return saga.Define(saga.Spec[orderState, orderEvent, order]{
		Name: "order", Initial: "NEW", Succeeded: []orderState{"SHIPPED"}, Failed: []orderState{"CANCELLED"},
		Events: []saga.Event[orderEvent, order]{saga.On(orderEvent("paid"), order.paid), {Name: "packed"}, {Name: "cancel"}},
		Table: saga.Table[orderState, orderEvent, order]{
			{From: "NEW", On: "paid", If: saga.When("enough", func(o order) bool { return o.Paid >= 100 }), To: "PAID"},
			{From: "NEW", On: "paid", To: "NEW"},
			{From: "NEW", After: time.Hour, To: "CANCELLED", Compensate: true},
			{From: "NEW", On: "packed", Policy: saga.Buffer},
			{From: "PAID", On: "packed", To: "SHIPPED"},
			{From: "PAID", After: 24 * time.Hour, To: "CANCELLED", Compensate: true},
			{From: "NEW", On: "cancel", To: "CANCELLED", Compensate: true},
			{From: "PAID", On: "cancel", To: "CANCELLED", Compensate: true},
		},
		Otherwise: saga.Ignore,
	})
}

func TestCaseOfATable(t *testing.T) {
	given := func() *sagatest.Case[orderState, orderEvent, order] { return sagatest.Given(lifecycle(), order{}) }
	given().Then(t, "NEW")
	given().When("paid", 60).Then(t, "NEW")
	given().When("paid", 60).After(time.Hour).Then(t, "CANCELLED")
	given().When("paid", 60).After(59*time.Minute).When("paid", 60).After(time.Hour).Then(t, "PAID")
	given().When("packed", nil).When("paid", 100).Then(t, "SHIPPED")
	require.Equal(t, 120, given().When("paid", 60).When("paid", 60).After(25*time.Hour).Then(t, "CANCELLED").Data.Paid)
}

func TestExploreATable(t *testing.T) {
	sagatest.Explore(t, theLifecycle, func(r *sagatest.Run) {
		o := sagatest.Start(r, theLifecycle, "order-1", order{})
		o.Send("paid", 50)
		o.Send("paid", 50).After(20 * time.Minute)
		o.Send("packed", nil).When("PAID")
		o.Send("cancel", nil).Anytime()
	}, sagatest.FullCoverage())
}

func TestFullCoverageExcept(t *testing.T) {
	sagatest.Explore(t, theLifecycle, func(r *sagatest.Run) {
		o := sagatest.Start(r, theLifecycle, "order-1", order{})
		o.Send("packed", nil)
		o.Send("paid", 100)
	}, sagatest.Runs(200), sagatest.Seeds(0), sagatest.FullCoverage("row NEW/paid", "row NEW/cancel", "row PAID/cancel", "row PAID/after->CANCELLED"))
}

var theLifecycle = lifecycle()
