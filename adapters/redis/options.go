package redis

import (
	"fmt"
	"log/slog"
	"regexp"
	"time"
)

// Option changes how a store of this package works.
type Option func(*options)

type options struct {
	prefix   string
	replicas int
	wait     time.Duration
	logger   *slog.Logger
	scripts  *scripts
}

// WithPrefix begins the names of all keys of the store in Redis: 1 to 64 letters, digits and any of "._:/-". Stores with the
// same prefix are one store. Default "sagamill:idempotency".
func WithPrefix(prefix string) Option { return func(o *options) { o.prefix = prefix } }

// WaitReplicas lets each call wait until n replicas have what it wrote and read; if they have not within the timeout, it
// answers [ErrNotReplicated]. The timeout must be shorter than the client's ReadTimeout. Default: no replica is waited for.
func WaitReplicas(n int, timeout time.Duration) Option {
	return func(o *options) { o.replicas, o.wait = n, timeout }
}

// WithLogger sets where warnings go. Default slog.Default().
func WithLogger(logger *slog.Logger) Option { return func(o *options) { o.logger = logger } }

var validPrefix = regexp.MustCompile(`^[A-Za-z0-9._:/-]{1,64}$`)

func newOptions(opts []Option) (options, error) {
	o := options{prefix: "sagamill:idempotency", logger: slog.Default(), scripts: serverTime}
	for _, opt := range opts {
		opt(&o)
	}
	switch {
	case !validPrefix.MatchString(o.prefix):
		return o, fmt.Errorf("redis: prefix %.100q: it has 1 to 64 letters, digits and any of ._:/-", o.prefix)
	case o.replicas < 0:
		return o, fmt.Errorf("redis: WaitReplicas: %d replicas", o.replicas)
	case o.replicas > 0 && o.wait < time.Millisecond:
		return o, fmt.Errorf("redis: WaitReplicas: the timeout (%s) must be at least 1ms", o.wait)
	case o.logger == nil:
		return o, fmt.Errorf("redis: WithLogger(nil)")
	}
	return o, nil
}
