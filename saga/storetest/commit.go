package storetest

import (
	"time"

	"github.com/sagamill/sagamill/saga"
)

var commitRules = []Rule{
	{Name: "new instance", Text: "a new instance has all that its first transition says, and the store's time", check: newInstance},
	{Name: "transition", Text: "a transition replaces state, settled, attention and engine; what an instance was started with stays", check: replaces},
	{Name: "history", Text: "each history record is stored with its revision, input, entry and the time of the commit", check: storesHistory},
	{Name: "verdict time", Text: "Verdict.At is the record's UpdatedAt, to the last digit", check: verdictTime},
	{Name: "nil data", Text: "nil data means unchanged", check: nilData},
	{Name: "empty data", Text: "data that is empty but not nil replaces the old data", check: emptyData},
	{Name: "no data at start", Text: "the data of a new instance that brings none is empty", check: noData},
	{Name: "store time", Text: "durations go in, times come out: created, updated and read are the store's time", check: storeTime},
	{Name: "empty batch", Text: "a batch of nothing has no verdicts and does nothing", check: func(x *run) { x.commit() }},
	{Name: "durable", Text: "what Committed answered survives the process", check: durable},
}

func newInstance(x *run) {
	at := x.mustCommit(x.create("a", wake(x.ticks(3)), lease(x.ticks(2)), attention("look"), inputs("i1", "", "i2")))
	got := x.load("a")
	want := saga.Record{
		ID: x.id("a"), Definition: x.definition(), Version: 1, Key: x.id("key-a"), Fingerprint: []byte("print of a"),
		Revision: 3, State: "new", Attention: "look", Engine: []byte(`{"engine":"a"}`), Data: []byte("data of a"),
		CreatedAt: at, UpdatedAt: at, WakeAt: got.WakeAt, LeaseTill: got.LeaseTill,
	}
	x.same(got, want, "the new instance differs")
	x.at("WakeAt", got.WakeAt, at.Add(x.ticks(3)))
	x.at("LeaseTill", got.LeaseTill, at.Add(x.ticks(2)))

	x.mustCommit(x.create("b", settled))
	if b := x.load("b"); !b.Settled || !b.WakeAt.IsZero() || !b.LeaseTill.IsZero() {
		x.fail("started settled and without lease, the instance is %+v", b)
	}
}

func replaces(x *run) {
	created := x.mustCommit(x.create("a", attention("look")))
	x.pass(1)
	at := x.mustCommit(x.next("a", 1, data([]byte("other")), settled, inputs("i", "j")))
	want := saga.Record{
		ID: x.id("a"), Definition: x.definition(), Version: 1, Key: x.id("key-a"), Fingerprint: []byte("print of a"),
		Revision: 3, State: "state 2", Settled: true, Engine: []byte(`{"engine":"a 2"}`), Data: []byte("other"),
		CreatedAt: created, UpdatedAt: at,
	}
	x.same(x.load("a"), want, "the instance after its second transition differs")
	x.mustCommit(x.next("a", 3, attention("late payment")))
	if a := x.load("a"); a.Settled || a.Attention != "late payment" {
		x.fail("a settled instance was reopened and needs attention, but is %+v", a)
	}
}

func storesHistory(x *run) {
	first := x.mustCommit(x.create("a", inputs("i1", "")))
	x.pass(1)
	second := x.mustCommit(x.next("a", 2, inputs("", "i2", "")))
	id := x.id("a")
	x.equal("the history differs", x.history("a"), []saga.HistoryRecord{
		{Revision: 1, Input: "i1", Entry: []byte("entry 1 of " + id), At: first},
		{Revision: 2, Entry: []byte("entry 2 of " + id), At: first},
		{Revision: 3, Entry: []byte("entry 3 of " + id), At: second},
		{Revision: 4, Input: "i2", Entry: []byte("entry 4 of " + id), At: second},
		{Revision: 5, Entry: []byte("entry 5 of " + id), At: second},
	})
}

func verdictTime(x *run) {
	for expect := range uint64(3) {
		t := x.create("a")
		if expect > 0 {
			t = x.next("a", expect)
		}
		if at, updated := x.mustCommit(t), x.load("a").UpdatedAt; !at.Equal(updated) {
			x.fail("the verdict of revision %d says %v, the record %v", expect+1, at, updated)
		}
		x.pass(0.01234567)
	}
}

func nilData(x *run) {
	x.mustCommit(x.create("a"))
	x.mustCommit(x.next("a", 1, data(nil)))
	x.equal("data after a transition that brought none", string(x.load("a").Data), "data of a")
}

func emptyData(x *run) {
	x.mustCommit(x.create("a"))
	x.mustCommit(x.next("a", 1, data([]byte{})))
	x.equal("data after a transition that brought an empty value", string(x.load("a").Data), "")
}

func noData(x *run) {
	empty := func(t *saga.Transition) { t.Data, t.Engine, t.Start.Fingerprint, t.State = nil, nil, nil, "" }
	x.mustCommit(x.create("a", empty), x.create("b", empty, data([]byte{})))
	for _, name := range []string{"a", "b"} {
		r := x.load(name)
		x.equal("data, engine and fingerprint of "+name, string(r.Data)+string(r.Engine)+string(r.Fingerprint), "")
	}
}

func storeTime(x *run) {
	created := x.mustCommit(x.create("a"))
	x.at("CreatedAt", x.load("a").CreatedAt, created)
	x.at("ReadAt", x.load("a").ReadAt, created)
	x.pass(2)
	a := x.load("a")
	x.at("CreatedAt later", a.CreatedAt, created)
	x.at("UpdatedAt later", a.UpdatedAt, created)
	x.at("ReadAt later", a.ReadAt, created.Add(x.ticks(2)))
	updated := x.mustCommit(x.next("a", 1))
	x.at("the verdict's time", updated, created.Add(x.ticks(2)))
	a = x.load("a")
	x.at("CreatedAt after a transition", a.CreatedAt, created)
	x.at("UpdatedAt after a transition", a.UpdatedAt, updated)
}

func durable(x *run) {
	x.skipUnless(x.h.Reopen != nil, "the store does not outlive its process")
	x.mustCommit(x.create("a", wake(x.ticks(1)), withStartKey(x.id("sk"), time.Hour), inputs("i1")), x.create("b"))
	x.mustCommit(x.next("a", 1, inputs("i2", "")))
	letter := saga.DeadLetter{ID: x.id("letter"), Payload: []byte("payload")}
	x.ok("Bury", x.store.Bury(x.ctx(), letter))
	before, history := x.load("a"), x.history("a")

	x.store = x.h.Reopen()

	x.unchanged("a", before, history, "reopening the store")
	x.want(x.commit(x.next("a", 3, inputs("i1")))[0], saga.Duplicate, "an input from before")
	x.want(x.commit(x.create("c", withStartKey(x.id("sk"), time.Hour)))[0], saga.Exists, "a start key from before")
	x.want(x.commit(x.next("a", 2))[0], saga.Conflict, "a revision from before")
	x.mustCommit(x.next("a", 3), x.next("b", 1))
	letters, err := x.store.DeadLetters(x.ctx(), x.prefix, 1)
	x.ok("DeadLetters", err)
	if len(letters) != 1 || letters[0].ID != letter.ID {
		x.fail("the dead letter from before is lost: %v", letters)
	}
}

var conflictRules = []Rule{
	{Name: "stale", Text: "a transition whose Expect is below the store's revision is a Conflict, and changes nothing", check: stale},
	{Name: "ahead", Text: "a transition whose Expect is above the store's revision is a Conflict, and changes nothing", check: ahead},
	{Name: "unknown instance", Text: "a transition of an instance that does not exist is a Conflict, and creates nothing", check: unknownInstance},
	{Name: "existing instance", Text: "a new instance with an ID that is taken is Exists, with the one that has it, and changes nothing", check: existingInstance},
	{Name: "same start again", Text: "a start that was committed and comes again changes nothing, and is Exists", check: sameStart},
	{Name: "consumes nothing", Text: "a transition that was not committed consumes no input", check: conflictConsumesNothing},
}

func stale(x *run) {
	x.mustCommit(x.create("a"))
	x.mustCommit(x.next("a", 1, inputs("", "")))
	before, history := x.load("a"), x.history("a")
	for expect := range uint64(2) {
		lost := x.next("a", expect+1, data([]byte("lost")), wake(0), lease(x.ticks(1)), attention("lost"), settled)
		x.want(x.commit(lost)[0], saga.Conflict, "from revision %d, the store holds 3", expect+1)
		x.unchanged("a", before, history, "a conflict")
	}
}

func ahead(x *run) {
	x.mustCommit(x.create("a"))
	before, history := x.load("a"), x.history("a")
	x.want(x.commit(x.next("a", 2, data([]byte("lost")), inputs("i", "j")))[0], saga.Conflict, "from revision 2, the store holds 1")
	x.unchanged("a", before, history, "a conflict")
}

func unknownInstance(x *run) {
	x.want(x.commit(x.next("a", 1, inputs("i")))[0], saga.Conflict, "no such instance")
	x.missing("a")
	x.mustCommit(x.create("a"))
}

func existingInstance(x *run) {
	x.mustCommit(x.create("a"))
	before, history := x.load("a"), x.history("a")
	x.existing(x.commit(x.create("a", key(x.id("other")), data([]byte("lost")), inputs("i")))[0], "a")
	x.unchanged("a", before, history, "a conflict")
	x.mustCommit(x.create("b", key(x.id("other"))))
}

func sameStart(x *run) {
	t := x.create("a", inputs("i"))
	x.mustCommit(t)
	before, history := x.load("a"), x.history("a")
	x.existing(x.commit(t)[0], "a")
	x.unchanged("a", before, history, "the same start again")
}

func conflictConsumesNothing(x *run) {
	x.mustCommit(x.create("a"))
	x.mustCommit(x.next("a", 1))
	x.want(x.commit(x.next("a", 1, inputs("i", "j")))[0], saga.Conflict, "from revision 1, the store holds 2")
	x.mustCommit(x.next("a", 2, inputs("j")))
	x.want(x.commit(x.next("a", 3, inputs("j", "k")))[0], saga.Duplicate, "an input consumed before")
	x.mustCommit(x.next("a", 3, inputs("i", "k")))
}
