// Package blobtest holds what every blob.Store must prove (Run) and a store that
// fails as planned (Faulty), for the tests of everything built on a store.
package blobtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
)

// Run proves that a store keeps the contract of blob.Store. open gives a new,
// empty store each time.
func Run(t *testing.T, open func(t *testing.T) blob.Store) {
	for _, c := range []struct {
		name string
		test func(*testing.T, blob.Store)
	}{
		{"an object reads back as it was written", readsBack},
		{"ranges give exactly their bytes and refuse what is outside", ranges},
		{"a missing object is not found, and deleting it is no error", missing},
		{"a second create is refused and changes nothing", second},
		{"exactly one of 16 concurrent creates wins", oneWinner},
		{"a reader never sees a part of an object", neverTorn},
		{"a body that breaks off leaves nothing", brokenBody},
		{"a body that is not of its size leaves nothing", wrongSize},
		{"lists are in byte order of the keys", listOrder},
		{"lists honour prefix and after", listSelects},
		{"a list ends at its function's error and returns it", listStops},
		{"a deleted object is gone and can be made again", deletes},
		{"a bad key is invalid everywhere", badKeys},
		{"a canceled context ends every call", canceled},
		{"a large object survives, and a canceled one does not appear", large},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, open(t)) })
	}
}

func put(t *testing.T, s blob.Store, key string, data []byte) {
	t.Helper()
	if err := s.Create(t.Context(), key, blob.Bytes(data)); err != nil {
		t.Fatalf("create %s: %v", key, err)
	}
}

func get(t *testing.T, s blob.Store, key string, offset, length int64) []byte {
	t.Helper()
	r, err := s.Open(t.Context(), key, offset, length)
	if err != nil {
		t.Fatalf("open %s at %d, %d: %v", key, offset, length, err)
	}
	b, err := io.ReadAll(r)
	if err = errors.Join(err, r.Close()); err != nil {
		t.Fatalf("read %s at %d, %d: %v", key, offset, length, err)
	}
	return b
}

func wantKind(t *testing.T, what string, err error, kind *errs.Kind) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Errorf("%s: got %v, want %v", what, err, kind)
	}
}

func readsBack(t *testing.T, s blob.Store) {
	for key, data := range map[string]string{"a": "x", "a-b/c.d/e_f": "hello", "empty": ""} {
		put(t, s, key, []byte(data))
		if got := get(t, s, key, 0, -1); string(got) != data {
			t.Errorf("%s: got %q, want %q", key, got, data)
		}
		info, err := s.Stat(t.Context(), key)
		if err != nil || info.Key != key || info.Size != int64(len(data)) {
			t.Errorf("stat %s: got %+v, %v", key, info, err)
		}
		got, err := blob.ReadAll(t.Context(), s, key, int64(len(data)))
		if err != nil || string(got) != data {
			t.Errorf("read all of %s: got %q, %v", key, got, err)
		}
	}
	_, err := blob.ReadAll(t.Context(), s, "a-b/c.d/e_f", 4)
	wantKind(t, "read more than the limit", err, errs.Corrupt)
}

func ranges(t *testing.T, s blob.Store) {
	data := []byte("0123456789")
	put(t, s, "r/object", data)
	for offset := int64(0); offset <= 10; offset++ {
		for length := int64(-1); length <= 10-offset; length++ {
			want := data[offset:]
			if length >= 0 {
				want = want[:length]
			}
			if got := get(t, s, "r/object", offset, length); !bytes.Equal(got, want) {
				t.Errorf("range %d, %d: got %q, want %q", offset, length, got, want)
			}
		}
	}
	for _, bad := range [][2]int64{{-1, 1}, {0, 11}, {10, 1}, {11, 0}, {11, -1}, {5, 1 << 62}, {0, -2}} {
		r, err := s.Open(t.Context(), "r/object", bad[0], bad[1])
		wantKind(t, fmt.Sprintf("open range %v", bad), err, errs.Invalid)
		if err == nil {
			_ = r.Close()
		}
	}
}

func missing(t *testing.T, s blob.Store) {
	put(t, s, "folder/object", []byte("x"))
	for _, key := range []string{"none", "folder/none", "none/none/none", "folder"} {
		_, err := s.Stat(t.Context(), key)
		wantKind(t, "stat "+key, err, errs.NotFound)
		_, err = s.Open(t.Context(), key, 0, -1)
		wantKind(t, "open "+key, err, errs.NotFound)
		if err := s.Delete(t.Context(), key); err != nil {
			t.Errorf("delete %s: %v", key, err)
		}
	}
	if got := keys(t, s, "", ""); !slices.Equal(got, []string{"folder/object"}) {
		t.Errorf("after deleting what is not there: %v", got)
	}
}

func second(t *testing.T, s blob.Store) {
	put(t, s, "once", []byte("first"))
	for _, data := range []string{"second", "first", ""} {
		wantKind(t, "second create", s.Create(t.Context(), "once", blob.Bytes(data)), errs.Exists)
	}
	if got := get(t, s, "once", 0, -1); string(got) != "first" {
		t.Errorf("got %q", got)
	}
}

// writers is how many race for one key.
const writers = 16

func oneWinner(t *testing.T, s blob.Store) {
	for round := range 20 {
		key := fmt.Sprintf("race/%02d/key", round) // the folder is new too
		won := make([]error, writers)
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				won[w] = s.Create(t.Context(), key, blob.Bytes(bytes.Repeat([]byte{byte(w)}, 4096)))
			})
		}
		wg.Wait()
		winner := -1
		for w, err := range won {
			switch {
			case err == nil && winner < 0:
				winner = w
			case err == nil:
				t.Fatalf("round %d: %d and %d both won", round, winner, w)
			case !errors.Is(err, errs.Exists):
				t.Fatalf("round %d: writer %d: %v", round, w, err)
			}
		}
		if winner < 0 {
			t.Fatalf("round %d: nobody won", round)
		}
		if got := get(t, s, key, 0, -1); !bytes.Equal(got, bytes.Repeat([]byte{byte(winner)}, 4096)) {
			t.Fatalf("round %d: the object is not what %d wrote", round, winner)
		}
	}
}

func neverTorn(t *testing.T, s blob.Store) {
	const objects, size = 20, 256 << 10
	var done atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		defer done.Store(true)
		for i := range objects {
			if err := s.Create(t.Context(), fmt.Sprintf("torn/%02d", i), blob.Bytes(bytes.Repeat([]byte{byte(i + 1)}, size))); err != nil {
				t.Errorf("create: %v", err)
			}
		}
	})
	for i := 0; i < objects; {
		key := fmt.Sprintf("torn/%02d", i)
		finished := done.Load()
		info, err := s.Stat(t.Context(), key)
		if errors.Is(err, errs.NotFound) {
			if finished {
				t.Errorf("%s is missing after its create returned", key)
				break
			}
			continue
		}
		if err != nil || info.Size != size {
			t.Errorf("stat %s: %+v, %v", key, info, err)
			break
		}
		if got := get(t, s, key, 0, -1); !bytes.Equal(got, bytes.Repeat([]byte{byte(i + 1)}, size)) {
			t.Errorf("%s: read %d bytes that are not the object", key, len(got))
			break
		}
		i++
	}
	wg.Wait()
}

// brokenReader gives some bytes and then an error.
type brokenReader struct {
	left int
	err  error
}

func (b *brokenReader) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, b.err
	}
	n := min(b.left, len(p))
	b.left -= n
	return n, nil
}

func (b *brokenReader) Close() error { return nil }

// brokenBody promises size bytes and gives fewer or more.
type testBody struct {
	size int64
	open func() io.ReadCloser
}

func (b testBody) Size() int64                  { return b.size }
func (b testBody) Open() (io.ReadCloser, error) { return b.open(), nil }

func brokenBody(t *testing.T, s blob.Store) {
	errBroken := errors.New("broken")
	err := s.Create(t.Context(), "broken/body", testBody{1 << 20, func() io.ReadCloser {
		return &brokenReader{left: 300 << 10, err: errBroken}
	}})
	if !errors.Is(err, errBroken) {
		t.Errorf("create: got %v, want the body's error", err)
	}
	nothing(t, s)
}

func wrongSize(t *testing.T, s blob.Store) {
	for _, size := range []int64{9, 11} {
		err := s.Create(t.Context(), "wrong/size", testBody{size, func() io.ReadCloser {
			return io.NopCloser(strings.NewReader("0123456789"))
		}})
		wantKind(t, fmt.Sprintf("body of 10 bytes that promised %d", size), err, errs.Invalid)
	}
	nothing(t, s)
}

func nothing(t *testing.T, s blob.Store) {
	t.Helper()
	if got := keys(t, s, "", ""); len(got) != 0 {
		t.Errorf("the store holds %v", got)
	}
}

func keys(t *testing.T, s blob.Store, prefix, after string) []string {
	t.Helper()
	got := []string{}
	err := s.List(t.Context(), prefix, after, func(info blob.Info) error {
		got = append(got, info.Key)
		return nil
	})
	if err != nil {
		t.Fatalf("list %q after %q: %v", prefix, after, err)
	}
	return got
}

// awkward keys: what sorts differently as paths and as bytes.
var awkward = []string{"a", "a-b", "a.b", "a0", "b/a", "b-/a", "b./a", "b0", "b/a-b", "b/b/c", "b/b.c", "b/b0/d", "c/d/e/f/g", "d", "d_"}

func listOrder(t *testing.T, s blob.Store) {
	want := slices.Clone(awkward)
	slices.Sort(want)
	for _, i := range rand.Perm(len(want)) {
		put(t, s, want[i], []byte("x"))
	}
	if diff := cmp.Diff(want, keys(t, s, "", "")); diff != "" {
		t.Error(diff)
	}
}

func listSelects(t *testing.T, s blob.Store) {
	all := slices.Clone(awkward)
	slices.Sort(all)
	for _, key := range all {
		put(t, s, key, []byte("xy"))
	}
	places := append(slices.Clone(all), "", "b", "b/", "b/b", "b/b/", "c/d/e", "zz", "b/a/a")
	for _, prefix := range places {
		for _, after := range places {
			want := []string{}
			for _, key := range all {
				if strings.HasPrefix(key, prefix) && key > after {
					want = append(want, key)
				}
			}
			if diff := cmp.Diff(want, keys(t, s, prefix, after)); diff != "" {
				t.Errorf("prefix %q after %q: %s", prefix, after, diff)
			}
		}
	}
}

func listStops(t *testing.T, s blob.Store) {
	for _, key := range []string{"l/a", "l/b", "l/c"} {
		put(t, s, key, []byte("xyz"))
	}
	// Of a kind that a wrapper might take for the store's own.
	errStop := fmt.Errorf("stop: %w", errs.Unavailable)
	calls := 0
	err := s.List(t.Context(), "l/", "", func(info blob.Info) error {
		if calls++; info.Size != 3 {
			t.Errorf("%s: size %d", info.Key, info.Size)
		}
		if calls == 2 {
			return errStop
		}
		return nil
	})
	if !errors.Is(err, errStop) || calls != 2 {
		t.Errorf("got %v after %d calls", err, calls)
	}
}

func deletes(t *testing.T, s blob.Store) {
	put(t, s, "d/object", []byte("one"))
	put(t, s, "d/other", []byte("other"))
	if err := s.Delete(t.Context(), "d/object"); err != nil {
		t.Fatal(err)
	}
	_, err := s.Stat(t.Context(), "d/object")
	wantKind(t, "stat of a deleted object", err, errs.NotFound)
	put(t, s, "d/object", []byte("two"))
	if got := get(t, s, "d/object", 0, -1); string(got) != "two" {
		t.Errorf("got %q", got)
	}
	if got := get(t, s, "d/other", 0, -1); string(got) != "other" {
		t.Errorf("got %q", got)
	}
}

func badKeys(t *testing.T, s blob.Store) {
	for _, key := range []string{
		"", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/./b", ".a", "a/.tmp-b", "A", "a b", "a\x00b", "ä",
		`a\b`, "a:b", strings.Repeat("a", blob.MaxSegmentLength+1), strings.Repeat("a/", blob.MaxKeyLength/2) + "a",
	} {
		wantKind(t, fmt.Sprintf("create %q", key), s.Create(t.Context(), key, blob.Bytes("x")), errs.Invalid)
		_, err := s.Open(t.Context(), key, 0, -1)
		wantKind(t, fmt.Sprintf("open %q", key), err, errs.Invalid)
		_, err = s.Stat(t.Context(), key)
		wantKind(t, fmt.Sprintf("stat %q", key), err, errs.Invalid)
		wantKind(t, fmt.Sprintf("delete %q", key), s.Delete(t.Context(), key), errs.Invalid)
	}
	for _, prefix := range []string{"/", "../", "a//", "A", "."} {
		err := s.List(t.Context(), prefix, "", func(blob.Info) error { return nil })
		wantKind(t, fmt.Sprintf("list %q", prefix), err, errs.Invalid)
	}
	nothing(t, s)
}

func canceled(t *testing.T, s blob.Store) {
	put(t, s, "c/object", []byte("x"))
	cause := errors.New("lease lost")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	_, openErr := s.Open(ctx, "c/object", 0, -1)
	_, statErr := s.Stat(ctx, "c/object")
	for what, err := range map[string]error{
		"create": s.Create(ctx, "c/new", blob.Bytes("x")), "open": openErr, "stat": statErr, "delete": s.Delete(ctx, "c/object"),
		"list": s.List(ctx, "", "", func(blob.Info) error { return nil }),
	} {
		wantKindOf(t, what, err)
		if !errors.Is(err, cause) {
			t.Errorf("%s: %v does not tell the cause", what, err)
		}
	}
	if got := keys(t, s, "", ""); !slices.Equal(got, []string{"c/object"}) {
		t.Errorf("after canceled calls: %v", got)
	}
	ctx, cancel = context.WithCancelCause(t.Context())
	r, err := s.Open(ctx, "c/object", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	cancel(cause)
	_, err = io.ReadAll(r)
	wantKindOf(t, "read after cancel", errors.Join(err, r.Close()))
}

func wantKindOf(t *testing.T, what string, err error) {
	t.Helper()
	if errs.KindOf(err) != errs.Canceled {
		t.Errorf("%s under a canceled context: got %v", what, err)
	}
}

// largeSize is beyond what any buffer on the way holds.
const largeSize = 40 << 20

// pattern gives bytes that differ from page to page, without holding them.
type pattern struct{ at, size int64 }

func (p *pattern) Read(b []byte) (int, error) {
	if p.at == p.size {
		return 0, io.EOF
	}
	n := int(min(int64(len(b)), p.size-p.at))
	for i := range b[:n] {
		at := p.at + int64(i)
		b[i] = byte(at ^ at>>12)
	}
	p.at += int64(n)
	return n, nil
}

func (p *pattern) Close() error { return nil }

// cancelingReader ends a context midway through a body.
type cancelingReader struct {
	pattern
	cancel context.CancelFunc
}

func (c *cancelingReader) Read(b []byte) (int, error) {
	if c.at > c.size/2 {
		c.cancel()
	}
	return c.pattern.Read(b)
}

func large(t *testing.T, s blob.Store) {
	body := testBody{largeSize, func() io.ReadCloser { return &pattern{size: largeSize} }}
	if err := s.Create(t.Context(), "large/object", body); err != nil {
		t.Fatal(err)
	}
	equal, err := blob.Equal(t.Context(), s, "large/object", body)
	if err != nil || !equal {
		t.Errorf("large object reads back equal: %v, %v", equal, err)
	}
	if got := get(t, s, "large/object", largeSize-3, 2); len(got) != 2 {
		t.Errorf("got %d bytes near the end", len(got))
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	err = s.Create(ctx, "large/canceled", testBody{largeSize, func() io.ReadCloser {
		return &cancelingReader{pattern{size: largeSize}, cancel}
	}})
	wantKindOf(t, "create", err)
	if got := keys(t, s, "", ""); !slices.Equal(got, []string{"large/object"}) {
		t.Errorf("after a canceled create: %v", got)
	}
}
