package saga

import (
	"container/list"
	"sync"
)

// cache keeps the instances that were used last. What it says is checked by the store's compare-and-set, so it is never
// wrong for long. It is safe for concurrent use: lanes share it.
type cache struct {
	size int

	mu    sync.Mutex
	byID  map[string]*list.Element
	order *list.List // of *instance, the one used last in front
}

func newCache(size int) *cache {
	return &cache{size: size, byID: map[string]*list.Element{}, order: list.New()}
}

func (c *cache) get(id string) *instance {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.byID[id]
	if e == nil {
		return nil
	}
	c.order.MoveToFront(e)
	return e.Value.(*instance)
}

func (c *cache) put(i *instance) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.byID[i.id]; e != nil {
		e.Value = i
		c.order.MoveToFront(e)
		return
	}
	c.byID[i.id] = c.order.PushFront(i)
	if c.order.Len() > c.size {
		c.remove(c.order.Back().Value.(*instance).id)
	}
}

func (c *cache) drop(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(id)
}

// remove is drop for who holds the lock.
func (c *cache) remove(id string) {
	if e := c.byID[id]; e != nil {
		c.order.Remove(e)
		delete(c.byID, id)
	}
}
