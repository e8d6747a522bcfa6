package pgarchive_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pgarchive"
	"github.com/tuskvault/tuskvault/internal/repo/repotest"
)

// writer makes archives as pg_dump does, for versions that are not installed here.
type writer struct {
	bytes.Buffer
	minor byte
}

func (w *writer) int(n int) {
	sign := byte(0)
	if n < 0 {
		sign, n = 1, -n
	}
	w.WriteByte(sign)
	var b [4]byte
	binary.LittleEndian.PutUint32(b[:], uint32(n))
	w.Write(b[:])
}

func (w *writer) text(s string) {
	w.int(len(s))
	w.WriteString(s)
}

func (w *writer) null() { w.int(-1) }

func (w *writer) head(minor byte, entries int) {
	w.minor = minor
	w.WriteString("PGDMP")
	w.Write([]byte{1, minor, 0, 4, 8, 1})
	if minor >= 15 {
		w.WriteByte(0)
	} else {
		w.int(0)
	}
	for _, n := range []int{5, 4, 3, 2, 10, 126, 0} { // 2 November 2026, 03:04:05
		w.int(n)
	}
	w.text("source")
	w.text("15.18")
	w.text("15.18")
	w.int(entries)
}

func (w *writer) entry(id, section int, desc, tag, owner string, deps ...int) {
	w.int(id)
	w.int(0)
	w.text("1259")
	w.text(fmt.Sprint(16000 + id))
	w.text(tag)
	w.text(desc)
	w.int(section)
	w.text("CREATE " + desc + " " + tag + ";\n")
	w.text("DROP " + desc + " s." + tag + ";\n")
	w.text("")
	w.text("s")
	w.null()
	w.text("heap")
	if w.minor >= 16 {
		w.int('r')
	}
	w.text(owner)
	w.text("false")
	for _, d := range deps {
		w.text(fmt.Sprint(d))
	}
	w.null()
	w.WriteByte(3)
	w.Write(make([]byte, 8))
}

func sample(minor byte) []byte {
	var w writer
	w.head(minor, 8)
	w.entry(1, 2, "ENCODING", "ENCODING", "")
	w.entry(2, 2, "TABLE", `t"x`, "o\xffwner")
	w.entry(3, 2, "FUNCTION", "f(integer)", "app")
	w.entry(4, 4, "INDEX", "i", "app", 2)
	w.entry(5, 1, "COMMENT", "INDEX i", "app", 4)
	w.entry(6, 1, "SECURITY LABEL", "of a comment", "app", 5)
	w.entry(7, 1, "ACL", `TABLE t`, "app", 2)
	w.entry(8, 4, "EVENT TRIGGER", `e`, "app", 3)
	return w.Bytes()
}

func TestEveryKnownVersionIsRead(t *testing.T) {
	for _, minor := range []byte{14, 15, 16} {
		a, err := pgarchive.Read(iotest.OneByteReader(bytes.NewReader(sample(minor))))
		if err != nil {
			t.Fatalf("1.%d: %v", minor, err)
		}
		if a.Version != (pgarchive.Version{Major: 1, Minor: minor}) || a.Database != "source" || a.Created.Format("2006-01-02 15:04:05") != "2026-11-02 03:04:05" {
			t.Errorf("1.%d: head %+v", minor, a.Version)
		}
		var got []string
		for i := range a.Entries {
			e := &a.Entries[i]
			got = append(got, fmt.Sprintf("%d %s phase %d pass %d %s", e.ID, e, a.PhaseOf(e), e.Pass(), e.OwnerStatement()))
		}
		want := []string{
			`1 ENCODING s.ENCODING phase 0 pass 0 `,
			`2 TABLE s.t"x phase 1 pass 0 ALTER TABLE "s"."t""x" OWNER TO "` + "o\xffwner" + `";`,
			`3 FUNCTION s.f(integer) phase 1 pass 0 ALTER FUNCTION s.f(integer) OWNER TO "app";`,
			`4 INDEX s.i phase 2 pass 0 `,
			`5 COMMENT s.INDEX i phase 2 pass 0 `,
			`6 SECURITY LABEL s.of a comment phase 2 pass 0 `,
			`7 ACL s.TABLE t phase 1 pass 1 `,
			`8 EVENT TRIGGER s.e phase 2 pass 3 ALTER EVENT TRIGGER "s"."e" OWNER TO "app";`,
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("1.%d: %s", minor, d)
		}
		if wantKind := map[bool]byte{true: 'r'}[minor == 16]; a.Entries[1].RelKind != wantKind {
			t.Errorf("1.%d: relkind %q", minor, a.Entries[1].RelKind)
		}
		if d := cmp.Diff([]string{"CREATE ENCODING ENCODING;\n"}, a.Session()); d != "" {
			t.Error(d)
		}
	}
}

func TestUnknownVersionsAndFormatsAreRefusedClearly(t *testing.T) {
	for _, c := range []struct {
		at   int
		to   byte
		text string
	}{{6, 13, "format version 1.13"}, {6, 17, "format version 1.17"}, {5, 2, "format version 2."}, {10, 5, "archive format 5"}} {
		b := sample(16)
		b[c.at] = c.to
		_, err := pgarchive.Read(bytes.NewReader(b))
		if !errors.Is(err, errs.Unsupported) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("byte %d: %v", c.at, err)
		}
	}
}

func TestATruncatedArchiveIsCorruptWhereverItEnds(t *testing.T) {
	whole := sample(16)
	for n := range whole {
		if _, err := pgarchive.Read(bytes.NewReader(whole[:n])); !errors.Is(err, errs.Corrupt) {
			t.Fatalf("cut at %d of %d: %v", n, len(whole), err)
		}
	}
}

func TestAnErrorOfTheSourceIsGivenAsItIs(t *testing.T) {
	gone := errors.New("download broke")
	_, err := pgarchive.Read(io.MultiReader(bytes.NewReader(sample(15)[:300]), iotest.ErrReader(gone)))
	if !errors.Is(err, gone) || errors.Is(err, errs.Corrupt) {
		t.Errorf("%v", err)
	}
}

func TestHostileClaimsAreRefused(t *testing.T) {
	for name, make := range map[string]func(w *writer){
		"entries":   func(w *writer) { w.head(16, 1<<30) },
		"most":      func(w *writer) { w.head(16, pgarchive.MaxEntries) },
		"text":      func(w *writer) { w.head(16, 1); w.int(1); w.int(0); w.int(pgarchive.MaxString) },
		"length":    func(w *writer) { w.head(16, 1); w.int(1); w.int(0); w.int(1<<31 - 1) },
		"twice":     func(w *writer) { w.head(16, 2); w.entry(1, 2, "A", "a", ""); w.entry(1, 2, "A", "a", "") },
		"section":   func(w *writer) { w.head(16, 1); w.entry(1, 9, "A", "a", "") },
		"number":    func(w *writer) { w.head(16, 1); w.entry(0, 2, "A", "a", "") },
		"depends":   func(w *writer) { w.head(16, 1); w.entry(1, 2, "A", "a", "", -5) },
		"no magic":  func(w *writer) { w.WriteString("SQL: SELECT 1") },
		"no length": func(w *writer) {},
	} {
		var w writer
		make(&w)
		var err error
		got := repotest.Allocated(func() { _, err = pgarchive.Read(&w.Buffer) })
		if !errors.Is(err, errs.Corrupt) || got > 256<<10 {
			t.Errorf("%s: %d bytes allocated, %v", name, got, err)
		}
	}
}

func FuzzRead(f *testing.F) {
	for _, minor := range []byte{14, 15, 16} {
		f.Add(sample(minor))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := pgarchive.Read(bytes.NewReader(b))
		if err != nil {
			if errs.KindOf(err) == nil {
				t.Fatalf("error without a kind: %v", err)
			}
			return
		}
		// What was accepted can be asked everything without a panic.
		for i := range a.Entries {
			e := &a.Entries[i]
			_, _, _, _ = a.PhaseOf(e), e.OwnerStatement(), e.AccessMethodStatement(), e.Pass()
			if a.Entry(e.ID) != e {
				t.Fatal("an entry is not found by its number")
			}
		}
	})
}
