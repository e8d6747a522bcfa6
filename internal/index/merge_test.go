package index_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/index"
)

func TestMergeJoinsWhatIsMoreThanEight(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	for i := range uint64(index.MaxFiles) {
		add(t, s, built(i*10, i*10+10))
	}
	before := s.Files()
	if err := s.Merge(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, s.Files()); diff != "" {
		t.Errorf("eight files were merged: %s", diff)
	}
	for i := uint64(index.MaxFiles); i < 100; i++ {
		add(t, s, built(i*10, i*10+10))
	}
	if err := s.Merge(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantAll(t, s, 0, 1000)
	kept := s.Files()
	if len(kept) > index.MaxFiles || len(files(t, dir)) != len(kept) {
		t.Errorf("%d files, %d in the folder", len(kept), len(files(t, dir)))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	wantAll(t, s, 0, 1000)
	if diff := cmp.Diff(kept, s.Files()); diff != "" {
		t.Error(diff)
	}
}

func TestALargeFileIsSeldomWrittenAgain(t *testing.T) {
	s := open(t, t.TempDir())
	large := add(t, s, built(1_000_000, 1_020_000))
	for i := range uint64(60) {
		add(t, s, built(i*10, i*10+10))
		if err := s.Merge(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	all := s.Files()
	if all[len(all)-1] != large {
		t.Errorf("the large file is gone: %v", all)
	}
}

// TestAnInterruptedMergeGivesTheSameAnswers tries sets of source files that a
// crash can leave beside the joined one: every fifth of all, none and all.
func TestAnInterruptedMergeGivesTheSameAnswers(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	for i := range uint64(index.MaxFiles + 1) {
		add(t, s, built(i*10, i*10+10))
	}
	before := files(t, dir)
	if err := s.Merge(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	after := files(t, dir)
	var gone []string
	for name := range before {
		if _, ok := after[name]; !ok {
			gone = append(gone, name)
		}
	}
	if len(gone) < 2 {
		t.Fatalf("only %d files were merged", len(gone))
	}
	all := 1<<min(len(gone), 9) - 1
	for left := 0; left <= all; left += 5 {
		if left+5 > all {
			left = all
		}
		dir := t.TempDir()
		for name, b := range after {
			write(t, filepath.Join(dir, name), b)
		}
		for i, name := range gone {
			if left&(1<<i) != 0 {
				write(t, filepath.Join(dir, name), before[name])
			}
		}
		s := open(t, dir)
		wantAll(t, s, 0, 90)
		for range 2 {
			if err := s.Merge(t.Context()); err != nil {
				t.Fatal(err)
			}
			wantAll(t, s, 0, 90)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		// What is in the folder is what was in the Set.
		again := open(t, dir)
		wantAll(t, again, 0, 90)
		if err := again.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAMergeDoesNotLaunderDamage(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	var last index.FileInfo
	for i := range uint64(index.MaxFiles + 1) {
		last = add(t, s, built(i*10, i*10+10))
	}
	b := files(t, dir)[filepath.Base(last.Path)]
	b[64+32+5] ^= 1
	write(t, last.Path, b)
	err := s.Merge(t.Context())
	if diff := cmp.Diff([]string{last.Path}, index.DamagedFiles(err)); diff != "" || !errors.Is(err, errs.Corrupt) {
		t.Errorf("%v %s", err, diff)
	}
	if n := len(files(t, dir)); n != index.MaxFiles+1 {
		t.Errorf("%d files are left", n)
	}
}

func TestACanceledMergeLeavesEverythingAsItWas(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	for i := range uint64(index.MaxFiles + 1) {
		add(t, s, built(i*10, i*10+10))
	}
	before := files(t, dir)
	stop := errors.New("stop")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(stop)
	if err := s.Merge(ctx); !errors.Is(err, stop) {
		t.Errorf("%v", err)
	}
	if diff := cmp.Diff(before, files(t, dir)); diff != "" {
		t.Error(diff)
	}
	wantAll(t, s, 0, 90)
}

func TestAMissingFileIsSaid(t *testing.T) {
	s := open(t, t.TempDir())
	var last index.FileInfo
	for i := range uint64(index.MaxFiles + 1) {
		last = add(t, s, built(i*10, i*10+10))
	}
	if err := os.Remove(last.Path); err != nil {
		t.Fatal(err)
	}
	if err := s.Merge(t.Context()); !errors.Is(err, errs.NotFound) {
		t.Errorf("%v", err)
	}
	wantAll(t, s, 0, 90) // the mapping outlives the name
}
