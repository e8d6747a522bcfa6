package dir_test

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/blob/blobtest"
	"github.com/tuskvault/tuskvault/internal/blob/dir"
	"github.com/tuskvault/tuskvault/internal/errs"
)

func open(t *testing.T) *dir.Store {
	t.Helper()
	s, err := dir.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func wantKind(t *testing.T, what string, err error, kind *errs.Kind) {
	t.Helper()
	if errs.KindOf(err) != kind {
		t.Errorf("%s: got %v, want %v", what, err, kind)
	}
}

// files lists everything below the store's folder, temporary files too.
func files(t *testing.T, s *dir.Store) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(s.Path(), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(s.Path(), path)
			found = append(found, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestStoreKeepsTheContract(t *testing.T) {
	blobtest.Run(t, func(t *testing.T) blob.Store { return open(t) })
}

func TestNobodyElseCanReadFilesAndFolders(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	s, err := dir.Create(filepath.Join(t.TempDir(), "a", "b"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Create(t.Context(), "c/d/object", blob.Bytes("x")); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]fs.FileMode{
		"": fs.ModeDir | 0o700, "..": fs.ModeDir | 0o700, "c": fs.ModeDir | 0o700, "c/d": fs.ModeDir | 0o700, "c/d/object": 0o600,
	} {
		info, err := os.Stat(filepath.Join(s.Path(), path))
		if err != nil || info.Mode() != want {
			t.Errorf("%q: mode %v, want %v, %v", path, info.Mode(), want, err)
		}
	}
}

func TestOpenWantsAFolderThatExists(t *testing.T) {
	folder := t.TempDir()
	_, err := dir.Open(filepath.Join(folder, "none"))
	wantKind(t, "no folder", err, errs.NotFound)
	wantWords(t, err, "none")
	file := filepath.Join(folder, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = dir.Open(file)
	wantKind(t, "a file", err, errs.Invalid)
	_, err = dir.Create(filepath.Join(file, "below"))
	wantKind(t, "below a file", err, errs.Invalid)
}

func wantWords(t *testing.T, err error, words ...string) {
	t.Helper()
	for _, w := range words {
		if err == nil || !strings.Contains(err.Error(), w) {
			t.Errorf("got %v, want it to say %q", err, w)
		}
	}
}

func TestEveryFsyncIsMadeBeforeSuccess(t *testing.T) {
	s := open(t)
	var synced []string
	s.SetSync(func(f *os.File) error {
		rel, _ := filepath.Rel(s.Path(), f.Name())
		if strings.Contains(rel, ".tmp-") {
			rel = filepath.Join(filepath.Dir(rel), "TEMPORARY")
		}
		synced = append(synced, rel)
		return f.Sync()
	})
	if err := s.Create(t.Context(), "a/b/one", blob.Bytes("x")); err != nil {
		t.Fatal(err)
	}
	// New folders in their parents, the file, the folder that has its name.
	if want := []string{".", "a", "a/b/TEMPORARY", "a/b"}; !slices.Equal(synced, want) {
		t.Errorf("first object in new folders: %v, want %v", synced, want)
	}
	synced = nil
	if err := s.Create(t.Context(), "a/b/two", blob.Bytes("x")); err != nil {
		t.Fatal(err)
	}
	if want := []string{"a/b/TEMPORARY", "a/b"}; !slices.Equal(synced, want) {
		t.Errorf("second object: %v, want %v", synced, want)
	}
	synced = nil
	wantKind(t, "second create", s.Create(t.Context(), "a/b/two", blob.Bytes("x")), errs.Exists)
	// Whoever made it may have died before the fsync of the folder.
	if want := []string{"a/b"}; !slices.Equal(synced, want) {
		t.Errorf("an object that exists: %v, want %v", synced, want)
	}
	synced = nil
	if err := s.Delete(t.Context(), "a/b/two"); err != nil {
		t.Fatal(err)
	}
	if want := []string{"a/b"}; !slices.Equal(synced, want) {
		t.Errorf("delete: %v, want %v", synced, want)
	}
	// Another process finds the folders there and cannot know that they are durable.
	other, err := dir.Open(s.Path())
	if err != nil {
		t.Fatal(err)
	}
	synced = nil
	other.SetSync(func(f *os.File) error { synced = append(synced, f.Name()); return f.Sync() })
	if err := other.Create(t.Context(), "a/b/three", blob.Bytes("x")); err != nil || len(synced) != 4 {
		t.Errorf("another process: %d fsyncs, want 4, %v", len(synced), err)
	}
}

func TestAfterAFailedFsyncTheFileIsGone(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EIO, syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS} {
		for failing := 1; failing <= 4; failing++ { // root, folder, file, folder
			t.Run(fmt.Sprintf("%v at fsync %d", errno, failing), func(t *testing.T) {
				s := open(t)
				n, seen := 0, map[string]bool{}
				s.SetSync(func(f *os.File) error {
					info, err := f.Stat()
					if err != nil {
						return err
					}
					if n++; n == failing {
						return &fs.PathError{Op: "fsync", Path: f.Name(), Err: errno}
					}
					if name := f.Name(); info.Mode().IsRegular() && seen[name] {
						t.Errorf("%s was fsynced twice", name)
					} else {
						seen[name] = true
					}
					return f.Sync()
				})
				err := s.Create(t.Context(), "a/b/object", blob.Bytes("x"))
				want := map[syscall.Errno]*errs.Kind{syscall.EIO: errs.Unavailable, syscall.ENOSPC: errs.Exhausted, syscall.EDQUOT: errs.Exhausted, syscall.EROFS: errs.ReadOnly}[errno]
				wantKind(t, "create", err, want)
				wantWords(t, err, s.Path())
				if found := files(t, s); len(found) != 0 {
					t.Errorf("left behind: %v", found)
				}
				if err := s.Create(t.Context(), "a/b/object", blob.Bytes("x")); err != nil {
					t.Errorf("again: %v", err)
				}
				if found := files(t, s); !slices.Equal(found, []string{"a/b/object"}) {
					t.Errorf("after the second create: %v", found)
				}
			})
		}
	}
}

func TestSystemErrorsHaveTheirKindAndPath(t *testing.T) {
	for errno, want := range map[error]*errs.Kind{
		syscall.ENOSPC: errs.Exhausted, syscall.EDQUOT: errs.Exhausted, syscall.EFBIG: errs.Exhausted, syscall.EROFS: errs.ReadOnly,
		syscall.EACCES: errs.Denied, syscall.EPERM: errs.Denied, syscall.EIO: errs.Unavailable, syscall.ESTALE: errs.Unavailable,
		syscall.EMFILE: errs.Unavailable, syscall.ENOENT: errs.NotFound, syscall.EISDIR: errs.Invalid, syscall.ETIMEDOUT: errs.Unavailable,
	} {
		err := dir.Kind(&fs.PathError{Op: "write", Path: "/store/x", Err: errno})
		wantKind(t, errno.Error(), err, want)
		wantWords(t, err, "/store/x", errno.Error())
	}
	if dir.Kind(nil) != nil {
		t.Error("no error has a kind")
	}
}

func TestAFullDiskIsExhaustedAndLeavesNothing(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to mount a small file system")
	}
	folder := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder).CombinedOutput(); err != nil {
		t.Skipf("mount: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", folder).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	s, err := dir.Open(folder)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Create(t.Context(), "a/small", blob.Bytes(make([]byte, 400<<10))); err != nil {
		t.Fatal(err)
	}
	err = s.Create(t.Context(), "a/large", blob.Bytes(make([]byte, 2<<20)))
	wantKind(t, "create", err, errs.Exhausted)
	wantWords(t, err, folder, "no space")
	if found := files(t, s); !slices.Equal(found, []string{"a/small"}) {
		t.Errorf("left: %v", found)
	}
	if err := s.Create(t.Context(), "a/other", blob.Bytes(make([]byte, 400<<10))); err != nil {
		t.Errorf("what fits: %v", err)
	}
	if out, err := exec.Command("mount", "-o", "remount,ro", folder).CombinedOutput(); err != nil {
		t.Skipf("remount: %v: %s", err, out)
	}
	err = s.Create(t.Context(), "b/new", blob.Bytes("x"))
	wantKind(t, "create on a read-only disk", err, errs.ReadOnly)
	wantWords(t, err, folder)
	wantKind(t, "delete on a read-only disk", s.Delete(t.Context(), "a/small"), errs.ReadOnly)
	if _, err := s.Stat(t.Context(), "a/small"); err != nil {
		t.Error(err)
	}
}

func TestAStoreWhoseFolderIsReplacedIsUnavailable(t *testing.T) {
	// What an unmounted disk leaves: an empty folder of the same name.
	path := filepath.Join(t.TempDir(), "store")
	s, err := dir.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Create(t.Context(), "a/object", blob.Bytes("x")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	check := func(what string) {
		t.Helper()
		_, statErr := s.Stat(t.Context(), "a/object")
		_, openErr := s.Open(t.Context(), "a/object", 0, -1)
		for call, err := range map[string]error{
			"stat": statErr, "open": openErr, "create": s.Create(t.Context(), "a/new", blob.Bytes("x")), "delete": s.Delete(t.Context(), "a/object"),
			"list": s.List(t.Context(), "", "", func(blob.Info) error { return nil }),
		} {
			wantKind(t, what+": "+call, err, errs.Unavailable)
			wantWords(t, err, path)
		}
	}
	check("gone")
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	check("replaced")
	if found, err := os.ReadDir(path); err != nil || len(found) != 0 {
		t.Errorf("something was written to the folder below: %v, %v", found, err)
	}
}

func TestAFolderThatSomebodyRemovedIsMadeAgain(t *testing.T) {
	s := open(t)
	for range 2 {
		if err := s.Create(t.Context(), "a/b/object", blob.Bytes("x")); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(filepath.Join(s.Path(), "a")); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAKeyThatIsAFolderOfAnotherIsInvalid(t *testing.T) {
	s := open(t)
	if err := s.Create(t.Context(), "a/b", blob.Bytes("x")); err != nil {
		t.Fatal(err)
	}
	wantKind(t, "an object in the place of a folder", s.Create(t.Context(), "a", blob.Bytes("x")), errs.Invalid)
	wantKind(t, "an object below an object", s.Create(t.Context(), "a/b/c", blob.Bytes("x")), errs.Invalid)
	if found := files(t, s); !slices.Equal(found, []string{"a/b"}) {
		t.Errorf("left: %v", found)
	}
}

func TestWhatIsNotOursIsNotAnObject(t *testing.T) {
	s := open(t)
	if err := s.Create(t.Context(), "a/object", blob.Bytes("x")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{".tmp-x", "a/.hidden", "Upper", "a/with space", "lost+found"} {
		if err := os.WriteFile(filepath.Join(s.Path(), name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("object", filepath.Join(s.Path(), "a/link")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(s.Path(), "a/fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	var got []string
	if err := s.List(t.Context(), "", "", func(i blob.Info) error { got = append(got, i.Key); return nil }); err != nil || !slices.Equal(got, []string{"a/object"}) {
		t.Errorf("list: %v, %v", got, err)
	}
	for _, key := range []string{"a/link", "a/fifo"} {
		_, err := s.Stat(t.Context(), key)
		wantKind(t, "stat "+key, err, errs.NotFound)
		_, err = s.Open(t.Context(), key, 0, -1)
		wantKind(t, "open "+key, err, errs.NotFound)
	}
}

func TestTemporaryFilesAreSweptWhenOldAndOnlyThen(t *testing.T) {
	s := open(t)
	if err := s.Create(t.Context(), "a/b/object", blob.Bytes("x")); err != nil {
		t.Fatal(err)
	}
	write := func(name string, age time.Duration) {
		t.Helper()
		path := filepath.Join(s.Path(), name)
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		when := time.Now().Add(-age)
		if err := os.Chtimes(path, when, when); err != nil {
			t.Fatal(err)
		}
	}
	litter := func() {
		write(".tmp-old", 25*time.Hour)
		write("a/b/.tmp-old", 25*time.Hour)
		write("a/b/.tmp-young", 23*time.Hour)
		write("a/b/x.tmp-y", 1000*time.Hour) // an object whose name has it inside
		write("a/b/.other", 1000*time.Hour)
	}
	want := []string{"a/b/.other", "a/b/.tmp-young", "a/b/object", "a/b/x.tmp-y"}
	litter()
	if n, err := s.Sweep(t.Context()); err != nil || n != 2 {
		t.Errorf("swept %d, %v", n, err)
	}
	if found := files(t, s); !slices.Equal(found, want) {
		t.Errorf("after sweep: %v", found)
	}
	litter()
	if _, err := dir.Open(s.Path()); err != nil {
		t.Fatal(err)
	}
	if found := files(t, s); !slices.Equal(found, want) {
		t.Errorf("after open: %v", found)
	}
}

func TestAListInPagesIsTheSameList(t *testing.T) {
	s := open(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	var want []string
	for i := range 300 {
		key := fmt.Sprintf("%c%c/%03d", 'a'+rng.IntN(3), "-/.0"[rng.IntN(4)], i)
		key = strings.ReplaceAll(key, "//", "/")
		if err := s.Create(t.Context(), key, blob.Bytes("x")); err != nil {
			t.Fatal(err)
		}
		want = append(want, key)
	}
	slices.Sort(want)
	for _, page := range []int{1, 2, 7, 100, 1000} {
		var got []string
		err := s.ListInPages(t.Context(), page, "", "", func(i blob.Info) error { got = append(got, i.Key); return nil })
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("pages of %d: %d objects of %d, %v", page, len(got), len(want), err)
		}
	}
}

func TestAFileThatShrinksWhileItIsReadIsCorrupt(t *testing.T) {
	s := open(t)
	if err := s.Create(t.Context(), "a", blob.Bytes("0123456789")); err != nil {
		t.Fatal(err)
	}
	r, err := s.Open(t.Context(), "a", 2, 8)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(s.Path(), "a"), 5); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	n, err := r.Read(buf)
	for err == nil {
		var m int
		m, err = r.Read(buf[n:])
		n += m
	}
	wantKind(t, "read", errors.Join(err, r.Close()), errs.Corrupt)
	if n != 3 {
		t.Errorf("%d bytes", n)
	}
}
