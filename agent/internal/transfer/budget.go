package transfer

import (
	"context"
	"math/bits"
	"sync"

	"golang.org/x/sync/semaphore"
)

// The memory of an upload is divided once and for all: three quarters for plain
// buffers, one quarter for sealed frames that wait to be sent. A plain buffer is
// free again as soon as its chunk is found present or sealed; a frame when it is
// handed to the connection. Frames need nothing but credit to go, so a sealer
// that waits for memory always gets it, and only then do plain buffers run out:
// Buffer waits, and with it the reading of rows.
//
// Besides this there is one scratch buffer a sealer, and what the connection buffers.
const framesShare = 4

// plainPool hands out buffers of one size, at most count of them. They are made
// when first needed and kept.
type plainPool struct {
	size  int
	count int
	out   *semaphore.Weighted

	mu   sync.Mutex
	free [][]byte
	made int
}

func newPlainPool(limit int64, size int) *plainPool {
	n := max(int(limit/int64(size)), 1)
	return &plainPool{size: size, count: n, out: semaphore.NewWeighted(int64(n))}
}

// get waits for a buffer.
func (p *plainPool) get(ctx context.Context) ([]byte, error) {
	if err := p.out.Acquire(ctx, 1); err != nil {
		return nil, context.Cause(ctx)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.free); n > 0 {
		b := p.free[n-1]
		p.free = p.free[:n-1]
		return b[:0], nil
	}
	p.made++
	return make([]byte, 0, p.size), nil
}

// put takes a buffer back.
func (p *plainPool) put(b []byte) {
	p.mu.Lock()
	p.free = append(p.free, b)
	p.mu.Unlock()
	p.out.Release(1)
}

// smallestClass is the smallest buffer of a classPool. The average frame of the
// standard cutting is about 60 KiB.
const smallestClass = 16 << 10

// classPool hands out buffers of many sizes and bounds the bytes of all that are
// alive, in use or kept for reuse, to its limit: kept buffers go when those in
// use need their room.
type classPool struct {
	limit   int64
	largest int
	sem     *semaphore.Weighted

	mu      sync.Mutex
	charged int64
	kept    int64
	free    map[int][][]byte // by capacity
}

// newClassPool makes a pool for buffers of at most largest bytes. A limit that
// does not take one of these is raised to it.
func newClassPool(limit int64, largest int) *classPool {
	limit = max(limit, int64(largest))
	return &classPool{limit: limit, largest: largest, sem: semaphore.NewWeighted(limit), free: map[int][][]byte{}}
}

// most is the largest number of buffers that can be out; queues of this capacity
// for them never block.
func (p *classPool) most() int { return int(p.limit/int64(min(smallestClass, p.largest))) + 1 }

// class rounds a size up to the capacity of a buffer: quarter steps between
// powers of two, so that at most a fifth is wasted.
func (p *classPool) class(n int) int {
	if n <= smallestClass {
		return min(smallestClass, p.largest)
	}
	step := 1 << (bits.Len(uint(n-1)) - 3)
	return min((n+step-1)/step*step, p.largest)
}

// get waits for a buffer of at least n bytes.
func (p *classPool) get(ctx context.Context, n int) ([]byte, error) {
	c := p.class(n)
	if err := p.sem.Acquire(ctx, int64(c)); err != nil {
		return nil, context.Cause(ctx)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.charged += int64(c)
	if list := p.free[c]; len(list) > 0 {
		b := list[len(list)-1]
		list[len(list)-1] = nil
		p.free[c] = list[:len(list)-1]
		p.kept -= int64(c)
		p.trimLocked()
		return b[:0], nil
	}
	p.trimLocked()
	return make([]byte, 0, c), nil
}

// put takes a buffer back.
func (p *classPool) put(b []byte) {
	c := cap(b)
	p.mu.Lock()
	p.charged -= int64(c)
	p.free[c] = append(p.free[c], b)
	p.kept += int64(c)
	p.trimLocked()
	p.mu.Unlock()
	p.sem.Release(int64(c))
}

// trimLocked lets kept buffers go until all fit the limit. Any will do: what is
// needed again is made again.
func (p *classPool) trimLocked() {
	for c, list := range p.free {
		for len(list) > 0 && p.charged+p.kept > p.limit {
			list[len(list)-1] = nil
			list = list[:len(list)-1]
			p.kept -= int64(c)
		}
		p.free[c] = list
		if p.charged+p.kept <= p.limit {
			return
		}
	}
}
