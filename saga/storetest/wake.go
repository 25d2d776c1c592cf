package storetest

import (
	"time"

	"github.com/sagamill/sagamill/saga"
)

var wakeRules = []Rule{
	{Name: "set", Text: "Wake sets the wake-up time of an instance that has none", check: wakeSet},
	{Name: "moved earlier", Text: "a transition whose Wake is earlier than what the store holds moves the wake-up time", check: wakeEarlier},
	{Name: "never moved later", Text: "the wake-up time is a lower bound: a transition never moves it later", check: wakeNeverLater},
	{Name: "no change", Text: "a negative Wake leaves the wake-up time as it is", check: wakeUnchanged},
	{Name: "now", Text: "a Wake of zero makes the instance due at once", check: wakeNow},
	{Name: "cleared when settled", Text: "settling clears the wake-up time, and Wake is ignored then", check: wakeCleared},
	{Name: "set again when reopened", Text: "a transition of a settled instance that unsettles it sets the wake-up time anew", check: wakeReopened},
	{Name: "lease", Text: "Lease sets the end of the lease, earlier or later; zero leaves it", check: leaseSet},
}

func wakeSet(x *run) {
	x.mustCommit(x.create("a"))
	if at := x.load("a").WakeAt; !at.IsZero() {
		x.fail("started with a negative Wake, the instance has the wake-up time %v", at)
	}
	at := x.mustCommit(x.next("a", 1, wake(x.ticks(3))))
	x.at("WakeAt", x.load("a").WakeAt, at.Add(x.ticks(3)))
}

func wakeEarlier(x *run) {
	x.mustCommit(x.create("a", wake(x.ticks(9))))
	x.pass(1)
	at := x.mustCommit(x.next("a", 1, wake(x.ticks(4))))
	x.at("WakeAt", x.load("a").WakeAt, at.Add(x.ticks(4)))
}

func wakeNeverLater(x *run) {
	at := x.mustCommit(x.create("a", wake(x.ticks(3))))
	x.mustCommit(x.next("a", 1, wake(x.ticks(8))))
	x.at("WakeAt after a later Wake", x.load("a").WakeAt, at.Add(x.ticks(3)))
	x.pass(5)
	x.mustCommit(x.next("a", 2, wake(x.ticks(8))))
	x.at("WakeAt, in the past, after a later Wake", x.load("a").WakeAt, at.Add(x.ticks(3)))
	if got, _ := x.claim(10, x.ticks(50)); len(got) != 1 {
		x.fail("an instance that was due was made not due by a transition")
	}
}

func wakeUnchanged(x *run) {
	at := x.mustCommit(x.create("a", wake(x.ticks(3))))
	x.mustCommit(x.next("a", 1, attention("look")))
	x.at("WakeAt", x.load("a").WakeAt, at.Add(x.ticks(3)))
}

func wakeNow(x *run) {
	at := x.mustCommit(x.create("a", wake(0)))
	x.at("WakeAt", x.load("a").WakeAt, at)
	x.mustCommit(x.create("b", wake(x.ticks(50))))
	at = x.mustCommit(x.next("b", 1, wake(0)))
	x.at("WakeAt", x.load("b").WakeAt, at)
	if got, _ := x.claim(10, x.ticks(50)); len(got) != 2 {
		x.fail("of two instances that were to be woken at once, Claim answers %v", got)
	}
}

func wakeCleared(x *run) {
	x.mustCommit(x.create("a", wake(x.ticks(1))), x.create("b", settled, wake(0)), x.create("c"))
	x.mustCommit(x.next("a", 1, settled, wake(0)), x.next("c", 1, settled, wake(x.ticks(1))))
	for _, name := range []string{"a", "b", "c"} {
		if at := x.load(name).WakeAt; !at.IsZero() {
			x.fail("the settled instance %s has the wake-up time %v", name, at)
		}
	}
	x.pass(2)
	if got, next := x.claim(10, x.ticks(1)); len(got) != 0 || next >= 0 {
		x.fail("all is settled, but Claim answers %v and %v", got, next)
	}
}

func wakeReopened(x *run) {
	x.mustCommit(x.create("a", wake(x.ticks(1))))
	x.mustCommit(x.next("a", 1, settled))
	at := x.mustCommit(x.next("a", 2, wake(x.ticks(3))))
	x.at("WakeAt", x.load("a").WakeAt, at.Add(x.ticks(3)))
}

func leaseSet(x *run) {
	at := x.mustCommit(x.create("a", lease(x.ticks(5))))
	x.mustCommit(x.next("a", 1))
	x.at("LeaseTill after a transition without", x.load("a").LeaseTill, at.Add(x.ticks(5)))
	at = x.mustCommit(x.next("a", 2, lease(x.ticks(2))))
	x.at("LeaseTill after an earlier one", x.load("a").LeaseTill, at.Add(x.ticks(2)))
	at = x.mustCommit(x.next("a", 3, lease(x.ticks(9))))
	x.at("LeaseTill after a later one", x.load("a").LeaseTill, at.Add(x.ticks(9)))
}

var claimRules = []Rule{
	{Name: "due", Text: "Claim takes what is due by the store's clock, and nothing else", check: claimDue},
	{Name: "record", Text: "Claim returns records as Load does, after the hold, and changes no revision", check: claimRecord},
	{Name: "order and limit", Text: "Claim takes the longest due first, and no more than Limit", check: claimOrder},
	{Name: "definitions", Text: "Claim takes only the definitions and versions asked for, and only they count for the next due", check: claimVersions},
	{Name: "several definitions", Text: "Claim takes the longest due first across the definitions asked for", check: claimAcross},
	{Name: "hold", Text: "a claimed instance is not claimed again before Hold is over, and then it is", check: claimHold},
	{Name: "next due", Text: "Claim tells how long to wait: zero, more is due; positive, until the next one is; negative, none has a wake-up time", check: claimNext},
	{Name: "no definitions", Text: "a Claim that asks for nothing gets nothing", check: claimNothing},
	{Name: "transition after", Text: "a claim does not stand in the way of a transition from the same revision", check: claimThenCommit},
}

func claimDue(x *run) {
	x.mustCommit(x.create("a", wake(x.ticks(1))), x.create("b", wake(x.ticks(50))), x.create("c"))
	x.equal("claimed before the time", first(x.claim(10, x.ticks(100))), []string{})
	x.pass(1.5)
	x.equal("claimed after the time", first(x.claim(10, x.ticks(100))), []string{"a"})
}

func first[T, U any](t T, _ U) T { return t }

func claimRecord(x *run) {
	x.mustCommit(x.create("a", wake(0), inputs("i", "j"), attention("look")))
	before, history := x.load("a"), x.history("a")
	records, _, err := x.store.Claim(x.ctx(), saga.Claim{
		Definitions: []saga.DefinitionVersion{{Name: x.definition(), Version: 1}}, Limit: 1, Hold: x.ticks(3),
	})
	x.ok("Claim", err)
	if len(records) != 1 {
		x.fail("one instance is due, Claim answers %d", len(records))
	}
	x.same(records[0], x.load("a"), "Claim differs from Load")
	x.at("WakeAt after the claim", records[0].WakeAt, records[0].ReadAt.Add(x.ticks(3)))
	before.WakeAt = records[0].WakeAt
	x.unchanged("a", before, history, "beyond the wake-up time, Claim")
}

func claimOrder(x *run) {
	x.mustCommit(x.create("a", wake(x.ticks(0.3))), x.create("b", wake(x.ticks(0.1))), x.create("c", wake(x.ticks(0.2))),
		x.create("d", wake(x.ticks(0.4))), x.create("e", wake(x.ticks(50))))
	x.mustCommit(x.next("d", 1, wake(0)))
	x.pass(2)
	x.equal("the first claim of two", first(x.claim(2, x.ticks(100))), []string{"d", "b"})
	x.equal("the second claim of two", first(x.claim(2, x.ticks(100))), []string{"c", "a"})
	x.equal("the third claim of two", first(x.claim(2, x.ticks(100))), []string{})
}

func claimVersions(x *run) {
	v1, v2 := saga.DefinitionVersion{Name: x.definition(), Version: 1}, saga.DefinitionVersion{Name: x.definition(), Version: 2}
	other := saga.DefinitionVersion{Name: x.id("other"), Version: 1}
	x.mustCommit(x.create("a", wake(0)), x.create("b", wake(0), version(2)), x.create("c", wake(0), of(x.id("other"))))
	names, next := x.claim(10, x.ticks(100), v2)
	x.equal("version 2", names, []string{"b"})
	if next <= 0 {
		x.fail("others are due, but none that was asked for; Claim says to wait for %v", next)
	}
	names, next = x.claim(10, x.ticks(100), saga.DefinitionVersion{Name: x.definition(), Version: 3})
	x.equal("version 3", names, []string{})
	if next >= 0 {
		x.fail("no instance of the version asked for has a wake-up time; Claim says to wait for %v", next)
	}
	x.equal("the other definition", first(x.claim(10, x.ticks(100), other)), []string{"c"})
	x.equal("all of them", first(x.claim(10, x.ticks(100), v1, v2, other)), []string{"a"})
}

func claimAcross(x *run) {
	other := saga.DefinitionVersion{Name: x.id("other"), Version: 4}
	in := func(d time.Duration) func(*saga.Transition) {
		return func(t *saga.Transition) { t.Start.Definition, t.Start.Version, t.Wake = other.Name, other.Version, d }
	}
	x.mustCommit(x.create("a", wake(x.ticks(0.4))), x.create("b", in(x.ticks(0.1))), x.create("c", in(x.ticks(0.3))),
		x.create("d", wake(x.ticks(0.2))))
	x.pass(1)
	both := []saga.DefinitionVersion{{Name: x.definition(), Version: 1}, other}
	names, next := x.claim(3, x.ticks(100), both...)
	x.equal("the three longest due", names, []string{"b", "d", "c"})
	x.equal("the time to wait", next, time.Duration(0))
	x.equal("the last one", first(x.claim(3, x.ticks(100), both...)), []string{"a"})
}

func claimHold(x *run) {
	x.mustCommit(x.create("a", wake(0)))
	x.equal("the first claim", first(x.claim(10, x.ticks(2))), []string{"a"})
	x.equal("a claim during the hold", first(x.claim(10, x.ticks(2))), []string{})
	x.pass(2.5)
	x.equal("a claim after the hold", first(x.claim(10, x.ticks(2))), []string{"a"})
}

func claimNext(x *run) {
	if names, next := x.claim(10, x.ticks(1)); len(names) != 0 || next >= 0 {
		x.fail("no instance, but Claim answers %v and %v", names, next)
	}
	x.mustCommit(x.create("a"))
	if _, next := x.claim(10, x.ticks(1)); next >= 0 {
		x.fail("no instance has a wake-up time, but Claim says to wait for %v", next)
	}
	x.mustCommit(x.create("b", wake(x.ticks(3))), x.create("c", wake(x.ticks(5))))
	if _, next := x.claim(10, x.ticks(1)); next <= 0 || next > x.ticks(3) || next < x.ticks(3)-x.slack {
		x.fail("the next instance is due in %v, but Claim says to wait for %v", x.ticks(3), next)
	}
	x.pass(6)
	if names, next := x.claim(1, x.ticks(50)); len(names) != 1 || next != 0 {
		x.fail("two instances are due; a Claim of one answers %v and says to wait for %v", names, next)
	}
	if names, next := x.claim(1, x.ticks(70)); len(names) != 1 || next <= 0 || next > x.ticks(50) {
		x.fail("one was due and is held now, the other for %v; Claim answers %v and says to wait for %v", x.ticks(50), names, next)
	}
}

func claimNothing(x *run) {
	x.mustCommit(x.create("a", wake(0)))
	records, next, err := x.store.Claim(x.ctx(), saga.Claim{Limit: 10, Hold: x.ticks(1)})
	x.ok("Claim", err)
	if len(records) != 0 || next >= 0 {
		x.fail("asked for nothing, Claim answers %v and %v", x.names(records), next)
	}
}

func claimThenCommit(x *run) {
	x.mustCommit(x.create("a", wake(0)))
	x.claim(1, x.ticks(9))
	at := x.mustCommit(x.next("a", 1, wake(x.ticks(2))))
	x.at("WakeAt after a transition with an earlier one", x.load("a").WakeAt, at.Add(x.ticks(2)))
}

var touchRules = []Rule{
	{Name: "wake-up time", Text: "Touch moves the wake-up time, earlier or later", check: touchWake},
	{Name: "clear", Text: "Touch with NoWake clears the wake-up time", check: touchNoWake},
	{Name: "keep", Text: "Touch with KeepWake leaves the wake-up time, and moves the lease", check: touchKeepWake},
	{Name: "lease", Text: "Touch with a lease of zero leaves the lease", check: touchLease},
	{Name: "revision", Text: "Touch leaves instances alone whose revision is another one, and those that do not exist", check: touchRevision},
	{Name: "any revision", Text: "Touch with revision 0 moves the times whatever the revision is", check: touchAnyRevision},
	{Name: "nothing else", Text: "Touch changes no revision, nothing but the two times", check: touchNothingElse},
}

func (x *run) touch(touches ...saga.Touch) {
	x.tb.Helper()
	x.ok("Touch", x.store.Touch(x.ctx(), touches))
}

func touchWake(x *run) {
	at := x.mustCommit(x.create("a", wake(x.ticks(5))), x.create("b", wake(x.ticks(5))), x.create("c"))
	x.touch(saga.Touch{ID: x.id("b"), Revision: 1, Wake: x.ticks(9)}, saga.Touch{ID: x.id("a"), Revision: 1, Wake: x.ticks(1)},
		saga.Touch{ID: x.id("c"), Revision: 1})
	x.at("WakeAt moved earlier", x.load("a").WakeAt, at.Add(x.ticks(1)))
	x.at("WakeAt moved later", x.load("b").WakeAt, at.Add(x.ticks(9)))
	x.at("WakeAt set to now", x.load("c").WakeAt, at)
	x.pass(3)
	x.equal("claimed", first(x.claim(10, x.ticks(50))), []string{"c", "a"})
}

func touchNoWake(x *run) {
	x.mustCommit(x.create("a", wake(0)))
	x.touch(saga.Touch{ID: x.id("a"), Revision: 1, Wake: saga.NoWake})
	if at := x.load("a").WakeAt; !at.IsZero() {
		x.fail("the wake-up time is %v", at)
	}
	if names, next := x.claim(10, x.ticks(1)); len(names) != 0 || next >= 0 {
		x.fail("the wake-up time was cleared, but Claim answers %v and %v", names, next)
	}
}

func touchKeepWake(x *run) {
	at := x.mustCommit(x.create("a", wake(x.ticks(5))), x.create("b"))
	for _, name := range []string{"a", "b"} {
		x.touch(saga.Touch{ID: x.id(name), Revision: 1, Wake: saga.KeepWake, Lease: x.ticks(4)})
		x.at("LeaseTill", x.load(name).LeaseTill, at.Add(x.ticks(4)))
	}
	x.at("WakeAt", x.load("a").WakeAt, at.Add(x.ticks(5)))
	if at := x.load("b").WakeAt; !at.IsZero() {
		x.fail("KeepWake set the wake-up time %v", at)
	}
}

func touchLease(x *run) {
	at := x.mustCommit(x.create("a", lease(x.ticks(5))))
	x.touch(saga.Touch{ID: x.id("a"), Revision: 1, Wake: x.ticks(1)})
	x.at("LeaseTill", x.load("a").LeaseTill, at.Add(x.ticks(5)))
	x.touch(saga.Touch{ID: x.id("a"), Revision: 1, Wake: saga.KeepWake, Lease: x.ticks(2)})
	x.at("LeaseTill", x.load("a").LeaseTill, at.Add(x.ticks(2)))
}

func touchRevision(x *run) {
	x.mustCommit(x.create("a", wake(x.ticks(5)), lease(x.ticks(5)), inputs("", "")), x.create("b", wake(x.ticks(5))))
	before, history := x.load("a"), x.history("a")
	for _, revision := range []uint64{1, 3} {
		x.touch(saga.Touch{ID: x.id("a"), Revision: revision, Wake: 0, Lease: x.ticks(9)},
			saga.Touch{ID: x.id("none"), Revision: revision, Wake: 0, Lease: x.ticks(9)},
			saga.Touch{ID: x.id("b"), Revision: 1, Wake: saga.NoWake})
		x.unchanged("a", before, history, "Touch at another revision")
	}
	x.missing("none")
	if at := x.load("b").WakeAt; !at.IsZero() {
		x.fail("a touch of another instance beside it was lost: the wake-up time is %v", at)
	}
}

func touchAnyRevision(x *run) {
	x.mustCommit(x.create("a", wake(x.ticks(1)), inputs("", "")))
	x.touch(saga.Touch{ID: x.id("a"), Revision: 0, Wake: x.ticks(5), Lease: x.ticks(5)})
	if r := x.load("a"); r.LeaseTill.IsZero() || r.LeaseTill != r.WakeAt {
		x.fail("a touch of whatever revision did not move both times: wake-up %v, lease %v", r.WakeAt, r.LeaseTill)
	}
}

func touchNothingElse(x *run) {
	x.mustCommit(x.create("a", inputs("i", "j"), attention("look")))
	before, history := x.load("a"), x.history("a")
	x.pass(1)
	x.touch(saga.Touch{ID: x.id("a"), Revision: 2, Wake: x.ticks(1), Lease: x.ticks(1)})
	after := x.load("a")
	before.WakeAt, before.LeaseTill = after.WakeAt, after.LeaseTill
	x.unchanged("a", before, history, "beyond the two times, Touch")
	x.mustCommit(x.next("a", 2))
}
