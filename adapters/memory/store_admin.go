package memory

import (
	"bytes"
	"cmp"
	"context"
	"maps"
	"slices"

	"github.com/sagamill/sagamill/adapters/internal/batch"
	"github.com/sagamill/sagamill/saga"
)

// Register implements saga.Store.
func (s *Store) Register(ctx context.Context, shape saga.Shape, replace bool) (before []byte, live int, err error) {
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, in := range s.instances {
		if in.Definition == shape.Definition && in.Version == shape.Version && !in.Settled {
			live++
		}
	}
	version := saga.DefinitionVersion{Name: shape.Definition, Version: shape.Version}
	before, known := s.shapes[version]
	if !known || live == 0 || replace {
		s.shapes[version] = append([]byte{}, shape.Names...)
	}
	return bytes.Clone(before), live, nil
}

// Delete implements saga.Store.
func (s *Store) Delete(ctx context.Context, deletions []saga.Deletion) (removed []string, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock()
	gone := map[string]bool{}
	for _, d := range deletions {
		in := s.instances[d.ID]
		if in == nil || !in.Settled || in.Revision != d.Revision {
			continue
		}
		ours := func(_ string, k *startKey) bool { return k.owner == in }
		kept := false
		for name, k := range s.startKeys {
			kept = kept || ours(name, k) && !k.free(now)
		}
		if kept {
			continue
		}
		maps.DeleteFunc(s.startKeys, ours)
		delete(s.instances, in.ID)
		delete(s.keys, businessKey{in.Definition, in.Key})
		gone[in.ID] = true
		removed = append(removed, in.ID)
	}
	s.ids = slices.DeleteFunc(s.ids, func(id string) bool { return gone[id] })
	s.sorted = 0
	return removed, nil
}

// Bury implements saga.Store.
func (s *Store) Bury(ctx context.Context, letter saga.DeadLetter) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.letters[letter.ID]; !known {
		letter.At = s.clock()
		s.letters[letter.ID] = cloneLetter(letter)
	}
	return nil
}

// DeadLetters implements saga.Store.
func (s *Store) DeadLetters(ctx context.Context, after string, limit int) ([]saga.DeadLetter, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var page []saga.DeadLetter
	for id, letter := range s.letters {
		if id > after {
			page = append(page, letter)
		}
	}
	slices.SortFunc(page, func(a, b saga.DeadLetter) int { return cmp.Compare(a.ID, b.ID) })
	page = page[:min(len(page), batch.Limit(limit))]
	for i := range page {
		page[i] = cloneLetter(page[i])
	}
	return page, nil
}

// Unbury implements saga.Store.
func (s *Store) Unbury(ctx context.Context, u saga.Unburial) (removed int, err error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	ids, until := u.IDs, s.clock().Add(-u.OlderThan)
	if len(ids) == 0 {
		for id, l := range s.letters {
			if (u.Topic == "" || l.Topic == u.Topic) && !l.At.After(until) {
				ids = append(ids, id)
			}
		}
		ids = ids[:min(len(ids), batch.Limit(u.Limit))]
	}
	before := len(s.letters)
	for _, id := range ids {
		delete(s.letters, id)
	}
	return before - len(s.letters), nil
}

func cloneLetter(letter saga.DeadLetter) saga.DeadLetter {
	letter.Metadata, letter.Payload = maps.Clone(letter.Metadata), bytes.Clone(letter.Payload)
	return letter
}
