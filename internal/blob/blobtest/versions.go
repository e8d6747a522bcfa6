package blobtest

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
)

// Attacker is somebody with a stolen credential that writes: what it can do to a
// versioned store beside the calls of blob.Store.
type Attacker interface {
	// Hide puts a delete marker over an object.
	Hide(t *testing.T, key string)
	// Overwrite puts other bytes over an object.
	Overwrite(t *testing.T, key string, data []byte)
}

// RunVersioned proves that a store keeps the contract of blob.Versioned. open gives
// a new, empty store, through which nothing is locked, and the attacker on it.
func RunVersioned(t *testing.T, open func(t *testing.T) (blob.Store, Attacker)) {
	for _, c := range []struct {
		name string
		test func(*testing.T, blob.Store, Attacker)
	}{
		{"deleting leaves no version", deletesVersions},
		{"what an attacker hid or overwrote is in the past, and comes back", recovers},
		{"versions are listed in the order of keys, the newest first", versionOrder},
		{"the past is read-only", pastIsReadOnly},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, a := open(t)
			c.test(t, s, a)
		})
	}
}

func versioned(t *testing.T, s blob.Store) blob.Versioned {
	t.Helper()
	v, err := blob.AsVersioned(s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func allVersions(t *testing.T, s blob.Store, prefix, after string) (all []blob.Version) {
	t.Helper()
	if err := versioned(t, s).Versions(t.Context(), prefix, after, func(v blob.Version) error { all = append(all, v); return nil }); err != nil {
		t.Fatal(err)
	}
	return all
}

func deletesVersions(t *testing.T, s blob.Store, a Attacker) {
	put(t, s, "d/a", []byte("one"))
	put(t, s, "d/a-b", []byte("other"))
	a.Overwrite(t, "d/a", []byte("two"))
	a.Hide(t, "d/a")
	a.Overwrite(t, "d/a", []byte("three"))
	if n := len(allVersions(t, s, "d/a", "")); n != 5 {
		t.Fatalf("%d versions before", n)
	}
	for range 2 { // and again, when there is nothing
		if err := s.Delete(t.Context(), "d/a"); err != nil {
			t.Fatal(err)
		}
	}
	if got := allVersions(t, s, "", ""); len(got) != 1 || got[0].Key != "d/a-b" {
		t.Errorf("left: %+v", got)
	}
	a.Hide(t, "d/a-b")
	if err := s.Delete(t.Context(), "d/a-b"); err != nil {
		t.Fatal(err)
	}
	if got := allVersions(t, s, "", ""); len(got) != 0 {
		t.Errorf("left of what was hidden: %+v", got)
	}
	put(t, s, "d/a", []byte("again"))
	if got := get(t, s, "d/a", 0, -1); string(got) != "again" {
		t.Errorf("got %q", got)
	}
}

func recovers(t *testing.T, s blob.Store, a Attacker) {
	want := map[string]string{"r/hidden": "one", "r/twice": "two", "r/overwritten": "three", "r/both": "four", "r/empty": "", "r/whole": "five"}
	for key, data := range want {
		put(t, s, key, []byte(data))
	}
	kept := allVersions(t, s, "", "")
	a.Hide(t, "r/hidden")
	a.Hide(t, "r/empty")
	a.Hide(t, "r/twice")
	a.Hide(t, "r/twice")
	a.Overwrite(t, "r/overwritten", []byte("rubbish"))
	a.Overwrite(t, "r/both", []byte("rubbish"))
	a.Hide(t, "r/both")
	v := versioned(t, s)
	for _, each := range kept {
		r, err := v.OpenVersion(t.Context(), each, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err = errors.Join(err, r.Close()); err != nil || string(b) != want[each.Key] || each.Size != int64(len(b)) {
			t.Errorf("%s of before: %q, %v", each.Key, b, err)
		}
		for range 2 { // a second time changes nothing
			if err := v.Recover(t.Context(), each); err != nil {
				t.Errorf("recover %s: %v", each.Key, err)
			}
		}
	}
	for key, data := range want {
		if got := get(t, s, key, 0, -1); string(got) != data {
			t.Errorf("%s: %q", key, got)
		}
		info, err := s.Stat(t.Context(), key)
		if err != nil || info.Size != int64(len(data)) {
			t.Errorf("stat %s: %+v, %v", key, info, err)
		}
	}
	if got := keys(t, s, "r/", ""); len(got) != len(want) {
		t.Errorf("listed: %v", got)
	}
	err := v.Recover(t.Context(), blob.Version{Key: "r/hidden", ID: "01ABCDEFGHJKMNPQRSTVWXYZ00"})
	if !errors.Is(err, errs.NotFound) && !errors.Is(err, errs.Invalid) {
		t.Errorf("recover what never was: %v", err)
	}
}

func versionOrder(t *testing.T, s blob.Store, a Attacker) {
	names := []string{"o/a", "o/a-b", "o/a/b", "o/a.b", "o/b"}
	if s.Features().Location != "memory" {
		names = []string{"o/a", "o/a-b", "o/a.b", "o/b", "o/c/d"} // a key is no folder of another
	}
	for _, key := range names {
		put(t, s, key, []byte("1"))
		for n := 2; n <= 4; n++ {
			a.Overwrite(t, key, fmt.Appendf(nil, "%0*d", n, n))
		}
	}
	var want []string
	slices.Sort(names)
	for _, key := range names {
		for n := 4; n >= 1; n-- {
			want = append(want, fmt.Sprintf("%s %d", key, n))
		}
	}
	show := func(all []blob.Version) (out []string) {
		for _, v := range all {
			out = append(out, fmt.Sprintf("%s %d", v.Key, v.Size))
		}
		return out
	}
	if diff := cmp.Diff(want, show(allVersions(t, s, "", ""))); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(want[8:], show(allVersions(t, s, "o/", names[1]))); diff != "" {
		t.Errorf("after %s: %s", names[1], diff)
	}
	if got := allVersions(t, s, "p", ""); len(got) != 0 {
		t.Errorf("of another prefix: %v", got)
	}
	errStop := errors.New("stop")
	if err := versioned(t, s).Versions(t.Context(), "", "", func(blob.Version) error { return errStop }); !errors.Is(err, errStop) {
		t.Errorf("got %v", err)
	}
}

func pastIsReadOnly(t *testing.T, s blob.Store, a Attacker) {
	put(t, s, "p/a", []byte("one"))
	put(t, s, "p/b", []byte("two"))
	a.Hide(t, "p/a")
	now, err := blob.At(s, time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	before, err := blob.At(s, time.Unix(0, 0))
	if err != nil {
		t.Fatal(err)
	}
	if got := keys(t, before, "", ""); len(got) != 0 {
		t.Errorf("before anything: %v", got)
	}
	_, err = before.Stat(t.Context(), "p/b")
	wantKind(t, "stat before it was", err, errs.NotFound)
	if got := get(t, now, "p/b", 1, -1); string(got) != "wo" {
		t.Errorf("got %q", got)
	}
	wantKind(t, "create", now.Create(t.Context(), "p/c", blob.Bytes("x")), errs.ReadOnly)
	wantKind(t, "delete", now.Delete(t.Context(), "p/b"), errs.ReadOnly)
}
