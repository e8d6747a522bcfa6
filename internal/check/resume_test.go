package check_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tuskvault/tuskvault/internal/check"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// interrupted runs a check that ends when it begins to read so many packs.
func interrupted(t *testing.T, w *world, o check.Options, packs int) error {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	_, err := check.Run(ctx, &counting{Store: w.store, at: func(n int) {
		if n >= packs {
			cancel(errInterrupted)
		}
	}}, o)
	return err
}

var errInterrupted = errors.New("interrupted")

func TestAResumedCheckFindsWhatAnUnresumedOneFinds(t *testing.T) {
	w := newWorld(t)
	packs := w.list(repo.PacksPrefix)
	// Damage before, at and after where it is interrupted.
	for _, i := range []int{0, 2, 5, len(packs) - 1} {
		b := bytes.Clone(w.object(packs[i]))
		b[24+50] ^= 1
		w.put(packs[i], b)
	}
	for _, sample := range []int{check.Whole, 600_000} {
		o := w.options()
		o.Sample = sample
		want := w.check(o)
		if sample == check.Whole && want.PacksRead < 9 {
			t.Fatalf("%d packs are too few to be interrupted", want.PacksRead)
		}
		for at := 7; at <= int(want.PacksRead); at += 2 { // earlier nothing may be noted yet: the first packs may not be in the sample
			o.Dir, o.Resume = t.TempDir(), true
			if err := interrupted(t, w, o, at); !errors.Is(err, errInterrupted) {
				t.Fatalf("interrupted at %d: %v", at, err)
			}
			if info, err := os.Stat(filepath.Join(o.Dir, check.NoteFile)); err != nil || info.Size() > 4096 {
				t.Fatalf("note: %v, %v", info, err)
			}
			got := w.check(o)
			if !got.Resumed {
				t.Errorf("interrupted at %d: not resumed", at)
			}
			if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(check.Report{}, "Started", "Ended", "Resumed")); diff != "" {
				t.Errorf("sample %d, interrupted at %d: %s", sample, at, diff)
			}
			if left, err := os.ReadDir(o.Dir); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		}
	}
}

func TestAResumedCheckReadsNothingTwice(t *testing.T) {
	w := newWorld(t)
	o := w.options()
	o.Dir, o.Resume, o.Seed = t.TempDir(), true, 0
	if err := interrupted(t, w, o, 9); !errors.Is(err, errInterrupted) {
		t.Fatal(err)
	}
	counted := &counting{Store: w.store}
	r, err := check.Run(t.Context(), counted, o)
	must(t, err)
	if !r.Resumed || r.PacksRead != r.PacksChecked {
		t.Errorf("%+v", r)
	}
	if counted.large >= int(r.PacksRead) {
		t.Errorf("%d of %d packs were read", counted.large, r.PacksRead)
	}
}

func TestANoteOfAnotherCheckIsNotTakenUp(t *testing.T) {
	w := newWorld(t)
	for name, change := range map[string]func(*check.Options){
		"other seed":   func(o *check.Options) { o.Seed = 2 },
		"other sample": func(o *check.Options) { o.Sample = 500_000 },
		"no data":      func(o *check.Options) { o.ReadData = false },
		"not asked":    func(o *check.Options) { o.Resume = false },
		"rubbish": func(o *check.Options) {
			must(t, os.WriteFile(filepath.Join(o.Dir, check.NoteFile), []byte("{"), 0o600))
		},
	} {
		o := w.options()
		o.Dir, o.Resume = t.TempDir(), true
		if err := interrupted(t, w, o, 9); !errors.Is(err, errInterrupted) {
			t.Fatal(err)
		}
		change(&o)
		r := w.check(o)
		if r.Resumed || len(r.Findings) > 0 || r.Sample == check.Whole && r.PacksRead != r.PacksChecked {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func TestACheckThatIsEndedSaysWhy(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Nanosecond, errInterrupted)
	defer cancel()
	<-ctx.Done()
	if _, err := check.Run(ctx, w.store, w.options()); !errors.Is(err, errInterrupted) {
		t.Error(err)
	}
}
