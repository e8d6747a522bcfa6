package blob_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/blob/blobtest"
	"github.com/tuskvault/tuskvault/internal/blob/mem"
	"github.com/tuskvault/tuskvault/internal/errs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMeterCountsByOperation(t *testing.T) {
	faulty := blobtest.NewFaulty(mem.New())
	var m blob.Meter
	s := m.Store(faulty)
	ctx := t.Context()
	for range 2 { // the second one is "exists": an answer, no error
		_ = s.Create(ctx, "a", blob.Bytes("hello"))
	}
	if _, err := blob.ReadAll(ctx, s, "a", 10); err != nil {
		t.Fatal(err)
	}
	_, _ = s.Open(ctx, "none", 0, -1)
	faulty.Plan(blobtest.Fault{Op: blob.OpOpen, Nth: 1, Effect: blobtest.Break})
	r, err := s.Open(ctx, "a", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.ReadAll(r)
	for range 2 {
		_ = r.Close()
	}
	_ = s.List(ctx, "", "", func(blob.Info) error { return errs.Unavailable })
	faulty.Plan(blobtest.Fault{Op: blob.OpDelete, Nth: 1, Effect: blobtest.Fail})
	_ = s.Delete(ctx, "a")
	faulty.Verify(t)
	for op, want := range map[blob.Op]blob.OpStats{
		blob.OpCreate: {Calls: 2, Bytes: 5}, blob.OpOpen: {Calls: 3, Bytes: 7, Errors: 1}, blob.OpStat: {Calls: 1},
		blob.OpList: {Calls: 1}, blob.OpDelete: {Calls: 1, Errors: 1},
	} {
		got := m.Stats(op)
		if got.Time <= 0 {
			t.Errorf("%s took no time", op)
		}
		if got.Time = 0; got != want {
			t.Errorf("%s: got %+v, want %+v", op, got, want)
		}
	}
	if len(blob.Ops()) != 8 {
		t.Error("an operation is missing from Ops")
	}
}

func TestBodiesCanBeReadMoreThanOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "spool")
	if err := os.WriteFile(path, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	for what, body := range map[string]blob.Body{
		"bytes": blob.Bytes("hello"), "parts": blob.Parts{[]byte("he"), nil, []byte("llo")}, "file": blob.File(path),
	} {
		for range 2 {
			var b strings.Builder
			if err := blob.CopyBody(&b, body); err != nil || b.String() != "hello" || body.Size() != 5 {
				t.Errorf("%s: %q, %d, %v", what, b.String(), body.Size(), err)
			}
		}
	}
}

func TestAFileThatCannotBeReadMakesNoObject(t *testing.T) {
	folder := t.TempDir()
	for _, path := range []string{filepath.Join(folder, "none"), folder} {
		s := mem.New()
		wantKind(t, path, s.Create(t.Context(), "a", blob.File(path)), errs.Invalid)
		if _, err := s.Stat(t.Context(), "a"); !errors.Is(err, errs.NotFound) {
			t.Errorf("%s: an object was made: %v", path, err)
		}
	}
	path := filepath.Join(folder, "grows")
	if err := os.WriteFile(path, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	body := blob.File(path)
	for _, text := range []string{"hello and more", "hell"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		wantKind(t, "a file that changed", mem.New().Create(t.Context(), "a", body), errs.Invalid)
	}
}

func TestAShortReadIsDamage(t *testing.T) {
	faulty := blobtest.NewFaulty(mem.New())
	if err := faulty.Create(t.Context(), "a", blob.Bytes("hello world")); err != nil {
		t.Fatal(err)
	}
	faulty.Plan(blobtest.Fault{Op: blob.OpOpen, Nth: 1, Effect: blobtest.Torn}, blobtest.Fault{Op: blob.OpOpen, Nth: 2, Effect: blobtest.Torn})
	_, err := blob.ReadAll(t.Context(), faulty, "a", 100)
	wantKind(t, "read all", err, errs.Corrupt)
	equal, err := blob.Equal(t.Context(), faulty, "a", blob.Bytes("hello world"))
	if equal || err != nil {
		t.Errorf("a torn object is equal: %t, %v", equal, err)
	}
	faulty.Verify(t)
}

func TestEqualTellsWhatIsEqual(t *testing.T) {
	s := mem.New()
	long := strings.Repeat("0123456789", 50000)
	if err := s.Create(t.Context(), "a", blob.Bytes(long)); err != nil {
		t.Fatal(err)
	}
	for other, want := range map[string]bool{long: true, long[1:]: false, long + "x": false, long[:len(long)-1] + "x": false, "x" + long[1:]: false} {
		if got, err := blob.Equal(t.Context(), s, "a", blob.Bytes(other)); got != want || err != nil {
			t.Errorf("%d bytes: %t, %v", len(other), got, err)
		}
	}
	_, err := blob.Equal(t.Context(), s, "none", blob.Bytes(""))
	wantKind(t, "no object", err, errs.NotFound)
}

// A planned fault that never happens must fail a test: prove it on a fake one.
type fakeT struct {
	testing.TB
	errors int
}

func (f *fakeT) Helper()               {}
func (f *fakeT) Errorf(string, ...any) { f.errors++ }

func TestVerifyFailsForAFaultThatNeverHappened(t *testing.T) {
	faulty := blobtest.NewFaulty(mem.New())
	faulty.Plan(blobtest.Fault{Op: blob.OpStat, Prefix: "b", Nth: 1, Effect: blobtest.Fail})
	_, _ = faulty.Stat(t.Context(), "a")
	fake := &fakeT{}
	if faulty.Verify(fake); fake.errors != 1 {
		t.Errorf("%d errors", fake.errors)
	}
	_, err := faulty.Stat(t.Context(), "b/c")
	wantKind(t, "stat", err, errs.Unavailable)
	fake = &fakeT{}
	if faulty.Verify(fake); fake.errors != 0 {
		t.Errorf("%d errors", fake.errors)
	}
}

func TestAStoppedStoreDoesNothingMore(t *testing.T) {
	store := mem.New()
	faulty := blobtest.NewFaulty(store)
	faulty.StopAfter(2)
	ctx := t.Context()
	for _, key := range []string{"a", "b"} {
		if err := faulty.Create(ctx, key, blob.Bytes("x")); err != nil {
			t.Fatal(err)
		}
	}
	wantKind(t, "exists is no step", faulty.Create(ctx, "a", blob.Bytes("x")), errs.Unavailable)
	_, statErr := faulty.Stat(ctx, "a")
	_, openErr := faulty.Open(ctx, "a", 0, -1)
	for what, err := range map[string]error{
		"create": faulty.Create(ctx, "c", blob.Bytes("x")), "delete": faulty.Delete(ctx, "a"), "stat": statErr, "open": openErr,
		"list": faulty.List(ctx, "", "", func(blob.Info) error { return nil }),
	} {
		wantKind(t, what, err, errs.Unavailable)
	}
	if _, err := store.Stat(ctx, "a"); err != nil || faulty.Steps() != 2 {
		t.Errorf("%d steps, %v", faulty.Steps(), err)
	}
}
