package saga

import "container/list"

// cache keeps the instances that were used last. What it says is checked by the store's compare-and-set, so it is never
// wrong for long.
type cache struct {
	size  int
	byID  map[string]*list.Element
	order *list.List // of *instance, the one used last in front
}

func newCache(size int) *cache {
	return &cache{size: size, byID: map[string]*list.Element{}, order: list.New()}
}

func (c *cache) get(id string) *instance {
	e := c.byID[id]
	if e == nil {
		return nil
	}
	c.order.MoveToFront(e)
	return e.Value.(*instance)
}

func (c *cache) put(i *instance) {
	if e := c.byID[i.id]; e != nil {
		e.Value = i
		c.order.MoveToFront(e)
		return
	}
	c.byID[i.id] = c.order.PushFront(i)
	if c.order.Len() > c.size {
		c.drop(c.order.Back().Value.(*instance).id)
	}
}

func (c *cache) drop(id string) {
	if e := c.byID[id]; e != nil {
		c.order.Remove(e)
		delete(c.byID, id)
	}
}
