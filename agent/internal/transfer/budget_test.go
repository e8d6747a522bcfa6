package transfer_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/tuskvault/tuskvault/agent/internal/transfer"
)

func TestFramesNeverTakeMoreThanTheirMemory(t *testing.T) {
	const limit, largest = 4 << 20, 1<<20 + 80
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	p := transfer.NewClassPool(limit, largest)
	var out [][]byte
	for range 20_000 {
		if len(out) < 3 && r.IntN(2) == 0 {
			n := r.IntN(largest + 1)
			b, err := p.Get(t.Context(), n)
			if err != nil || len(b) != 0 || cap(b) < n || cap(b) > max(16<<10, n*5/4+4) {
				t.Fatalf("%d bytes in a buffer of %d in %d: %v", n, len(b), cap(b), err)
			}
			out = append(out, b)
		} else if len(out) > 0 {
			i := r.IntN(len(out))
			p.Put(out[i])
			out = append(out[:i], out[i+1:]...)
		}
		if p.Alive() > limit {
			t.Fatalf("%d bytes are alive", p.Alive())
		}
	}
}

func TestPlainBuffersAreMadeOnceAndWaitedFor(t *testing.T) {
	p := transfer.NewPlainPool(2<<20, 1<<20)
	one, err := p.Get(t.Context())
	must(t, err)
	_, err = p.Get(t.Context())
	must(t, err)
	lost := errors.New("lease lost")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(lost)
	if _, err := p.Get(ctx); !errors.Is(err, lost) {
		t.Fatalf("got %v", err)
	}
	got := make(chan error)
	go func() {
		_, err := p.Get(t.Context())
		got <- err
	}()
	p.Put(one)
	must(t, <-got)
	if p.Made() != 2 {
		t.Fatalf("%d buffers made", p.Made())
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
