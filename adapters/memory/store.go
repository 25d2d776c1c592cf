package memory

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sagamill/sagamill/adapters/internal/batch"
	"github.com/sagamill/sagamill/saga"
)

// Store is a saga.Store in memory.
type Store struct {
	options

	mu        sync.Mutex
	instances map[string]*instance
	ids       []string // of all instances, for List; the first sorted of them are in order
	sorted    int
	keys      map[businessKey]*instance
	startKeys map[string]*startKey
	due       map[saga.DefinitionVersion]*dueQueue
	shapes    map[saga.DefinitionVersion][]byte
	letters   map[string]saga.DeadLetter
}

var _ saga.Store = (*Store)(nil)

// NewStore returns an empty store.
func NewStore(opts ...Option) *Store {
	return &Store{
		options:   newOptions(opts),
		instances: map[string]*instance{},
		keys:      map[businessKey]*instance{},
		startKeys: map[string]*startKey{},
		due:       map[saga.DefinitionVersion]*dueQueue{},
		shapes:    map[saga.DefinitionVersion][]byte{},
		letters:   map[string]saga.DeadLetter{},
	}
}

// An instance owns all its bytes: what comes in and what goes out is copied.
type instance struct {
	saga.Record
	history []saga.HistoryRecord // that of revision r at r-1
	inputs  map[string]struct{}
	queued  int // place in its dueQueue, -1: none
}

type businessKey struct{ definition, key string }

type startKey struct {
	saga.StartKey
	expires time.Time
	owner   *instance
}

func (k *startKey) free(now time.Time) bool { return k.owner.Settled && !k.expires.After(now) }

// clock returns the time in the precision that databases have, so that a test sees what it will see there.
func (s *Store) clock() time.Time { return s.now().UTC().Truncate(time.Microsecond) }

// Commit implements saga.Store.
func (s *Store) Commit(ctx context.Context, transitions []saga.Transition) ([]saga.Verdict, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := batch.Check(transitions); err != nil {
		return nil, fmt.Errorf("memory: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock()
	verdicts := make([]saga.Verdict, len(transitions))
	for i := range transitions {
		verdicts[i] = s.apply(&transitions[i], now)
	}
	return verdicts, nil
}

// apply checks everything before it writes anything: so a transition is written whole or not at all.
func (s *Store) apply(t *saga.Transition, now time.Time) saga.Verdict {
	if err := s.check(t); err != nil {
		return saga.Verdict{Outcome: saga.Unwritable, Err: fmt.Errorf("memory: %w", err)}
	}
	if repeated := batch.Repeated(t); repeated != nil {
		return saga.Verdict{Outcome: saga.Duplicate, Duplicates: repeated}
	}
	in := s.instances[t.ID]
	if t.Expect == 0 {
		if verdict, taken := s.taken(t.Start, now); taken {
			return verdict
		}
		if in != nil {
			existing := in.read(now)
			return saga.Verdict{Outcome: saga.Exists, Existing: &existing}
		}
		in = s.create(t, now)
	} else {
		if in == nil {
			return saga.Verdict{Outcome: saga.Conflict}
		}
		if consumed := in.consumed(t); consumed != nil {
			return saga.Verdict{Outcome: saga.Duplicate, Duplicates: consumed}
		}
		if in.Revision != t.Expect {
			return saga.Verdict{Outcome: saga.Conflict}
		}
	}
	s.write(in, t, now)
	return saga.Verdict{Outcome: saga.Committed, At: now}
}

func (s *Store) check(t *saga.Transition) error {
	if err := batch.CheckTransition(t); err != nil || s.maxBytes == 0 {
		return err
	}
	size := max(len(t.Engine), len(t.Data))
	for _, h := range t.History {
		size = max(size, len(h.Entry))
	}
	if size > s.maxBytes {
		return fmt.Errorf("transition of %q has a value of %d bytes, the limit is %d", t.ID, size, s.maxBytes)
	}
	return nil
}

// taken tells whether a new instance's keys belong to another one.
func (s *Store) taken(start *saga.Start, now time.Time) (saga.Verdict, bool) {
	if start.StartKey != nil {
		if k := s.startKeys[start.StartKey.Key]; k != nil && !k.free(now) {
			kept := saga.StartKey{Key: k.Key, Fingerprint: bytes.Clone(k.Fingerprint), Response: bytes.Clone(k.Response)}
			existing := k.owner.read(now)
			return saga.Verdict{Outcome: saga.Exists, Existing: &existing, StartKey: &kept}, true
		}
	}
	if owner := s.keys[businessKey{start.Definition, start.Key}]; owner != nil {
		existing := owner.read(now)
		return saga.Verdict{Outcome: saga.Exists, Existing: &existing}, true
	}
	return saga.Verdict{}, false
}

func (s *Store) create(t *saga.Transition, now time.Time) *instance {
	in := &instance{
		Record: saga.Record{
			ID: t.ID, Definition: t.Start.Definition, Version: t.Start.Version, Key: t.Start.Key,
			Fingerprint: bytes.Clone(t.Start.Fingerprint), CreatedAt: now,
		},
		inputs: map[string]struct{}{},
		queued: -1,
	}
	s.instances[in.ID] = in
	s.ids = append(s.ids, in.ID)
	s.keys[businessKey{in.Definition, in.Key}] = in
	if k := t.Start.StartKey; k != nil {
		s.startKeys[k.Key] = &startKey{
			StartKey: saga.StartKey{Key: k.Key, Fingerprint: bytes.Clone(k.Fingerprint), Response: bytes.Clone(k.Response)},
			expires:  now.Add(k.TTL), owner: in,
		}
	}
	return in
}

func (s *Store) write(in *instance, t *saga.Transition, now time.Time) {
	in.Revision, in.State, in.Settled, in.Attention = t.Revision(), t.State, t.Settled, t.Attention
	in.Engine, in.UpdatedAt = bytes.Clone(t.Engine), now
	if t.Data != nil {
		in.Data = bytes.Clone(t.Data)
	}
	if t.Lease != 0 {
		in.LeaseTill = now.Add(t.Lease)
	}
	for _, h := range t.History {
		in.history = append(in.history, saga.HistoryRecord{Revision: h.Revision, Input: h.Input, Entry: bytes.Clone(h.Entry), At: now})
		if h.Input != "" {
			in.inputs[h.Input] = struct{}{}
		}
	}
	wake := now.Add(t.Wake)
	switch {
	case t.Settled:
		s.wake(in, time.Time{})
	case t.Wake >= 0 && (in.WakeAt.IsZero() || wake.Before(in.WakeAt)):
		s.wake(in, wake)
	}
}

// consumed returns the inputs of t that the instance had before.
func (in *instance) consumed(t *saga.Transition) []string {
	var consumed []string
	for _, h := range t.History {
		if _, ok := in.inputs[h.Input]; ok {
			consumed = append(consumed, h.Input)
		}
	}
	return consumed
}

func (in *instance) read(now time.Time) saga.Record {
	r := in.Record
	r.Fingerprint, r.Engine, r.Data = bytes.Clone(r.Fingerprint), bytes.Clone(r.Engine), bytes.Clone(r.Data)
	r.ReadAt = now
	return r
}

// Load implements saga.Store.
func (s *Store) Load(ctx context.Context, ids ...string) ([]saga.Record, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock()
	records := make([]saga.Record, 0, len(ids))
	for _, id := range ids {
		if in := s.instances[id]; in != nil {
			records = append(records, in.read(now))
		}
	}
	return records, nil
}

// Lookup implements saga.Store.
func (s *Store) Lookup(ctx context.Context, definition, key string) (saga.Record, error) {
	if err := ctx.Err(); err != nil {
		return saga.Record{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	in := s.keys[businessKey{definition, key}]
	if in == nil {
		return saga.Record{}, saga.ErrNotFound
	}
	return in.read(s.clock()), nil
}

// List implements saga.Store.
func (s *Store) List(ctx context.Context, query saga.Query) ([]saga.Record, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sorted < len(s.ids) {
		slices.Sort(s.ids)
		s.sorted = len(s.ids)
	}
	now := s.clock()
	from, found := slices.BinarySearch(s.ids, query.After)
	if found {
		from++
	}
	var records []saga.Record
	for _, id := range s.ids[from:] {
		if in := s.instances[id]; in.matches(&query, now) {
			records = append(records, in.read(now))
			if len(records) == batch.Limit(query.Limit) {
				break
			}
		}
	}
	return records, nil
}

func (in *instance) matches(q *saga.Query, now time.Time) bool {
	return (q.Definition == "" || in.Definition == q.Definition) &&
		strings.HasPrefix(in.Key, q.KeyPrefix) &&
		(q.State == "" || in.State == q.State) &&
		(!q.Unsettled || !in.Settled) &&
		(!q.Settled || in.Settled) &&
		(q.IdleFor == 0 || !in.UpdatedAt.After(now.Add(-q.IdleFor))) &&
		(!q.NeedsAttention || in.Attention != "") &&
		(q.OlderThan == 0 || !in.CreatedAt.After(now.Add(-q.OlderThan)))
}

// History implements saga.Store.
func (s *Store) History(ctx context.Context, id string, after uint64, limit int) ([]saga.HistoryRecord, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	in := s.instances[id]
	if in == nil || after >= uint64(len(in.history)) {
		return nil, nil
	}
	page := in.history[after:]
	page = slices.Clone(page[:min(len(page), batch.Limit(limit))])
	for i := range page {
		page[i].Entry = bytes.Clone(page[i].Entry)
	}
	return page, nil
}
