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

func cloneLetter(letter saga.DeadLetter) saga.DeadLetter {
	letter.Metadata, letter.Payload = maps.Clone(letter.Metadata), bytes.Clone(letter.Payload)
	return letter
}
