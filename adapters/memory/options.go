package memory

import "time"

// Option changes how a store of this package works.
type Option func(*options)

type options struct {
	now      func() time.Time
	maxBytes int
}

// WithClock makes now the store's clock instead of time.Now.
func WithClock(now func() time.Time) Option {
	return func(o *options) { o.now = now }
}

// WithMaxBytes makes the store reject a transition that brings a value (engine state, data, or history entry) of more than
// n bytes, as databases do. Zero is the default: no bound.
func WithMaxBytes(n int) Option {
	return func(o *options) { o.maxBytes = n }
}

func newOptions(opts []Option) options {
	o := options{now: time.Now}
	for _, opt := range opts {
		opt(&o)
	}
	return o
}
