// Package transporttest is the conformance suite of transports ([saga.Transport]), in the manner of testing/slogtest. In a
// test of your broker:
//
//	func TestTransport(t *testing.T) {
//		transporttest.Run(t, func(t testing.TB) transporttest.Harness {
//			return transporttest.Harness{
//				Open: func(t testing.TB) transporttest.Process {
//					proxy := transporttest.NewProxy(t, "127.0.0.1:6379")
//					broker, err := mybroker.New(proxy.Addr(), mybroker.Config{RedeliverAfter: 2 * time.Second}, nil)
//					require.NoError(t, err)
//					return transporttest.Process{Broker: broker, Cut: proxy.Cut, Restore: proxy.Restore}
//				},
//				RedeliverAfter: 2 * time.Second,
//				Malform:        func(topic string) error { ... put in what nobody can read ... },
//				Clean:          func(topics []string) { ... delete them ... },
//			}
//		})
//	}
//
// Each rule is a sub-test, and a failure says which one was broken and how it was seen. What a broker cannot do is no
// failure if the harness says so, with the reason ([Harness.NotPromised]); such rules show as skipped. The package's own tests
// break a good transport in one way after another, and see that the suite notices.
package transporttest

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sagamill/sagamill/saga"
)

// Broker is what the constructors of transports return.
type Broker interface {
	Transport() saga.Transport
	// Close ends what the broker opened itself. It may be called any number of times.
	Close() error
}

// Process is a broker with connections of its own, as one process of a service has it.
type Process struct {
	Broker
	// Cut ends the process's connections, and lets it make no new ones until Restore. Nil: there are no connections to cut.
	Cut, Restore func()
	// Release ends what Open has opened and the broker leaves open: a pool of connections, say. Nil: there is no such thing.
	Release func()
}

// Harness is a transport to test.
type Harness struct {
	// Open opens a broker as another process would. If the broker's processes do not share topics (see [Processes]), it
	// is called once. The suite closes the broker, and then calls Release.
	Open func(tb testing.TB) Process
	// Malform puts an entry that is no message of Watermill's into a topic, for all groups. Nil: nobody could.
	Malform func(topic string) error
	// Clean deletes the topics that a check has used, when their brokers are closed. Nil: nothing stays.
	Clean func(topics []string)
	// RedeliverAfter is how long the broker waits for an acknowledgement before it gives a message to another subscriber. Open
	// should set a short one. 0: it waits as long as the subscriber is connected.
	RedeliverAfter time.Duration
	// Patience is how long the suite waits for what must come. Default 60s.
	Patience time.Duration
	// NotPromised says what the transport does not promise, and why. Its rules are skipped.
	NotPromised map[Promise]string
}

// Promise is something that a good transport does, and that some cannot do.
type Promise string

const (
	// Processes: brokers that are opened apart share their topics, and messages outlive those who publish them.
	Processes Promise = "processes"
	// Parallel: several messages of a topic are in flight in one group.
	Parallel Promise = "parallel"
	// KeepsUnheard: what is published before a group first subscribes reaches it, too.
	KeepsUnheard Promise = "keeps unheard"
	// PassesHeld: a message that is never acknowledged does not keep others from being handled.
	PassesHeld Promise = "passes held"
	// PassesMalformed: nor does an entry that nobody can read.
	PassesMalformed Promise = "passes malformed"
	// Reconnects: connections that are cut are made again, and nothing is lost by it.
	Reconnects Promise = "reconnects"
)

var promises = []Promise{Processes, Parallel, KeepsUnheard, PassesHeld, PassesMalformed, Reconnects}

// Run checks a transport, with a new harness for each rule. The sub-tests run in parallel, but for the one that looks for
// goroutines left behind: it comes first, and t must not be parallel itself.
func Run(t *testing.T, open func(tb testing.TB) Harness) {
	t.Helper()
	for _, c := range checks() {
		t.Run(c.name, func(t *testing.T) {
			if !c.alone {
				t.Parallel()
			}
			h := open(t)
			if err := h.validate(); err != nil {
				t.Fatal(err)
			}
			if p, reason := c.lacks(h); reason != "" {
				t.Skipf("not promised (%s): %s", p, reason)
			}
			if err := c.run(t, h); err != nil {
				t.Errorf("the transport breaks a rule:\n\t%s\nwhat was seen:\n\t%v", c.rule, err)
			}
		})
	}
}

func (h Harness) validate() error {
	for p, reason := range h.NotPromised {
		if !slices.Contains(promises, p) || reason == "" {
			return fmt.Errorf("transporttest: NotPromised[%q] is %q: it takes one of %q, and a reason", p, reason, promises)
		}
	}
	if h.Open == nil {
		return fmt.Errorf("transporttest: the harness has no Open")
	}
	if h.Malform == nil && h.NotPromised[PassesMalformed] == "" {
		return fmt.Errorf("transporttest: without Malform, NotPromised has to say why %q is not tested", PassesMalformed)
	}
	return nil
}

// check is one rule.
type check struct {
	name, rule string
	needs      []Promise
	alone      bool // not in parallel with others
	test       func(s *script) error
}

func checks() []check {
	return slices.Concat(leakChecks(), deliveryChecks(), contentChecks(), redeliveryChecks(), closeChecks(), cutChecks(), sagaChecks())
}

// lacks answers a promise which the check needs and the harness does not give, with the reason.
func (c check) lacks(h Harness) (Promise, string) {
	for _, p := range c.needs {
		if reason := h.NotPromised[p]; reason != "" {
			return p, reason
		}
	}
	return "", ""
}

// run judges a transport.
func (c check) run(tb testing.TB, h Harness) (err error) {
	ctx, cancel := context.WithCancel(context.Background())
	if h.Patience == 0 {
		h.Patience = time.Minute
	}
	s := &script{Harness: h, tb: tb, ctx: ctx, run: "tt-" + strings.ToLower(rand.Text()[:10]), topics: map[string]bool{}, released: map[Broker]bool{}}
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("the transport panicked: %v", v)
		}
		cancel()
		s.end()
		if h.Clean != nil {
			h.Clean(slices.Sorted(maps.Keys(s.topics)))
		}
	}()
	return c.test(s)
}
