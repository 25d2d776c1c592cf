package saga

import (
	"context"
	"time"

	"github.com/sagamill/sagamill/compensation"
	"github.com/sagamill/sagamill/statemachine"
)

// plan is a definition as the engine runs it: the typed forms (Linear, Define) are compiled to it, with the users' types
// wrapped into functions of bytes. It is immutable. Whatever is stored refers to its parts by name, never by index.
type plan struct {
	name    string
	version int
	machine *statemachine.Machine[string, string, folded]
	rows    []rowPlan
	byName  map[string]*rowPlan // rows
	steps   map[string]*stepPlan
	events  map[string]*eventPlan // from outside
	start   string                // event raised by Start; may be empty
	failed  map[string]bool       // the ends that compensate: failed, cancelled

	// readable tells whether bytes are data of the definition's type.
	readable func(c Codec, data []byte) error
	// readsAll tells whether nothing in them would be left out.
	readsAll func(c Codec, data []byte) error
	// isData tells whether a value is of the data's type, and names that type.
	isData func(v any) (ok bool, want string)
}

// folded is the data that guards look at: the saga's data after the event was folded in.
type folded struct {
	codec Codec
	data  document
}

type rowPlan struct {
	name       string // from/on, unique
	index      int
	from       string
	on         string
	guarded    bool
	after      time.Duration
	to         string
	groups     [][]*stepPlan // in order; the steps of a group run side by side
	rejected   string        // the event of a rejection; empty: each step's own
	compensate bool
	interrupts bool
	policy     statemachine.Policy
}

// identity tells declarations of steps apart: two steps of one name in a definition must be one declaration.
type identity struct{ _ byte }

type stepPlan struct {
	id      *identity
	name    string
	class   compensation.Class
	action  effectPlan
	undo    effectPlan
	undos   int // how often Undo, UndoBy or NoUndo was said
	noUndo  string
	timeout time.Duration
	fold    foldFunc
	// readsAll tells whether nothing in a result would be left out; nil: there is none.
	readsAll func(c Codec, result []byte) error
	key      func(c Codec, data document) (string, error)
	carries  []carried // besides the data
	faults   []string
}

// effectPlan is what an action or a compensation does: exactly one of local and command is set.
type effectPlan struct {
	local   localFunc
	command *commandPlan
	oneway  bool // the command is an event: nobody replies
	retry   compensation.Retry
}

type commandPlan struct {
	name    string
	topic   string
	kind    string // both: what patience tells apart
	replies string // topic; empty: the orchestrator's own
	carries []carried
	request func(c Codec, data document) ([]byte, error)
}

type eventPlan struct {
	name string
	fold foldFunc
	// accepts tells whether a payload given to Send is of the declared type, and names that type.
	accepts func(payload any) (ok bool, want string)
	payload []carried // what it carries; none: nothing
}

type (
	localFunc func(ctx context.Context, c Codec, data document) (result []byte, err error)
	foldFunc  func(c Codec, data document, payload []byte) ([]byte, error)
)

func (e effectPlan) exists() bool { return e.local != nil || e.command != nil }

func (s *stepPlan) effect(undo bool) *effectPlan {
	if undo {
		return &s.undo
	}
	return &s.action
}

// rejection names the event that is raised when the step is rejected in the row.
func (r *rowPlan) rejection(step string) string {
	if r.rejected != "" {
		return r.rejected
	}
	return step + ".rejected"
}

// hasPivot tells whether the row decides.
func (r *rowPlan) hasPivot() bool {
	for _, g := range r.groups {
		for _, s := range g {
			if s.class == compensation.Pivot {
				return true
			}
		}
	}
	return false
}

// canBeRejected tells whether the row may end without reaching its to-state, by an answer of one of its steps.
func (r *rowPlan) canBeRejected() bool {
	for _, g := range r.groups {
		for _, s := range g {
			if s.rejectable() {
				return true
			}
		}
	}
	return false
}

// rejectable tells whether the step's rejection event can be raised: retriable steps and events only ever succeed.
func (s *stepPlan) rejectable() bool {
	return s.class != compensation.Retriable && !s.action.oneway
}

func (r *rowPlan) stepCount() int {
	n := 0
	for _, g := range r.groups {
		n += len(g)
	}
	return n
}
