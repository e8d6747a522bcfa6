package check_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/tuskvault/tuskvault/internal/check"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/repo/repotest"
)

// each gives snapshots as UseOptions wants them.
func each(all []repo.SnapshotInfo) func(context.Context, func(repo.InstanceID, repo.JobID) error) error {
	return func(_ context.Context, fn func(repo.InstanceID, repo.JobID) error) error {
		for _, s := range all {
			if err := fn(s.Header.Instance, s.Header.Job); err != nil {
				return err
			}
		}
		return nil
	}
}

// uses asks what snapshots, by number, need of the first domain.
func (w *world) uses(o check.UseOptions, numbers ...int) (*check.Use, error) {
	w.t.Helper()
	o.Repository, o.Domain, o.Dir = w.repo, w.domains[0].ID(), w.t.TempDir()
	o.Snapshots = func(_ context.Context, fn func(repo.InstanceID, repo.JobID) error) error {
		for _, n := range numbers {
			if err := fn(w.backups[n/2].Instance, w.snapshots[n]); err != nil {
				return err
			}
		}
		return nil
	}
	return check.Uses(w.t.Context(), o)
}

func live(u *check.Use) (frames, all int64) {
	for _, p := range u.Packs {
		frames, all = frames+int64(p.LiveFrames), all+int64(p.Frames)
	}
	return frames, all
}

func TestWhatSnapshotsNeedOfPacks(t *testing.T) {
	w := newWorld(t)
	both, err := w.uses(check.UseOptions{}, 0, 1)
	must(t, err)
	if frames, all := live(both); frames != all || frames != both.Chunks || both.Missing != 0 || both.Snapshots != 2 || both.Lists == 0 || both.CopyFrames != 0 {
		t.Errorf("every chunk is needed once: %d of %d, %+v", frames, all, both)
	}
	first, err := w.uses(check.UseOptions{}, 0)
	must(t, err)
	second, err := w.uses(check.UseOptions{}, 1)
	must(t, err)
	none, err := w.uses(check.UseOptions{})
	must(t, err)
	a, all := live(first)
	b, _ := live(second)
	if n, _ := live(none); a >= all || b >= all || a+b <= all || n != 0 {
		t.Errorf("of %d frames the snapshots need %d and %d, nobody %d", all, a, b, n)
	}
	// All that is needed of condemned packs must be copied, in the order of the packs.
	gone := map[pack.ID]bool{}
	condemned, err := w.uses(check.UseOptions{Standing: func(p *check.PackUse) check.Standing {
		if len(gone) < 3 {
			gone[p.ID] = true
			return check.Condemned
		}
		return check.Stays
	}}, 0, 1)
	must(t, err)
	var copies []check.FrameCopy
	must(t, condemned.EachCopy(t.Context(), func(f check.FrameCopy) error { copies = append(copies, f); return nil }))
	want := int64(0)
	for _, p := range condemned.Packs {
		if gone[p.ID] {
			want += int64(p.LiveFrames)
		}
	}
	sorted := slices.IsSortedFunc(copies, func(a, b check.FrameCopy) int {
		if c := slices.Compare(a.Pack[:], b.Pack[:]); c != 0 {
			return c
		}
		return int(a.Offset - b.Offset)
	})
	if int64(len(copies)) != want || condemned.CopyFrames != want || want == 0 || !sorted || copies[0].Uploader != w.backups[0].Instance {
		t.Errorf("%d copies, want %d; sorted %v", len(copies), want, sorted)
	}
	// Packs that are ignored vouch for nothing.
	ignored, err := w.uses(check.UseOptions{Standing: func(p *check.PackUse) check.Standing { return check.Ignored }})
	must(t, err)
	if frames, _ := live(ignored); frames != 0 {
		t.Errorf("%d frames of ignored packs", frames)
	}
	for _, u := range []*check.Use{both, first, second, none, condemned, ignored} {
		must(t, u.Close())
	}
}

// TestCopiesOfAChunk puts every chunk into two packs, of one uploader or of two.
func TestCopiesOfAChunk(t *testing.T) {
	for _, shared := range []bool{false, true} {
		w := newWorld(t)
		before := len(w.list(repo.PackPrefix(w.domains[0].ID())))
		// Somebody who has not heard of what is stored stores the same once more.
		again := repotest.NewBackups(t, w.repo, w.domains[0])
		again.Epoch, again.PackFrames = 2, 50
		if !shared {
			again.Instance = w.backups[0].Instance
		}
		again.Backup(repotest.Table{Database: "app", Name: "orders", Rows: 400, Seed: "1"})
		old := map[pack.ID]bool{}
		u, err := w.uses(check.UseOptions{}, 0, 1)
		must(t, err)
		needed := map[bool]int64{} // by: it was there before
		for _, p := range u.Packs {
			first := slices.Contains(w.snapshots, p.Job)
			needed[first] += int64(p.LiveFrames)
			old[p.ID] = first
		}
		must(t, u.Close())
		switch {
		case shared && needed[true] != u.Chunks:
			t.Errorf("shared: %d chunks are needed, %d of those who need them", u.Chunks, needed[true])
		case shared && needed[false] < 90, !shared && (needed[false] < 90 || needed[true]+needed[false] != u.Chunks):
			t.Errorf("shared %v: %v of %d chunks, %d packs before", shared, needed, u.Chunks, before)
		}
		// Two that are condemned never vouch for each other.
		u, err = w.uses(check.UseOptions{Standing: func(*check.PackUse) check.Standing { return check.Condemned }}, 0, 1)
		must(t, err)
		if u.CopyFrames < u.Chunks || !shared && u.CopyFrames != u.Chunks {
			t.Errorf("shared %v: %d of %d chunks are copied", shared, u.CopyFrames, u.Chunks)
		}
		must(t, u.Close())
		// One that is damaged does not vouch for one that goes.
		u, err = w.uses(check.UseOptions{
			Standing: func(p *check.PackUse) check.Standing {
				if old[p.ID] {
					return check.Condemned
				}
				return check.Stays
			},
			Bad: func(id pack.ID, _ int64) bool { return !old[id] }}, 0, 1)
		must(t, err)
		if u.CopyFrames != needed[true]+needed[false] && !shared || shared && u.CopyFrames != needed[true] {
			t.Errorf("shared %v: %d copies of %v", shared, u.CopyFrames, needed)
		}
		must(t, u.Close())
	}
}

func TestWhatCannotBeReadIsNeverTakenForNotNeeded(t *testing.T) {
	w := newWorld(t)
	key := repo.SnapshotObject(w.backups[0].Instance, w.snapshots[0])
	raw := w.object(key)
	for at := range raw {
		if at%97 != 0 && at > 128 {
			continue // the header bit by bit, the rest here and there
		}
		broken := slices.Clone(raw)
		broken[at] ^= 4
		w.put(key, broken)
		if _, err := w.uses(check.UseOptions{}, 0, 1); err == nil || errs.KindOf(err) == nil {
			t.Fatalf("byte %d of the snapshot is wrong: %v", at, err)
		}
	}
	w.put(key, nil)
	if _, err := w.uses(check.UseOptions{}, 0, 1); !errors.Is(err, errs.NotFound) {
		t.Errorf("a snapshot that is gone: %v", err)
	}
	w.put(key, raw)
	// Without any one of the packs either a list is lost, which is an error, or
	// chunks are, which are counted.
	lists := 0
	for _, key := range w.list(repo.PackPrefix(w.domains[0].ID())) {
		b := w.object(key)
		w.put(key, nil)
		u, err := w.uses(check.UseOptions{}, 0, 1)
		switch {
		case err == nil && u.Missing == 0:
			t.Errorf("%s is gone and nothing is missing", key)
		case err == nil:
			must(t, u.Close())
		case !errors.Is(err, errs.Corrupt):
			t.Error(err)
		default:
			lists++
		}
		w.put(key, b)
	}
	if lists == 0 {
		t.Error("no pack had a list")
	}
}
