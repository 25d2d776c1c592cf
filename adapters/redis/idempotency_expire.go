package redis

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	goredis "github.com/redis/go-redis/v9"

	"github.com/sagamill/sagamill/idempotency"
)

// maxPage is how many records one script looks at: the server does nothing else meanwhile.
const maxPage = 200

// Expire implements [idempotency.Store]. It finds what is over by two sorted sets, not by looking at all keys.
func (s *IdempotencyStore) Expire(ctx context.Context, limit int, live idempotency.Live) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if limit <= 0 {
		return 0, fmt.Errorf("idempotency: limit must be positive, not %d", limit)
	}
	removed, err := s.expireOver(ctx, limit)
	if err != nil || live == nil {
		return removed, err
	}
	n, err := s.expireHeld(ctx, limit-removed, live)
	return removed + n, err
}

// expireOver removes claims that were abandoned, and completed records that hold nothing.
func (s *IdempotencyStore) expireOver(ctx context.Context, limit int) (removed int, err error) {
	for removed < limit {
		page, err := s.due(ctx, s.keys.over, "-inf", min(limit-removed, maxPage))
		if err != nil || len(page) == 0 {
			return removed, err
		}
		names := make([]string, len(page))
		for i, e := range page {
			names[i] = e.name
		}
		n, err := s.forget(ctx, s.scripts.forgetOver, s.keys.over, names, micros(idempotency.AbandonedAfter))
		removed += n
		if err != nil {
			return removed, err
		}
	}
	return removed, nil
}

// expireHeld removes records that hold something of which live knows nothing.
func (s *IdempotencyStore) expireHeld(ctx context.Context, limit int, live idempotency.Live) (removed int, err error) {
	for page := newPages(); removed < limit; {
		if err := page.next(ctx, s, min(limit, maxPage)); err != nil || len(page.records) == 0 {
			return removed, err
		}
		records, err := s.read(ctx, page.records)
		if err != nil {
			return removed, err
		}
		if records, err = settledOf(ctx, records, live); err != nil {
			return removed, fmt.Errorf("idempotency: which of what is held is live: %w", err)
		}
		records = records[:min(len(records), limit-removed)]
		names, tokens := make([]string, len(records)), make([]any, len(records))
		for i, r := range records {
			names[i], tokens[i] = r.name, r.token
		}
		n, err := s.forget(ctx, s.scripts.forgetHeld, s.keys.held, names, tokens...)
		removed += n
		if err != nil {
			return removed, err
		}
	}
	return removed, nil
}

// entry is a record in an index, by its name in Redis, and the time from which on it may be removed.
type entry struct{ name, time string }

// due lists entries of an index whose time has come, the longest due first.
func (s *IdempotencyStore) due(ctx context.Context, index, from string, limit int) ([]entry, error) {
	pairs, err := s.scripts.due.Run(ctx, s.client, []string{index}, from, limit).StringSlice()
	if err == nil && len(pairs)%2 != 0 {
		err = errors.New("a record without its time")
	}
	if err != nil {
		return nil, fmt.Errorf("redis: expire: %w", err)
	}
	entries := make([]entry, 0, len(pairs)/2)
	for pair := range slices.Chunk(pairs, 2) {
		entries = append(entries, entry{pair[0], pair[1]})
	}
	return entries, nil
}

func (s *IdempotencyStore) forget(ctx context.Context, script *goredis.Script, index string, records []string, args ...any) (int, error) {
	if len(records) == 0 {
		return 0, nil
	}
	removed, err := script.Run(ctx, s.client, append([]string{index}, records...), args...).Int()
	if err != nil {
		return 0, fmt.Errorf("redis: expire: %w", err)
	}
	return removed, nil
}

// pages goes through the records that hold something, in the order of their times. Records of one time have no order that a
// page could end in, so those already seen are asked for again and left out.
type pages struct {
	from    string
	seen    map[string]bool // of the time from
	records []string        // of this page
}

func newPages() *pages { return &pages{from: "-inf", seen: map[string]bool{}} }

func (p *pages) next(ctx context.Context, s *IdempotencyStore, size int) error {
	entries, err := s.due(ctx, s.keys.held, p.from, size+len(p.seen))
	p.records = nil
	if err != nil || len(entries) == 0 {
		return err
	}
	last := entries[len(entries)-1].time
	seen := map[string]bool{}
	if last == p.from {
		seen = maps.Clone(p.seen)
	}
	for _, e := range entries {
		if !p.seen[e.name] {
			p.records = append(p.records, e.name)
		}
		if e.time == last {
			seen[e.name] = true
		}
	}
	p.from, p.seen = last, seen
	return nil
}

// heldRecord is a completed record that holds something. Its token tells whether it is still the same later.
type heldRecord struct{ name, token, holds string }

// read reads records. One that holds nothing, or is not there any more, has no token here: what it becomes meanwhile is not
// removed unasked.
func (s *IdempotencyStore) read(ctx context.Context, names []string) ([]heldRecord, error) {
	replies := make([]*goredis.SliceCmd, len(names))
	_, err := s.client.Pipelined(ctx, func(pipe goredis.Pipeliner) error {
		for i, name := range names {
			replies[i] = pipe.HMGet(ctx, name, "token", "holds")
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("redis: expire: %w", err)
	}
	records := make([]heldRecord, len(names))
	for i, reply := range replies {
		records[i].name = names[i]
		if records[i].holds, _ = reply.Val()[1].(string); records[i].holds != "" {
			records[i].token, _ = reply.Val()[0].(string)
		}
	}
	return records, nil
}

// settledOf leaves out the records of which live answers what they hold.
func settledOf(ctx context.Context, records []heldRecord, live idempotency.Live) ([]heldRecord, error) {
	holds := make([]string, 0, len(records))
	for _, r := range records {
		if r.holds != "" {
			holds = append(holds, r.holds)
		}
	}
	if len(holds) == 0 {
		return records, nil
	}
	alive, err := live(ctx, holds)
	if err != nil {
		return nil, err
	}
	isLive := make(map[string]bool, len(alive))
	for _, h := range alive {
		isLive[h] = true
	}
	return slices.DeleteFunc(records, func(r heldRecord) bool { return r.holds != "" && isLive[r.holds] }), nil
}
