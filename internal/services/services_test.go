package services

import (
	"fmt"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func TestReach(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	there := Service{"SAGAMILL_TEST_SERVICE", "redis://" + l.Addr().String() + "/0"}
	require.Equal(t, there.Default, there.URL(t))

	t.Setenv("SAGAMILL_TEST_SERVICE", "nats://"+l.Addr().String())
	require.Equal(t, "nats://"+l.Addr().String(), there.URL(t))
	require.NoError(t, l.Close())
	_, err = there.reach()
	require.Error(t, err)

	t.Setenv("SAGAMILL_TEST_SERVICE", "::")
	_, err = there.reach()
	require.ErrorContains(t, err, "SAGAMILL_TEST_SERVICE is no URL")
}

func TestWhatIsMissingSkipsTheTestOrFailsIt(t *testing.T) {
	for required, ended := range map[string]string{"": "skipped", "1": "failed"} {
		t.Setenv("SAGAMILL_REQUIRE_SERVICES", required)
		tb := &endedTest{TB: t}
		func() {
			defer func() { _ = recover() }()
			Program(tb, "no-such-program-on-any-machine")
		}()
		require.Equal(t, ended, tb.how)
		require.Contains(t, tb.why, "no-such-program-on-any-machine")
	}
	require.FileExists(t, Program(t, "go"))
}

// endedTest records how a test was ended.
type endedTest struct {
	testing.TB
	how, why string
}

func (tb *endedTest) end(how, why string) {
	tb.how, tb.why = how, why
	panic(how)
}

func (tb *endedTest) Fatalf(format string, args ...any) {
	tb.end("failed", fmt.Sprintf(format, args...))
}
func (tb *endedTest) Skipf(format string, args ...any) {
	tb.end("skipped", fmt.Sprintf(format, args...))
}

func TestNamesDiffer(t *testing.T) {
	t.Parallel()
	require.NotEqual(t, Name(), Name())
	require.Regexp(t, `^t[a-z0-9]{20,40}$`, Name())
}
