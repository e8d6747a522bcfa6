package pgarchive_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pgarchive"
	"github.com/tuskvault/tuskvault/internal/pgtest"
)

// file is a File in memory.
type file struct{ bytes.Buffer }

func (f *file) WriteAt(p []byte, off int64) (int, error) {
	return copy(f.Bytes()[off:], p), nil
}

// rewrite gives an archive's table of contents in the directory format.
func rewrite(t testing.TB, a *pgarchive.Archive) []byte {
	t.Helper()
	f := new(file)
	w, err := pgarchive.NewWriter(f, a)
	if err != nil {
		t.Fatal(err)
	}
	for i := range a.Entries {
		if err := w.Entry(&a.Entries[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return f.Bytes()
}

// same compares what two archives say.
func same(t testing.TB, want, got *pgarchive.Archive) {
	t.Helper()
	if want.Version != got.Version || want.Database != got.Database || want.Server != got.Server || want.Tool != got.Tool || !want.Created.Equal(got.Created) && !want.Created.IsZero() {
		t.Fatalf("head %v %q %q %q %v, want %v %q %q %q %v", got.Version, got.Database, got.Server, got.Tool, got.Created,
			want.Version, want.Database, want.Server, want.Tool, want.Created)
	}
	if d := cmp.Diff(want.Entries, got.Entries, cmp.AllowUnexported(pgarchive.Entry{}), cmpopts.EquateEmpty(), cmpopts.IgnoreFields(pgarchive.Entry{}, "File")); d != "" {
		t.Fatal(d)
	}
}

func TestWhatIsWrittenIsReadBack(t *testing.T) {
	for _, minor := range []byte{14, 15, 16} {
		a, err := pgarchive.Read(bytes.NewReader(sample(minor)))
		if err != nil {
			t.Fatal(err)
		}
		a.Entries = append(a.Entries, pgarchive.Entry{ID: 900, OID: 16002, Tag: `t"x`, Desc: "TABLE DATA", Section: pgarchive.SectionData,
			Copy: "COPY s.t (a) FROM stdin;\n", Namespace: "s", Deps: []pgarchive.ID{2}, HasData: true, File: "900.dat"})
		b := rewrite(t, a)
		got, err := pgarchive.ReadDirectory(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		same(t, a, got)
		if e := got.Entry(900); e.File != "900.dat" || !e.HasData {
			t.Errorf("1.%d: data entry %+v", minor, e)
		}
		if !bytes.Equal(b, rewrite(t, got)) {
			t.Errorf("1.%d: written again it differs", minor)
		}
		if _, err := pgarchive.Read(bytes.NewReader(b)); !errors.Is(err, errs.Unsupported) {
			t.Errorf("1.%d: taken for the custom format: %v", minor, err)
		}
	}
}

func TestEntriesThatCannotBeAreNotWritten(t *testing.T) {
	a, err := pgarchive.Read(bytes.NewReader(sample(14)))
	if err != nil {
		t.Fatal(err)
	}
	w, err := pgarchive.NewWriter(new(file), a)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Entry(&a.Entries[0]); err != nil {
		t.Fatal(err)
	}
	for name, e := range map[string]pgarchive.Entry{"twice": a.Entries[0], "no number": {Section: pgarchive.SectionPre}, "no section": {ID: 77}} {
		if err := w.Entry(&e); !errors.Is(err, errs.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	a.Version.Minor = 17
	if _, err := pgarchive.NewWriter(new(file), a); !errors.Is(err, errs.Unsupported) {
		t.Errorf("a version of the future: %v", err)
	}
}

// What pg_dump wrote as a directory, written again, has the same bytes; and what
// it wrote in the custom format, as a directory, is listed the same.
func TestOursAreTheBytesOfPgDump(t *testing.T) {
	s := pgtest.Start(t, pgtest.Options{})
	s.Exec(t, "postgres", `CREATE TABLE "odd "" t" (a int PRIMARY KEY, b text)`, "CREATE VIEW v AS SELECT 1 x", "COMMENT ON VIEW v IS 'c'", "SELECT lo_create(9)")
	dump := func(format, to string) {
		cmd := exec.CommandContext(t.Context(), filepath.Join(s.Bin, "pg_dump"), "-F"+format, "-f", to, "-d", s.URL("postgres"))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("pg_dump: %v: %s", err, out)
		}
	}
	list := func(of string) string {
		out, err := exec.CommandContext(t.Context(), filepath.Join(s.Bin, "pg_restore"), "-l", of).CombinedOutput()
		if err != nil {
			t.Fatalf("pg_restore -l: %v: %s", err, out)
		}
		var lines []string
		for line := range strings.Lines(string(out)) {
			if !strings.HasPrefix(line, ";") {
				lines = append(lines, line)
			}
		}
		return strings.Join(lines, "")
	}
	dir := t.TempDir()
	folder, custom := filepath.Join(dir, "folder"), filepath.Join(dir, "custom")
	dump("d", folder)
	dump("c", custom)
	want, err := os.ReadFile(filepath.Join(folder, "toc.dat"))
	if err != nil {
		t.Fatal(err)
	}
	a, err := pgarchive.ReadDirectory(bytes.NewReader(want))
	if err != nil {
		t.Fatal(err)
	}
	if got := rewrite(t, a); !bytes.Equal(got, want) {
		t.Errorf("%d bytes differ from pg_dump's %d", len(got), len(want))
	}
	f, err := os.Open(custom)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // only read from
	if a, err = pgarchive.Read(f); err != nil {
		t.Fatal(err)
	}
	ours := filepath.Join(dir, "ours")
	if err := os.Mkdir(ours, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(ours, "toc.dat"), rewrite(t, a), 0o600); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(list(folder), list(ours)); d != "" {
		t.Error(d)
	}
}

func FuzzWrite(f *testing.F) {
	for _, minor := range []byte{14, 15, 16} {
		f.Add(sample(minor))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := pgarchive.Read(bytes.NewReader(b))
		if err != nil {
			return
		}
		out := rewrite(t, a)
		got, err := pgarchive.ReadDirectory(bytes.NewReader(out))
		if err != nil {
			t.Fatalf("what was written is not read: %v", err)
		}
		same(t, a, got)
		for _, n := range []int{len(out) / 2, len(out) - 1} {
			if _, err := pgarchive.ReadDirectory(io.LimitReader(bytes.NewReader(out), int64(n))); !errors.Is(err, errs.Corrupt) {
				t.Fatalf("cut at %d of %d: %v", n, len(out), err)
			}
		}
	})
}
