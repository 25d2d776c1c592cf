package watermillsql

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill"
)

// trimmer deletes, now and then, what all groups of a topic have acknowledged.
type trimmer struct {
	cancel context.CancelFunc
	active sync.WaitGroup

	mu     sync.Mutex
	topics map[string]bool
}

func (t *trimmer) begin(b *Broker) {
	var ctx context.Context
	ctx, t.cancel = context.WithCancel(context.Background())
	t.topics = map[string]bool{}
	if b.config.TrimInterval > 0 {
		t.active.Go(func() { t.run(ctx, b) })
	}
}

func (t *trimmer) end() {
	t.cancel()
	t.active.Wait()
}

// add notes a topic that this process subscribes to.
func (t *trimmer) add(topic string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.topics[topic] = true
}

func (t *trimmer) run(ctx context.Context, b *Broker) {
	tick := time.NewTicker(b.config.TrimInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		t.mu.Lock()
		topics := slices.Sorted(maps.Keys(t.topics))
		t.mu.Unlock()
		for _, topic := range topics {
			if err := b.dialect.trim(ctx, b.db, topic); err != nil && ctx.Err() == nil {
				b.logger.Info("Topic is not trimmed this time", watermill.LogFields{"topic": topic, "err": err.Error()})
			}
		}
	}
}
