package transfer_test

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/tuskvault/tuskvault/agent/internal/transfer"
)

func TestBuffersNeverTakeMoreThanTheBudget(t *testing.T) {
	const limit, maxPlain, maxFrame = 8 << 20, 1 << 20, 1<<20 + 80
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	b := transfer.NewBudget(limit, maxPlain, maxFrame)
	var plain, frames [][]byte
	for range 20_000 {
		switch n := r.IntN(4); {
		case n == 0 && len(plain)+len(frames) < 5:
			p, err := b.Plain(t.Context())
			if err != nil || len(p) != 0 || cap(p) != maxPlain {
				t.Fatalf("buffer of %d in %d: %v", len(p), cap(p), err)
			}
			plain = append(plain, p)
		case n == 1 && len(plain) > 0:
			b.ReleasePlain(plain[0])
			plain = plain[1:]
		case n == 2 && len(plain) > 0:
			size := r.IntN(maxFrame + 1)
			f := b.Trade(plain[0], size)
			if cap(f) < size || len(f) != 0 {
				t.Fatalf("frame of %d in a buffer of %d", size, cap(f))
			}
			plain, frames = plain[1:], append(frames, f)
		case n == 3 && len(frames) > 0:
			b.ReleaseFrame(frames[0])
			frames = frames[1:]
		}
		if b.Alive() > limit {
			t.Fatalf("%d bytes are alive", b.Alive())
		}
	}
}

func TestABufferIsWaitedForAndTheWaitEndsWithItsCause(t *testing.T) {
	b := transfer.NewBudget(2<<20, 1<<20, 1<<20)
	one, err := b.Plain(t.Context())
	must(t, err)
	_, err = b.Plain(t.Context())
	must(t, err)
	cause := context.Canceled
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	if _, err := b.Plain(ctx); err == nil {
		t.Fatal("a third buffer of two")
	}
	got := make(chan error)
	go func() {
		_, err := b.Plain(t.Context())
		got <- err
	}()
	b.ReleaseFrame(b.Trade(one, 1<<20))
	must(t, <-got)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
