package ingest

import (
	"container/list"
	"sync"
)

// cacheBytes bounds what is kept for downloads and commits: decoded references,
// chunk lists and pack directories. A directory of a usual pack takes 80 KiB, a
// usual list 40 KiB: this serves dozens of streams.
const cacheBytes = 32 << 20

// cache keeps what was decoded last, bounded by bytes. What it holds must not be changed.
type cache struct {
	limit int64

	mu    sync.Mutex
	size  int64
	items map[any]*list.Element
	order list.List // of *cached, newest first
}

type cached struct {
	key, value any
	cost       int64
}

func newCache(limit int64) *cache { return &cache{limit: limit, items: map[any]*list.Element{}} }

func (c *cache) find(key any) (any, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.items[key]
	if !ok {
		return nil, false
	}
	c.order.MoveToFront(e)
	return e.Value.(*cached).value, true
}

// keep keeps a value unless it is too large to be kept beside others.
func (c *cache) keep(key, value any, cost int64) {
	if cost > c.limit/4 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.items[key]; ok {
		c.dropLocked(e)
	}
	c.items[key] = c.order.PushFront(&cached{key, value, cost})
	for c.size += cost; c.size > c.limit; {
		c.dropLocked(c.order.Back())
	}
}

func (c *cache) dropLocked(e *list.Element) {
	v := c.order.Remove(e).(*cached)
	delete(c.items, v.key)
	c.size -= v.cost
}
