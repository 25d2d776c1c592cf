package app

import (
	"context"
	"math"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/sagamill/sagamill/saga"
)

// metrics is an Observer that counts for Prometheus.
type metrics struct {
	registry *prometheus.Registry
	seen     *prometheus.CounterVec
	settled  *prometheus.HistogramVec
	steps    *prometheus.HistogramVec
	commits  prometheus.Histogram
	batches  prometheus.Histogram
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		seen: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "saga_observations_total", Help: "What the engine and the participants did.",
		}, []string{"what", "outcome"}),
		settled: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "saga_settled_seconds", Help: "Sagas that have come to an end, by their final state, and how long they took.",
			Buckets: prometheus.ExponentialBuckets(0.01, 4, 12),
		}, []string{"definition", "state"}),
		steps: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "saga_step_seconds", Help: "How long an attempt of a local step, or a command's handling, took.", Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16),
		}, []string{"step", "outcome"}),
		commits: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "saga_commit_seconds", Help: "How long a batch took to commit.", Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14),
		}),
		batches: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "saga_commit_transitions", Help: "How many transitions a batch had.", Buckets: prometheus.ExponentialBuckets(1, 2, 10),
		}),
	}
	m.registry.MustRegister(m.seen, m.settled, m.steps, m.commits, m.batches, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// attention shows how many of the orchestrator's sagas need some, whenever the metrics are asked for.
func (m *metrics) attention(o *saga.Orchestrator) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "saga_attention", Help: "Sagas that a person should look at; a thousand may be more. NaN: the store does not answer.",
	}, func() float64 {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		stuck, _, err := o.List(ctx, saga.Query{NeedsAttention: true, Limit: 1000})
		if err != nil {
			return math.NaN()
		}
		return float64(len(stuck))
	}))
}

// Observe implements saga.Observer.
func (m *metrics) Observe(_ context.Context, o saga.Observation) {
	outcome := ""
	switch o.What {
	case saga.ObserveSettled:
		m.settled.WithLabelValues(o.Definition, o.State).Observe(o.Duration.Seconds())
	case saga.ObserveStep, saga.ObserveCommand:
		outcome = o.Outcome
		m.steps.WithLabelValues(o.Step, o.Outcome).Observe(o.Duration.Seconds())
	case saga.ObserveReply, saga.ObserveInput:
		outcome = o.Outcome
	case saga.ObserveCommit:
		m.commits.Observe(o.Duration.Seconds())
		m.batches.Observe(float64(o.Count))
	}
	m.seen.WithLabelValues(string(o.What), outcome).Inc()
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}
