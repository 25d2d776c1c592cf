package saga

import (
	"strings"

	"github.com/sagamill/sagamill/statemachine"
)

// Mermaid draws the definition as a Mermaid stateDiagram-v2, with the steps of each row on its arrow. With
// statemachine.Highlight(state) it shows where an instance is. A definition whose table has faults has no diagram.
func (d *Definition[S, E, D]) Mermaid(options ...statemachine.DiagramOption) string {
	if d.plan.machine == nil {
		return ""
	}
	return d.plan.machine.Mermaid(append([]statemachine.DiagramOption{statemachine.Label(d.plan.label)}, options...)...)
}

// DOT draws the definition for Graphviz; see Mermaid.
func (d *Definition[S, E, D]) DOT(options ...statemachine.DiagramOption) string {
	if d.plan.machine == nil {
		return ""
	}
	return d.plan.machine.DOT(append([]statemachine.DiagramOption{statemachine.Label(d.plan.label)}, options...)...)
}

// label says what a row runs.
func (p *plan) label(row int) string {
	if row >= len(p.rows) {
		return ""
	}
	var does []string
	if p.rows[row].compensate {
		does = append(does, "undo all")
	}
	for _, group := range p.rows[row].groups {
		names := make([]string, len(group))
		for k, s := range group {
			names[k] = s.name
		}
		does = append(does, strings.Join(names, " & "))
	}
	return strings.Join(does, ", ")
}
