package pack_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/seal"
)

var _ blob.Body = (*pack.Sealed)(nil)

var (
	packKey = seal.Key{4, 5, 6}
	meta    = pack.Meta{
		Domain: seal.DomainID{1}, Epoch: 3, Job: [16]byte{2}, AttemptEpoch: 3, AttemptCounter: 9, Uploader: [16]byte{7},
		Created: time.Date(2026, 11, 23, 2, 0, 0, 123456789, time.UTC),
	}
)

// frameOf seals plain: any frame will do, packs open none.
func frameOf(t testing.TB, plain []byte) []byte {
	t.Helper()
	key := seal.Key{1}
	name := seal.NewNamer(key).Name(seal.KindRowsText, plain)
	f, err := seal.NewSealer(meta.Domain, 1, key, key).Seal(nil, seal.KindRowsText, name, plain)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func create(t testing.TB) *pack.Writer {
	t.Helper()
	w, err := pack.Create(t.TempDir(), meta)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Abort() })
	return w
}

func add(t testing.TB, w *pack.Writer, frame []byte) {
	t.Helper()
	if err := w.Add(frame, seal.HashFrame(frame)); err != nil {
		t.Fatal(err)
	}
}

// finished gives a pack of these frames and its bytes.
func finished(t testing.TB, frames ...[]byte) (*pack.Sealed, []byte) {
	t.Helper()
	w := create(t)
	for _, f := range frames {
		add(t, w, f)
	}
	s, err := w.Finish(packKey)
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return s, b
}

// reader serves bytes as a store would, and refuses what a store refuses.
func reader(b []byte) pack.OpenFunc {
	return func(_ context.Context, off, n int64) (io.ReadCloser, error) {
		if off < 0 || n < 0 || off+n > int64(len(b)) {
			return nil, fmt.Errorf("range %d+%d of %d: %w", off, n, len(b), errs.Invalid)
		}
		return io.NopCloser(bytes.NewReader(b[off : off+n])), nil
	}
}

// damage reads a pack wholly, as a scrub does, and gives what is wrong with it.
func damage(ctx context.Context, b []byte, size int64, want ...pack.ID) error {
	d, err := pack.ReadDirectory(ctx, reader(b), size, want...)
	if err != nil {
		return err
	}
	var found []error
	err = pack.Scrub(ctx, reader(b), d, func(_ pack.Entry, err error) error {
		found = append(found, err)
		return nil
	})
	return errors.Join(append(found, err, pack.VerifyMAC(d, packKey))...)
}

func TestAPackTellsWhatWasAddedToIt(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		plains := rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 0, 200), 1, 20).Draw(rt, "plains")
		var frames [][]byte
		for _, p := range plains {
			frames = append(frames, frameOf(t, p))
		}
		s, b := finished(t, frames...)
		if s.Size() != int64(len(b)) {
			rt.Fatalf("%d bytes, says %d", len(b), s.Size())
		}
		d, err := pack.ReadDirectory(t.Context(), reader(b), s.Size(), s.ID())
		if err != nil {
			rt.Fatal(err)
		}
		if diff := cmp.Diff(s.Directory(), d, cmpopts.IgnoreUnexported(pack.Directory{})); diff != "" {
			rt.Fatal(diff)
		}
		want := meta
		want.Created = meta.Created.Truncate(time.Microsecond)
		if diff := cmp.Diff(want, d.Meta); diff != "" {
			rt.Fatal(diff)
		}
		for i, e := range d.Entries {
			got, err := pack.ReadFrame(t.Context(), reader(b), e, []byte("x"))
			if err != nil || !bytes.Equal(got[1:], frames[i]) || got[0] != 'x' {
				rt.Fatalf("frame %d: %v", i, err)
			}
			if found, ok := d.Find(e.Name); !ok || found.Name != e.Name {
				rt.Fatalf("frame %d is not found", i)
			}
		}
		if err := errors.Join(damage(t.Context(), b, s.Size(), s.ID()), pack.VerifyMAC(s.Directory(), packKey), s.Remove()); err != nil {
			rt.Fatal(err)
		}
	})
}

func TestEveryChangedByteOfAPackIsFoundAndNamed(t *testing.T) {
	s, b := finished(t, frameOf(t, []byte("one")), frameOf(t, []byte("two")))
	d := s.Directory()
	for i := range b {
		for _, bit := range []byte{0x01, 0x80} {
			bad := bytes.Clone(b)
			bad[i] ^= bit
			err := damage(t.Context(), bad, s.Size(), s.ID())
			if !errors.Is(err, errs.Corrupt) && (i != 4 || !errors.Is(err, errs.Unsupported)) {
				t.Fatalf("byte %d: %v", i, err)
			}
			if !strings.Contains(err.Error(), "pack "+s.ID().Short()) {
				t.Fatalf("byte %d: %q does not name the pack", i, err)
			}
			for _, e := range d.Entries { // a damaged frame is named, and only that one
				within := int64(i) >= e.Offset && int64(i) < e.Offset+int64(e.Length)
				if strings.Contains(err.Error(), "chunk "+e.Name.Short()) != within {
					t.Fatalf("byte %d: %v", i, err)
				}
			}
			// Nor does damage pass when nobody knows the id.
			if err := damage(t.Context(), bad, s.Size()); err == nil {
				t.Fatalf("byte %d passed without the id", i)
			}
		}
	}
}

func TestEveryCutShortPackIsFound(t *testing.T) {
	s, b := finished(t, frameOf(t, []byte("one")), frameOf(t, []byte("two")))
	for n := range b {
		if err := damage(t.Context(), b[:n], int64(n), s.ID()); !errors.Is(err, errs.Corrupt) {
			t.Fatalf("%d of %d bytes: %v", n, len(b), err)
		}
		// The store says the old size and gives fewer bytes.
		short := func(_ context.Context, off, n2 int64) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(b[min(off, int64(n)):min(off+n2, int64(n))])), nil
		}
		if _, err := pack.ReadDirectory(t.Context(), short, s.Size(), s.ID()); !errors.Is(err, errs.Corrupt) {
			t.Fatalf("%d of %d bytes, unknown to the store: %v", n, len(b), err)
		}
	}
	for _, extra := range []int{1, 68, 5000} {
		long := append(bytes.Clone(b), make([]byte, extra)...)
		if err := damage(t.Context(), long, int64(len(long)), s.ID()); !errors.Is(err, errs.Corrupt) {
			t.Errorf("%d bytes too many: %v", extra, err)
		}
	}
}

func TestAScrubGoesOnAfterDamageUnlessToldToStop(t *testing.T) {
	s, b := finished(t, frameOf(t, []byte("one")), frameOf(t, []byte("two")), frameOf(t, []byte("three")))
	entries := s.Directory().Entries
	b[entries[0].Offset+50] ^= 1
	b[entries[2].Offset+50] ^= 1
	var found []int64
	if err := pack.Scrub(t.Context(), reader(b), s.Directory(), func(e pack.Entry, _ error) error {
		found = append(found, e.Offset)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int64{entries[0].Offset, entries[2].Offset}, found); diff != "" {
		t.Error(diff)
	}
	stop := errors.New("stop")
	calls := 0
	if err := pack.Scrub(t.Context(), reader(b), s.Directory(), func(pack.Entry, error) error { calls++; return stop }); !errors.Is(err, stop) || calls != 1 {
		t.Errorf("%v after %d calls", err, calls)
	}
	if _, err := pack.ReadFrame(t.Context(), reader(b), entries[2], nil); !errors.Is(err, errs.Corrupt) {
		t.Errorf("damaged frame: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(stop)
	if err := pack.Scrub(ctx, reader(b), s.Directory(), nil); !errors.Is(err, stop) {
		t.Errorf("canceled: %v", err)
	}
}

func TestOnlyTheDomainsControllerCouldHaveWrittenIt(t *testing.T) {
	s, _ := finished(t, frameOf(t, []byte("one")))
	d := s.Directory()
	if err := pack.VerifyMAC(d, packKey); err != nil {
		t.Fatal(err)
	}
	if err := pack.VerifyMAC(d, seal.Key{9}); !errors.Is(err, errs.Corrupt) || !strings.Contains(err.Error(), d.ID.Short()) {
		t.Errorf("another key: %v", err)
	}
	for what, change := range map[string]func(*pack.Directory){
		"uploader": func(d *pack.Directory) { d.Uploader[0]++ },
		"domain":   func(d *pack.Directory) { d.Domain[0]++ },
		"time":     func(d *pack.Directory) { d.Created = d.Created.Add(time.Second) },
		"attempt":  func(d *pack.Directory) { d.AttemptCounter++ },
		"entry":    func(d *pack.Directory) { d.Entries = append(d.Entries[:0:0], d.Entries...); d.Entries[0].Name[0]++ },
	} {
		changed := *d
		change(&changed)
		if err := pack.VerifyMAC(&changed, packKey); !errors.Is(err, errs.Corrupt) {
			t.Errorf("%s changed: %v", what, err)
		}
	}
}

func TestAFrameDamagedOnItsWayIsRefusedAndThePackGoesOn(t *testing.T) {
	w := create(t)
	good := frameOf(t, []byte("good"))
	add(t, w, good)
	size := w.Size()
	bad := bytes.Clone(good)
	bad[60] ^= 1
	for what, try := range map[string]func() error{
		"hash":       func() error { return w.Add(bad, seal.HashFrame(good)) },
		"cut short":  func() error { return w.Add(good[:len(good)-1], seal.HashFrame(good[:len(good)-1])) },
		"too long":   func() error { b := append(bytes.Clone(good), 0); return w.Add(b, seal.HashFrame(b)) },
		"no frame":   func() error { return w.Add([]byte("rubbish"), seal.HashFrame([]byte("rubbish"))) },
		"empty":      func() error { return w.Add(nil, seal.HashFrame(nil)) },
		"wrong hash": func() error { return w.Add(good, seal.FrameHash{}) },
	} {
		if err := try(); !errors.Is(err, errs.Corrupt) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if w.Size() != size || w.Count() != 1 {
		t.Errorf("%d bytes, %d frames after refusals", w.Size(), w.Count())
	}
	add(t, w, frameOf(t, []byte("another")))
	s, err := w.Finish(packKey)
	if err != nil || len(s.Directory().Entries) != 2 {
		t.Fatal(err)
	}
}

func TestAPackOfManyFramesIsReadAndBounded(t *testing.T) {
	w := create(t)
	frame := frameOf(t, nil)
	hash := seal.HashFrame(frame)
	for i := range pack.MaxCount {
		if w.Full() {
			t.Fatalf("full at %d frames", i)
		}
		if err := w.Add(frame, hash); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Add(frame, hash); !errors.Is(err, errs.Exhausted) || !w.Full() {
		t.Errorf("one frame too many: %v", err)
	}
	s, err := w.Finish(packKey)
	if err != nil {
		t.Fatal(err)
	}
	reads := 0
	d, err := pack.ReadDirectory(t.Context(), func(_ context.Context, off, n int64) (io.ReadCloser, error) {
		reads++
		r, err := s.Open()
		if err != nil {
			return nil, err
		}
		_, err = io.CopyN(io.Discard, r, off)
		return r, err
	}, s.Size(), s.ID())
	if err != nil || len(d.Entries) != pack.MaxCount || reads != 3 {
		t.Errorf("%d reads: %v", reads, err)
	}
}

func TestAPackIsFullAtItsSize(t *testing.T) {
	w := create(t)
	noise := make([]byte, 8<<20)
	for i, x := 0, uint64(1); i < len(noise); i++ {
		x = x*6364136223846793005 + 1442695040888963407
		noise[i] = byte(x >> 56)
	}
	frame := frameOf(t, noise)
	for !w.Full() {
		add(t, w, frame)
	}
	if n := w.Count(); n != 8 {
		t.Errorf("full at %d frames of 8 MiB", n)
	}
	if err := w.Add(frame, seal.HashFrame(frame)); !errors.Is(err, errs.Exhausted) {
		t.Errorf("beyond: %v", err)
	}
	s, err := w.Finish(packKey)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(spoolFile(t, s))
	if err != nil || info.Size() != s.Size() || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}

// spoolFile finds the file behind a Sealed.
func spoolFile(t testing.TB, s *pack.Sealed) string {
	t.Helper()
	r, err := s.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	return r.(*os.File).Name()
}

func TestAClaimOfATrailerIsNotBelieved(t *testing.T) {
	_, b := finished(t, frameOf(t, []byte("one")))
	for _, count := range []uint32{0, 2, 1 << 16, 1<<16 + 1, 1<<32 - 1} {
		for _, length := range []uint64{0, 68, 136, uint64(count) * 68, 1 << 63, 1<<64 - 1} {
			bad := bytes.Clone(b)
			t1 := bad[len(bad)-128:]
			put(t1[8:], length)
			put(t1, uint64(len(b))-128-length)
			t1[16], t1[17], t1[18], t1[19] = byte(count>>24), byte(count>>16), byte(count>>8), byte(count)
			if _, err := pack.ReadDirectory(t.Context(), reader(bad), int64(len(bad))); !errors.Is(err, errs.Corrupt) {
				t.Errorf("%d frames, %d bytes: %v", count, length, err)
			}
		}
	}
	for _, size := range []int64{-1, 0, 1, 127, 1 << 40} {
		never := func(context.Context, int64, int64) (io.ReadCloser, error) {
			t.Error("was read")
			return nil, errs.Invalid
		}
		if _, err := pack.ReadDirectory(t.Context(), never, size); !errors.Is(err, errs.Corrupt) {
			t.Errorf("size %d: %v", size, err)
		}
	}
}

func put(b []byte, v uint64) {
	for i := range 8 {
		b[i] = byte(v >> (56 - 8*i))
	}
}

func TestErrorsOfTheStoreKeepTheirKind(t *testing.T) {
	s, _ := finished(t, frameOf(t, []byte("one")))
	down := func(context.Context, int64, int64) (io.ReadCloser, error) { return nil, errs.Unavailable }
	if _, err := pack.ReadDirectory(t.Context(), down, s.Size(), s.ID()); !errors.Is(err, errs.Unavailable) || errors.Is(err, errs.Corrupt) {
		t.Errorf("directory: %v", err)
	}
	broken := func(context.Context, int64, int64) (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(strings.NewReader("a few"), failing{})), nil
	}
	if err := pack.Scrub(t.Context(), broken, s.Directory(), func(pack.Entry, error) error { return nil }); !errors.Is(err, errs.Unavailable) || errors.Is(err, errs.Corrupt) {
		t.Errorf("scrub: %v", err)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errs.Unavailable }

func FuzzReadDirectory(f *testing.F) {
	s, b := finished(f, frameOf(f, []byte("one")), frameOf(f, []byte("two")))
	f.Add(b)
	f.Add(b[len(b)-128:])
	_ = s
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := pack.ReadDirectory(t.Context(), reader(b), int64(len(b)))
		if err != nil {
			return
		}
		end := int64(24)
		for _, e := range d.Entries {
			if e.Offset != end {
				t.Fatalf("frame at %d, not %d", e.Offset, end)
			}
			end += int64(e.Length)
		}
		if end > int64(len(b)) {
			t.Fatalf("frames end at %d of %d", end, len(b))
		}
		_ = damage(t.Context(), b, int64(len(b)))
	})
}
