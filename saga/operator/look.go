package operator

import (
	"errors"
	"net/http"

	"github.com/sagamill/sagamill/saga"
)

// The calls that only look.

func (d *desk) list(_ string, r *http.Request) (any, error) {
	q := queryOf(r, "definition", "key", "key-prefix", "state", "settled", "attention", "older-than", "idle-for", "limit", "after")
	find := saga.Query{
		Definition: q.text("definition"), KeyPrefix: q.text("key-prefix"), State: q.text("state"),
		Settled: q.is("settled", "true"), Unsettled: q.is("settled", "false"), NeedsAttention: q.is("attention", "true"),
		OlderThan: q.duration("older-than"), IdleFor: q.duration("idle-for"), After: q.text("after"), Limit: q.limit(),
	}
	q.oneOf("settled", "true", "false")
	q.oneOf("attention", "true")
	key := q.text("key")
	if key != "" {
		q.only("key", "definition")
	}
	if q.err != nil {
		return nil, q.err
	}
	if key == "" {
		found, next, err := d.o.List(r.Context(), find)
		return newPage(found, next), err
	}
	i, err := d.o.Lookup(r.Context(), find.Definition, key)
	if errors.Is(err, saga.ErrNotFound) {
		return newPage(nil, ""), nil
	}
	return newPage([]saga.Instance{i}, ""), err
}

func (d *desk) get(_ string, r *http.Request) (any, error) {
	if q := queryOf(r); q.err != nil {
		return nil, q.err
	}
	i, err := d.o.Get(r.Context(), r.PathValue("id"))
	return newDetails(i), err
}

func (d *desk) history(_ string, r *http.Request) (any, error) {
	q := queryOf(r, "after", "limit", "last")
	id, after, limit, last := r.PathValue("id"), uint64(q.number("after")), q.limit(), uint64(q.number("last"))
	if q.err != nil {
		return nil, q.err
	}
	if after > 0 || last > 0 {
		i, err := d.o.Get(r.Context(), id)
		if err != nil {
			return nil, err
		}
		if last > 0 {
			after = max(after, i.Revision-min(i.Revision, last)) // revisions count the entries
		}
	}
	entries, err := d.o.History(r.Context(), id, after, limit)
	return newHistory(entries, limit), err
}

func (d *desk) deadLetters(_ string, r *http.Request) (any, error) {
	q := queryOf(r, "after", "limit")
	after, limit := q.text("after"), q.limit()
	if q.err != nil {
		return nil, q.err
	}
	letters, err := d.o.DeadLetters(r.Context(), after, limit)
	return newLetters(letters, limit), err
}
