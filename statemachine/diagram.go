package statemachine

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// DiagramOption changes how a machine is drawn.
type DiagramOption func(*drawing)

// Title gives the diagram a title.
func Title(title string) DiagramOption {
	return func(d *drawing) { d.title = title }
}

// Highlight marks one state, such as the one that an instance is in. An unknown
// state is not marked.
func Highlight[S ~string](state S) DiagramOption {
	return func(d *drawing) { d.marked = string(state) }
}

// Label adds what the function returns for a row to the row's arrows, below the
// event: what it runs, or why it is there. It may have several lines; an empty
// string adds none.
func Label(label func(row int) string) DiagramOption {
	return func(d *drawing) { d.label = label }
}

// drawing is what both kinds of diagram show.
type drawing struct {
	title  string
	marked string
	label  func(row int) string

	nodes  []node
	arrows []arrow // in the order of the rows, then of the states
}

type node struct {
	name, id string
	final    bool
}

type arrow struct {
	from, to string // ids
	lines    []string
	because  string
}

// Mermaid draws the machine as a Mermaid stateDiagram-v2: an arrow for each row
// and state from which the row leads on. Policies are not drawn.
func (m *Machine[S, E, D]) Mermaid(opts ...DiagramOption) string {
	return m.draw(opts).mermaid()
}

// DOT draws the machine in the language of Graphviz: an arrow for each row and
// state from which the row leads on, with Because as its tooltip. Policies are
// not drawn.
func (m *Machine[S, E, D]) DOT(opts ...DiagramOption) string {
	return m.draw(opts).dot()
}

func (m *Machine[S, E, D]) draw(opts []DiagramOption) *drawing {
	d := &drawing{}
	for _, opt := range opts {
		opt(d)
	}
	names := plain(m.states)
	for i, name := range names {
		d.nodes = append(d.nodes, node{
			name: name, id: identifier(i, names), final: m.ends[i],
		})
	}
	for i, row := range m.rows {
		if row.To == "" {
			continue
		}
		lines := m.caption(row)
		if d.label != nil {
			lines = append(lines, strings.FieldsFunc(d.label(i), func(r rune) bool { return r == '\n' || r == '\r' })...)
		}
		to := d.nodes[m.stateAt.at[string(row.To)]].id
		for _, from := range m.where[i] {
			d.arrows = append(d.arrows, arrow{d.nodes[from].id, to, lines, row.Because})
		}
	}
	return d
}

// caption writes what takes a row: its event or time, and the guard.
func (m *Machine[S, E, D]) caption(row Row[S, E, D]) []string {
	caption := string(row.On)
	if row.After > 0 {
		caption = "after " + brief(row.After)
	}
	if row.If.Name != "" {
		caption += " [" + row.If.Name + "]"
	}
	return []string{caption}
}

func (d *drawing) mermaid() string {
	var b strings.Builder
	if d.title != "" {
		fmt.Fprintf(&b, "---\ntitle: %s\n---\n", strconv.Quote(d.title)) // also a YAML string
	}
	b.WriteString("stateDiagram-v2\n")
	for _, n := range d.nodes {
		if n.id != n.name {
			fmt.Fprintf(&b, "    state \"%s\" as %s\n", mermaidText(n.name), n.id)
		}
	}
	fmt.Fprintf(&b, "    [*] --> %s\n", d.nodes[0].id) // the first state is the initial one
	for _, a := range d.arrows {
		fmt.Fprintf(&b, "    %s --> %s: %s\n", a.from, a.to, joined(a.lines, mermaidText, "<br/>"))
	}
	for _, n := range d.nodes {
		if n.final {
			fmt.Fprintf(&b, "    %s --> [*]\n", n.id)
		}
	}
	for _, n := range d.nodes {
		if n.name == d.marked {
			fmt.Fprintf(&b, "    classDef here fill:#ffe082,stroke:#e65100,stroke-width:3px\n    class %s here\n", n.id)
		}
	}
	return b.String()
}

func (d *drawing) dot() string {
	var b strings.Builder
	b.WriteString("digraph {\n    rankdir=LR;\n")
	if d.title != "" {
		fmt.Fprintf(&b, "    label=%s;\n    labelloc=t;\n", dotText(d.title))
	}
	b.WriteString("    node [shape=box, style=rounded];\n")
	// Identifiers have no spaces, so that none can be this one.
	b.WriteString("    \"the start\" [shape=point, label=\"\"];\n")
	for _, n := range d.nodes {
		attrs := "label=" + dotText(n.name)
		if n.final {
			attrs += ", peripheries=2"
		}
		if n.name == d.marked {
			attrs += `, style="rounded,filled", fillcolor="#ffe082"`
		}
		fmt.Fprintf(&b, "    %s [%s];\n", n.id, attrs)
	}
	fmt.Fprintf(&b, "    \"the start\" -> %s;\n", d.nodes[0].id)
	for _, a := range d.arrows {
		attrs := "label=" + dotText(strings.Join(a.lines, "\n"))
		if a.because != "" {
			attrs += ", tooltip=" + dotText(a.because)
		}
		fmt.Fprintf(&b, "    %s -> %s [%s];\n", a.from, a.to, attrs)
	}
	b.WriteString("}\n")
	return b.String()
}

func joined(lines []string, escape func(string) string, sep string) string {
	escaped := make([]string, len(lines))
	for i, line := range lines {
		escaped[i] = escape(line)
	}
	return strings.Join(escaped, sep)
}

// reserved are the words that Mermaid or DOT would not read as the name of a
// state, in lower case since neither minds the case.
var reserved = []string{
	"accdescr", "acctitle", "as", "choice", "class", "classdef", "click", "default", "digraph",
	"direction", "edge", "end", "fork", "graph", "hide", "href", "join", "node", "note", "root",
	"root_end", "root_start", "scale", "state", "statediagram", "strict", "style", "subgraph",
}

// identifier returns the name of a state if both languages take it as it is,
// else one made of its number, which no other state has.
func identifier(i int, names []string) string {
	if isIdentifier(names[i]) {
		return names[i]
	}
	id := "s" + strconv.Itoa(i)
	for slices.Contains(names, id) {
		id += "_"
	}
	return id
}

func isIdentifier(name string) bool {
	for i, r := range name {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == '_'
		if !letter && (i == 0 || r < '0' || r > '9') {
			return false
		}
	}
	return !slices.Contains(reserved, strings.ToLower(name))
}

// mermaidText replaces what has a meaning in Mermaid by character codes.
func mermaidText(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\n':
			b.WriteString("<br/>")
		case r < ' ' || strings.ContainsRune("\"#%&*:;<>\\`{}", r):
			fmt.Fprintf(&b, "#%d;", r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

var dotEscapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\r", "", "&", "&amp;")

func dotText(s string) string { return `"` + dotEscapes.Replace(s) + `"` }
