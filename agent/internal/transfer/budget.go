package transfer

import (
	"context"
	"math/bits"
	"sync"

	"golang.org/x/sync/semaphore"
)

// smallestClass is the smallest buffer that is kept for sealed frames. The
// average frame of the standard cutting is about 60 KiB.
const smallestClass = 16 << 10

// budget hands out buffers and bounds the bytes of all that are alive, whether
// in use or kept for reuse, to its limit:
//
//   - A plain buffer is charged as if it were a frame of the largest chunk, from
//     the time it is handed out until its chunk is sealed or found present.
//   - A frame is charged the size of its class. Sealing never waits for memory: it
//     trades a larger charge for a smaller one, so chunks under way always get
//     through and only Buffer waits.
//   - Kept buffers fill what the charges leave; when charges grow, kept buffers go.
//
// Besides this there is one scratch buffer a sealing goroutine, and what the
// connection buffers.
type budget struct {
	limit    int64
	maxPlain int
	token    int64 // charge of a plain buffer
	sem      *semaphore.Weighted

	mu      sync.Mutex
	charged int64
	kept    int64
	free    map[int][][]byte // by capacity
}

func newBudget(limit int64, maxPlain, maxFrame int) *budget {
	return &budget{
		limit:    limit,
		maxPlain: maxPlain,
		token:    int64(classOf(maxFrame, maxFrame)),
		sem:      semaphore.NewWeighted(limit),
		free:     map[int][][]byte{},
	}
}

// tokens is the largest number of plain buffers that can be out at once.
func (b *budget) tokens() int { return int(b.limit / b.token) }

// items bounds the number of chunks under way in any form; queues of this
// capacity never block.
func (b *budget) items() int { return int(b.limit/min(smallestClass, b.token)) + 1 }

// classOf rounds a size up to the capacity of a buffer: quarter steps between
// powers of two, so that at most a fifth is wasted.
func classOf(n, maxFrame int) int {
	if n <= smallestClass {
		return min(smallestClass, maxFrame)
	}
	step := 1 << (bits.Len(uint(n-1)) - 3)
	return min((n+step-1)/step*step, maxFrame)
}

// plain waits for a plain buffer.
func (b *budget) plain(ctx context.Context) ([]byte, error) {
	if err := b.sem.Acquire(ctx, b.token); err != nil {
		return nil, context.Cause(ctx)
	}
	return b.take(b.maxPlain, b.token), nil
}

// buffer waits for a buffer of at least n bytes, charged its class. releaseFrame
// takes it back.
func (b *budget) buffer(ctx context.Context, n int) ([]byte, error) {
	c := classOf(n, int(b.token))
	if err := b.sem.Acquire(ctx, int64(c)); err != nil {
		return nil, context.Cause(ctx)
	}
	return b.take(c, int64(c)), nil
}

// releasePlain takes back a buffer of plain.
func (b *budget) releasePlain(p []byte) {
	b.give(p, b.token)
	b.sem.Release(b.token)
}

// frameFor trades a plain buffer for a frame buffer of at least n bytes.
func (b *budget) frameFor(p []byte, n int) []byte {
	b.give(p, b.token)
	c := classOf(n, int(b.token))
	f := b.take(c, int64(c))
	b.sem.Release(b.token - int64(c))
	return f
}

// releaseFrame takes back a buffer of frameFor.
func (b *budget) releaseFrame(f []byte) {
	c := int64(cap(f))
	b.give(f, c)
	b.sem.Release(c)
}

// take finds or makes a buffer of exactly this capacity and charges for it.
func (b *budget) take(capacity int, charge int64) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.charged += charge
	if list := b.free[capacity]; len(list) > 0 {
		p := list[len(list)-1]
		list[len(list)-1] = nil
		b.free[capacity] = list[:len(list)-1]
		b.kept -= int64(capacity)
		b.trimLocked()
		return p[:0]
	}
	b.trimLocked()
	return make([]byte, 0, capacity)
}

// give keeps a buffer if there is room.
func (b *budget) give(p []byte, charge int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.charged -= charge
	b.free[cap(p)] = append(b.free[cap(p)], p)
	b.kept += int64(cap(p))
	b.trimLocked()
}

// trimLocked lets kept buffers go until charges and they fit the limit. Any will
// do: what is needed again is made again.
func (b *budget) trimLocked() {
	for c, list := range b.free {
		for len(list) > 0 && b.charged+b.kept > b.limit {
			list[len(list)-1] = nil
			list = list[:len(list)-1]
			b.kept -= int64(c)
		}
		b.free[c] = list
		if b.charged+b.kept <= b.limit {
			return
		}
	}
}
