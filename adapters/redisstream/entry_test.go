package redisstream

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

// A command within a command, as a client that connects sends, is not kept waiting by whoever waits for the end of both.
func TestCallsWithinCalls(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, over := newCalls(), false
		c.wait()
		c.begin()
		go func() {
			c.wait()
			over = true
		}()
		synctest.Wait()
		c.begin()
		c.end()
		synctest.Wait()
		require.False(t, over)
		c.end()
		synctest.Wait()
		require.True(t, over)
	})
}
