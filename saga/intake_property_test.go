package saga

import (
	"slices"
	"strconv"
	"testing"

	"pgregory.net/rapid"
)

// Whatever comes, and whatever lanes do with it: what they are given of an instance is what came first, nothing is lost or given twice, no
// two lanes have the same instance, and a batch is no larger than MaxBatch.
func TestIntakeIsFairToEachInstance(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		config := OrchestratorConfig{MaxBatch: rapid.IntRange(1, 4).Draw(t, "MaxBatch"), Lanes: 3, LaneDepth: 1000}
		o := &Orchestrator{config: config, intake: newIntake(&config), memory: newMemory(1)}
		in := o.intake
		lanes := make([]*lane, config.Lanes)
		work := make([][]*group, config.Lanes) // of each lane; nil: it is idle
		for k := range lanes {
			lanes[k] = &lane{o: o}
		}
		waiting := map[string][]*job{} // by instance, in order
		given := map[*group]int{}      // how many inputs a lane was given

		take := func(k int) {
			in.mu.Lock()
			defer in.mu.Unlock()
			if work[k] != nil || !in.ready() {
				return
			}
			work[k] = in.take(lanes[k], nil)
			if len(work[k]) > config.MaxBatch {
				t.Fatalf("%d instances in a batch", len(work[k]))
			}
			for _, g := range work[k] {
				if n := len(g.jobs); n == 0 || n > len(waiting[g.id]) || !slices.Equal(g.jobs, waiting[g.id][:n]) {
					t.Fatalf("lane %d is given %d inputs of instance %s, which are not the first of %d", k, n, g.id, len(waiting[g.id]))
				}
				if len(g.jobs) > 1 && slices.ContainsFunc(g.jobs, func(j *job) bool { return j.alone }) {
					t.Fatalf("an input that must be alone is one of %d", len(g.jobs))
				}
				given[g] = len(g.jobs)
				for other := range lanes {
					if other != k && slices.ContainsFunc(work[other], func(o *group) bool { return o.id == g.id }) {
						t.Fatalf("lanes %d and %d have instance %s", k, other, g.id)
					}
				}
			}
		}
		done := func(k int, keep func() bool) {
			if work[k] == nil {
				return
			}
			var again []*job
			for _, g := range work[k] {
				if len(g.jobs) != given[g] {
					t.Fatalf("a lane that was given %d inputs of instance %s has %d", given[g], g.id, len(g.jobs))
				}
				rest := waiting[g.id][len(g.jobs):]
				var back []*job
				for _, j := range g.jobs {
					if keep() {
						back = append(back, j)
					}
				}
				waiting[g.id] = slices.Concat(back, rest)
				again = append(again, back...)
			}
			in.done(lanes[k], work[k], again)
			lanes[k].over(work[k])
			work[k] = nil
		}
		t.Repeat(map[string]func(*rapid.T){
			"an input comes": func(t *rapid.T) {
				j := &job{id: strconv.Itoa(rapid.IntRange(0, 5).Draw(t, "instance")), alone: rapid.IntRange(0, 4).Draw(t, "alone") == 0}
				waiting[j.id] = append(waiting[j.id], j)
				if !in.add(j) {
					t.Fatal("it is open")
				}
			},
			"a lane takes long": func(t *rapid.T) { in.markSlow(lanes[rapid.IntRange(0, 2).Draw(t, "lane")]) },
			"a lane is idle":    func(t *rapid.T) { take(rapid.IntRange(0, 2).Draw(t, "lane")) },
			"a batch is over": func(t *rapid.T) {
				done(rapid.IntRange(0, 2).Draw(t, "lane"), func() bool { return rapid.IntRange(0, 3).Draw(t, "again") == 0 })
			},
		})
		in.close()
		for range 1000 {
			for k := range lanes {
				take(k)
				done(k, func() bool { return false })
			}
		}
		for id, jobs := range waiting {
			if len(jobs) > 0 {
				t.Fatalf("%d inputs of instance %s are lost", len(jobs), id)
			}
		}
		if len(in.queue) > 0 || len(in.taken) > 0 || len(in.busy) > 0 {
			t.Fatalf("left over: %d, %d, %d", len(in.queue), len(in.taken), len(in.busy))
		}
	})
}
