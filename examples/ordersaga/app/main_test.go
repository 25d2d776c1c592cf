package app

import (
	"testing"

	"github.com/sagamill/sagamill/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }
