package sagatest

// Fault is a kind of what goes wrong in a run, or comes at an awkward moment.
type Fault string

const (
	// Of the store.

	CommitFails       Fault = "commit-fails"        // nothing is committed, and the process hears so
	CommitAnswerLost  Fault = "commit-answer-lost"  // it is committed, and the process hears of an error
	CrashBeforeCommit Fault = "crash-before-commit" // the process is killed
	CrashAfterCommit  Fault = "crash-after-commit"
	ReadFails         Fault = "read-fails"

	// Of a local step or compensation: a function of yours.

	StepFails            Fault = "step-fails"              // an error before it does anything
	StepFailsAfterEffect Fault = "step-fails-after-effect" // it does what it does, and the engine gets an error
	StepRejects          Fault = "step-rejects"            // an answer of no, instead of a first attempt
	StepHangs            Fault = "step-hangs"              // it does what it does, and returns after its Timeout
	CrashBeforeEffect    Fault = "crash-before-effect"     // the process is killed
	CrashAfterEffect     Fault = "crash-after-effect"

	// Of a participant, see NewParticipant.

	HandlerFails             Fault = "handler-fails"       // an error before it does anything
	HandlerFailsAfterEffect  Fault = "handler-rolls-back"  // it does what it does, and its transaction is rolled back
	HandlerRejects           Fault = "handler-rejects"     // an answer of no, instead of a first run of the handler
	ParticipantCrashesBefore Fault = "participant-crashes" // before its commit; the command is delivered again
	ReplyLost                Fault = "reply-lost"          // it is killed after its commit; the command is delivered again

	// Of the broker.

	PublishFails      Fault = "publish-fails"       // nothing is published
	PublishAnswerLost Fault = "publish-answer-lost" // it is published, and the publisher hears of an error
	MessageLost       Fault = "message-lost"        // of commands and replies, which are asked for again
	MessageDuplicated Fault = "message-duplicated"
	MessageDelayed    Fault = "message-delayed" // beyond what its sender waits for

	// Of time and order.

	ProcessPauses Fault = "process-pauses" // until others have taken over; then it goes on with what it had begun
	TimePasses    Fault = "time-passes"    // what is due next becomes due before what could be done is done
	Reordered     Fault = "reordered"      // of two things that could be done the later one is done first

	// Of what the script sends.

	InputRepeated Fault = "input-repeated" // it is sent again, after it was recorded
	InputEarly    Fault = "input-early"    // before the state that it was meant for; see Sending.When
	InputLate     Fault = "input-late"     // after what was due meanwhile
	InputNow      Fault = "input-now"      // one that may come at any time comes now; see Sending.Anytime
)

var allFaults = []Fault{
	CommitFails, CommitAnswerLost, CrashBeforeCommit, CrashAfterCommit, ReadFails,
	StepFails, StepFailsAfterEffect, StepRejects, StepHangs, CrashBeforeEffect, CrashAfterEffect,
	HandlerFails, HandlerFailsAfterEffect, HandlerRejects, ParticipantCrashesBefore, ReplyLost,
	PublishFails, PublishAnswerLost, MessageLost, MessageDuplicated, MessageDelayed,
	ProcessPauses, TimePasses, Reordered,
	InputRepeated, InputEarly, InputLate, InputNow,
}
