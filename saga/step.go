package saga

import (
	"context"
	"fmt"
	"time"

	"github.com/sagamill/sagamill/compensation"
)

// Step is one effect with one owner: an action, usually with a compensation that undoes it. D is the saga's data.
//
// A Step is a value: its methods return a changed copy, so that a step can be declared once and refined where it is used.
// What is wrong with a step is reported when its definition is built.
type Step[D any] struct {
	plan     stepPlan
	parallel []Step[D] // set: this is a group of steps that run side by side
}

// Do is a local step without a result: the engine calls action in this process. action gets the saga's data and a context
// that ends with the attempt's time-out and carries [Info]. It answers
//
//   - nil: the step succeeded;
//   - an error made by [Reject]: the answer is no, for good; the step's rejection event is raised;
//   - any other error, or a panic: it failed and is tried again.
//
// An action may be called more than once, also when it had succeeded before a crash. Whatever it asks of systems outside
// should go under the stable key that [Info] gives.
func Do[D any](name string, action func(ctx context.Context, data D) error) Step[D] {
	s := stepPlan{id: new(identity), name: name}
	if action != nil {
		s.action.local = localCall(action)
	}
	return Step[D]{plan: s}
}

// Call is a local step with a result, which the pure function fold writes into the data. Otherwise it is like [Do].
func Call[D, R any](name string, action func(ctx context.Context, data D) (R, error), fold func(data D, result R) D) Step[D] {
	s := stepPlan{id: new(identity), name: name}
	if action != nil {
		s.action.local = func(ctx context.Context, c Codec, data document) ([]byte, error) {
			d, err := readAs[D](c, data)
			if err != nil {
				return nil, &unreadableError{err}
			}
			r, err := action(ctx, d)
			if err != nil {
				return nil, err
			}
			return c.Marshal(r)
		}
	}
	s.fold, s.readsAll, s.carries = foldWith(fold), readsAll[R], []carried{carry[R]("the result type")}
	return Step[D]{plan: s}
}

// Ask is a command step: the command is sent to a participant, whose reply is the outcome. request makes the command from
// the data and fold writes the reply into it; both are pure, and fold may be nil. The command is sent again, under the
// same identity, until a reply comes or the step's attempts are spent.
func Ask[D, C, R any](name string, command Command[C, R], request func(data D) C, fold func(data D, reply R) D) Step[D] {
	s := stepPlan{id: new(identity), name: name}
	s.action.command = requestPlan(command, request)
	s.fold, s.readsAll = foldWith(fold), readsAll[R]
	return Step[D]{plan: s}
}

// Emit is a step that publishes an event on a topic, for whoever listens. It succeeds at once; the engine publishes the
// message until a commit records that the broker has it, so it may arrive twice. It carries the instance's revision, so
// that consumers can drop older events than one they have seen. Events cannot be taken back: give the step NoUndo.
func Emit[D, P any](name, topic, event string, payload func(data D) P) Step[D] {
	s := stepPlan{id: new(identity), name: name}
	s.action.command = requestPlan(Command[P, struct{}]{Name: event, Topic: topic}, payload)
	s.action.oneway = true
	return Step[D]{plan: s}
}

// Parallel is a group of steps that run side by side, and are undone side by side. A rejection among them is raised when
// every sibling is known or timed out; their results are folded in declared order. The siblings are of one class; a pivot
// stands alone.
func Parallel[D any](steps ...Step[D]) Step[D] {
	if steps == nil {
		steps = []Step[D]{}
	}
	return Step[D]{parallel: steps}
}

// Run lists the steps of a row, in order.
func Run[D any](steps ...Step[D]) []Step[D] { return steps }

// Undo sets the compensation: a local function that undoes the action's effect as far as meaning goes. It is called only if
// the effect may exist, so it must bear that it does not; it is tried until it succeeds, so it must not reject. It gets the
// data as they are then: without the action's result if that never came, and with what later events have written. What the
// action did is found by the key that it had, Info(ctx).ActionKey.
func (s Step[D]) Undo(undo func(ctx context.Context, data D) error) Step[D] {
	s.fault("Undo")
	s.plan.undos++
	if undo != nil {
		s.plan.undo.local = localCall(undo)
	}
	return s
}

// UndoBy sets the compensation: a command to a participant, whose barrier makes it safe that the action's command never
// came, or comes later. Like Undo it is made from the data as they are then; Info(ctx).ActionKey tells the handler what to undo.
func (s Step[D]) UndoBy(request Request[D]) Step[D] {
	s.fault("UndoBy")
	s.plan.undos++
	s.plan.undo.command = request.plan
	return s
}

// NoUndo says that the step needs no compensation, and why. Without it, a step that can be followed by a failed end needs
// Undo or UndoBy.
func (s Step[D]) NoUndo(because string) Step[D] {
	s.fault("NoUndo")
	s.plan.noUndo = because
	if because == "" {
		s.plan.faults = append(s.plan.faults, "NoUndo needs a reason")
		return s
	}
	s.plan.undos++
	return s
}

// Pivot makes the step the one that decides: before it the saga can be undone, after it it goes forward only. A pivot in
// doubt is asked again until it answers.
func (s Step[D]) Pivot() Step[D] { return s.class(compensation.Pivot, "Pivot") }

// Retriable makes the step one that is retried until it succeeds; a rejection is a failure like others.
func (s Step[D]) Retriable() Step[D] { return s.class(compensation.Retriable, "Retriable") }

func (s Step[D]) class(c compensation.Class, method string) Step[D] {
	s.fault(method)
	if s.plan.class != compensation.Compensatable {
		s.plan.faults = append(s.plan.faults, "a step is either pivot or retriable, and said so once")
	}
	s.plan.class = c
	return s
}

// Timeout bounds one attempt of a local action or compensation. Default: 30s. An attempt that takes longer is in doubt:
// it is made again. (A command's attempt lasts until it is sent again, see Retry.)
func (s Step[D]) Timeout(d time.Duration) Step[D] {
	s.fault("Timeout")
	if d <= 0 {
		s.plan.faults = append(s.plan.faults, fmt.Sprintf("Timeout(%s) must be positive", d))
	}
	s.plan.timeout = d
	return s
}

// Retry sets when the action is tried again, and how often. A command's first wait is 1s by default; where replies take long it is
// not sent again before one may be expected, but waits no longer than the policy's Max.
func (s Step[D]) Retry(r compensation.Retry) Step[D] {
	s.fault("Retry")
	s.plan.action.retry = r
	return s
}

// UndoRetry sets when the compensation is tried again; it has no budget.
func (s Step[D]) UndoRetry(r compensation.Retry) Step[D] {
	s.fault("UndoRetry")
	s.plan.undo.retry = r
	return s
}

// Key names the step's effect by something of its own, made by a pure function of the data, instead of by instance, step
// and run: a refund of a late payment by that payment's transaction, so that two runs for one transaction pay once. As long as
// the key is empty the step is not begun: its attempt has failed. Such a step has no compensation: what was done once under
// its key would not be done again.
func (s Step[D]) Key(key func(data D) string) Step[D] {
	s.fault("Key")
	s.plan.key = func(c Codec, data document) (string, error) {
		d, err := readAs[D](c, data)
		if err != nil {
			return "", err
		}
		return key(d), nil
	}
	return s
}

// fault begins each method: the changed copy gets an identity of its own, and a method called on a group is noted.
func (s *Step[D]) fault(method string) {
	s.plan.id = new(identity)
	s.plan.faults = append([]string(nil), s.plan.faults...)
	if s.parallel != nil {
		s.plan.faults = append(s.plan.faults, method+" belongs to a step, not to the group that Parallel makes")
	}
}

// Command is the contract between a saga and a participant: the name of what is asked, the topic it is asked on, and the
// types of the command and of its reply. Declare it once, and use it on both sides.
type Command[C, R any] struct {
	Name  string
	Topic string
	// Replies is the topic of the replies. Empty: the orchestrator's own (its Name + ".replies"). A topic that is named here
	// may have other listeners, who learn of a service's outcomes, and other messages, which the orchestrator leaves alone.
	Replies string
}

func (Command[C, R]) carries() []carried {
	return []carried{carry[C]("the command type"), carry[R]("the reply type")}
}

// Request is a command and how it is made from the data of a saga.
type Request[D any] struct{ plan *commandPlan }

// RequestOf makes a Request, for [Step.UndoBy].
func RequestOf[D, C, R any](command Command[C, R], request func(data D) C) Request[D] {
	return Request[D]{plan: requestPlan(command, request)}
}

func requestPlan[D, C, R any](command Command[C, R], request func(D) C) *commandPlan {
	p := &commandPlan{
		name: command.Name, topic: command.Topic, kind: command.Topic + "/" + command.Name, replies: command.Replies, carries: command.carries(),
	}
	if request != nil {
		p.request = func(c Codec, data document) ([]byte, error) {
			d, err := readAs[D](c, data)
			if err != nil {
				return nil, err
			}
			return c.Marshal(request(d))
		}
	}
	return p
}

func localCall[D any](f func(context.Context, D) error) localFunc {
	return func(ctx context.Context, c Codec, data document) ([]byte, error) {
		d, err := readAs[D](c, data)
		if err != nil {
			return nil, &unreadableError{err}
		}
		return nil, f(ctx, d)
	}
}

// foldWith makes the untyped form of a pure reducer; nil stays nil.
func foldWith[D, R any](fold func(D, R) D) foldFunc {
	if fold == nil {
		return nil
	}
	return func(c Codec, data document, result []byte) ([]byte, error) {
		d, err := readAs[D](c, data)
		if err != nil {
			return nil, err
		}
		r, err := decodeAs[R](c, result)
		if err != nil {
			return nil, &payloadError{err}
		}
		return c.Marshal(fold(d, r))
	}
}

// unreadableError says that data could not be read.
type unreadableError struct{ error }

func (e *unreadableError) Unwrap() error { return e.error }

func decodeAs[T any](c Codec, b []byte) (t T, err error) {
	if len(b) == 0 {
		return t, nil
	}
	defer recoverTo(&err, "the codec")
	if err := c.Unmarshal(b, &t); err != nil {
		return t, fmt.Errorf("saga: decode %T: %w", t, err)
	}
	return t, nil
}
