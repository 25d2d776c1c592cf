package saga

import (
	"container/list"
	"slices"
	"sync"
	"time"
)

// memory is what this process knows of instances: how those are that it used last, so that they need not be read, and what it has committed
// last, so that whoever starts a saga and waits for its end need not ask the store. The first is checked by the store's compare-and-set, so
// it is never wrong for long. With what other processes have done, a wait catches up within PollInterval. It is safe for concurrent
// use: lanes share it.
type memory struct {
	mu     sync.Mutex
	byID   map[string]*remembered
	byName map[instanceName]*remembered
	live   recent // those with a state that an input can be decided on
	ended  recent // those that were committed lately, and that nobody waits for
}

type instanceName struct{ definition, key string }

// remembered is what is known of one instance. It is kept while somebody waits, or as long as it is in a line.
type remembered struct {
	id      string
	name    instanceName // empty: of none that this process has committed
	state   *instance    // what the next input is decided on; nil: the store is to be asked
	latest  commit
	waiters []*waiter

	revision uint64 // of latest, and when that was created: they are looked at with each commit, when latest itself may be far away in memory
	created  time.Time

	line    *recent
	element *list.Element // in line
	used    bool          // since it came to the front of the line
}

// recent holds the size instances that were used last, or a few others: what is used stays where it is, and is spared once when its turn comes.
type recent struct {
	size  int
	order list.List // of *remembered, the newest in front
}

// commit is an instance as this process has committed it: nobody changes it. The zero value: it has not.
type commit struct {
	*instance
	began time.Time // no later than the commit, by this process's clock
}

// waiter is somebody who waits for an instance.
type waiter struct {
	of      *remembered
	holds   func(*instance) bool // what for; quick; nil: for any change
	changed chan struct{}        // capacity 1
}

// newMemory makes room for so many instances, and a quarter as many that have ended.
func newMemory(size int) *memory {
	return &memory{byID: map[string]*remembered{}, byName: map[instanceName]*remembered{}, live: recent{size: size}, ended: recent{size: max(size/4, 1)}}
}

// state returns an instance that an input can be decided on; nil: the store is to be asked.
func (m *memory) state(id string) *instance {
	m.mu.Lock()
	defer m.mu.Unlock()
	if x := m.byID[id]; x != nil {
		return x.state
	}
	return nil
}

// read notes how the store has an instance.
func (m *memory) read(i *instance) {
	m.mu.Lock()
	defer m.mu.Unlock()
	x := m.of(i.id)
	x.state = i
	m.place(x)
}

// forget notes that the store has an instance otherwise.
func (m *memory) forget(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if x := m.byID[id]; x != nil {
		x.state = nil
		m.place(x)
	}
}

// committed notes what was committed, and tells those who wait, unless they know of a later commit. over: no input will be decided on it.
func (m *memory) committed(c commit, over bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	x := m.of(c.id)
	if x.state = c.instance; over {
		x.state = nil
	}
	if x.revision <= c.revision || !x.created.Equal(c.created) {
		x.latest, x.revision, x.created = c, c.revision, c.created
		m.rename(x, instanceName{c.definition, c.key})
		x.tell()
	}
	m.place(x)
}

// rename notes whose the name is: that of an instance which is new, or has the ID of one that was removed.
func (m *memory) rename(x *remembered, name instanceName) {
	if x.name == name {
		return
	}
	m.unname(x)
	x.name = name
	m.byName[name] = x
}

func (m *memory) unname(x *remembered) {
	if m.byName[x.name] == x {
		delete(m.byName, x.name)
	}
}

// tell tells those who wait for what has come.
func (x *remembered) tell() {
	for _, a := range x.waiters {
		if a.holds == nil || a.holds(x.latest.instance) {
			select {
			case a.changed <- struct{}{}:
			default:
			}
		}
	}
}

// named returns the ID of an instance that this process has committed lately; empty: it has not.
func (m *memory) named(definition, key string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if x := m.byName[instanceName{definition, key}]; x != nil {
		return x.id
	}
	return ""
}

// wait begins to wait, and returns what is known of the instance: nothing if it was not committed since then.
func (m *memory) wait(id string, holds func(*instance) bool, since time.Time) (*waiter, commit) {
	m.mu.Lock()
	defer m.mu.Unlock()
	x := m.of(id)
	a := &waiter{of: x, holds: holds, changed: make(chan struct{}, 1)}
	x.waiters = append(x.waiters, a)
	m.place(x)
	if x.latest.began.Before(since) {
		return a, commit{}
	}
	return a, x.latest
}

// latest is what is known of the waiter's instance by now.
func (m *memory) latest(a *waiter) commit {
	m.mu.Lock()
	defer m.mu.Unlock()
	return a.of.latest
}

// leave ends the waiting.
func (m *memory) leave(a *waiter) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := slices.Index(a.of.waiters, a)
	a.of.waiters = slices.Delete(a.of.waiters, n, n+1)
	m.place(a.of)
}

// of returns what is known of an instance, to be added to. The caller holds the lock, and calls place.
func (m *memory) of(id string) *remembered {
	x := m.byID[id]
	if x == nil {
		x = &remembered{id: id}
		m.byID[id] = x
	}
	return x
}

// place puts what is known of an instance into the line where it belongs, or gives it up. The caller holds the lock.
func (m *memory) place(x *remembered) {
	var to *recent
	switch {
	case x.state != nil:
		to = &m.live
	case len(x.waiters) == 0 && x.latest.instance != nil:
		to = &m.ended
	}
	if x.line == to && to != nil {
		x.used = true
		return
	}
	if x.line != nil {
		x.line.order.Remove(x.element)
		x.line, x.element = nil, nil
	}
	switch {
	case to != nil:
		for to.order.Len() >= to.size {
			m.spare(to)
		}
		x.line, x.element, x.used = to, to.order.PushFront(x), false
	case len(x.waiters) == 0:
		delete(m.byID, x.id)
		m.unname(x)
	}
}

// spare takes the last one out of a line, unless it was used.
func (m *memory) spare(l *recent) {
	last := l.order.Back()
	x := last.Value.(*remembered)
	if x.used {
		x.used = false
		l.order.MoveToFront(last)
		return
	}
	l.order.Remove(last)
	x.line, x.element, x.state = nil, nil, nil
	if len(x.waiters) == 0 {
		delete(m.byID, x.id)
		m.unname(x)
	}
}
