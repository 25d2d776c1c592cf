package storetest

import (
	"slices"
	"time"

	"github.com/sagamill/sagamill/saga"
)

var deleteRules = []Rule{
	{
		Name: "settled",
		Text: "Delete removes a settled instance with its history, and frees its ID and its keys",
		check: func(x *run) {
			x.mustCommit(x.create("a", startKey(x.id("sk"), 0), inputs("in", "")), x.create("b"))
			x.mustCommit(x.next("a", 2, settled))
			x.pass(1)
			x.deleted([]string{"a"}, x.deletion("a", 3))
			x.missing("a")
			if _, err := x.store.Lookup(x.ctx(), x.definition(), x.id("key-a")); err == nil {
				x.fail("Lookup finds what was deleted")
			}
			x.deleted(nil, x.deletion("a", 3))
			x.load("b")
			x.mustCommit(x.create("a", startKey(x.id("sk"), 0), inputs("in", "")))
			x.equal("history of the new one", len(x.history("a")), 2)
		},
	},
	{
		Name: "not settled, or not any more what it was",
		Text: "Delete leaves alone what is not settled, what is at another revision, and what is not there",
		check: func(x *run) {
			x.mustCommit(x.create("a"), x.create("b", settled), x.create("c", settled))
			x.mustCommit(x.next("b", 1, settled))
			x.deleted([]string{"c"}, x.deletion("a", 1), x.deletion("b", 1), x.deletion("c", 1), x.deletion("d", 1))
			x.load("a")
			x.equal("history of b", len(x.history("b")), 2)
		},
	},
	{
		Name: "start key",
		Text: "an instance whose start key is still kept is not deleted: the key answers with it",
		check: func(x *run) {
			x.mustCommit(x.create("a", settled, startKey(x.id("sk"), x.ticks(3))))
			x.deleted(nil, x.deletion("a", 1))
			again := x.create("b", startKey(x.id("sk"), x.ticks(3)))
			x.want(x.commit(again)[0], saga.Exists, "a start by the key")
			x.pass(4)
			x.deleted([]string{"a"}, x.deletion("a", 1))
			x.mustCommit(again)
		},
	},
	{
		Name: "list",
		Text: "List finds what is settled, and what had no transition for some time",
		check: func(x *run) {
			x.mustCommit(x.create("a", settled), x.create("b"), x.create("c"), x.create("d", settled))
			x.pass(2)
			x.mustCommit(x.next("c", 1, settled), x.next("d", 1, settled))
			found := func(q saga.Query) []string {
				q.Definition = x.definition()
				records, err := x.store.List(x.ctx(), q)
				x.ok("List", err)
				return x.names(records)
			}
			x.equal("settled", found(saga.Query{Settled: true}), []string{"a", "c", "d"})
			x.equal("idle", found(saga.Query{IdleFor: x.ticks(1)}), []string{"a", "b"})
			x.equal("settled and idle", found(saga.Query{Settled: true, IdleFor: x.ticks(1)}), []string{"a"})
		},
	},
}

func startKey(name string, ttl time.Duration) func(*saga.Transition) {
	return func(t *saga.Transition) {
		t.Start.StartKey = &saga.StartKey{Key: name, Fingerprint: []byte("print"), Response: []byte("response"), TTL: ttl}
	}
}

func (x *run) deletion(name string, revision uint64) saga.Deletion {
	return saga.Deletion{ID: x.id(name), Revision: revision}
}

// deleted deletes, and checks which instances are gone.
func (x *run) deleted(want []string, deletions ...saga.Deletion) {
	x.tb.Helper()
	ids, err := x.store.Delete(x.ctx(), deletions)
	x.ok("Delete", err)
	names := []string{}
	for _, id := range ids {
		names = append(names, id[len(x.prefix):])
	}
	slices.Sort(names)
	x.equal("deleted", names, want)
}
