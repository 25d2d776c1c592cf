package storetest

import (
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sagamill/sagamill/saga"
)

var shapeRules = []Rule{
	{Name: "kept", Text: "Register keeps a shape and answers the one kept before, nil if none", check: shapeKept},
	{Name: "live", Text: "Register counts the unsettled instances of that name and version", check: shapeLive},
	{Name: "replace", Text: "while there are unsettled instances, the old shape is kept unless replace is true", check: shapeReplace},
}

func (x *run) register(name string, version int, names string, replace bool) (string, int) {
	x.tb.Helper()
	before, live, err := x.store.Register(x.ctx(), saga.Shape{Definition: x.id(name), Version: version, Names: []byte(names)}, replace)
	x.ok("Register", err)
	if before == nil {
		return "none", live
	}
	return string(before), live
}

func (x *run) wantShape(name string, version int, names string, replace bool, wantBefore string, wantLive int) {
	x.tb.Helper()
	before, live := x.register(name, version, names, replace)
	x.equal("the shape before", before, wantBefore)
	x.equal("the number of unsettled instances", live, wantLive)
}

func shapeKept(x *run) {
	x.wantShape("definition", 1, "one", false, "none", 0)
	x.wantShape("definition", 1, "two", false, "one", 0)
	x.wantShape("definition", 2, "three", false, "none", 0)
	x.wantShape("other", 1, "four", true, "none", 0)
	x.wantShape("definition", 1, "five", true, "two", 0)
	x.wantShape("definition", 1, "five", false, "five", 0)
	x.wantShape("definition", 2, "six", false, "three", 0)
}

func shapeLive(x *run) {
	x.wantShape("definition", 1, "one", false, "none", 0)
	x.mustCommit(x.create("a"), x.create("b"), x.create("c", settled), x.create("d", version(2)), x.create("e", of(x.id("other"))))
	x.wantShape("definition", 1, "one", false, "one", 2)
	x.wantShape("definition", 2, "two", false, "none", 1)
	x.mustCommit(x.next("a", 1, settled))
	x.wantShape("definition", 1, "one", false, "one", 1)
	x.mustCommit(x.next("c", 1), x.next("d", 1, settled))
	x.wantShape("definition", 1, "one", false, "one", 2)
	x.wantShape("definition", 2, "two", true, "two", 0)
}

func shapeReplace(x *run) {
	x.wantShape("definition", 1, "one", false, "none", 0)
	x.mustCommit(x.create("a"))
	x.wantShape("definition", 1, "two", false, "one", 1)
	x.wantShape("definition", 1, "three", true, "one", 1)
	x.wantShape("definition", 1, "four", false, "three", 1)
	x.mustCommit(x.next("a", 1, settled))
	x.wantShape("definition", 1, "five", false, "three", 0)
	x.wantShape("definition", 1, "six", false, "five", 0)
}

var letterRules = []Rule{
	{Name: "kept", Text: "Bury keeps the whole message, with the store's time", check: letterKept},
	{Name: "again", Text: "burying the same ID again changes nothing", check: letterAgain},
	{Name: "pages", Text: "DeadLetters answers those after an ID, in order, at most limit", check: letterPages},
	{Name: "removed", Text: "Unbury removes the letters with the IDs, no others, and says how many there were", check: letterRemoved},
	{Name: "removed by age", Text: "Unbury without IDs removes letters of the topic that are old, by the store's time, at most limit", check: letterRemovedByAge},
}

func (x *run) unbury(u saga.Unburial) int {
	x.tb.Helper()
	n, err := x.store.Unbury(x.ctx(), u)
	x.ok("Unbury", err)
	return n
}

// wantLetters checks which of the letters a, b, c, d are there.
func (x *run) wantLetters(want ...string) {
	x.tb.Helper()
	names := []string{}
	for _, l := range x.letters(x.prefix, 4) {
		if len(l.ID) > len(x.prefix) && l.ID[:len(x.prefix)] == x.prefix { // others may use the database
			names = append(names, l.ID[len(x.prefix):])
		}
	}
	x.equal("the dead letters", names, append([]string{}, want...))
}

func letterRemoved(x *run) {
	for _, name := range []string{"a", "b", "c"} {
		x.bury(saga.DeadLetter{ID: x.id(name)})
	}
	x.equal("removed", x.unbury(saga.Unburial{IDs: []string{x.id("c"), x.id("nobody"), x.id("a")}}), 2)
	x.wantLetters("b")
	x.equal("removed again", x.unbury(saga.Unburial{IDs: []string{x.id("c")}}), 0)
	x.bury(saga.DeadLetter{ID: x.id("c"), Topic: "again"})
	x.wantLetters("b", "c")
}

func letterRemovedByAge(x *run) {
	topic := x.id("topic")
	x.bury(saga.DeadLetter{ID: x.id("a"), Topic: topic})
	x.bury(saga.DeadLetter{ID: x.id("b"), Topic: x.id("other")})
	x.bury(saga.DeadLetter{ID: x.id("c"), Topic: topic})
	x.pass(2)
	x.bury(saga.DeadLetter{ID: x.id("d"), Topic: topic})
	x.equal("removed", x.unbury(saga.Unburial{Topic: topic, OlderThan: x.ticks(1), Limit: 1}), 1)
	x.equal("removed", x.unbury(saga.Unburial{Topic: topic, OlderThan: x.ticks(1), Limit: 10}), 1)
	x.wantLetters("b", "d")
	x.equal("removed", x.unbury(saga.Unburial{Topic: topic, OlderThan: x.ticks(1)}), 0)
	x.equal("removed", x.unbury(saga.Unburial{Topic: topic}), 1)
	x.wantLetters("b")
}

func (x *run) bury(letter saga.DeadLetter) {
	x.tb.Helper()
	x.ok("Bury", x.store.Bury(x.ctx(), letter))
}

func (x *run) letters(after string, limit int) []saga.DeadLetter {
	x.tb.Helper()
	letters, err := x.store.DeadLetters(x.ctx(), after, limit)
	x.ok("DeadLetters", err)
	return letters
}

func letterKept(x *run) {
	now := x.mustCommit(x.create("a"))
	letter := saga.DeadLetter{
		ID: x.id("l1"), Topic: "orders", Reason: "it is \"broken\"", Payload: []byte{0, 255, 'x'},
		Metadata: map[string]string{"correlation_id": "c\x01", "ü": "", "": "ö"},
	}
	bare := saga.DeadLetter{ID: x.id("l2")}
	x.bury(letter)
	x.bury(bare)
	got := x.letters(x.prefix, 2)
	opts := cmp.Options{cmpopts.EquateEmpty(), cmpopts.IgnoreFields(saga.DeadLetter{}, "At")}
	if diff := cmp.Diff([]saga.DeadLetter{letter, bare}, got, opts); diff != "" {
		x.fail("the dead letters differ (-want +got):\n%s", diff)
	}
	x.at("At", got[0].At, now)
}

func letterAgain(x *run) {
	x.bury(saga.DeadLetter{ID: x.id("l"), Topic: "one", Payload: []byte("one")})
	before := x.letters(x.prefix, 1)
	x.pass(1)
	x.bury(saga.DeadLetter{ID: x.id("l"), Topic: "two", Payload: []byte("two"), Metadata: map[string]string{"k": "v"}})
	if diff := cmp.Diff(before, x.letters(x.prefix, 1), equal...); diff != "" {
		x.fail("the second burial changed the letter (-before +after):\n%s", diff)
	}
}

func letterPages(x *run) {
	for _, name := range []string{"c", "a", "d", "b"} {
		x.bury(saga.DeadLetter{ID: x.id(name)})
	}
	page := func(after string, limit int) (names []string) {
		for _, l := range x.letters(after, limit) {
			names = append(names, l.ID[len(x.prefix):])
		}
		return names
	}
	x.equal("the first page", page(x.prefix, 3), []string{"a", "b", "c"})
	x.equal("the second page", page(x.id("b"), 2), []string{"c", "d"})
}
