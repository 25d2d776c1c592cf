package saga

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"
)

// OrchestratorConfig configures an Orchestrator. Zero fields have the documented defaults.
type OrchestratorConfig struct {
	// Name is the consumer group of this orchestrator's processes, and replies come to the topic Name + ".replies".
	// Orchestrators of different applications on one broker need different names, or each gets replies that are the other's. Required
	// with a Transport.
	Name string
	// Definitions are what this process runs: at least one. Several versions of one may stand beside each other.
	Definitions []AnyDefinition
	// Transport carries commands, replies and events. It may be zero if no definition has command steps and Events is empty.
	Transport Transport
	// Events are the topics from which events for sagas are taken.
	Events []EventSource

	Codec      Codec      // default JSON{}
	Propagator Propagator // default: passes W3C Trace Context through
	Observer   Observer   // default: none

	// Lanes bounds the batches in the making at one time. While one is committed, another one is begun beside it only when inputs for
	// half of MaxBatch have gathered, or when it takes more than 25ms. Inputs of one instance are in one batch at a time. Default 4.
	Lanes int
	// LaneDepth bounds the inputs from outside that are not answered, for each lane; more of them block their senders. Default 1024.
	LaneDepth int
	// MaxBatch bounds the instances of one batch. Default 256.
	MaxBatch int
	// Workers bounds the local steps that run at one time. When all are busy, the next one goes to the definition that has the
	// fewest at work. Default 256.
	Workers int
	// StepQueue bounds the local steps of a definition that wait for a worker before new sagas of it are held back. An attempt's
	// time runs while it waits, so the queue should not take longer than the steps' Timeout. Default 1024.
	StepQueue int
	// Publishers is the number of goroutines that publish. Default 4.
	Publishers int
	// Subscribers is the number of subscribers for each topic. Default 4.
	Subscribers int
	// CacheSize bounds the instances that are kept in memory, to save reading them. Their data are kept as bytes, and as the value that was
	// read of those. Default 10000.
	CacheSize int

	// PollInterval is how often the store is asked for what other processes left. Default 1s.
	PollInterval time.Duration
	// Lease is how long a local step of a crashed process is left alone. It is renewed while the step runs. Default 5s.
	Lease time.Duration
	// DrainTimeout bounds how long Close waits for local steps that run; then their contexts end. Default 30s.
	DrainTimeout time.Duration

	MaxWaiting int // events that an instance keeps, and so many that could not be judged; more are refused. Default 64
	MaxPayload int // bytes of an event's or a reply's payload. Default 256 KiB
	MaxData    int // bytes of an instance's data. Default 1 MiB

	NewID  func() string  // IDs of instances; default UUIDv7, so that they sort by age
	Random func() float64 // jitter, from 0 up to 1; default math/rand
}

// EventSource is a topic from which events for sagas are taken.
type EventSource struct {
	Topic string
	// Route reads which event for which instance a message is. An error means that it is none: the message is recorded as a
	// dead letter. ErrNotForUs means that it is well-formed and of no concern: it is dropped. Default: RouteMetadata.
	Route func(*message.Message) (RoutedEvent, error)
}

// RoutedEvent is an event on its way to an instance, which is named by its ID or by definition and business key.
type RoutedEvent struct {
	Instance   string
	Definition string
	Key        string
	Event      string
	Source     string // who produced the event
	ID         string // the producer's own ID for it: the same event sent again has the same one
	Payload    []byte // as the codec writes it
}

// ErrNotForUs is what a Route answers for a message that concerns no saga.
var ErrNotForUs = errors.New("saga: message concerns no saga")

// RouteMetadata is the default Route: it reads the metadata keys MetaInstance or MetaDefinition and MetaKey, MetaEvent,
// MetaSource and MetaInputID.
func RouteMetadata(msg *message.Message) (RoutedEvent, error) {
	e := RoutedEvent{
		Instance: msg.Metadata.Get(MetaInstance), Definition: msg.Metadata.Get(MetaDefinition), Key: msg.Metadata.Get(MetaKey),
		Event: msg.Metadata.Get(MetaEvent), Source: msg.Metadata.Get(MetaSource), ID: msg.Metadata.Get(MetaInputID),
		Payload: msg.Payload,
	}
	if e.Event == "" || e.Source == "" || e.ID == "" || e.Instance == "" && (e.Definition == "" || e.Key == "") {
		return e, fmt.Errorf("%w: a message with an event needs the metadata %s, %s, %s, and %s or %s with %s",
			ErrInvalid, MetaEvent, MetaSource, MetaInputID, MetaInstance, MetaDefinition, MetaKey)
	}
	return e, nil
}

func (c OrchestratorConfig) withDefaults() OrchestratorConfig {
	def := func(field *int, value int) {
		if *field == 0 {
			*field = value
		}
	}
	dur := func(field *time.Duration, value time.Duration) {
		if *field == 0 {
			*field = value
		}
	}
	if c.Codec == nil {
		c.Codec = JSON{}
	}
	if c.Propagator == nil {
		c.Propagator = w3c{}
	}
	if c.NewID == nil {
		c.NewID = func() string { return uuid.Must(uuid.NewV7()).String() }
	}
	if c.Random == nil {
		c.Random = rand.Float64
	}
	def(&c.Lanes, 4)
	def(&c.LaneDepth, 1024)
	def(&c.MaxBatch, 256)
	def(&c.Workers, 256)
	def(&c.StepQueue, 1024)
	def(&c.Publishers, 4)
	def(&c.Subscribers, 4)
	def(&c.CacheSize, 10_000)
	def(&c.MaxWaiting, 64)
	def(&c.MaxPayload, 256<<10)
	def(&c.MaxData, 1<<20)
	dur(&c.PollInterval, time.Second)
	dur(&c.Lease, 5*time.Second)
	dur(&c.DrainTimeout, 30*time.Second)
	return c
}

// Validate says what is wrong with the configuration; all of it.
func (c OrchestratorConfig) Validate() error {
	c = c.withDefaults()
	var faults []error
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf("saga: OrchestratorConfig: "+format, args...))
	}
	for name, v := range map[string]int{
		"Lanes": c.Lanes, "LaneDepth": c.LaneDepth, "MaxBatch": c.MaxBatch, "Workers": c.Workers, "StepQueue": c.StepQueue,
		"Publishers": c.Publishers, "Subscribers": c.Subscribers, "CacheSize": c.CacheSize, "MaxWaiting": c.MaxWaiting,
		"MaxPayload": c.MaxPayload, "MaxData": c.MaxData, "PollInterval": int(c.PollInterval), "Lease": int(c.Lease),
		"DrainTimeout": int(c.DrainTimeout),
	} {
		if v < 0 {
			fault("%s must not be negative", name)
		}
	}
	if c.Lease > 0 && c.Lease < 10*time.Millisecond {
		fault("Lease is %s: less than 10ms cannot be renewed in time", c.Lease)
	}
	if c.Lease > 5*time.Second {
		fault("Lease is %s: more than 5s makes recovery slow, and it is renewed while a step runs", c.Lease)
	}
	if c.Name == "" && (c.Transport.Publisher != nil || c.Transport.Subscriber != nil) {
		fault("Name is empty: it names the consumer group and the topic of the replies, so on a broker each application has one of its own")
	}
	if len(c.Definitions) == 0 {
		fault("Definitions is empty: what shall it run?")
	}
	seen := map[DefinitionVersion]bool{}
	for _, d := range c.Definitions {
		if d == nil {
			fault("a definition is nil")
			continue
		}
		if err := d.Validate(); err != nil {
			faults = append(faults, err)
			continue
		}
		v := DefinitionVersion{d.Name(), d.Version()}
		if seen[v] {
			fault("definition %s version %d is given twice", v.Name, v.Version)
		}
		seen[v] = true
		if d.compiled().sends() && c.Transport.Publisher == nil {
			fault("definition %s sends messages, but Transport has no Publisher", v.Name)
		}
		if d.compiled().commands() && c.Transport.Subscriber == nil {
			fault("definition %s has command steps, but Transport has no Subscriber for their replies", v.Name)
		}
	}
	if len(c.Events) > 0 && c.Transport.Subscriber == nil {
		fault("Events are to be taken from topics, but Transport has no Subscriber")
	}
	topics := map[string]bool{}
	for _, e := range c.Events {
		if e.Topic == "" {
			fault("an EventSource has no Topic")
		}
		if topics[e.Topic] {
			fault("topic %q is given as an EventSource twice: one Route reads all of its messages", e.Topic)
		}
		topics[e.Topic] = true
	}
	if len(faults) > 0 {
		faults = append([]error{ErrInvalid}, faults...)
	}
	return errors.Join(faults...)
}

// sends tells whether the plan publishes messages at all.
func (p *plan) sends() bool { return p.anyEffect(func(e *effectPlan) bool { return e.command != nil }) }

// commands tells whether the plan waits for replies.
func (p *plan) commands() bool {
	return p.anyEffect(func(e *effectPlan) bool { return e.command != nil && !e.oneway })
}

// replies lists the topics on which the plan waits for replies; own stands for those that name none.
func (p *plan) replies(own string) map[string]bool {
	topics := map[string]bool{}
	p.anyEffect(func(e *effectPlan) bool {
		if e.command != nil && !e.oneway {
			topics[cmp.Or(e.command.replies, own)] = true
		}
		return false
	})
	return topics
}

func (p *plan) anyEffect(is func(*effectPlan) bool) bool {
	for _, s := range p.steps {
		if is(&s.action) || is(&s.undo) {
			return true
		}
	}
	return false
}
