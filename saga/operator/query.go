package operator

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sagamill/sagamill/saga"
)

// query is what a URL asks for, read strictly: what is misspelt, empty or said twice would find too much. The first fault is its err.
type query struct {
	values url.Values
	err    error
}

func queryOf(r *http.Request, names ...string) *query {
	q := &query{}
	var err error
	if q.values, err = url.ParseQuery(r.URL.RawQuery); err != nil {
		q.fault(err)
	}
	names = append(names, "format")
	for name, values := range q.values {
		switch {
		case !slices.Contains(names, name):
			q.fault(fmt.Errorf("it has %q; it takes %s", name, strings.Join(names, ", ")))
		case len(values) > 1:
			q.fault(fmt.Errorf("it has %s twice", name))
		case values[0] == "":
			q.fault(fmt.Errorf("%s is empty", name))
		}
	}
	q.oneOf("format", "text", "json")
	return q
}

func (q *query) fault(err error) {
	if q.err == nil {
		q.err = fmt.Errorf("%w: the query: %w", saga.ErrInvalid, err)
	}
}

func (q *query) text(name string) string { return q.values.Get(name) }

func (q *query) is(name, value string) bool { return q.text(name) == value }

func (q *query) oneOf(name string, values ...string) {
	if text := q.text(name); text != "" && !slices.Contains(values, text) {
		q.fault(fmt.Errorf("%s is %s, not %q", name, strings.Join(values, " or "), text))
	}
}

func (q *query) duration(name string) time.Duration {
	if q.text(name) == "" {
		return 0
	}
	d, err := time.ParseDuration(q.text(name))
	if err == nil && d < 0 {
		err = errors.New("it is negative")
	}
	if err != nil {
		q.fault(fmt.Errorf("%s is %q: %w", name, q.text(name), err))
	}
	return d
}

func (q *query) number(name string) int {
	if q.text(name) == "" {
		return 0
	}
	n, err := strconv.Atoi(q.text(name))
	if err == nil && n < 0 {
		err = errors.New("it is negative")
	}
	if err != nil {
		q.fault(fmt.Errorf("%s is %q: %w", name, q.text(name), err))
	}
	return n
}

func (q *query) limit() int {
	n := q.number("limit")
	switch {
	case n > maxPage:
		q.fault(fmt.Errorf("limit is at most %d", maxPage))
	case n == 0:
		n = defaultPage
	}
	return n
}

// only refuses what does not go with a name that finds one saga.
func (q *query) only(name string, with string) {
	for other := range q.values {
		if other != name && other != with && other != "format" {
			q.fault(fmt.Errorf("%s finds one saga: %s goes with it, and nothing else", name, with))
		}
	}
	if q.text(with) == "" {
		q.fault(fmt.Errorf("a %s is one of a %s: say which", name, with))
	}
}
