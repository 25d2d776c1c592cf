package saga

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
)

const (
	// resubscribeAfter is how long a subscriber that ended by itself is left alone: some of Watermill's do on a message that
	// they cannot read, and nobody would hear the topic any more.
	resubscribeAfter = time.Second
	// drainGrace is what handlers get to return when their contexts have been ended.
	drainGrace = time.Second
)

// Run takes commands until ctx is done or Close is called. It then drains: no more commands are taken, and the handlers in
// flight finish and reply. After DrainTimeout their contexts end; if one still does not return, Run leaves it behind and says so.
// Otherwise Run returns nil, or the reason why it could not begin. Run may be called once; after Close it returns nil at once.
func (p *Participant[T]) Run(ctx context.Context) (err error) {
	topics, err := p.begin()
	if err != nil {
		return err
	}
	defer func() {
		p.shut()
		p.err = err
		close(p.closed)
	}()
	if p.isClosing() {
		return nil
	}
	// What is under way is finished when ctx ends: the work itself runs on a context that does not.
	work, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	intakes, err := p.subscribe(work, topics)
	if err != nil {
		return err
	}
	var flight sync.WaitGroup
	faults := make([]error, len(intakes))
	for i, in := range intakes {
		flight.Go(func() { faults[i] = in.run(work) })
	}
	close(p.running)
	p.logger.Info("Participant is running", watermill.LogFields{"topics": topics})
	select {
	case <-ctx.Done():
		p.shut()
	case <-p.closing:
	}
	landed := make(chan struct{})
	go func() { flight.Wait(); close(landed) }()
	if err := p.drain(landed, cut); err != nil {
		return err
	}
	return errors.Join(faults...)
}

// Running is closed once the participant takes commands.
func (p *Participant[T]) Running() <-chan struct{} { return p.running }

// Close ends Run, waits until it has drained, and returns what Run returned. It may be called any number of times, also
// before Run, but not by a handler, which would wait for itself.
func (p *Participant[T]) Close() error {
	p.shut()
	p.mu.Lock()
	begun := p.begun
	p.mu.Unlock()
	if !begun {
		return nil // a Run that begins now finds that it has been closed
	}
	<-p.closed
	return p.err
}

func (p *Participant[T]) shut() { p.closeOnce.Do(func() { close(p.closing) }) }

func (p *Participant[T]) isClosing() bool {
	select {
	case <-p.closing:
		return true
	default:
		return false
	}
}

// drain waits until all that is in flight has landed.
func (p *Participant[T]) drain(landed <-chan struct{}, cut context.CancelFunc) error {
	timer := time.NewTimer(p.config.DrainTimeout)
	defer timer.Stop()
	select {
	case <-landed:
		return nil
	case <-timer.C:
	}
	p.logger.Info("Handlers in flight are cut off", watermill.LogFields{"drain_timeout": p.config.DrainTimeout})
	cut()
	timer.Reset(drainGrace)
	select {
	case <-landed:
		return nil
	case <-timer.C:
		return fmt.Errorf("saga: participant %s: handlers did not return within the DrainTimeout of %s", p.config.Name, p.config.DrainTimeout)
	}
}

// subscribe opens all subscribers, or none.
func (p *Participant[T]) subscribe(ctx context.Context, topics []string) ([]*intake[T], error) {
	var all []*intake[T]
	for _, topic := range topics {
		for number := range p.config.Subscribers {
			in := &intake[T]{participant: p, params: SubscriberParams{Topic: topic, Group: p.config.Name, Number: number}}
			if err := in.open(ctx); err != nil {
				for _, in := range all {
					err = errors.Join(err, in.close())
				}
				return nil, fmt.Errorf("saga: participant %s: %w", p.config.Name, err)
			}
			all = append(all, in)
		}
	}
	return all, nil
}

// intake is one subscriber, and the goroutine that handles its messages one after the other.
type intake[T any] struct {
	participant *Participant[T]
	params      SubscriberParams
	subscriber  message.Subscriber // nil: none is open
	messages    <-chan *message.Message
}

func (in *intake[T]) open(ctx context.Context) error {
	subscriber, err := in.participant.config.Transport.Subscriber(in.params)
	if err != nil {
		return fmt.Errorf("open a subscriber of %s: %w", in.params.Topic, err)
	}
	messages, err := subscriber.Subscribe(ctx, in.params.Topic)
	if err != nil {
		return errors.Join(fmt.Errorf("subscribe to %s: %w", in.params.Topic, err), subscriber.Close())
	}
	in.subscriber, in.messages = subscriber, messages
	return nil
}

func (in *intake[T]) close() error {
	if in.subscriber == nil {
		return nil
	}
	err := in.subscriber.Close()
	in.subscriber = nil
	if err != nil {
		return fmt.Errorf("close a subscriber of %s: %w", in.params.Topic, err)
	}
	return nil
}

// run handles messages until the participant closes. A subscriber that ends before is replaced.
func (in *intake[T]) run(work context.Context) error {
	p := in.participant
	for {
		if in.subscriber != nil {
			in.consume(work)
		}
		err := in.close()
		if p.isClosing() {
			return err
		}
		ended := fmt.Errorf("saga: a subscriber of %s ended by itself", in.params.Topic)
		p.fault(work, "Subscriber ended, another one is opened", errors.Join(ended, err), nil)
		select {
		case <-time.After(resubscribeAfter):
		case <-p.closing:
			return nil
		}
		if err := in.open(work); err != nil {
			p.fault(work, "Subscriber cannot be opened, it is tried again", err, nil)
		}
	}
}

// consume handles messages until the participant closes or the subscriber ends. What is taken but not handled is left to the
// broker, which delivers it again.
func (in *intake[T]) consume(work context.Context) {
	for !in.participant.isClosing() {
		select {
		case msg, ok := <-in.messages:
			if !ok {
				return
			}
			if !in.participant.isClosing() {
				in.participant.receive(work, in.params.Topic, msg)
			}
		case <-in.participant.closing:
			return
		}
	}
}
