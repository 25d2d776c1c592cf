package saga

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// Whatever is read, committed, forgotten and waited for: no more is kept than there is room for, an input is decided on what was said last,
// who waits is told of each commit that he waits for, and a key leads to the instance that had it last.
func TestMemoryKeepsWhatItMay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const size = 4
		m := newMemory(size)
		said := map[string]*instance{}    // as it was said last; nil: to be asked
		commits := map[string]*instance{} // the latest of this process
		waiting := map[*waiter]*instance{}
		var inTurn []*waiter // those that wait, as they came
		revision := uint64(0)
		began := time.Unix(1000, 0)
		anID := rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f", "g", "h"})
		made := func(t *rapid.T) *instance {
			revision++
			id := anID.Draw(t, "id")
			return &instance{id: id, definition: "trip", key: "key of " + id, revision: revision}
		}
		t.Repeat(map[string]func(*rapid.T){
			"commit": func(t *rapid.T) {
				i, over := made(t), rapid.Bool().Draw(t, "over")
				began = began.Add(time.Second)
				m.committed(commit{i, began}, over)
				commits[i.id] = i
				if said[i.id] = i; over {
					said[i.id] = nil
				} else {
					require.Same(t, i, m.state(i.id), "what was used just now is kept")
				}
				require.Equal(t, i.id, m.named(i.definition, i.key))
				for a, seen := range waiting {
					if a.of.id != i.id {
						continue
					}
					select {
					case <-a.changed:
						require.Equal(t, i, m.latest(a).instance)
					default:
						t.Fatalf("who waits for %s is not told of it", i.id)
					}
					require.NotEqual(t, seen, i)
					waiting[a] = i
				}
			},
			"commit told late": func(t *rapid.T) {
				i := made(t)
				if x := m.byID[i.id]; x != nil && x.latest.instance != nil {
					i.revision = x.latest.revision - 1
					m.committed(commit{i, began}, true)
					said[i.id] = nil
				}
			},
			"read": func(t *rapid.T) {
				i := made(t)
				m.read(i)
				require.Same(t, i, m.state(i.id))
				said[i.id] = i
			},
			"forget": func(t *rapid.T) { id := anID.Draw(t, "id"); m.forget(id); said[id] = nil },
			"wait": func(t *rapid.T) {
				id := anID.Draw(t, "id")
				a, known := m.wait(id, nil, time.Time{})
				if known.instance != nil {
					require.Equal(t, commits[id], known.instance)
				}
				waiting[a], inTurn = known.instance, append(inTurn, a)
				_, late := m.wait(id, nil, began.Add(time.Second))
				require.Nil(t, late.instance, "what was committed before is not told")
				m.leave(m.byID[id].waiters[len(m.byID[id].waiters)-1])
			},
			"leave": func(t *rapid.T) {
				if len(inTurn) > 0 {
					k := rapid.IntRange(0, len(inTurn)-1).Draw(t, "who")
					m.leave(inTurn[k])
					delete(waiting, inTurn[k])
					inTurn = slices.Delete(inTurn, k, k+1)
				}
			},
			"": func(t *rapid.T) {
				require.LessOrEqual(t, m.live.order.Len(), size)
				require.LessOrEqual(t, m.ended.order.Len(), size/4)
				waitedFor := map[string]int{}
				for a := range waiting {
					waitedFor[a.of.id]++
				}
				lines := 0
				for id, x := range m.byID {
					require.Equal(t, id, x.id)
					require.Len(t, x.waiters, waitedFor[id])
					require.True(t, x.line != nil || len(x.waiters) > 0, "%s is kept for nobody", id)
					require.Equal(t, x.state != nil, x.line == &m.live, id)
					if x.line != nil {
						lines++
						require.Same(t, x, x.element.Value)
					}
				}
				require.Equal(t, m.live.order.Len()+m.ended.order.Len(), lines)
				for id, i := range said {
					if have := m.state(id); have != nil {
						require.Equal(t, i, have)
					}
				}
				for id, i := range commits {
					if named := m.named("trip", "key of "+id); named != "" {
						require.Equal(t, i.id, named)
						require.Equal(t, i, m.byID[id].latest.instance)
					}
				}
				require.LessOrEqual(t, len(m.byName), len(m.byID))
			},
		})
	})
}

// Who comes into a line in which all others were used is not the one who is given up.
func TestMemoryKeepsWhoComes(t *testing.T) {
	t.Parallel()
	m := newMemory(4)
	for range 2 {
		for n := range 4 {
			m.committed(commit{instance: &instance{id: fmt.Sprint(n), key: fmt.Sprint(n)}}, false)
		}
	}
	comes := &instance{id: "new", key: "new"}
	m.committed(commit{instance: comes}, false)
	require.Same(t, comes, m.state("new"))
	require.Equal(t, 4, m.live.order.Len())
}

// What is used is not given up for what comes and goes.
func TestMemorySparesWhatIsUsed(t *testing.T) {
	t.Parallel()
	m := newMemory(10)
	used := &instance{id: "used", definition: "trip", key: "used"}
	m.read(used)
	for n := range 100 {
		m.read(&instance{id: fmt.Sprint(n)})
		m.committed(commit{instance: used}, false)
	}
	require.Same(t, used, m.state("used"))
	require.Nil(t, m.state("50"))
	require.NotNil(t, m.state("99"))
	for n := range 100 { // what has ended takes the place of nothing that goes on
		m.committed(commit{instance: &instance{id: "ended " + fmt.Sprint(n), key: fmt.Sprint(n)}}, true)
	}
	require.Same(t, used, m.state("used"))
	require.Equal(t, 2, m.ended.order.Len())
}
