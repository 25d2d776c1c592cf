package storetest

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sagamill/sagamill/saga"
)

var concurrencyRules = []Rule{
	{Name: "one instance", Text: "of transitions from one revision that race only one is committed: the history is a path without a gap", check: raceTransitions},
	{Name: "overlapping batches", Text: "batches that share instances do not block each other for ever, and lose nothing", check: raceBatches},
	{Name: "one input", Text: "an input that is brought many times at once is consumed once", check: raceInput},
	{Name: "one business key", Text: "of starts with one business key that race only one is committed", check: raceStarts(false)},
	{Name: "one start key", Text: "of starts with one start key that race only one is committed", check: raceStarts(true)},
	{Name: "claims", Text: "no two claims that race take the same instance", check: raceClaims},
}

const racers = 16

// race calls f at the same time many times. f must not fail the test, but return what is wrong.
func (x *run) race(f func(ctx context.Context, racer int) error) {
	x.tb.Helper()
	ctx, cancel := context.WithTimeout(x.ctx(), time.Minute)
	defer cancel()
	errs := make([]error, racers)
	var start, done sync.WaitGroup
	start.Add(1)
	for i := range racers {
		done.Go(func() {
			start.Wait()
			errs[i] = f(ctx, i)
		})
	}
	start.Done()
	done.Wait()
	for i, err := range errs {
		if err != nil {
			x.fail("goroutine %d of %d: %v", i, racers, err)
		}
	}
}

// commitRacing commits one transition, again as long as the store is busy.
func (x *run) commitRacing(ctx context.Context, t saga.Transition) (saga.Verdict, error) {
	for {
		verdicts, err := x.store.Commit(ctx, []saga.Transition{t})
		if err != nil {
			return saga.Verdict{}, fmt.Errorf("Commit: %w", err)
		}
		if len(verdicts) != 1 {
			return saga.Verdict{}, fmt.Errorf("Commit of one transition answers %d verdicts", len(verdicts))
		}
		if verdicts[0].Outcome != saga.Busy {
			return verdicts[0], nil
		}
		if err := ctx.Err(); err != nil {
			return saga.Verdict{}, fmt.Errorf("the store is always busy: %w", err)
		}
	}
}

// advance brings one record into an instance's history, against all who want the same.
func (x *run) advance(ctx context.Context, name, input string) error {
	for {
		records, err := x.store.Load(ctx, x.id(name))
		if err != nil || len(records) != 1 {
			return fmt.Errorf("Load answers %d records, error %w", len(records), err)
		}
		v, err := x.commitRacing(ctx, x.next(name, records[0].Revision, inputs(input), data([]byte(input))))
		if err != nil {
			return err
		}
		switch v.Outcome {
		case saga.Committed:
			return nil
		case saga.Conflict:
		default:
			return fmt.Errorf("transition from revision %d: the verdict is %v (%v)", records[0].Revision, v.Outcome, v.Duplicates)
		}
	}
}

func raceTransitions(x *run) {
	const each = 5
	x.mustCommit(x.create("a"))
	x.raceOnce("a")
	x.race(func(ctx context.Context, racer int) error {
		for i := range each {
			if err := x.advance(ctx, "a", fmt.Sprintf("input %d of %d", i, racer)); err != nil {
				return err
			}
		}
		return nil
	})
	x.path("a", racers*each+2)
	history := x.history("a")
	seen := map[string]bool{}
	for _, h := range history {
		seen[h.Input] = true
		if want := entry(x.id("a"), h.Revision); !bytes.Equal(h.Entry, want) {
			x.fail("revision %d holds %q: it was decided from another revision than the one before", h.Revision, h.Entry)
		}
	}
	x.equal("the number of different inputs in the history", len(seen), racers*each+2)
	a := x.load("a")
	x.equal("the revision", a.Revision, uint64(racers*each+2))
	x.equal("the data, which is that of the last record", string(a.Data), history[len(history)-1].Input)
}

// raceOnce lets all commit from revision 1, of which one may succeed.
func (x *run) raceOnce(name string) {
	x.tb.Helper()
	var committed atomic.Int32
	x.race(func(ctx context.Context, racer int) error {
		v, err := x.commitRacing(ctx, x.next(name, 1, inputs(fmt.Sprintf("first input of %d", racer))))
		switch {
		case err != nil:
			return err
		case v.Outcome == saga.Committed:
			committed.Add(1)
		case v.Outcome != saga.Conflict:
			return fmt.Errorf("the verdict is %v", v.Outcome)
		}
		return nil
	})
	x.equal("how many of the transitions from one revision were committed", committed.Load(), int32(1))
}

func raceBatches(x *run) {
	const instances, rounds = 12, 4
	var batch []saga.Transition
	for i := range instances {
		batch = append(batch, x.create(fmt.Sprintf("i%02d", i)))
	}
	x.mustCommit(batch...)
	var mu sync.Mutex
	committed := map[string]uint64{}
	x.race(func(ctx context.Context, racer int) error {
		for range rounds {
			var batch []saga.Transition
			for i := racer % 3; i < instances; i += 1 + racer%2 {
				name := fmt.Sprintf("i%02d", i)
				records, err := x.store.Load(ctx, x.id(name))
				if err != nil || len(records) != 1 {
					return fmt.Errorf("Load answers %d records, error %w", len(records), err)
				}
				batch = append(batch, x.next(name, records[0].Revision, inputs("", "")))
			}
			verdicts, err := x.store.Commit(ctx, batch)
			if err != nil || len(verdicts) != len(batch) {
				return fmt.Errorf("Commit of %d transitions answers %d verdicts, error %w", len(batch), len(verdicts), err)
			}
			mu.Lock()
			for i, v := range verdicts {
				if v.Outcome == saga.Committed {
					committed[batch[i].ID] += 2
				}
			}
			mu.Unlock()
		}
		return nil
	})
	for i := range instances {
		name := fmt.Sprintf("i%02d", i)
		x.path(name, committed[x.id(name)]+1)
		x.equal("the revision of "+name, x.load(name).Revision, committed[x.id(name)]+1)
	}
}

func raceInput(x *run) {
	x.mustCommit(x.create("a"))
	var mu sync.Mutex
	committed := 0
	x.race(func(ctx context.Context, racer int) error {
		for {
			records, err := x.store.Load(ctx, x.id("a"))
			if err != nil || len(records) != 1 {
				return fmt.Errorf("Load answers %d records, error %w", len(records), err)
			}
			v, err := x.commitRacing(ctx, x.next("a", records[0].Revision, inputs("", "pay")))
			switch {
			case err != nil:
				return err
			case v.Outcome == saga.Duplicate:
				return nil
			case v.Outcome == saga.Committed:
				mu.Lock()
				committed++
				mu.Unlock()
				return nil
			case v.Outcome != saga.Conflict:
				return fmt.Errorf("the verdict is %v", v.Outcome)
			}
		}
	})
	x.equal("how often the input was consumed", committed, 1)
	x.path("a", 3)
}

func raceStarts(byStartKey bool) func(x *run) {
	return func(x *run) {
		verdicts := make([]saga.Verdict, racers)
		x.race(func(ctx context.Context, racer int) (err error) {
			same := key(x.id("k"))
			if byStartKey {
				same = withStartKey(x.id("sk"), time.Hour)
			}
			verdicts[racer], err = x.commitRacing(ctx, x.create(fmt.Sprintf("i%02d", racer), same))
			return err
		})
		winner := ""
		for i, v := range verdicts {
			if v.Outcome == saga.Committed {
				if winner != "" {
					x.fail("both %s and i%02d were committed with the same key", winner, i)
				}
				winner = fmt.Sprintf("i%02d", i)
			}
		}
		if winner == "" {
			x.fail("none of %d starts with the same key was committed", racers)
		}
		for i, v := range verdicts {
			switch name := fmt.Sprintf("i%02d", i); {
			case name == winner:
			case byStartKey:
				x.heldBy(v, x.id("sk"), winner)
				x.missing(name)
			default:
				x.existing(v, winner)
				x.missing(name)
			}
		}
	}
}

func raceClaims(x *run) {
	const instances = 60
	var batch []saga.Transition
	for i := range instances {
		batch = append(batch, x.create(fmt.Sprintf("i%02d", i), wake(0)))
	}
	x.mustCommit(batch...)
	claim := saga.Claim{Definitions: []saga.DefinitionVersion{{Name: x.definition(), Version: 1}}, Limit: 3, Hold: time.Hour}
	var mu sync.Mutex
	taken := map[string]int{}
	sweep := func(ctx context.Context, racer int) error {
		for range instances {
			records, next, err := x.store.Claim(ctx, claim)
			if err != nil {
				return fmt.Errorf("Claim: %w", err)
			}
			mu.Lock()
			for _, r := range records {
				taken[r.ID]++
			}
			mu.Unlock()
			if len(records) == 0 && next != 0 {
				return nil
			}
		}
		return nil
	}
	x.race(sweep)
	x.ok("sweep", sweep(x.ctx(), 0)) // what the racers left to each other
	x.equal("the number of instances claimed", len(taken), instances)
	for id, times := range taken {
		if times != 1 {
			x.fail("%s was claimed %d times", id, times)
		}
	}
}

var bytesRules = []Rule{
	{Name: "in", Text: "a store keeps no bytes that it was given", check: bytesIn},
	{Name: "out", Text: "bytes and records that a store returns belong to the caller", check: bytesOut},
	{Name: "any", Text: "bytes are stored as they are, zero bytes and what is no UTF-8 included; strings are any valid UTF-8", check: anyBytes},
	{Name: "large", Text: "data of a megabyte is data", check: largeBytes},
}

func scribble(all ...[]byte) {
	for _, b := range all {
		for i := range b {
			b[i] ^= 0xff
		}
	}
}

func bytesIn(x *run) {
	t := x.create("a", withStartKey(x.id("sk"), time.Hour))
	x.mustCommit(t)
	before, history := x.load("a"), x.history("a")
	sk := t.Start.StartKey
	scribble(t.Engine, t.Data, t.Start.Fingerprint, t.History[0].Entry, sk.Fingerprint, sk.Response)
	t.History[0] = saga.HistoryRecord{}
	x.unchanged("a", before, history, "writing to the transition after Commit")
	x.heldBy(x.commit(x.create("b", withStartKey(x.id("sk"), time.Hour)))[0], x.id("sk"), "a")

	t = x.next("a", 1, data([]byte("data")))
	x.mustCommit(t)
	before, history = x.load("a"), x.history("a")
	scribble(t.Engine, t.Data, t.History[0].Entry)
	x.unchanged("a", before, history, "writing to the transition after Commit")

	letter := saga.DeadLetter{ID: x.id("l"), Payload: []byte("payload"), Metadata: map[string]string{"k": "v"}}
	x.bury(letter)
	scribble(letter.Payload)
	letter.Metadata["k"] = "other"
	x.equal("the payload", string(x.letters(x.prefix, 1)[0].Payload), "payload")
	x.equal("the metadata", x.letters(x.prefix, 1)[0].Metadata, map[string]string{"k": "v"})

	names := []byte("names")
	_, _, err := x.store.Register(x.ctx(), saga.Shape{Definition: x.id("d"), Version: 1, Names: names}, false)
	x.ok("Register", err)
	scribble(names)
	x.wantShape("d", 1, "names", false, "names", 0)
}

func bytesOut(x *run) {
	x.mustCommit(x.create("a", wake(0), withStartKey(x.id("sk"), time.Hour)))
	before, history := x.load("a"), x.history("a")
	records, err := x.store.List(x.ctx(), saga.Query{Definition: x.definition()})
	x.ok("List", err)
	found, err := x.store.Lookup(x.ctx(), x.definition(), x.id("key-a"))
	x.ok("Lookup", err)
	v := x.commit(x.create("b", withStartKey(x.id("sk"), time.Hour)))[0]
	x.heldBy(v, x.id("sk"), "a")
	for _, r := range append(records, found, x.load("a"), *v.Existing) {
		scribble(r.Engine, r.Data, r.Fingerprint)
	}
	scribble(v.StartKey.Fingerprint, v.StartKey.Response)
	h := x.history("a")
	scribble(h[0].Entry)
	h[0] = saga.HistoryRecord{}
	x.unchanged("a", before, history, "writing to what the store returned")
	x.heldBy(x.commit(x.create("b", withStartKey(x.id("sk"), time.Hour)))[0], x.id("sk"), "a")

	x.bury(saga.DeadLetter{ID: x.id("l"), Payload: []byte("payload"), Metadata: map[string]string{"k": "v"}})
	l := x.letters(x.prefix, 1)
	scribble(l[0].Payload)
	l[0].Metadata["k"] = "other"
	x.equal("the payload", string(x.letters(x.prefix, 1)[0].Payload), "payload")
	x.equal("the metadata", x.letters(x.prefix, 1)[0].Metadata, map[string]string{"k": "v"})
}

func anyBytes(x *run) {
	weird := []byte{0, 1, 0xff, 0xfe, '\'', '"', '\\', '\n', 0}
	const text = `it's "ü" \ 世界 %_; --`
	t := x.create("a "+text, key(x.id(text)), state(text), attention(text), of(x.id(text)), inputs(text))
	t.Engine, t.Data, t.Start.Fingerprint, t.History[0].Entry = weird, weird, weird, weird
	x.mustCommit(t)
	r := x.load("a " + text)
	x.equal("key, state, attention and definition", []string{r.Key, r.State, r.Attention, r.Definition}, []string{x.id(text), text, text, x.id(text)})
	h := x.history("a " + text)
	for _, got := range [][]byte{r.Engine, r.Data, r.Fingerprint, h[0].Entry} {
		x.equal("bytes", got, weird)
	}
	x.equal("the input", h[0].Input, text)
	x.want(x.commit(x.next("a "+text, 1, inputs(text)))[0], saga.Duplicate, "an input of many characters")
}

func largeBytes(x *run) {
	large := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	x.mustCommit(x.create("a", data(large)))
	x.mustCommit(x.next("a", 1))
	if got := x.load("a").Data; !bytes.Equal(got, large) {
		x.fail("%d bytes of data came back as %d, or different", len(large), len(got))
	}
}
