package kafka_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/sagamill/sagamill/internal/leaktest"
)

func TestMain(m *testing.M) {
	leaktest.Main(m, goleak.IgnoreAnyFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"))
}
