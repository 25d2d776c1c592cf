package saga

import (
	"context"
	"sync"
	"time"
)

// stepContext is the context of one attempt of a local step: what the attempt works for, and when its time is over. Most steps
// never ask for Done, so the timer behind it is made when somebody does.
type stepContext struct {
	context.Context // the orchestrator's: when that is over, so are all attempts
	info            StepInfo
	deadline        time.Time

	mu     sync.Mutex
	err    error           // what Err has answered, or will: it does not change any more
	timed  context.Context // nil: nobody has asked for Done
	cancel context.CancelFunc
}

func (c *stepContext) Deadline() (time.Time, bool) { return c.deadline, true }

func (c *stepContext) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timed == nil {
		c.timed, c.cancel = context.WithDeadline(c.Context, c.deadline)
		if c.err != nil {
			c.cancel()
		}
	}
	return c.timed.Done()
}

func (c *stepContext) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.look()
}

// look finds out whether the context is over. The caller holds the lock.
func (c *stepContext) look() error {
	switch {
	case c.err != nil:
	case c.timed != nil:
		c.err = c.timed.Err()
	case c.Context.Err() != nil:
		c.err = c.Context.Err()
	case !time.Now().Before(c.deadline):
		c.err = context.DeadlineExceeded
	}
	return c.err
}

// Value answers also for the timed context, so that contexts derived from this one end with it without a goroutine of their own.
func (c *stepContext) Value(key any) any {
	if key == (infoKey{}) {
		return &c.info
	}
	c.mu.Lock()
	timed := c.timed
	c.mu.Unlock()
	if timed != nil {
		return timed.Value(key)
	}
	return c.Context.Value(key)
}

// end is called when the attempt has returned.
func (c *stepContext) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.look() == nil {
		c.err = context.Canceled
	}
	if c.cancel != nil {
		c.cancel()
	}
}
