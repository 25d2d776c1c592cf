package saga

import "context"

// StepInfo tells a local step, a compensation or a participant's handler what it works for.
type StepInfo struct {
	Definition string
	Instance   string // ID
	Key        string // business key of the saga
	Step       string
	Run        int // of the step, from 1
	Attempt    int // from 1
	Undo       bool

	// EffectKey is the stable key of what is done here: the same for every attempt, and different for the action and its
	// compensation. Give it to systems outside as their idempotency key.
	EffectKey string
	// ActionKey is the key that the action was given. A compensation finds by it what the action did, even if the saga
	// never heard of its result.
	ActionKey string
}

type infoKey struct{}

// Info returns what the context's step works for; the zero StepInfo outside of one.
func Info(ctx context.Context) StepInfo {
	if info, ok := ctx.Value(infoKey{}).(*StepInfo); ok {
		return *info
	}
	return StepInfo{}
}

// WithInfo puts a StepInfo into a context: for tests that call a step's function directly.
func WithInfo(ctx context.Context, info StepInfo) context.Context {
	return context.WithValue(ctx, infoKey{}, &info)
}

// effectKeys makes the keys of an effect from its identity.
func effectKeys(id string, undo bool) (effect, action string) {
	if undo {
		return id + "/undo", id
	}
	return id, id
}
