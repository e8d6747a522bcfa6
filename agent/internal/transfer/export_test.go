package transfer

import "context"

// Budget gives tests the budget.
type Budget = budget

// NewBudget makes one.
func NewBudget(limit int64, maxPlain, maxFrame int) *Budget {
	return newBudget(limit, maxPlain, maxFrame)
}

// Plain, Trade, ReleasePlain and ReleaseFrame are the budget's methods.
func (b *budget) Plain(ctx context.Context) ([]byte, error) { return b.plain(ctx) }
func (b *budget) Trade(p []byte, n int) []byte              { return b.frameFor(p, n) }
func (b *budget) ReleasePlain(p []byte)                     { b.releasePlain(p) }
func (b *budget) ReleaseFrame(f []byte)                     { b.releaseFrame(f) }

// Alive is the number of bytes of all buffers, in use or kept.
func (b *budget) Alive() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.charged + b.kept
}

// Idle tells whether an uploader's budget is whole again.
func (u *Uploader) Idle() bool {
	u.budget.mu.Lock()
	defer u.budget.mu.Unlock()
	return u.budget.charged == 0
}
