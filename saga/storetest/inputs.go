package storetest

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sagamill/sagamill/saga"
)

var inputRules = []Rule{
	{Name: "once", Text: "an input that the instance has consumed is a Duplicate, and changes nothing", check: consumedOnce},
	{Name: "one among several", Text: "a transition with one consumed input among new ones is a Duplicate, which names the consumed one and consumes none", check: oneAmongSeveral},
	{Name: "at start", Text: "an input that started the instance is consumed", check: consumedAtStart},
	{Name: "ever", Text: "an input stays consumed, however many transitions later, settled or not", check: consumedForEver},
	{Name: "twice in one transition", Text: "a transition that brings one input twice is a Duplicate", check: twiceInOne},
	{Name: "of another instance", Text: "instances consume an input each for itself", check: ofAnotherInstance},
	{Name: "without identity", Text: "history records without an input are never duplicates", check: withoutIdentity},
}

func consumedOnce(x *run) {
	x.mustCommit(x.create("a"))
	x.mustCommit(x.next("a", 1, inputs("i")))
	before, history := x.load("a"), x.history("a")
	v := x.commit(x.next("a", 2, inputs("i"), data([]byte("lost")), wake(0), settled))[0]
	x.want(v, saga.Duplicate, "input i for the second time")
	x.equal("the duplicates that the verdict names", v.Duplicates, []string{"i"})
	x.unchanged("a", before, history, "a duplicate")
	x.mustCommit(x.next("a", 2, inputs("j")))
}

func oneAmongSeveral(x *run) {
	x.mustCommit(x.create("a"))
	x.mustCommit(x.next("a", 1, inputs("b", "d")))
	before, history := x.load("a"), x.history("a")
	v := x.commit(x.next("a", 3, inputs("a", "", "b", "c")))[0]
	x.want(v, saga.Duplicate, "inputs a, b, c of which b was consumed")
	x.equal("the duplicates that the verdict names", v.Duplicates, []string{"b"})
	x.unchanged("a", before, history, "a duplicate")
	x.mustCommit(x.next("a", 3, inputs("a", "", "c")))
}

func consumedAtStart(x *run) {
	x.mustCommit(x.create("a", inputs("i", "j")))
	x.want(x.commit(x.next("a", 2, inputs("j")))[0], saga.Duplicate, "an input of the start")
}

func consumedForEver(x *run) {
	x.mustCommit(x.create("a", inputs("first")))
	for n := range uint64(20) {
		x.mustCommit(x.next("a", n+1, inputs(fmt.Sprint("input ", n))))
	}
	x.want(x.commit(x.next("a", 21, inputs("first")))[0], saga.Duplicate, "an input of 20 transitions ago")
	x.mustCommit(x.next("a", 21, settled))
	x.want(x.commit(x.next("a", 22, inputs("input 3")))[0], saga.Duplicate, "an input from before the instance settled")
}

func twiceInOne(x *run) {
	x.mustCommit(x.create("a"))
	before, history := x.load("a"), x.history("a")
	v := x.commit(x.next("a", 1, inputs("i", "j", "i")))[0]
	x.want(v, saga.Duplicate, "input i twice in one transition")
	x.equal("the duplicates that the verdict names", v.Duplicates, []string{"i"})
	x.unchanged("a", before, history, "a duplicate")
}

func ofAnotherInstance(x *run) {
	x.mustCommit(x.create("a", inputs("i")), x.create("b", inputs("i")), x.create("c"))
	x.mustCommit(x.next("c", 1, inputs("i")))
}

func withoutIdentity(x *run) {
	x.mustCommit(x.create("a", inputs("", "")))
	x.mustCommit(x.next("a", 2, inputs("", "")))
	x.mustCommit(x.next("a", 4, inputs("")))
}

var batchRules = []Rule{
	{Name: "order of verdicts", Text: "verdicts come in the order of the transitions", check: orderOfVerdicts},
	{Name: "many", Text: "a batch of hundreds of instances is committed like hundreds of batches", check: manyInstances},
	{Name: "alone or together", Text: "a transition leaves the same whether it is committed alone or among others", check: aloneOrTogether},
	{Name: "neighbours", Text: "a conflict, a duplicate or a taken key fails alone, and its neighbours are committed whole", check: neighbours},
	{Name: "rejected", Text: "a transition that the database rejects is Unwritable, says why, changes nothing and fails alone", check: rejectedAlone},
	{Name: "only rejected", Text: "a batch of nothing but rejected transitions is no error, and they are rejected again", check: onlyRejected},
}

// A store may write a single transition by another statement than many.
func aloneOrTogether(x *run) {
	changes := map[string][]func(*saga.Transition){
		"a plain": {}, "b data": {data([]byte("other"))}, "c empty data": {data([]byte{})}, "d attention": {attention("look")}, "e settled": {settled},
		"f wake": {wake(x.ticks(3))}, "g later": {wake(x.ticks(30))}, "h lease": {lease(x.ticks(2))}, "i input": {inputs("i1")}, "j inputs": {inputs("", "i2", "")},
		"k all": {data([]byte("x")), attention("y"), wake(x.ticks(1)), lease(x.ticks(4)), inputs("i3", "")},
	}
	names := slices.Sorted(maps.Keys(changes))
	var created, together []saga.Transition
	for _, name := range names {
		for _, of := range []string{"alone ", "together "} {
			created = append(created, x.create(of+name, wake(x.ticks(10)), lease(x.ticks(1)), data([]byte("data"))))
		}
		together = append(together, x.next("together "+name, 1, changes[name]...))
	}
	slices.SortFunc(created, func(a, b saga.Transition) int { return strings.Compare(a.ID, b.ID) })
	x.mustCommit(created...)
	before := map[string]saga.Record{}
	for _, t := range created {
		before[t.ID] = x.load(strings.TrimPrefix(t.ID, x.id("")))
	}
	for _, name := range names {
		x.mustCommit(x.next("alone "+name, 1, changes[name]...))
	}
	x.mustCommit(together...)
	when := func(t, before, updated time.Time) string {
		switch {
		case t.IsZero():
			return "never"
		case t.Equal(before):
			return "as it was"
		}
		return "in " + t.Sub(updated).String()
	}
	left := func(name string) string {
		r, was := x.load(name), before[x.id(name)]
		text := fmt.Sprintf("revision %d, %s, settled %t, attention %q, data %q, wake %s, lease %s", r.Revision, r.State, r.Settled, r.Attention, r.Data,
			when(r.WakeAt, was.WakeAt, r.UpdatedAt), when(r.LeaseTill, was.LeaseTill, r.UpdatedAt))
		for _, h := range x.history(name) {
			of := bytes.ReplaceAll(h.Entry, []byte(x.id(name)), nil)
			text += fmt.Sprintf("\n%d: input %q, %s, now %t", h.Revision, h.Input, of, h.At.Equal(r.UpdatedAt))
		}
		return text + "\n" + strings.ReplaceAll(string(r.Engine), name, "")
	}
	for _, name := range names {
		x.equal("what "+name+" leaves together, and alone", left("together "+name), left("alone "+name))
	}
}

func orderOfVerdicts(x *run) {
	x.mustCommit(x.create("a"), x.create("c"))
	verdicts := x.commit(x.next("a", 7), x.create("b"), x.next("c", 1), x.create("d", key(x.id("key-a"))))
	for i, want := range []saga.Outcome{saga.Conflict, saga.Committed, saga.Committed, saga.Exists} {
		x.want(verdicts[i], want, "verdict %d", i)
	}
}

func manyInstances(x *run) {
	const instances = 257
	var first, second []saga.Transition
	for i := range instances {
		name := fmt.Sprintf("i%03d", i)
		first = append(first, x.create(name, inputs("start", "")))
		second = append(second, x.next(name, 2, inputs("", "pay", "")))
	}
	x.mustCommit(first...)
	x.mustCommit(second...)
	for _, name := range []string{"i000", "i031", "i100", "i256"} {
		x.equal("revision of "+name, x.load(name).Revision, uint64(5))
		x.path(name, 5)
	}
}

// path checks that the history of an instance has every revision up to the last, once.
func (x *run) path(name string, last uint64) {
	x.tb.Helper()
	history := x.history(name)
	for i, h := range history {
		if h.Revision != uint64(i)+1 {
			x.fail("record %d of the history of %s has revision %d: there must be no gap", i, name, h.Revision)
		}
	}
	if uint64(len(history)) != last {
		x.fail("%s is at revision %d, but its history has %d records", name, last, len(history))
	}
}

func neighbours(x *run) {
	x.mustCommit(x.create("a"), x.create("c"), x.create("e", inputs("i")), x.create("g"), x.create("owner"))
	conflict, duplicate := x.load("c"), x.load("e")
	batch := []saga.Transition{
		x.next("a", 1, inputs("i")),
		x.create("b", inputs("i")),
		x.next("c", 3, inputs("i")),                // conflict
		x.create("d", key(x.id("key-owner"))),      // business key taken
		x.next("e", 1, inputs("h", "i")),           // duplicate
		x.create("f", withStartKey(x.id("sk"), 0)), // new
		x.next("g", 1, inputs("", "i", "")),
	}
	want := []saga.Outcome{saga.Committed, saga.Committed, saga.Conflict, saga.Exists, saga.Duplicate, saga.Committed, saga.Committed}
	for i, v := range x.commit(batch...) {
		x.want(v, want[i], "verdict %d", i)
	}
	for name, revision := range map[string]uint64{"a": 2, "b": 1, "c": 1, "e": 1, "f": 1, "g": 4} {
		x.equal("revision of "+name, x.load(name).Revision, revision)
		x.path(name, revision)
	}
	x.same(x.load("c"), conflict, "the conflict changed its instance")
	x.same(x.load("e"), duplicate, "the duplicate changed its instance")
	x.missing("d")
}

func rejectedAlone(x *run) {
	x.skipUnless(x.h.Reject != nil, "the harness has no Reject")
	x.mustCommit(x.create("a"), x.create("c"), x.create("d"), x.create("f"))
	before, history := x.load("c"), x.history("c")
	rejectedNew := x.create("b", x.h.Reject, withStartKey(x.id("sk"), x.ticks(1)))
	verdicts := x.commit(x.next("a", 1, inputs("i")), rejectedNew, x.next("c", 1, inputs("i"), x.h.Reject),
		x.next("d", 1, inputs("i", "j")), x.create("e"), x.next("f", 4))
	want := []saga.Outcome{saga.Committed, saga.Unwritable, saga.Unwritable, saga.Committed, saga.Committed, saga.Conflict}
	for i, v := range verdicts {
		x.want(v, want[i], "verdict %d", i)
		if (v.Err != nil) != (v.Outcome == saga.Unwritable) {
			x.fail("verdict %d is %v with error %v", i, v.Outcome, v.Err)
		}
	}
	x.missing("b")
	x.unchanged("c", before, history, "a rejected transition")
	x.mustCommit(x.create("b", withStartKey(x.id("sk"), x.ticks(1))), x.next("c", 1, inputs("i")))
	for name, revision := range map[string]uint64{"a": 2, "b": 1, "c": 2, "d": 3, "e": 1, "f": 1} {
		x.equal("revision of "+name, x.load(name).Revision, revision)
		x.path(name, revision)
	}
}

func onlyRejected(x *run) {
	x.skipUnless(x.h.Reject != nil, "the harness has no Reject")
	for range 2 {
		for _, v := range x.commit(x.create("a", x.h.Reject), x.create("b", x.h.Reject)) {
			x.want(v, saga.Unwritable, "rejected")
		}
	}
	x.missing("a")
	x.mustCommit(x.create("a"), x.create("b"))
}
