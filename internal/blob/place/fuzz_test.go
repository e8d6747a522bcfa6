package place_test

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/tuskvault/tuskvault/internal/blob/place"
	"github.com/tuskvault/tuskvault/internal/errs"
)

func FuzzParse(f *testing.F) {
	for _, s := range []string{"file:///var/backups/t", "file://h/x", "file:///a/../b?x", "s3://bucket/prefix?endpoint=https://h:1&region=eu-1&path_style=true",
		"s3://b?ca_file=/x", "s3://k:s@b", "", "file:///%2e%2e/%00", "s3:///", "s3://bucket?region=%zz"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := place.Parse(text)
		switch {
		case err != nil && !errors.Is(err, errs.Invalid):
			t.Fatalf("%q: %v", text, err)
		case err == nil && (p.Folder == "") == (p.Bucket.Bucket == ""):
			t.Fatalf("%q names a folder and a bucket, or neither: %+v", text, p)
		case err == nil && p.Folder != "" && (!filepath.IsAbs(p.Folder) || filepath.Clean(p.Folder) != p.Folder):
			t.Fatalf("%q: folder %q", text, p.Folder)
		}
	})
}
