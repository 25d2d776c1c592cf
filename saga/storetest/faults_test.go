package storetest_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/sagamill/sagamill/adapters/memory"
	"github.com/sagamill/sagamill/saga"
	"github.com/sagamill/sagamill/saga/storetest"
)

// The wrappers below are stores with one fault each.

func load(s *memory.Store, id string) (saga.Record, bool) {
	records, _ := s.Load(context.Background(), id)
	if len(records) == 0 {
		return saga.Record{}, false
	}
	return records[0], true
}

// rebase makes a transition start from a revision, whatever it expected.
func rebase(t *saga.Transition, revision uint64) {
	t.Expect = revision
	if revision > 0 {
		t.Start = nil
	}
	for i := range t.History {
		t.History[i].Revision = revision + uint64(i) + 1
	}
}

// clone copies what a fault may change.
func clone(transitions []saga.Transition) []saga.Transition {
	transitions = slices.Clone(transitions)
	for i := range transitions {
		t := &transitions[i]
		t.History = slices.Clone(t.History)
		if t.Start != nil {
			start := *t.Start
			t.Start = &start
		}
	}
	return transitions
}

type changing struct {
	*memory.Store
	change func(*memory.Store, *saga.Transition)
}

func beforeCommit(change func(*memory.Store, *saga.Transition)) func(*memory.Store, *storetest.Clock) saga.Store {
	return func(s *memory.Store, _ *storetest.Clock) saga.Store { return changing{s, change} }
}

func (s changing) Commit(ctx context.Context, transitions []saga.Transition) ([]saga.Verdict, error) {
	transitions = clone(transitions)
	for i := range transitions {
		s.change(s.Store, &transitions[i])
	}
	return s.Store.Commit(ctx, transitions)
}

type gappy struct{ *memory.Store }

func (s gappy) History(ctx context.Context, id string, after uint64, limit int) ([]saga.HistoryRecord, error) {
	records, err := s.Store.History(ctx, id, after, limit)
	return slices.DeleteFunc(records, func(h saga.HistoryRecord) bool { return h.Revision == 3 }), err
}

type wakeMover struct{ *memory.Store }

func (s wakeMover) Commit(ctx context.Context, transitions []saga.Transition) ([]saga.Verdict, error) {
	verdicts, err := s.Store.Commit(ctx, transitions)
	for i, v := range verdicts {
		if t := transitions[i]; v.Outcome == saga.Committed && t.Wake >= 0 && !t.Settled {
			_ = s.Touch(ctx, []saga.Touch{{ID: t.ID, Revision: t.Revision(), Wake: t.Wake}})
		}
	}
	return verdicts, err
}

type wakeClearer struct{ *memory.Store }

func (s wakeClearer) Commit(ctx context.Context, transitions []saga.Transition) ([]saga.Verdict, error) {
	verdicts, err := s.Store.Commit(ctx, transitions)
	for i, v := range verdicts {
		if t := transitions[i]; v.Outcome == saga.Committed && t.Wake < 0 {
			_ = s.Touch(ctx, []saga.Touch{{ID: t.ID, Revision: t.Revision(), Wake: saga.NoWake}})
		}
	}
	return verdicts, err
}

type holdless struct{ *memory.Store }

func (s holdless) Claim(ctx context.Context, claim saga.Claim) ([]saga.Record, time.Duration, error) {
	claim.Hold = 0
	return s.Store.Claim(ctx, claim)
}

type anyVersion struct{ *memory.Store }

func (s anyVersion) Claim(ctx context.Context, claim saga.Claim) ([]saga.Record, time.Duration, error) {
	var all []saga.DefinitionVersion
	for _, d := range claim.Definitions {
		for version := range 5 {
			all = append(all, saga.DefinitionVersion{Name: d.Name, Version: version})
		}
	}
	claim.Definitions = all
	return s.Store.Claim(ctx, claim)
}

type reversed struct{ *memory.Store }

func (s reversed) Commit(ctx context.Context, transitions []saga.Transition) ([]saga.Verdict, error) {
	verdicts, err := s.Store.Commit(ctx, transitions)
	slices.Reverse(verdicts)
	return verdicts, err
}

type allOrNothing struct{ *memory.Store }

func (s allOrNothing) Commit(ctx context.Context, transitions []saga.Transition) ([]saga.Verdict, error) {
	for _, t := range transitions {
		if r, ok := load(s.Store, t.ID); ok && r.Revision != t.Expect {
			return slices.Repeat([]saga.Verdict{{Outcome: saga.Conflict}}, len(transitions)), nil
		}
	}
	return s.Store.Commit(ctx, transitions)
}

type rejecting struct{ *memory.Store }

func (s rejecting) Commit(ctx context.Context, transitions []saga.Transition) ([]saga.Verdict, error) {
	for _, t := range transitions {
		if len(t.Engine) > maxBytes {
			return nil, errors.New("too large")
		}
	}
	return s.Store.Commit(ctx, transitions)
}

// timedKeys forgets start keys when their time is over, whatever became of the instance.
type timedKeys struct {
	*memory.Store
	clock *storetest.Clock
	mu    sync.Mutex
	till  map[string]time.Time
}

func (s *timedKeys) Commit(ctx context.Context, transitions []saga.Transition) ([]saga.Verdict, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	transitions = clone(transitions)
	for _, t := range transitions {
		if t.Start == nil || t.Start.StartKey == nil {
			continue
		}
		key := *t.Start.StartKey
		if till, ok := s.till[key.Key]; ok && !till.After(s.clock.Now()) {
			key.Key += till.String()
			t.Start.StartKey = &key
		} else if !ok {
			s.till[key.Key] = s.clock.Now().Add(key.TTL)
		}
	}
	return s.Store.Commit(ctx, transitions)
}

type toucher struct{ *memory.Store }

func (s toucher) Touch(ctx context.Context, touches []saga.Touch) error {
	touches = slices.Clone(touches)
	for i := range touches {
		if r, ok := load(s.Store, touches[i].ID); ok {
			touches[i].Revision = r.Revision
		}
	}
	return s.Store.Touch(ctx, touches)
}

// aliasing answers a second Load of a revision with the bytes of the first one.
type aliasing struct {
	*memory.Store
	cached sync.Map
}

func (s *aliasing) Load(ctx context.Context, ids ...string) ([]saga.Record, error) {
	records, err := s.Store.Load(ctx, ids...)
	for i := range records {
		if kept, ok := s.cached.LoadOrStore(records[i].ID, records[i]); ok && kept.(saga.Record).Revision == records[i].Revision {
			records[i].Engine = kept.(saga.Record).Engine
		}
	}
	return records, err
}

// hoarding answers with the engine state that it was given.
type hoarding struct {
	*memory.Store
	given sync.Map
}

func (s *hoarding) Commit(ctx context.Context, transitions []saga.Transition) ([]saga.Verdict, error) {
	verdicts, err := s.Store.Commit(ctx, transitions)
	for i, v := range verdicts {
		if v.Outcome == saga.Committed {
			s.given.Store(transitions[i].ID, transitions[i].Engine)
		}
	}
	return verdicts, err
}

func (s *hoarding) Load(ctx context.Context, ids ...string) ([]saga.Record, error) {
	records, err := s.Store.Load(ctx, ids...)
	for i := range records {
		if engine, ok := s.given.Load(records[i].ID); ok {
			records[i].Engine = engine.([]byte)
		}
	}
	return records, err
}

type unburier struct {
	*memory.Store
	change func(*saga.Unburial)
}

func unburying(change func(*saga.Unburial)) func(*memory.Store, *storetest.Clock) saga.Store {
	return func(s *memory.Store, _ *storetest.Clock) saga.Store { return unburier{s, change} }
}

func (s unburier) Unbury(ctx context.Context, u saga.Unburial) (int, error) {
	s.change(&u)
	return s.Store.Unbury(ctx, u)
}
