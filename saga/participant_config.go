package saga

import (
	"errors"
	"fmt"
	"time"
)

// ParticipantConfig configures a Participant. Zero fields have the documented defaults.
type ParticipantConfig struct {
	// Name is the consumer group of this service's processes: each command goes to one of them. Required.
	Name string
	// Transport brings commands and carries replies. Required. The participant closes the subscribers that it opens, and
	// leaves the publisher to whom it belongs.
	Transport Transport
	// Subscribers is the number of subscribers for each topic, and so of commands of a topic in flight. Default 4.
	Subscribers int

	Codec      Codec      // of commands and replies; that of the orchestrator. Default JSON{}
	Propagator Propagator // default: passes W3C Trace Context through
	Observer   Observer   // default: none

	// HandlerTimeout bounds the handling of one command, with what the inbox takes to commit it. It should be less than the
	// time after which the broker delivers again what was not acknowledged. Default 10s.
	HandlerTimeout time.Duration
	// DrainTimeout bounds how long Close waits for handlers in flight before it ends their contexts. Default 10s.
	DrainTimeout time.Duration
	// MaxPayload is the bytes that a command's or a reply's payload may have. Default 256 KiB.
	MaxPayload int
}

func (c ParticipantConfig) withDefaults() ParticipantConfig {
	if c.Subscribers == 0 {
		c.Subscribers = 4
	}
	if c.Codec == nil {
		c.Codec = JSON{}
	}
	if c.Propagator == nil {
		c.Propagator = w3c{}
	}
	if c.HandlerTimeout == 0 {
		c.HandlerTimeout = 10 * time.Second
	}
	if c.DrainTimeout == 0 {
		c.DrainTimeout = 10 * time.Second
	}
	if c.MaxPayload == 0 {
		c.MaxPayload = 256 << 10
	}
	return c
}

// Validate says what is wrong with the configuration; all of it.
func (c ParticipantConfig) Validate() error {
	var faults []error
	fault := func(is bool, format string, args ...any) {
		if is {
			faults = append(faults, fmt.Errorf("saga: ParticipantConfig: "+format, args...))
		}
	}
	fault(c.Name == "", "Name is empty: it is the consumer group")
	fault(c.Transport.Publisher == nil, "Transport has no Publisher for replies")
	fault(c.Transport.Subscriber == nil, "Transport has no Subscriber for commands")
	fault(c.Subscribers < 0, "Subscribers is %d: it must not be negative", c.Subscribers)
	fault(c.HandlerTimeout < 0, "HandlerTimeout is %s: it must not be negative", c.HandlerTimeout)
	fault(c.DrainTimeout < 0, "DrainTimeout is %s: it must not be negative", c.DrainTimeout)
	fault(c.MaxPayload < 0, "MaxPayload is %d: it must not be negative", c.MaxPayload)
	if len(faults) > 0 {
		faults = append([]error{ErrInvalid}, faults...)
	}
	return errors.Join(faults...)
}
