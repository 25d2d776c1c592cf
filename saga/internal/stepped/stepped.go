// Package stepped is the door through which the test kits below package saga drive an orchestrator one turn at a time, on one
// goroutine, so that whoever drives decides what happens in which order, and what fails. What runs is the code that ships.
// Package saga opens the door when it is linked; its types stand here as any, because saga imports this package.
package stepped

import (
	"context"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// Orchestrator is one that has begun, and has no goroutines. Calls like Start and Send decide what waits for the instance and
// its share until they have their answer.
type Orchestrator interface {
	Busy() []int                         // the shares of instances that have inputs; none while every lane waits for the store
	Lane(ctx context.Context, share int) // decides and commits one batch

	Tasks() []string             // the attempts of local steps that wait
	Task(k int) (deliver func()) // makes one; its outcome is an input once it is delivered

	Outbound() int               // messages that wait to be published
	Publish(ctx context.Context) // publishes those of one topic

	Sweep(ctx context.Context) time.Duration // looks for what is due; says how long to wait at most until the next time
	Renew(ctx context.Context)               // renews the leases of steps

	Replies() []string // the topics of replies
	Reply(ctx context.Context, topic string, msg *message.Message)
}

// Around is called instead of each attempt of a local step. Its context has the saga.StepInfo.
type Around func(ctx context.Context, attempt func() ([]byte, error)) ([]byte, error)

// Participant takes commands.
type Participant interface {
	Topics() []string
	Receive(ctx context.Context, topic string, msg *message.Message)
}

// Definition is what a definition consists of.
type Definition struct {
	States []string
	Ends   map[string]bool // those of the states that are final: whether the end is a failed one
	Rows   []Row
	Steps  []Step
}

// Row is a row of the table. Policy is empty for one that leads somewhere.
type Row struct {
	Name, On, Policy string
	In               []string // the states in which it may be taken
}

// Step is a step, however often the table has it.
type Step struct {
	Name       string
	Local      bool // the action is a function
	Oneway     bool // the action is an event
	Undo       bool // it has a compensation
	LocalUndo  bool
	Rejectable bool // the action may say no
	Pivot      bool
	Timeout    time.Duration
}

// Set by package saga.
var (
	Begin    func(ctx context.Context, orchestrator any, around Around) (Orchestrator, error)
	Receiver func(participant any) (Participant, error)
	Describe func(definition any) Definition
	Leftover func(record any) string   // what a settled instance still holds; empty: nothing
	Buffered func(record any) []string // the events that it keeps because they do not fit its state
)
