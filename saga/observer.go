package saga

import (
	"context"
	"time"
)

// Observer hears of everything that the engine and participants do. It is called from many goroutines, and in the way of
// the work: it must be quick, and not block.
type Observer interface {
	Observe(ctx context.Context, o Observation)
}

// ObserverFunc makes an Observer of a function.
type ObserverFunc func(ctx context.Context, o Observation)

// Observe implements Observer.
func (f ObserverFunc) Observe(ctx context.Context, o Observation) { f(ctx, o) }

// Observation is one thing that happened. Fields that make no sense for its What are zero.
type Observation struct {
	What       What
	Definition string
	Instance   string
	State      string // after it
	Step       string
	Undo       bool
	Event      string
	Outcome    string // of a step or command: succeeded, rejected, failed, ...; of an input: its Disposition; of a letter: the topic
	Reason     string
	Attempt    int           // of a step, or of its compensation, from 1
	Duration   time.Duration // of a step's attempt, a commit, a command's handling; of an instance that settled: since it was started, by the store's clock
	Count      int           // of a batch: transitions
}

// What is the kind of an Observation.
type What string

const (
	ObserveInput      What = "input"       // an event was judged or recorded: Event, Outcome is its Disposition
	ObserveTransition What = "transition"  // a transition was committed: State
	ObserveStep       What = "step"        // an attempt of a local step ended: Step, Undo, Attempt, Outcome, Duration
	ObserveReply      What = "reply"       // a reply came: Step, Undo, Attempt, Outcome
	ObserveResend     What = "resend"      // an attempt was made after the first: a command sent again, a local step tried again or taken over: Step, Undo, Attempt
	ObserveSettled    What = "settled"     // an instance settled: State, Duration
	ObserveAttention  What = "attention"   // an instance began to need attention: Reason
	ObserveCalm       What = "calm"        // an instance needs no attention any more
	ObserveCommit     What = "commit"      // a batch was committed: Count, Duration
	ObserveConflict   What = "conflict"    // a transition lost against another process, and is decided again
	ObserveDeadLetter What = "dead-letter" // a message could not be given to an instance: Outcome is the topic, Reason
	ObserveBadCall    What = "bad-call"    // a call was answered with an error that is the caller's: Event, or the verb; Reason
	ObserveCommand    What = "command"     // a participant handled a command: Event is its name, Outcome, Duration
	ObserveError      What = "error"       // something failed and is tried again: Reason
)
