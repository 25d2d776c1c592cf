package memory

import (
	"container/heap"
	"context"
	"time"

	"github.com/sagamill/sagamill/adapters/internal/batch"
	"github.com/sagamill/sagamill/saga"
)

// A dueQueue is a heap of the instances of one version of a definition that have a wake-up time, the earliest first.
type dueQueue []*instance

func (q dueQueue) Len() int           { return len(q) }
func (q dueQueue) Less(i, j int) bool { return q[i].WakeAt.Before(q[j].WakeAt) }
func (q dueQueue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].queued, q[j].queued = i, j
}

func (q *dueQueue) Push(x any) {
	in := x.(*instance)
	in.queued = len(*q)
	*q = append(*q, in)
}

func (q *dueQueue) Pop() any {
	last := len(*q) - 1
	in := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	in.queued = -1
	return in
}

// wake sets the wake-up time of an instance; a zero time clears it.
func (s *Store) wake(in *instance, at time.Time) {
	version := saga.DefinitionVersion{Name: in.Definition, Version: in.Version}
	q := s.due[version]
	if q == nil {
		q = &dueQueue{}
		s.due[version] = q
	}
	in.WakeAt = at
	switch {
	case at.IsZero() && in.queued >= 0:
		heap.Remove(q, in.queued)
	case at.IsZero():
	case in.queued >= 0:
		heap.Fix(q, in.queued)
	default:
		heap.Push(q, in)
	}
}

// first returns the queue whose first instance is due before those of the other versions asked for, or nil if none has one.
func (s *Store) first(versions []saga.DefinitionVersion) *dueQueue {
	var first *dueQueue
	for _, version := range versions {
		if q := s.due[version]; q != nil && q.Len() > 0 && (first == nil || (*q)[0].WakeAt.Before((*first)[0].WakeAt)) {
			first = q
		}
	}
	return first
}

// Claim implements saga.Store.
func (s *Store) Claim(ctx context.Context, claim saga.Claim) ([]saga.Record, time.Duration, error) {
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock()
	var claimed []*instance
	for len(claimed) < batch.Limit(claim.Limit) {
		q := s.first(claim.Definitions)
		if q == nil || (*q)[0].WakeAt.After(now) {
			break
		}
		claimed = append(claimed, heap.Pop(q).(*instance))
	}
	records := make([]saga.Record, 0, len(claimed))
	for _, in := range claimed {
		s.wake(in, now.Add(claim.Hold))
		records = append(records, in.read(now))
	}
	next := time.Duration(-1)
	if q := s.first(claim.Definitions); q != nil {
		next = max(0, (*q)[0].WakeAt.Sub(now))
	}
	return records, next, nil
}

// Touch implements saga.Store.
func (s *Store) Touch(ctx context.Context, touches []saga.Touch) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock()
	for _, touch := range touches {
		in := s.instances[touch.ID]
		if in == nil || touch.Revision != 0 && in.Revision != touch.Revision {
			continue
		}
		switch {
		case touch.Wake == saga.NoWake:
			s.wake(in, time.Time{})
		case touch.Wake >= 0:
			s.wake(in, now.Add(touch.Wake))
		}
		if touch.Lease != 0 {
			in.LeaseTill = now.Add(touch.Lease)
		}
	}
	return nil
}
