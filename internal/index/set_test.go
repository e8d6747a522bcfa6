package index_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/index"
	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/seal"
)

var domain = seal.DomainID{1, 2}

// name gives the i-th name: evenly spread, like keyed hashes.
func name(i uint64) seal.Name {
	return sha256.Sum256(binary.BigEndian.AppendUint64([]byte("name"), i))
}

func packID(i uint64) pack.ID {
	return sha256.Sum256(binary.BigEndian.AppendUint64([]byte("pack"), i))
}

// location gives where the i-th name is.
func location(i uint64) index.Location {
	return index.Location{Pack: packID(i / 100), Offset: 24 + int64(i%100)*1000, Length: uint32(80 + i%900)}
}

func open(t testing.TB, dir string) *index.Set {
	t.Helper()
	s, err := index.Open(dir, domain)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// built has names from..to-1.
func built(from, to uint64) *index.Builder {
	b := index.NewBuilder(domain)
	for i := from; i < to; i++ {
		b.Add(name(i), location(i))
	}
	return b
}

func add(t testing.TB, s *index.Set, b *index.Builder) index.FileInfo {
	t.Helper()
	info, err := s.Add(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func lookup(t testing.TB, s *index.Set, n seal.Name) []index.Location {
	t.Helper()
	got, err := s.Lookup(nil, n)
	if err != nil {
		t.Fatal(err)
	}
	has, err := s.Has(n)
	if err != nil || has != (len(got) > 0) {
		t.Fatalf("has %v with %d locations, %v", has, len(got), err)
	}
	return got
}

// wantAll checks names from..to-1, and that a name beyond is missing.
func wantAll(t testing.TB, s *index.Set, from, to uint64) {
	t.Helper()
	for i := from; i < to; i++ {
		if got := lookup(t, s, name(i)); !slices.Equal(got, []index.Location{location(i)}) {
			t.Fatalf("name %d: %v", i, got)
		}
	}
	if got := lookup(t, s, name(1<<40)); len(got) != 0 {
		t.Fatalf("a name never added: %v", got)
	}
}

func TestASetAnswersLikeAMap(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			rt.Fatal(err)
		}
		s := open(t, dir)
		defer func() { _ = s.Close() }()
		model := map[seal.Name][]index.Location{} // newest first
		check := func() {
			for i := range uint64(40) {
				got, err := s.Lookup([]index.Location{{}}, name(i))
				if err != nil {
					rt.Fatal(err)
				}
				sorted := slices.Clone(got[1:])
				want := slices.Clone(model[name(i)])
				byPack := func(a, b index.Location) int { return bytes.Compare(a.Pack[:], b.Pack[:]) }
				slices.SortFunc(sorted, byPack)
				slices.SortFunc(want, byPack)
				if !slices.Equal(sorted, want) {
					rt.Fatalf("name %d: %v, want %v", i, sorted, want)
				}
			}
		}
		for step := range rapid.IntRange(1, 25).Draw(rt, "steps") {
			switch rapid.IntRange(0, 5).Draw(rt, "act") {
			case 0:
				if err := s.Merge(t.Context()); err != nil || len(s.Files()) > index.MaxFiles {
					rt.Fatalf("%d files: %v", len(s.Files()), err)
				}
			case 1:
				if err := s.Close(); err != nil {
					rt.Fatal(err)
				}
				s = open(t, dir)
			default:
				b := index.NewBuilder(domain)
				for _, i := range rapid.SliceOfN(rapid.Uint64Range(0, 39), 0, 10).Draw(rt, "names") {
					l := index.Location{Pack: packID(uint64(step) % 7), Offset: int64(i), Length: 99}
					b.Add(name(i), l)
					if !slices.Contains(model[name(i)], l) {
						model[name(i)] = append(model[name(i)], l)
					}
				}
				if _, err := s.Add(t.Context(), b); err != nil {
					rt.Fatal(err)
				}
			}
			check()
		}
	})
}

func TestTheNewestFileAnswersFirst(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	var want []index.Location
	for i := range uint64(5) {
		b := index.NewBuilder(domain)
		l := index.Location{Pack: packID(i), Offset: 24, Length: 100}
		b.Add(name(1), l)
		add(t, s, b)
		want = slices.Insert(want, 0, l)
	}
	for range 2 { // now, and after opening again
		if diff := cmp.Diff(want, lookup(t, s, name(1))); diff != "" {
			t.Error(diff)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, dir)
	}
}

func TestNamesThatAgreeInTheirPrefixAreBothCandidates(t *testing.T) {
	s := open(t, t.TempDir())
	a := name(1)
	b := a
	b[31]++
	build := index.NewBuilder(domain)
	build.Add(a, location(1))
	build.Add(b, location(2))
	build.Add(a, location(1)) // added twice, kept once
	add(t, s, build)
	for _, n := range []seal.Name{a, b} {
		got := lookup(t, s, n)
		if len(got) != 2 || !slices.Contains(got, location(1)) || !slices.Contains(got, location(2)) {
			t.Errorf("%v", got)
		}
	}
}

func TestALookupIsBounded(t *testing.T) {
	s := open(t, t.TempDir())
	b := index.NewBuilder(domain)
	for i := range uint64(10_000) {
		b.Add(name(1), index.Location{Pack: packID(i), Offset: 24, Length: 80})
	}
	add(t, s, b)
	add(t, s, built(1, 2))
	got := lookup(t, s, name(1))
	if len(got) != index.MaxCandidates || got[0] != location(1) {
		t.Errorf("%d candidates", len(got))
	}
}

func TestNamesMadeUpToBeUnevenAreFound(t *testing.T) {
	s := open(t, t.TempDir())
	b := index.NewBuilder(domain)
	var names []seal.Name
	for i := range uint64(3000) {
		var n seal.Name // all but the last few agree in their first bytes
		if i >= 2990 {
			n[0] = byte(i)
		}
		binary.BigEndian.PutUint64(n[6:], i*i)
		names = append(names, n)
		b.Add(n, location(i))
	}
	for _, n := range []seal.Name{{}, seal.Name(bytes.Repeat([]byte{0xff}, 32))} {
		names = append(names, n)
		b.Add(n, location(5000))
	}
	add(t, s, b)
	for i, n := range names {
		if len(lookup(t, s, n)) == 0 {
			t.Fatalf("name %d is not found", i)
		}
	}
}

func TestFilesOutliveTheProcessAndLeftoversDoNot(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	s := open(t, dir)
	info := add(t, s, built(0, 1000))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, n := range []string{"tmp-123", "notes.txt"} {
		if err := os.WriteFile(filepath.Join(dir, n), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s = open(t, dir)
	wantAll(t, s, 0, 1000)
	if diff := cmp.Diff([]index.FileInfo{info}, s.Files()); diff != "" {
		t.Error(diff)
	}
	if info.Entries != 1000 || info.Packs != 10 {
		t.Errorf("%+v", info)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 2 {
		t.Errorf("%v, %v", left, err)
	}
}

func TestAnEmptyBuilderAndAnEqualFileAddNothing(t *testing.T) {
	s := open(t, t.TempDir())
	if info := add(t, s, index.NewBuilder(domain)); info != (index.FileInfo{}) || len(s.Files()) != 0 {
		t.Errorf("%+v", info)
	}
	a := add(t, s, built(0, 50))
	b := index.NewBuilder(domain)
	for i := uint64(50); i > 0; i-- { // the same in another order
		b.Add(name(i-1), location(i-1))
	}
	if again := add(t, s, b); again != a || len(s.Files()) != 1 {
		t.Errorf("%+v, %+v", a, again)
	}
	if _, err := s.Add(t.Context(), index.NewBuilder(seal.DomainID{9})); !errors.Is(err, errs.Invalid) {
		t.Errorf("another domain: %v", err)
	}
}

func TestABuilderCanBeBuiltTwiceAndAddedToInBetween(t *testing.T) {
	b := built(0, 500)
	var first, second bytes.Buffer
	if err := errors.Join(b.Build(&first), b.Build(&second)); err != nil || !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Fatalf("%d and %d bytes: %v", first.Len(), second.Len(), err)
	}
	for i := uint64(500); i < 900; i++ {
		b.Add(name(i), location(i))
	}
	s := open(t, t.TempDir())
	add(t, s, b)
	wantAll(t, s, 0, 900)
}

func TestAFileFromElsewhereIsVerified(t *testing.T) {
	var file bytes.Buffer
	if err := built(0, 100).Build(&file); err != nil {
		t.Fatal(err)
	}
	id := index.FileID(file.Bytes()[file.Len()-32:])
	dir := t.TempDir()
	s := open(t, dir)
	bad := bytes.Clone(file.Bytes())
	bad[500] ^= 1
	for what, try := range map[string]struct {
		b  []byte
		id index.FileID
	}{"changed": {bad, id}, "another id": {file.Bytes(), index.FileID{1}}, "cut short": {file.Bytes()[:200], id}, "empty": {nil, id}} {
		if _, err := s.AddFile(t.Context(), bytes.NewReader(try.b), try.id); !errors.Is(err, errs.Corrupt) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	info, err := s.AddFile(t.Context(), &file, id)
	if err != nil || info.ID != id {
		t.Fatalf("%+v, %v", info, err)
	}
	wantAll(t, s, 0, 100)
	stop := errors.New("stop")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(stop)
	if _, err := s.Add(ctx, built(5, 6)); !errors.Is(err, stop) {
		t.Errorf("canceled: %v", err)
	}
}

func TestAClosedSetKnowsNothing(t *testing.T) {
	s := open(t, t.TempDir())
	add(t, s, built(0, 10))
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	_, lookupErr := s.Lookup(nil, name(1))
	_, hasErr := s.Has(name(1))
	_, addErr := s.Add(t.Context(), built(0, 1))
	for what, err := range map[string]error{"lookup": lookupErr, "has": hasErr, "add": addErr, "merge": s.Merge(t.Context())} {
		if !errors.Is(err, errs.Unavailable) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestLookupsGoOnWhileFilesAreAddedAndMerged(t *testing.T) {
	s := open(t, t.TempDir())
	const each, files = 200, 40
	add(t, s, built(0, each))
	done := make(chan struct{})
	var readers sync.WaitGroup
	for r := range 3 {
		readers.Go(func() {
			for i := uint64(r); ; i++ {
				select {
				case <-done:
					return
				default:
				}
				got, err := s.Lookup(nil, name(i%each))
				if err != nil || !slices.Equal(got, []index.Location{location(i % each)}) {
					t.Errorf("name %d: %v, %v", i%each, got, err)
					return
				}
				s.Files()
			}
		})
	}
	for f := uint64(1); f < files; f++ {
		add(t, s, built(f*each, (f+1)*each))
		if err := s.Merge(t.Context()); err != nil {
			t.Error(err)
		}
	}
	close(done)
	readers.Wait()
	if n := len(s.Files()); n > index.MaxFiles {
		t.Errorf("%d files", n)
	}
	wantAll(t, s, 0, each*files)
}

func TestFileIDsAreRead(t *testing.T) {
	id := index.FileID{1, 2, 3}
	if got, err := index.ParseFileID(id.String()); err != nil || got != id {
		t.Errorf("%s, %v", got, err)
	}
	for _, bad := range []string{"", strings.Repeat("0", 63) + "g", strings.Repeat("0", 66)} {
		if _, err := index.ParseFileID(bad); !errors.Is(err, errs.Invalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
