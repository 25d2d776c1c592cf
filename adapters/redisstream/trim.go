package redisstream

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/redis/go-redis/v9"
)

// subscribed notes a topic to be trimmed.
func (b *Broker) subscribed(topic string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.topics[topic] = true
}

func (b *Broker) trimEver(ctx context.Context) {
	tick := time.NewTicker(b.config.TrimInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		b.mu.Lock()
		topics := slices.Sorted(maps.Keys(b.topics))
		b.mu.Unlock()
		for _, topic := range topics {
			if err := b.trim(ctx, topic); err != nil && ctx.Err() == nil {
				b.logger.Error("Stream is not trimmed", err, watermill.LogFields{"topic": topic})
			}
		}
	}
}

// trim deletes what all groups of a stream have acknowledged. The first entry that one of them has not stays, and all after
// it. Nothing moves back meanwhile, so what is deleted is acknowledged still.
func (b *Broker) trim(ctx context.Context, topic string) error {
	groups, err := b.client.XInfoGroups(ctx, topic).Result()
	if err != nil {
		return fmt.Errorf("redisstream: groups of %s: %w", topic, err)
	}
	var keep string
	for _, g := range groups {
		first := g.LastDeliveredID
		// Asked for after the last delivered ID: what is delivered between the two is behind it.
		pending, err := b.client.XPending(ctx, topic, g.Name).Result()
		if err != nil && err != redis.Nil {
			return fmt.Errorf("redisstream: pending messages of %s in %s: %w", g.Name, topic, err)
		}
		if pending != nil && pending.Count > 0 && before(pending.Lower, first) {
			first = pending.Lower
		}
		if keep == "" || before(first, keep) {
			keep = first
		}
	}
	if keep == "" || keep == "0-0" {
		return nil
	}
	return b.client.XTrimMinID(ctx, topic, keep).Err()
}

// before compares IDs of entries, which are two numbers.
func before(a, b string) bool {
	a1, a2 := idOf(a)
	b1, b2 := idOf(b)
	return a1 < b1 || a1 == b1 && a2 < b2
}

func idOf(s string) (ms, seq uint64) {
	first, second, _ := strings.Cut(s, "-")
	ms, _ = strconv.ParseUint(first, 10, 64)
	seq, _ = strconv.ParseUint(second, 10, 64)
	return ms, seq
}
