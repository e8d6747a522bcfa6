package transfer

import "context"

// PlainPool and ClassPool give tests the pools.
type (
	PlainPool = plainPool
	ClassPool = classPool
)

// NewPlainPool and NewClassPool make them.
func NewPlainPool(limit int64, size int) *PlainPool    { return newPlainPool(limit, size) }
func NewClassPool(limit int64, largest int) *ClassPool { return newClassPool(limit, largest) }

// Get and Put are the pool's methods.
func (p *plainPool) Get(ctx context.Context) ([]byte, error) { return p.get(ctx) }
func (p *plainPool) Put(b []byte)                            { p.put(b) }

// Made is the number of buffers ever made.
func (p *plainPool) Made() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.made
}

// Get and Put are the pool's methods.
func (p *classPool) Get(ctx context.Context, n int) ([]byte, error) { return p.get(ctx, n) }
func (p *classPool) Put(b []byte)                                   { p.put(b) }

// Alive is the number of bytes of all buffers, in use or kept.
func (p *classPool) Alive() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.charged + p.kept
}

// Idle tells whether all buffers of an uploader are back.
func (u *Uploader) Idle() bool {
	u.frames.mu.Lock()
	defer u.frames.mu.Unlock()
	u.plains.mu.Lock()
	defer u.plains.mu.Unlock()
	return u.frames.charged == 0 && len(u.plains.free) == u.plains.made
}
