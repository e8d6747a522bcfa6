package place_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/blob/place"
	"github.com/tuskvault/tuskvault/internal/blob/s3/s3test"
	"github.com/tuskvault/tuskvault/internal/errs"
)

func open(t *testing.T, url string, how func(place.Place, context.Context) (blob.Store, error)) blob.Store {
	t.Helper()
	p, err := place.Parse(url)
	if err != nil {
		t.Fatal(err)
	}
	s, err := how(p, t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// tree lists everything below a folder with sizes and times.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	if err := filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		i, err := e.Info()
		if err == nil {
			b.WriteString(p + " " + i.ModTime().String() + "\n")
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// readsOnly opens a store for reading and sees that nothing in its folder changes.
func readsOnly(t *testing.T, url, folder string) {
	t.Helper()
	before := tree(t, folder)
	s := open(t, url, place.Place.OpenReadOnly)
	if b, err := blob.ReadAll(t.Context(), s, "a/b", 100); err != nil || string(b) != "content" {
		t.Errorf("read: %q, %v", b, err)
	}
	n := 0
	if err := s.List(t.Context(), "a/", "", func(blob.Info) error { n++; return nil }); err != nil || n != 1 {
		t.Errorf("list: %d objects, %v", n, err)
	}
	if err := s.Create(t.Context(), "a/c", blob.Bytes("x")); !errors.Is(err, errs.ReadOnly) {
		t.Errorf("create: %v", err)
	}
	if err := s.Delete(t.Context(), "a/b"); !errors.Is(err, errs.ReadOnly) {
		t.Errorf("delete: %v", err)
	}
	if after := tree(t, folder); after != before {
		t.Errorf("the store was changed:\n%s\n%s", before, after)
	}
}

func TestAFolderOpenedForReadingIsNotChanged(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "store")
	url := "file://" + folder
	if err := open(t, url, place.Place.Create).Create(t.Context(), "a/b", blob.Bytes("content")); err != nil {
		t.Fatal(err)
	}
	// What a writer left behind long ago is for writers to remove.
	left := filepath.Join(folder, "a", ".tmp-left")
	if err := os.WriteFile(left, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-90 * 24 * time.Hour)
	if err := os.Chtimes(left, old, old); err != nil {
		t.Fatal(err)
	}
	readsOnly(t, url, folder)
}

func TestABucketOpenedForReadingIsNotChanged(t *testing.T) {
	server := s3test.Start(t)
	bucket := server.Bucket(t)
	url := server.URL(bucket, "one")
	if err := open(t, url, place.Place.Open).Create(t.Context(), "a/b", blob.Bytes("content")); err != nil {
		t.Fatal(err)
	}
	readsOnly(t, url, server.Folder(bucket))
}

func TestWrongURLsAreRefusedAndNotRepeated(t *testing.T) {
	for _, url := range []string{"", "/path", "file://host/path", "file:relative", "http://x/y", "file:///p?secret=1", "file://user:secret@/p"} {
		if _, err := place.Parse(url); !errors.Is(err, errs.Invalid) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", url, err)
		}
	}
	p, err := place.Parse("file:///nowhere/at/all")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.OpenReadOnly(t.Context()); !errors.Is(err, errs.NotFound) {
		t.Errorf("a folder that is not there: %v", err)
	}
}
