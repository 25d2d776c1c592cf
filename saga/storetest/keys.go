package storetest

import (
	"errors"
	"time"

	"github.com/sagamill/sagamill/saga"
)

var keyRules = []Rule{
	{Name: "unique", Text: "a definition has one instance of a business key: the second is Exists, with the first, and creates nothing", check: uniqueKey},
	{Name: "of each definition", Text: "definitions have business keys each for itself; the versions of one share them", check: keyOfDefinition},
	{Name: "in one batch", Text: "of two new instances with one key in a batch one is committed, the other Exists", check: keyInBatch},
	{Name: "for ever", Text: "a settled instance keeps its business key", check: keyForEver},
	{Name: "lookup", Text: "Lookup finds the instance by definition and key, or answers ErrNotFound", check: lookup},
}

// existing checks that a verdict brings the instance that is in the way.
func (x *run) existing(v saga.Verdict, owner string) {
	x.tb.Helper()
	x.want(v, saga.Exists, "a taken key")
	if v.Existing == nil {
		x.fail("the verdict Exists does not bring the existing instance")
	}
	x.same(*v.Existing, x.load(owner), "the existing instance that the verdict brings differs from what Load answers")
}

func uniqueKey(x *run) {
	x.mustCommit(x.create("a", inputs("i"), wake(x.ticks(5))))
	before, history := x.load("a"), x.history("a")
	v := x.commit(x.create("b", key(x.id("key-a")), inputs("i")))[0]
	x.existing(v, "a")
	if v.StartKey != nil {
		x.fail("the verdict is Exists because of the business key, but has a start key")
	}
	x.missing("b")
	x.unchanged("a", before, history, "a second start")
	x.mustCommit(x.create("b"))
}

func keyOfDefinition(x *run) {
	x.mustCommit(x.create("a", key(x.id("k"))))
	x.mustCommit(x.create("b", key(x.id("k")), of(x.id("other"))))
	x.existing(x.commit(x.create("c", key(x.id("k")), version(2)))[0], "a")
}

func keyInBatch(x *run) {
	k := key(x.id("k"))
	verdicts := x.commit(x.create("a", k), x.create("b", k), x.create("c"), x.create("d", k))
	x.want(verdicts[2], saga.Committed, "another key")
	var winner string
	for i, name := range []string{"a", "b", "", "d"} {
		if name != "" && verdicts[i].Outcome == saga.Committed {
			if winner != "" {
				x.fail("both %s and %s were committed with the same key", winner, name)
			}
			winner = name
		}
	}
	if winner == "" {
		x.fail("none of three instances with the same key was committed")
	}
	for i, name := range []string{"a", "b", "", "d"} {
		if name != "" && name != winner {
			x.existing(verdicts[i], winner)
			x.missing(name)
		}
	}
}

func keyForEver(x *run) {
	x.mustCommit(x.create("a", settled))
	x.existing(x.commit(x.create("b", key(x.id("key-a"))))[0], "a")
}

func lookup(x *run) {
	x.mustCommit(x.create("a"), x.create("b", of(x.id("other"))))
	got, err := x.store.Lookup(x.ctx(), x.definition(), x.id("key-a"))
	x.ok("Lookup", err)
	x.same(got, x.load("a"), "Lookup differs from Load")
	for _, miss := range [][2]string{{x.definition(), x.id("key-b")}, {x.id("other"), x.id("key-a")}, {x.id("none"), ""}} {
		if _, err := x.store.Lookup(x.ctx(), miss[0], miss[1]); !errors.Is(err, saga.ErrNotFound) {
			x.fail("Lookup(%q, %q) answers %v instead of ErrNotFound", miss[0], miss[1], err)
		}
	}
}

var startKeyRules = []Rule{
	{Name: "unique", Text: "a start key that is taken is Exists, with the instance, the request's fingerprint and its response", check: uniqueStartKey},
	{Name: "in the whole store", Text: "a start key is unique in the whole store, whatever the definition", check: startKeyEverywhere},
	{Name: "in one batch", Text: "of two new instances with one start key in a batch one is committed, the other Exists", check: startKeyInBatch},
	{Name: "before the business key", Text: "if both the start key and the business key are taken, the verdict has what is kept under the start key", check: startKeyFirst},
	{Name: "refused start", Text: "a start that is refused takes neither key", check: refusedStart},
	{Name: "kept while unsettled", Text: "a start key whose time is over is kept while its instance is not settled", check: keptUnsettled},
	{Name: "kept for its time", Text: "a start key of a settled instance is kept until its time is over", check: keptForItsTime},
	{Name: "freed", Text: "a start key is free when its time is over and its instance is settled; then it belongs to the next", check: startKeyFreed},
	{Name: "reopened", Text: "an instance that is not settled any more holds its start key again", check: startKeyReopened},
}

func withStartKey(key string, ttl time.Duration) func(*saga.Transition) {
	return func(t *saga.Transition) {
		t.Start.StartKey = &saga.StartKey{
			Key: key, TTL: ttl, Fingerprint: []byte("request of " + t.ID), Response: []byte("response of " + t.ID),
		}
	}
}

// heldBy checks that the start key is taken by an instance, with what that one's request said.
func (x *run) heldBy(v saga.Verdict, key, owner string) {
	x.tb.Helper()
	x.existing(v, owner)
	if v.StartKey == nil {
		x.fail("the verdict is Exists because of the start key, but has none")
	}
	kept := *v.StartKey
	kept.TTL = 0
	x.equal("what is kept under the start key", kept, saga.StartKey{
		Key: key, Fingerprint: []byte("request of " + x.id(owner)), Response: []byte("response of " + x.id(owner)),
	})
}

func uniqueStartKey(x *run) {
	sk := withStartKey(x.id("sk"), x.ticks(2))
	x.mustCommit(x.create("a", sk))
	x.heldBy(x.commit(x.create("b", sk))[0], x.id("sk"), "a")
	x.missing("b")
	x.mustCommit(x.next("a", 1))
	x.heldBy(x.commit(x.create("b", sk))[0], x.id("sk"), "a")
	x.mustCommit(x.create("b", withStartKey(x.id("sk2"), x.ticks(2))))
}

func startKeyEverywhere(x *run) {
	sk := withStartKey(x.id("sk"), x.ticks(2))
	x.mustCommit(x.create("a", sk))
	x.heldBy(x.commit(x.create("b", sk, of(x.id("other"))))[0], x.id("sk"), "a")
}

func startKeyInBatch(x *run) {
	sk := withStartKey(x.id("sk"), x.ticks(2))
	verdicts := x.commit(x.create("a", sk), x.create("b", sk), x.create("c", withStartKey(x.id("sk2"), x.ticks(2))))
	x.want(verdicts[2], saga.Committed, "another start key")
	winner, loser, lost := "a", "b", verdicts[1]
	if verdicts[0].Outcome != saga.Committed {
		winner, loser, lost = "b", "a", verdicts[0]
		x.want(verdicts[1], saga.Committed, "one of two")
	}
	x.heldBy(lost, x.id("sk"), winner)
	x.missing(loser)
}

func startKeyFirst(x *run) {
	sk := withStartKey(x.id("sk"), x.ticks(2))
	x.mustCommit(x.create("a", sk), x.create("b"))
	x.heldBy(x.commit(x.create("c", sk, key(x.id("key-a"))))[0], x.id("sk"), "a")
	x.heldBy(x.commit(x.create("c", sk, key(x.id("key-b"))))[0], x.id("sk"), "a")
}

func refusedStart(x *run) {
	sk, sk2 := withStartKey(x.id("sk"), x.ticks(2)), withStartKey(x.id("sk2"), x.ticks(2))
	x.mustCommit(x.create("a", sk))
	x.want(x.commit(x.create("b", sk))[0], saga.Exists, "the start key is taken")
	x.want(x.commit(x.create("c", sk2, key(x.id("key-a"))))[0], saga.Exists, "the business key is taken")
	x.mustCommit(x.create("d", sk2, key(x.id("key-b"))))
}

func keptUnsettled(x *run) {
	sk := withStartKey(x.id("sk"), x.ticks(1))
	x.mustCommit(x.create("a", sk))
	x.pass(3)
	x.heldBy(x.commit(x.create("b", sk))[0], x.id("sk"), "a")
}

func keptForItsTime(x *run) {
	sk := withStartKey(x.id("sk"), x.ticks(4))
	x.mustCommit(x.create("a", sk, settled))
	x.pass(1)
	x.heldBy(x.commit(x.create("b", sk))[0], x.id("sk"), "a")
}

func startKeyFreed(x *run) {
	sk := withStartKey(x.id("sk"), x.ticks(1))
	x.mustCommit(x.create("a", sk))
	x.mustCommit(x.next("a", 1, settled))
	x.pass(2)
	x.mustCommit(x.create("b", withStartKey(x.id("sk"), x.ticks(4))))
	x.heldBy(x.commit(x.create("c", sk))[0], x.id("sk"), "b")
	x.mustCommit(x.next("a", 2)) // the old owner has no claim to it
	x.mustCommit(x.next("a", 3, settled))
	x.heldBy(x.commit(x.create("c", sk))[0], x.id("sk"), "b")
}

func startKeyReopened(x *run) {
	sk := withStartKey(x.id("sk"), x.ticks(1))
	x.mustCommit(x.create("a", sk, settled))
	x.mustCommit(x.next("a", 1))
	x.pass(2)
	x.heldBy(x.commit(x.create("b", sk))[0], x.id("sk"), "a")
	x.mustCommit(x.next("a", 2, settled))
	x.mustCommit(x.create("b", sk))
}
