package sqlite

import "time"

// Option changes how a store of this package works.
type Option func(*options)

type options struct{ now func() time.Time }

// WithClock makes now the store's clock instead of time.Now.
func WithClock(now func() time.Time) Option {
	return func(o *options) { o.now = now }
}

func newOptions(opts []Option) options {
	o := options{now: time.Now}
	for _, opt := range opts {
		opt(&o)
	}
	return o
}
