package saga

import (
	"context"
	"slices"
	"strings"
	"unicode/utf8"
)

// maxName is how many bytes IDs and business keys have at most.
const maxName = 255

// storable tells whether every database takes the text for a key.
func storable(s string, most int) bool {
	return s != "" && len(s) <= most && utf8.ValidString(s) && !strings.Contains(s, "\x00")
}

// storableText is what every database takes for text.
func storableText(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, ""), "\x00", "")
}

// namesStore does not ask the store for what no instance is called: a database may refuse such a text, and the whole batch with it.
// IDs and keys come from anywhere: callers, messages, URLs.
type namesStore struct{ Store }

func (s namesStore) Load(ctx context.Context, ids ...string) ([]Record, error) {
	odd := func(id string) bool { return !storable(id, maxName) }
	if slices.ContainsFunc(ids, odd) {
		ids = slices.DeleteFunc(slices.Clone(ids), odd)
	}
	if len(ids) == 0 {
		return nil, nil
	}
	return s.Store.Load(ctx, ids...)
}

func (s namesStore) Lookup(ctx context.Context, definition, key string) (Record, error) {
	if !storable(definition, maxName) || !storable(key, maxName) {
		return Record{}, ErrNotFound
	}
	return s.Store.Lookup(ctx, definition, key)
}

func (s namesStore) Unbury(ctx context.Context, u Unburial) (int, error) {
	if len(u.IDs) > 0 {
		u.IDs = slices.DeleteFunc(slices.Clone(u.IDs), func(id string) bool { return !storable(id, 2048) })
		if len(u.IDs) == 0 {
			return 0, nil
		}
	}
	return s.Store.Unbury(ctx, u)
}

func (s namesStore) History(ctx context.Context, id string, after uint64, limit int) ([]HistoryRecord, error) {
	if !storable(id, maxName) {
		return nil, nil
	}
	return s.Store.History(ctx, id, after, limit)
}
