package saga

import "time"

// input is what decide is asked to judge: exactly one of the pointers is set.
type input struct {
	start    *startInput
	event    *waiting
	outcome  *outcome
	wake     *wake
	operator *operation
	// published lists the one-way messages that the broker has; it may come alone or along with another input.
	published []string

	trace    map[string]string // of the request that brings the input
	random   float64           // from 0 up to 1: chance comes from outside
	patience waits             // how long replies may take, as far as is known
}

type startInput struct{ data []byte }

type outcomeKind string

const (
	outcomeSucceeded outcomeKind = "succeeded"
	outcomeRejected  outcomeKind = "rejected"
	outcomeFailed    outcomeKind = "failed"
)

// outcome is what became of one attempt of a step or of its compensation.
type outcome struct {
	Step    string
	Run     int
	Undo    bool
	Kind    outcomeKind
	Result  []byte
	Reason  string
	Attempt int
	Fault   bool // of a failure: the data could not be read, and the step's function was not called
}

// wake asks what is due. The time is the store's.
type wake struct {
	now time.Time
	// leaseOver: whoever ran the local steps in flight no longer says so.
	leaseOver bool
	// runningHere tells of a local step whether this process is at it.
	runningHere func(step string, run int, undo bool) bool
}

// Verb is what an operator does to an instance.
type Verb string

const (
	RetryNow        Verb = "retry-now"        // try the step (or its compensation) again at once
	SkipStep        Verb = "skip-step"        // go on without the step (or its compensation); it is undone only if its answer comes late; a pivot counts as passed
	MarkDone        Verb = "mark-done"        // the step (or its compensation) was done by hand
	MarkRejected    Verb = "mark-rejected"    // somebody has looked: the step did not, and will not, happen; its rejection is raised
	EditData        Verb = "edit-data"        // replace the saga's data; the history keeps what they were
	MoveTimer       Verb = "move-timer"       // let a timer become due at another time
	DropEvent       Verb = "drop-event"       // an event that waits is refused
	ForceCompensate Verb = "force-compensate" // undo everything, and end in a failed state; no step of the table runs on the way
)

var verbs = []Verb{RetryNow, SkipStep, MarkDone, MarkRejected, EditData, MoveTimer, DropEvent, ForceCompensate}

type operation struct {
	verb    Verb
	who     string
	why     string
	step    string
	data    []byte        // EditData; the result of MarkDone
	value   any           // EditData: what data were made of; nil: of bytes
	timer   string        // MoveTimer: its name
	in      time.Duration // MoveTimer: due so long after the commit
	source  string        // DropEvent
	inputID string        // DropEvent
	toState string        // ForceCompensate
}

// effectKind says what the shell does with an effect, after the commit.
type effectKind uint8

const (
	runLocal effectKind = iota
	publish
)

// effect is something to do once the decision is committed.
type effect struct {
	kind    effectKind
	step    string
	run     int
	undo    bool
	attempt int
	id      string // effectID of the action; see Info
	data    document
	message *outgoing // of a publication: a copy
}

// decision is what decide answers.
type decision struct {
	next    *instance
	entry   Entry
	effects []effect
	answer  Disposition
	reason  string        // of a refusal
	wake    time.Duration // until the earliest timer that was set; negative: none was
	lease   bool          // a local step is started
	nothing bool          // the input changes nothing and is not worth a commit
	faults  []error       // functions of the definition's that failed, or could not read the data
	replied replied       // what the input says of how long replies take
}

// replied is a command whose first attempt was answered. The zero value: none was.
type replied struct {
	command string    // its kind
	sent    time.Time // in the store's time
}
