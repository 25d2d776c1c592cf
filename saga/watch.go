package saga

import (
	"container/list"
	"slices"
	"sync"
	"time"
)

// watch knows what this process has committed last, and tells those who wait for an instance. So whoever starts a saga and waits
// for its end need not ask the store. With what others have gone on since, a wait catches up within PollInterval.
type watch struct {
	mu     sync.Mutex
	size   int // how many are kept that nobody waits for
	byID   map[string]*watched
	byName map[instanceName]string
	idle   *list.List // of *watched, the one committed last in front
}

type instanceName struct{ definition, key string }

// watched is an instance that somebody waits for, or that was committed lately.
type watched struct {
	id      string
	name    instanceName // empty: of none that this process has committed
	latest  commit
	waiters []*waiter
	element *list.Element // in idle; nil: somebody waits

	revision uint64 // of latest, and its created: they are compared with each commit, when latest itself has long left the processor's caches
	created  time.Time
}

// commit is an instance as this process has committed it: nobody changes it. The zero value: it has not.
type commit struct {
	*instance
	began time.Time // no later than the commit, by this process's clock
}

// waiter is somebody who waits for an instance.
type waiter struct {
	of      *watched
	holds   func(*instance) bool // what for; quick; nil: for any change
	changed chan struct{}        // capacity 1
}

func newWatch(size int) *watch {
	return &watch{size: size, byID: map[string]*watched{}, byName: map[instanceName]string{}, idle: list.New()}
}

// named returns the ID of an instance that this process has committed lately; empty: it has not.
func (w *watch) named(definition, key string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.byName[instanceName{definition, key}]
}

// on begins to wait, and returns what is known of the instance: nothing if it was not committed since then.
func (w *watch) on(id string, holds func(*instance) bool, since time.Time) (*waiter, commit) {
	w.mu.Lock()
	defer w.mu.Unlock()
	x := w.byID[id]
	if x == nil {
		x = &watched{id: id}
		w.byID[id] = x
	}
	if x.element != nil {
		w.idle.Remove(x.element)
		x.element = nil
	}
	a := &waiter{of: x, holds: holds, changed: make(chan struct{}, 1)}
	x.waiters = append(x.waiters, a)
	if x.latest.began.Before(since) {
		return a, commit{}
	}
	return a, x.latest
}

// latest is what is known of the waiter's instance by now.
func (w *watch) latest(a *waiter) commit {
	w.mu.Lock()
	defer w.mu.Unlock()
	return a.of.latest
}

// off ends the waiting.
func (w *watch) off(a *waiter) {
	w.mu.Lock()
	defer w.mu.Unlock()
	k := slices.Index(a.of.waiters, a)
	if a.of.waiters = slices.Delete(a.of.waiters, k, k+1); len(a.of.waiters) == 0 {
		w.keep(a.of)
	}
}

// committed tells those who wait what was committed. A commit that is told late is passed over.
func (w *watch) committed(i commit) {
	w.mu.Lock()
	defer w.mu.Unlock()
	x := w.byID[i.id]
	if x == nil {
		x = &watched{id: i.id}
		w.byID[i.id] = x
	}
	if x.revision > i.revision && x.created.Equal(i.created) {
		return
	}
	x.latest, x.revision, x.created = i, i.revision, i.created
	if name := (instanceName{i.definition, i.key}); x.name != name { // it is new, or a new one with the ID of one that was removed
		if w.byName[x.name] == x.id {
			delete(w.byName, x.name)
		}
		x.name = name
		w.byName[name] = x.id
	}
	for _, a := range x.waiters {
		if a.holds == nil || a.holds(i.instance) {
			select {
			case a.changed <- struct{}{}:
			default:
			}
		}
	}
	if len(x.waiters) == 0 {
		w.keep(x)
	}
}

// keep keeps an instance that nobody waits for, for a while.
func (w *watch) keep(x *watched) {
	switch {
	case x.latest.instance == nil:
		delete(w.byID, x.id)
		return
	case x.element != nil:
		w.idle.MoveToFront(x.element)
		return
	}
	x.element = w.idle.PushFront(x)
	if w.idle.Len() > w.size {
		oldest := w.idle.Remove(w.idle.Back()).(*watched)
		delete(w.byID, oldest.id)
		if w.byName[oldest.name] == oldest.id {
			delete(w.byName, oldest.name)
		}
	}
}
