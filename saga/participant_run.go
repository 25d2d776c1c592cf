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

// drainGrace is what handlers get to return when their contexts have been ended.
const drainGrace = time.Second

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
	subscriptions, err := subscribeAll(work, p.config.Transport.Subscriber, p.config.Name, topics, p.config.Subscribers,
		func(ctx context.Context, err error) {
			p.fault(ctx, "Subscriber ended, another one is opened", err, nil)
		})
	if err != nil {
		return fmt.Errorf("saga: participant %s: %w", p.config.Name, err)
	}
	var flight sync.WaitGroup
	faults := make([]error, len(subscriptions))
	for i, s := range subscriptions {
		flight.Go(func() {
			s.run(work, p.closing, func(ctx context.Context, msg *message.Message) { p.receive(ctx, s.params.Topic, msg) })
			faults[i] = s.close()
		})
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

func (p *Participant[T]) isClosing() bool { return closed(p.closing) }

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
