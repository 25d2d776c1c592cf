package storetest

import (
	"slices"
	"strconv"

	"github.com/sagamill/sagamill/saga"
)

var readRules = []Rule{
	{Name: "load", Text: "Load answers the instances that exist, in any order; the others are missing from the answer", check: loadSeveral},
	{Name: "list order and pages", Text: "List answers in order of IDs, from After on, at most Limit", check: listPages},
	{Name: "list default limit", Text: "a Limit of 0 is one of 100", check: listDefault},
	{Name: "list filters", Text: "a zero field of a Query selects all, others narrow it, together", check: listFilters},
	{Name: "list age", Text: "OlderThan selects what was started at least so long ago, by the store's clock", check: listAge},
	{Name: "list record", Text: "List answers records as Load does", check: listRecord},
	{Name: "history pages", Text: "History answers the records after a revision, in order, at most limit", check: historyPages},
}

func loadSeveral(x *run) {
	x.mustCommit(x.create("a"), x.create("b"), x.create("c"))
	records, err := x.store.Load(x.ctx(), x.id("c"), x.id("none"), x.id("a"))
	x.ok("Load", err)
	names := x.names(records)
	slices.Sort(names)
	x.equal("loaded", names, []string{"a", "c"})
	for _, ids := range [][]string{{}, {x.id("none")}, {x.id("none"), x.id("neither")}} {
		records, err := x.store.Load(x.ctx(), ids...)
		x.ok("Load", err)
		x.equal("loaded", x.names(records), []string{})
	}
}

func (x *run) list(query saga.Query) []string {
	x.tb.Helper()
	if query.Definition == "" {
		query.Definition = x.definition()
	}
	records, err := x.store.List(x.ctx(), query)
	x.ok("List", err)
	return x.names(records)
}

func listPages(x *run) {
	for _, name := range []string{"d", "b", "e", "a", "c"} {
		x.mustCommit(x.create(name))
	}
	x.equal("all", x.list(saga.Query{}), []string{"a", "b", "c", "d", "e"})
	x.equal("the first page", x.list(saga.Query{Limit: 2}), []string{"a", "b"})
	x.equal("the second page", x.list(saga.Query{Limit: 2, After: x.id("b")}), []string{"c", "d"})
	x.equal("the third page", x.list(saga.Query{Limit: 2, After: x.id("d")}), []string{"e"})
	x.equal("after an ID that does not exist", x.list(saga.Query{After: x.id("bb")}), []string{"c", "d", "e"})
	x.equal("after the last", x.list(saga.Query{After: x.id("e")}), []string{})
	x.mustCommit(x.create("bb"))
	x.equal("with a new one", x.list(saga.Query{After: x.id("a"), Limit: 3}), []string{"b", "bb", "c"})
}

func listDefault(x *run) {
	var batch []saga.Transition
	for i := range 105 {
		batch = append(batch, x.create(strconv.Itoa(100+i)))
	}
	x.mustCommit(batch...)
	x.equal("number of records", len(x.list(saga.Query{})), 100)
	x.equal("number of records with a limit", len(x.list(saga.Query{Limit: 103})), 103)
}

func listFilters(x *run) {
	other := x.id("other")
	x.mustCommit(
		x.create("a", state("paid")),
		x.create("b", state("paid"), settled),
		x.create("c", attention("look")),
		x.create("d", state("paid"), attention("look"), settled),
		x.create("e", state("paid"), of(other)),
		x.create("f", version(2), attention("look")),
	)
	for _, test := range []struct {
		what  string
		query saga.Query
		want  []string
	}{
		{"definition", saga.Query{}, []string{"a", "b", "c", "d", "f"}},
		{"other definition", saga.Query{Definition: other}, []string{"e"}},
		{"key prefix", saga.Query{KeyPrefix: x.id("key-a")}, []string{"a"}},
		{"another case is another prefix", saga.Query{KeyPrefix: x.id("KEY-a")}, []string{}},
		{"prefix, not pattern", saga.Query{KeyPrefix: x.id("key_%")}, []string{}},
		{"prefix and state", saga.Query{KeyPrefix: x.id("key-"), State: "paid"}, []string{"a", "b", "d"}},
		{"state", saga.Query{State: "paid"}, []string{"a", "b", "d"}},
		{"unsettled", saga.Query{Unsettled: true}, []string{"a", "c", "f"}},
		{"needs attention", saga.Query{NeedsAttention: true}, []string{"c", "d", "f"}},
		{"both", saga.Query{NeedsAttention: true, Unsettled: true}, []string{"c", "f"}},
		{"all three", saga.Query{State: "paid", NeedsAttention: true, Unsettled: true}, []string{}},
		{"page of filtered", saga.Query{NeedsAttention: true, After: x.id("c"), Limit: 1}, []string{"d"}},
	} {
		x.equal(test.what, x.list(test.query), test.want)
	}
	x.mustCommit(x.next("a", 1, settled, attention("look")), x.next("c", 1), x.next("d", 1))
	x.equal("unsettled after transitions", x.list(saga.Query{Unsettled: true}), []string{"c", "d", "f"})
	x.equal("needs attention after transitions", x.list(saga.Query{NeedsAttention: true}), []string{"a", "f"})
	records, err := x.store.List(x.ctx(), saga.Query{After: x.prefix, Limit: 6})
	x.ok("List", err)
	x.equal("all definitions", x.names(records), []string{"a", "b", "c", "d", "e", "f"})
}

func listAge(x *run) {
	x.mustCommit(x.create("a"))
	x.pass(2)
	x.mustCommit(x.create("b"))
	x.mustCommit(x.next("a", 1))
	x.equal("started two ticks ago", x.list(saga.Query{OlderThan: x.ticks(1)}), []string{"a"})
	x.equal("started long ago", x.list(saga.Query{OlderThan: x.ticks(50)}), []string{})
	x.pass(1)
	x.equal("a tick later", x.list(saga.Query{OlderThan: x.ticks(0.5)}), []string{"a", "b"})
}

func listRecord(x *run) {
	x.mustCommit(x.create("a", wake(x.ticks(1)), lease(x.ticks(1)), attention("look"), inputs("i", "j")))
	records, err := x.store.List(x.ctx(), saga.Query{Definition: x.definition()})
	x.ok("List", err)
	if len(records) != 1 {
		x.fail("one instance exists, List answers %d", len(records))
	}
	x.same(records[0], x.load("a"), "List differs from Load")
}

func historyPages(x *run) {
	x.mustCommit(x.create("a", inputs("i", "j")), x.create("b"))
	x.mustCommit(x.next("a", 2, inputs("k", "l", "m")))
	page := func(after uint64, limit int) []uint64 {
		records, err := x.store.History(x.ctx(), x.id("a"), after, limit)
		x.ok("History", err)
		revisions := []uint64{}
		for _, h := range records {
			revisions = append(revisions, h.Revision)
		}
		return revisions
	}
	x.equal("all", page(0, 10), []uint64{1, 2, 3, 4, 5})
	x.equal("the first page", page(0, 2), []uint64{1, 2})
	x.equal("the second page", page(2, 2), []uint64{3, 4})
	x.equal("the third page", page(4, 2), []uint64{5})
	x.equal("after the last", page(5, 2), []uint64{})
	x.equal("far after the last", page(50, 2), []uint64{})
	x.equal("of no instance", len(x.history("none")), 0)
}
