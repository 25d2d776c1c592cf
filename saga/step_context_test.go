package saga

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

// An attempt's context keeps the promises of context.Context, whoever asks it first and for what.
func TestStepContext(t *testing.T) {
	t.Parallel()
	make := func(t *testing.T, asked bool) (c *stepContext, stop context.CancelCauseFunc) {
		parent, stop := context.WithCancelCause(t.Context())
		c = &stepContext{Context: parent, info: StepInfo{Step: "book"}, deadline: time.Now().Add(time.Minute)}
		if asked {
			assert.False(t, closed(c.Done()))
		}
		return c, stop
	}
	over := func(t *testing.T, c *stepContext, err error) {
		assert.ErrorIs(t, c.Err(), err)
		assert.True(t, closed(c.Done()), "over by Err is over by Done")
		time.Sleep(time.Hour)
		assert.ErrorIs(t, c.Err(), err, "what Err has answered does not change")
	}
	for name, asked := range map[string]bool{"Done is asked for first": true, "Err is asked first": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c, stop := make(t, asked)
				defer stop(nil)
				assert.NoError(t, c.Err())
				time.Sleep(time.Minute)
				synctest.Wait()
				over(t, c, context.DeadlineExceeded)
			})
			synctest.Test(t, func(t *testing.T) {
				c, stop := make(t, asked)
				stop(ErrClosed)
				synctest.Wait()
				over(t, c, context.Canceled)
				assert.ErrorIs(t, context.Cause(c), ErrClosed)
			})
			synctest.Test(t, func(t *testing.T) {
				c, stop := make(t, asked)
				c.end()
				over(t, c, context.Canceled)
				stop(errors.New("later"))
			})
			synctest.Test(t, func(t *testing.T) {
				c, stop := make(t, asked)
				defer stop(nil)
				child, cancel := context.WithCancel(c)
				defer cancel()
				assert.NoError(t, child.Err())
				assert.Equal(t, "book", Info(child).Step)
				time.Sleep(time.Minute)
				synctest.Wait()
				over(t, c, context.DeadlineExceeded)
				assert.ErrorIs(t, child.Err(), context.DeadlineExceeded)
			})
		})
	}
}
