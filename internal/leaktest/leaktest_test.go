package leaktest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) { Main(m) }

func lingers(end chan struct{}) { <-end }

// Not parallel: it looks at all goroutines.
func TestWhoGivesUpAConnectionIsWaitedFor(t *testing.T) {
	end := make(chan struct{})
	go lingers(end)
	require.Error(t, find("another"))
	time.AfterFunc(time.Second, func() { close(end) }) // later than goleak gives up
	require.NoError(t, find("leaktest.lingers"))
}
