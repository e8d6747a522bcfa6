package blob_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/blob/blobtest"
	"github.com/tuskvault/tuskvault/internal/blob/mem"
	"github.com/tuskvault/tuskvault/internal/errs"
)

func wantKind(t *testing.T, what string, err error, kind *errs.Kind) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Errorf("%s: got %v, want %v", what, err, kind)
	}
}

// bubble runs a test in fake time on a retrying store over a faulty one.
func bubble(t *testing.T, o blob.RetryOptions, test func(t *testing.T, faulty *blobtest.Faulty, s blob.Store)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		faulty := blobtest.NewFaulty(mem.New())
		test(t, faulty, blob.Retry(faulty, o))
		faulty.Verify(t)
	})
}

func fails(op blob.Op, kind error, from, to int) []blobtest.Fault {
	var faults []blobtest.Fault
	for n := from; n <= to; n++ {
		faults = append(faults, blobtest.Fault{Op: op, Nth: n, Effect: blobtest.Fail, Err: kind})
	}
	return faults
}

func TestRetryRepeatsOnlyWhatMayPass(t *testing.T) {
	for _, kind := range errs.All() {
		bubble(t, blob.RetryOptions{}, func(t *testing.T, faulty *blobtest.Faulty, s blob.Store) {
			faulty.Plan(fails(blob.OpCreate, kind, 1, 1)...)
			start := time.Now()
			err := s.Create(t.Context(), "a", blob.Bytes("x"))
			if kind == errs.Unavailable {
				if err != nil || time.Since(start) == 0 {
					t.Errorf("%v: got %v after %s", kind, err, time.Since(start))
				}
			} else if !errors.Is(err, kind) || time.Since(start) != 0 {
				t.Errorf("%v: got %v after %s", kind, err, time.Since(start))
			}
		})
	}
}

func TestRetryGivesUp(t *testing.T) {
	bubble(t, blob.RetryOptions{}, func(t *testing.T, faulty *blobtest.Faulty, s blob.Store) {
		faulty.Plan(fails(blob.OpStat, errs.Unavailable, 1, 5)...)
		start := time.Now()
		_, err := s.Stat(t.Context(), "a")
		wantKind(t, "after 5 attempts", err, errs.Unavailable)
		// 0.1+0.2+0.4+0.8 s, each spread down to a half.
		if took := time.Since(start); took < 750*time.Millisecond || took > 1500*time.Millisecond {
			t.Errorf("gave up after %s", took)
		}
	})
	bubble(t, blob.RetryOptions{Attempts: 1000, Wait: time.Second, WaitMax: time.Second, Elapsed: 10 * time.Second},
		func(t *testing.T, faulty *blobtest.Faulty, s blob.Store) {
			start := time.Now()
			faulty.StopAfter(0)
			wantKind(t, "after 10 s", s.Create(t.Context(), "a", blob.Bytes("x")), errs.Unavailable)
			if took := time.Since(start); took < 10*time.Second || took > 12*time.Second {
				t.Errorf("gave up after %s", took)
			}
		})
}

func TestRetryEndsWithItsContext(t *testing.T) {
	bubble(t, blob.RetryOptions{Attempts: 1000, Wait: time.Hour, WaitMax: time.Hour, Elapsed: 100 * time.Hour},
		func(t *testing.T, faulty *blobtest.Faulty, s blob.Store) {
			faulty.StopAfter(0)
			cause := errors.New("lease lost")
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(time.Minute, func() { cancel(cause) })
			start := time.Now()
			err := s.Create(ctx, "a", blob.Bytes("x"))
			if !errors.Is(err, cause) || errs.KindOf(err) != errs.Canceled || time.Since(start) != time.Minute {
				t.Errorf("got %v after %s", err, time.Since(start))
			}
		})
}

func TestRetrySettlesAnAmbiguousCreate(t *testing.T) {
	ambiguous := blobtest.Fault{Op: blob.OpCreate, Nth: 1, Effect: blobtest.Ambiguous}
	bubble(t, blob.RetryOptions{}, func(t *testing.T, faulty *blobtest.Faulty, s blob.Store) {
		faulty.Plan(ambiguous)
		if err := s.Create(t.Context(), "a", blob.Bytes("ours")); err != nil {
			t.Errorf("done, and the answer lost: %v", err)
		}
	})
	bubble(t, blob.RetryOptions{}, func(t *testing.T, faulty *blobtest.Faulty, s blob.Store) {
		// Another's object appears between our two attempts.
		faulty.Plan(fails(blob.OpCreate, errs.Unavailable, 1, 1)...)
		time.AfterFunc(time.Millisecond, func() {
			if err := faulty.Create(context.Background(), "a", blob.Bytes("them")); err != nil {
				t.Error(err)
			}
		})
		wantKind(t, "not done, and another's there", s.Create(t.Context(), "a", blob.Bytes("ours")), errs.Exists)
	})
	bubble(t, blob.RetryOptions{}, func(t *testing.T, faulty *blobtest.Faulty, s blob.Store) {
		if err := s.Create(t.Context(), "a", blob.Bytes("ours")); err != nil {
			t.Fatal(err)
		}
		wantKind(t, "equal bytes without any doubt", s.Create(t.Context(), "a", blob.Bytes("ours")), errs.Exists)
	})
	bubble(t, blob.RetryOptions{}, func(t *testing.T, faulty *blobtest.Faulty, s blob.Store) {
		faulty.Plan(ambiguous, blobtest.Fault{Op: blob.OpOpen, Nth: 1, Effect: blobtest.Fail})
		if err := s.Create(t.Context(), "a", blob.Bytes("ours")); err != nil {
			t.Errorf("done, the answer lost, reading back failed once: %v", err)
		}
	})
	bubble(t, blob.RetryOptions{}, func(t *testing.T, faulty *blobtest.Faulty, s blob.Store) {
		faulty.Plan(ambiguous)
		faulty.Plan(fails(blob.OpCreate, errs.Exhausted, 2, 2)...)
		err := s.Create(t.Context(), "a", blob.Bytes("ours"))
		wantKind(t, "done, the answer lost, then full", err, errs.Exhausted)
		wantKind(t, "done, the answer lost, then full: still open", err, errs.Unavailable)
	})
	bubble(t, blob.RetryOptions{}, func(t *testing.T, faulty *blobtest.Faulty, s blob.Store) {
		faulty.Plan(ambiguous, blobtest.Fault{Op: blob.OpOpen, Nth: 1, Effect: blobtest.Flip})
		wantKind(t, "the object reads back spoilt", s.Create(t.Context(), "a", blob.Bytes("ours")), errs.Exists)
	})
}

func TestRetryGoesOnWhereAReaderBrokeOff(t *testing.T) {
	data := make([]byte, 1000)
	for i := range data {
		data[i] = byte(i % 251)
	}
	for what, length := range map[string]int64{"to the end": -1, "a range": 800} {
		bubble(t, blob.RetryOptions{}, func(t *testing.T, faulty *blobtest.Faulty, s blob.Store) {
			if err := s.Create(t.Context(), "a", blob.Bytes(data)); err != nil {
				t.Fatal(err)
			}
			for n := 1; n <= 4; n++ { // of what is left, half each time
				faulty.Plan(blobtest.Fault{Op: blob.OpOpen, Nth: n, Effect: blobtest.Break})
			}
			want := data[100:]
			if length >= 0 {
				want = want[:length]
			}
			r, err := s.Open(t.Context(), "a", 100, length)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(r)
			if err = errors.Join(err, r.Close()); err != nil || !slices.Equal(got, want) {
				t.Errorf("%s: %d bytes of %d, %v", what, len(got), len(want), err)
			}
		})
	}
	bubble(t, blob.RetryOptions{}, func(t *testing.T, faulty *blobtest.Faulty, s blob.Store) {
		if err := s.Create(t.Context(), "a", blob.Bytes(data)); err != nil {
			t.Fatal(err)
		}
		faulty.Plan(blobtest.Fault{Op: blob.OpOpen, Nth: 1, Effect: blobtest.Break, Err: errs.Corrupt})
		r, err := s.Open(t.Context(), "a", 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.ReadAll(r)
		wantKind(t, "damage is not retried", errors.Join(err, r.Close()), errs.Corrupt)
		if _, err := r.Read(make([]byte, 1)); err == nil {
			t.Error("a closed reader gives on")
		}
	})
}

// breaking ends each List after two objects.
type breaking struct {
	blob.Store
	lists int
}

func (b *breaking) List(ctx context.Context, prefix, after string, fn func(blob.Info) error) error {
	b.lists++
	n := 0
	return b.Store.List(ctx, prefix, after, func(info blob.Info) error {
		if n++; n > 2 {
			return errs.Unavailable
		}
		return fn(info)
	})
}

func TestRetryGoesOnWhereAListBrokeOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &breaking{Store: mem.New()}
		s := blob.Retry(b, blob.RetryOptions{Attempts: 2})
		var want, got []string
		for i := range 9 {
			want = append(want, fmt.Sprintf("l/%d", i))
			if err := s.Create(t.Context(), want[i], blob.Bytes("x")); err != nil {
				t.Fatal(err)
			}
		}
		err := s.List(t.Context(), "l/", "", func(info blob.Info) error { got = append(got, info.Key); return nil })
		if err != nil || !slices.Equal(got, want) || b.lists != 5 {
			t.Errorf("%v in %d lists, %v", got, b.lists, err)
		}
	})
}

// hanging never answers the first n calls, as a connection whose peer is gone.
type hanging struct {
	blob.Store
	left int
	bare bool // tells ctx.Err() and not its cause, as many libraries do
}

func (h *hanging) wait(ctx context.Context) error {
	if h.left == 0 {
		return nil
	}
	h.left--
	<-ctx.Done()
	if h.bare {
		return fmt.Errorf("driver: %w", ctx.Err())
	}
	return blob.Canceled(ctx)
}

func (h *hanging) Stat(ctx context.Context, key string) (blob.Info, error) {
	if err := h.wait(ctx); err != nil {
		return blob.Info{}, err
	}
	return h.Store.Stat(ctx, key)
}

func (h *hanging) List(ctx context.Context, prefix, after string, fn func(blob.Info) error) error {
	if err := h.wait(ctx); err != nil {
		return err
	}
	return h.Store.List(ctx, prefix, after, fn)
}

func (h *hanging) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	r, err := h.Store.Open(ctx, key, offset, length)
	return &hangingReader{r, h, ctx}, err
}

type hangingReader struct {
	io.ReadCloser
	h   *hanging
	ctx context.Context
}

func (r *hangingReader) Read(p []byte) (int, error) {
	if err := r.h.wait(r.ctx); err != nil {
		return 0, err
	}
	return r.ReadCloser.Read(p)
}

func TestNoCallHangsForEver(t *testing.T) {
	for _, bare := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			h := &hanging{Store: mem.New(), bare: bare}
			s := blob.Retry(h, blob.RetryOptions{Call: time.Minute})
			if err := s.Create(t.Context(), "a", blob.Bytes("hello")); err != nil {
				t.Fatal(err)
			}
			for what, call := range map[string]func() error{
				"stat": func() error { _, err := s.Stat(t.Context(), "a"); return err },
				"list": func() error { return s.List(t.Context(), "", "", func(blob.Info) error { return nil }) },
				"read": func() error { _, err := blob.ReadAll(t.Context(), s, "a", 10); return err },
			} {
				h.left = 2
				start := time.Now()
				if err := call(); err != nil {
					t.Errorf("%s: %v", what, err)
				}
				if took := time.Since(start); took < 2*time.Minute || took > 3*time.Minute {
					t.Errorf("%s took %s", what, took)
				}
			}
			h.left = 1000
			_, err := s.Stat(t.Context(), "a")
			wantKind(t, "a store that never answers", err, errs.Unavailable)
		})
	}
}

func TestASlowCallerDoesNotEndItsList(t *testing.T) {
	bubble(t, blob.RetryOptions{Call: time.Minute}, func(t *testing.T, _ *blobtest.Faulty, s blob.Store) {
		for _, key := range []string{"a", "b", "c"} {
			if err := s.Create(t.Context(), key, blob.Bytes("x")); err != nil {
				t.Fatal(err)
			}
		}
		calls := 0
		err := s.List(t.Context(), "", "", func(blob.Info) error { calls++; time.Sleep(time.Hour); return nil })
		if err != nil || calls != 3 {
			t.Errorf("%d calls, %v", calls, err)
		}
	})
}

func TestLimitLetsNoMoreThanItsNumberAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := mem.New()
		s := blob.Limit(store, 2)
		if err := s.Create(t.Context(), "a", blob.Bytes("x")); err != nil {
			t.Fatal(err)
		}
		var open []io.ReadCloser
		for range 2 {
			r, err := s.Open(t.Context(), "a", 0, -1)
			if err != nil {
				t.Fatal(err)
			}
			open = append(open, r)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := s.Stat(ctx, "a")
		if errs.KindOf(err) != errs.Timeout {
			t.Errorf("a third thing at once: %v", err)
		}
		if err := s.List(t.Context(), "", "", func(blob.Info) error { return nil }); err != nil {
			t.Error(err)
		}
		for range 2 { // closing twice gives one place back, not two
			if err := open[0].Close(); err != nil {
				t.Error(err)
			}
		}
		if _, err := s.Stat(t.Context(), "a"); err != nil {
			t.Error(err)
		}
		r, err := s.Open(t.Context(), "a", 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := s.Create(ctx, "b", blob.Bytes("x")); errs.KindOf(err) != errs.Timeout {
			t.Errorf("a third thing after a double close: %v", err)
		}
		if err := errors.Join(r.Close(), open[1].Close()); err != nil {
			t.Error(err)
		}
		// A failed Open gives its place back.
		for range 5 {
			_, err := s.Open(t.Context(), "none", 0, -1)
			wantKind(t, "open", err, errs.NotFound)
		}
	})
}
