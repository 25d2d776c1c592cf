package operator

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
)

// What is shown, for a terminal.

// String implements fmt.Stringer.
func (p page) String() string {
	return table(func(row func(...any)) {
		row("ID", "DEFINITION", "KEY", "STATE", "IDLE SINCE", "ATTENTION")
		for _, s := range p.Sagas {
			row(s.ID, fmt.Sprintf("%s v%d", s.Definition, s.Version), s.Key, s.where(), when(s.UpdatedAt), s.Attention)
		}
		if p.Next != "" {
			row("more: after=" + url.QueryEscape(p.Next))
		}
	})
}

// where says in which state a saga is, and whether it is to stay there.
func (s summary) where() string {
	switch {
	case s.CompensatingTo != "":
		return s.State + ", compensating to " + s.CompensatingTo
	case s.Settled:
		return s.State + ", settled"
	}
	return s.State
}

// String implements fmt.Stringer.
func (d details) String() string {
	head := table(func(row func(...any)) {
		row("saga", fmt.Sprintf("%s version %d, %s", d.Definition, d.Version, d.Key))
		row("id", d.ID)
		row("state", fmt.Sprintf("%s, at revision %d", d.where(), d.Revision))
		row("since", fmt.Sprintf("%s, started %s", when(d.UpdatedAt), when(d.CreatedAt)))
		row("attention", orNone(d.Attention))
		row("cause", orNone(d.Cause))
		row("data", d.Data)
		row("would undo", orNone(undoOrder(d.WouldUndo)))
	})
	steps := table(func(row func(...any)) {
		row("STEP", "RUN", "CLASS", "STATUS", "ATTEMPTS", "UNDOS", "REASON")
		for _, s := range d.Steps {
			status := s.Status
			if s.Stuck {
				status += ", stuck"
			}
			attempts := fmt.Sprint(s.Attempts)
			if s.Faults > 0 { // the definition's: they cost nothing of the budget, and are mended by a deployment
				attempts += fmt.Sprintf(", %d by faults of the definition", s.Faults)
			}
			row(s.Name, s.Run, s.Class, status, attempts, s.Undos, s.Reason)
		}
	})
	parts := []string{head, steps}
	if len(d.Waiting) > 0 {
		parts = append(parts, table(func(row func(...any)) {
			row("EVENT THAT WAITS", "SOURCE", "ID", "WHY", "PAYLOAD")
			for _, w := range d.Waiting {
				why := w.Why
				if w.Buffered {
					why = "it fits no state so far"
				}
				row(w.Event, w.Source, w.ID, why, w.Payload)
			}
		}))
	}
	if len(d.Timers) > 0 {
		parts = append(parts, table(func(row func(...any)) {
			row("TIMER", "DUE")
			for _, t := range d.Timers {
				row(t.Name, when(t.Due))
			}
		}))
	}
	return strings.Join(parts, "\n")
}

// String implements fmt.Stringer.
func (h history) String() string {
	var b strings.Builder
	for _, e := range h.Entries {
		fmt.Fprintln(&b, e.Entry)
	}
	if h.Next != 0 {
		fmt.Fprintf(&b, "more: after=%d\n", h.Next)
	}
	return b.String()
}

// String implements fmt.Stringer.
func (l letters) String() string {
	return table(func(row func(...any)) {
		row("ID", "TOPIC", "AT", "REASON", "PAYLOAD")
		for _, d := range l.DeadLetters {
			row(d.ID, d.Topic, when(d.At), d.Reason, d.Payload)
		}
		if l.Next != "" {
			row("more: after=" + url.QueryEscape(l.Next))
		}
	})
}

func undoOrder(steps [][]string) string {
	var order []string
	for _, together := range steps {
		order = append(order, strings.Join(together, " and "))
	}
	return strings.Join(order, ", then ")
}

func when(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// table lines up the cells of rows.
func table(fill func(row func(cells ...any))) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fill(func(cells ...any) {
		line := make([]string, len(cells))
		for k, c := range cells {
			line[k] = printable(fmt.Sprint(c))
		}
		fmt.Fprintln(w, strings.Join(line, "\t"))
	})
	_ = w.Flush() // a Builder takes everything
	return atLineEnds.ReplaceAllString(b.String(), "")
}

var atLineEnds = regexp.MustCompile(`(?m) +$`)

// printable leaves out what would move a terminal's cursor, or turn its text around: reasons and keys come from everywhere.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsGraphic(r) {
			return ' '
		}
		return r
	}, s)
}
