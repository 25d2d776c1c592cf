package memory

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/sagamill/sagamill/idempotency"
)

// IdempotencyStore is an idempotency.Store in memory. It grows until Expire is called.
type IdempotencyStore struct {
	options

	mu      sync.Mutex
	last    idempotency.Token
	records map[idempotency.Key]idempotency.Record
}

var _ idempotency.Store = (*IdempotencyStore)(nil)

// NewIdempotencyStore returns an empty store.
func NewIdempotencyStore(opts ...Option) *IdempotencyStore {
	return &IdempotencyStore{options: newOptions(opts), records: map[idempotency.Key]idempotency.Record{}}
}

// Begin implements [idempotency.Store].
func (s *IdempotencyStore) Begin(ctx context.Context, key idempotency.Key, f idempotency.Fingerprint, lease time.Duration) (idempotency.Claim, error) {
	if err := cmp.Or(ctx.Err(), key.Validate(), idempotency.ValidateLease(lease)); err != nil {
		return idempotency.Claim{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	record, found := s.records[key]
	if found {
		if claim, free := record.Judge(f, now); !free {
			claim.Response = cloneResponse(claim.Response)
			return claim, nil
		}
	}
	s.last++
	s.records[key] = record.Claimed(f, s.last, now.Add(lease))
	return idempotency.Claim{State: idempotency.Acquired, Token: s.last}, nil
}

// Renew implements [idempotency.Store].
func (s *IdempotencyStore) Renew(ctx context.Context, key idempotency.Key, token idempotency.Token, lease time.Duration) error {
	if err := cmp.Or(ctx.Err(), idempotency.ValidateLease(lease)); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	record := s.records[key]
	if err := record.Holder(token); err != nil {
		return err
	}
	record.Until = s.now().Add(lease)
	s.records[key] = record
	return nil
}

// Complete implements [idempotency.Store].
func (s *IdempotencyStore) Complete(ctx context.Context, key idempotency.Key, token idempotency.Token, c idempotency.Completion) error {
	if err := cmp.Or(ctx.Err(), c.Validate()); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	record := s.records[key]
	if record.Completed && record.Token == token {
		return nil
	}
	if err := record.Holder(token); err != nil {
		return err
	}
	record.Completed = true
	record.Until = s.now().Add(c.TTL)
	record.Response = cloneResponse(c.Response)
	record.Holds = c.Holds
	s.records[key] = record
	return nil
}

// Release implements [idempotency.Store].
func (s *IdempotencyStore) Release(ctx context.Context, key idempotency.Key, token idempotency.Token) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.records[key].Holder(token); err != nil {
		return err
	}
	delete(s.records, key)
	return nil
}

// Expire implements [idempotency.Store].
func (s *IdempotencyStore) Expire(ctx context.Context, limit int, live idempotency.Live) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if limit <= 0 {
		return 0, fmt.Errorf("idempotency: limit must be positive, not %d", limit)
	}
	over, held := s.removable()
	removed := s.remove(over, limit)
	if live == nil {
		return removed, nil
	}
	for page := range slices.Chunk(held, limit) {
		if removed == limit {
			break
		}
		holds := make([]string, len(page))
		for i, r := range page {
			holds[i] = r.holds
		}
		alive, err := live(ctx, holds)
		if err != nil {
			return removed, fmt.Errorf("idempotency: which of what is held is live: %w", err)
		}
		isLive := make(map[string]bool, len(alive))
		for _, h := range alive {
			isLive[h] = true
		}
		page = slices.DeleteFunc(page, func(r removable) bool { return isLive[r.holds] })
		removed += s.remove(page, limit-removed)
	}
	return removed, nil
}

// removable is a record that may be removed as long as it has this token.
type removable struct {
	key   idempotency.Key
	token idempotency.Token
	until time.Time
	holds string
}

// removable lists what is over, the longest first, apart by whether it holds something.
func (s *IdempotencyStore) removable() (over, held []removable) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	for key, record := range s.records {
		if !record.Removable(now) {
			continue
		}
		r := removable{key, record.Token, record.Until, record.Holds}
		if r.holds == "" {
			over = append(over, r)
		} else {
			held = append(held, r)
		}
	}
	byAge := func(a, b removable) int {
		return cmp.Or(a.until.Compare(b.until), cmp.Compare(a.token, b.token))
	}
	slices.SortFunc(over, byAge)
	slices.SortFunc(held, byAge)
	return over, held
}

// remove removes the first limit of records that are still there and still over.
func (s *IdempotencyStore) remove(records []removable, limit int) (removed int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	for _, r := range records {
		if removed == limit {
			break
		}
		if current, found := s.records[r.key]; found && current.Token == r.token && current.Removable(now) {
			delete(s.records, r.key)
			removed++
		}
	}
	return removed
}

func cloneResponse(r idempotency.Response) idempotency.Response {
	r.Header = r.Header.Clone()
	r.Body = bytes.Clone(r.Body)
	return r
}
