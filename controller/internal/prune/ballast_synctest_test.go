package prune_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tuskvault/tuskvault/controller/internal/prune"
	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/blob/mem"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// full is a store with a bound on its bytes.
type full struct {
	blob.Store
	left atomic.Int64
}

func (s *full) Create(ctx context.Context, key string, body blob.Body) error {
	if s.left.Add(-body.Size()) < 0 {
		s.left.Add(body.Size())
		return errs.Exhausted
	}
	return s.Store.Create(ctx, key, body)
}

func (s *full) Delete(ctx context.Context, key string) error {
	if i, err := s.Stat(ctx, key); err == nil {
		s.left.Add(i.Size)
	}
	return s.Store.Delete(ctx, key)
}

func ballast(t *testing.T, s blob.Store) (n, bytes int64) {
	t.Helper()
	must(t, s.List(t.Context(), repo.BallastPrefix, "", func(i blob.Info) error { n, bytes = n+1, bytes+i.Size; return nil }))
	return n, bytes
}

func TestBallastIsKeptLetGoAndMadeAgain(t *testing.T) {
	s := &full{Store: mem.New()}
	s.left.Store(100 << 20)
	b := prune.NewBallast(s, 20<<20)
	for range 2 {
		must(t, b.Keep(t.Context()))
		if n, bytes := ballast(t, s); n != 3 || bytes != 24<<20 {
			t.Errorf("%d objects, %d bytes", n, bytes)
		}
	}
	must(t, prune.NewBallast(s, 8<<20).Keep(t.Context()))
	if n, _ := ballast(t, s); n != 1 {
		t.Errorf("less was wanted, %d objects are there", n)
	}
	freed, err := b.Release(t.Context())
	if must(t, err); freed != 8<<20 {
		t.Errorf("%d bytes freed", freed)
	}
	// A store that is full gets what it takes.
	s.left.Store(17 << 20)
	must(t, b.Keep(t.Context()))
	if n, _ := ballast(t, s); n != 2 {
		t.Errorf("%d objects in what was left", n)
	}
	must(t, prune.NewBallast(s, 0).Keep(t.Context()))
	if n, _ := ballast(t, s); n != 0 {
		t.Errorf("none was wanted, %d objects are there", n)
	}
}

func TestAFullStoreCanBePruned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.ballast = prune.NewBallast(w.store, 8<<20)
		w.start()
		defer w.stop()
		synctest.Wait()
		if n, _ := ballast(t, w.store); n != 1 {
			t.Fatalf("%d objects of ballast", n)
		}
		h := w.host()
		h.backups.PackFrames = 40
		h.backup(table("a", "1", 60), table("b", "1", 60))
		h.backup(table("a", "1", 60))
		w.forget(0)
		// From now on there is no room but what the ballast takes.
		isFull := true
		w.store.before = func(op blob.Op, key string) error {
			switch {
			case op == blob.OpDelete && strings.HasPrefix(key, repo.BallastPrefix):
				isFull = false
			case op == blob.OpCreate && isFull:
				return errs.Exhausted
			}
			return nil
		}
		if o := w.outcome(w.prune(prune.Spec{})); o.RepackPacks == 0 {
			t.Fatalf("nothing is to be copied: %+v", o)
		}
		time.Sleep(day)
		o := w.outcome(w.prune(prune.Spec{Domains: domains(w)}))
		w.store.before = nil
		if o.WaitingPacks != 0 || isFull {
			t.Errorf("%+v, full %v", o, isFull)
		}
		if n, _ := ballast(t, w.store); n != 1 {
			t.Errorf("%d objects of ballast in the end", n)
		}
		w.sound("pruned")
	})
}
