package saga

import "context"

// traceKeys are the keys of W3C Trace Context and Baggage, in messages' metadata.
var traceKeys = []string{"traceparent", "tracestate", "baggage"}

// Propagator carries trace context between a context.Context and the metadata of messages. OpenTelemetry's propagators fit
// with a three-line wrapper (propagation.MapCarrier is such a map). The default carries what [WithTrace] put into the context.
type Propagator interface {
	Inject(ctx context.Context, carrier map[string]string)
	Extract(ctx context.Context, carrier map[string]string) context.Context
}

type traceKey struct{}

// WithTrace puts trace context into ctx, by the keys of W3C Trace Context: traceparent, tracestate, baggage.
func WithTrace(ctx context.Context, carrier map[string]string) context.Context {
	return context.WithValue(ctx, traceKey{}, carrier)
}

// TraceOf returns the trace context that is in ctx, or nil. The map must not be changed.
func TraceOf(ctx context.Context) map[string]string {
	carrier, _ := ctx.Value(traceKey{}).(map[string]string)
	return carrier
}

// w3c is the default Propagator: it passes W3C headers through unread.
type w3c struct{}

func (w3c) Inject(ctx context.Context, carrier map[string]string) {
	trace := TraceOf(ctx)
	for _, k := range traceKeys {
		if v := trace[k]; v != "" {
			carrier[k] = v
		}
	}
}

func (w3c) Extract(ctx context.Context, carrier map[string]string) context.Context {
	trace := map[string]string{}
	for _, k := range traceKeys {
		if v := carrier[k]; v != "" {
			trace[k] = v
		}
	}
	if len(trace) == 0 {
		return ctx
	}
	return WithTrace(ctx, trace)
}
