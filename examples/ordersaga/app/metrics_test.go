package app

import (
	"context"
	"errors"
	"net/http/httptest"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/memory"
	"github.com/sagamill/sagamill/compensation"
	"github.com/sagamill/sagamill/saga"
)

func TestMetricsCountSagasThatNeedAttention(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		def := saga.Linear("stuck", saga.Do("pay", func(context.Context, struct{}) error { return errors.New("closed") }).
			Pivot().Retry(compensation.Retry{Alert: 1}))
		o, err := saga.NewOrchestrator(memory.NewStore(), saga.OrchestratorConfig{Definitions: []saga.AnyDefinition{def}}, nil)
		require.NoError(t, err)
		go func() { _ = o.Run(context.WithoutCancel(t.Context())) }()
		defer func() { require.NoError(t, o.Close()) }()
		for _, key := range []string{"a", "b"} {
			_, err := def.Start(t.Context(), o, saga.StartParams[struct{}]{Key: key})
			require.NoError(t, err)
		}
		synctest.Wait()
		m := newMetrics()
		m.attention(o)
		w := httptest.NewRecorder()
		m.handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
		require.Contains(t, w.Body.String(), "\nsaga_attention 2\n")
	})
}
