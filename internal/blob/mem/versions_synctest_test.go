package mem_test

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/blob/blobtest"
	"github.com/tuskvault/tuskvault/internal/blob/mem"
	"github.com/tuskvault/tuskvault/internal/errs"
)

type attacker struct{ *mem.Store }

func (a attacker) Hide(_ *testing.T, key string)                   { a.Store.Hide(key) }
func (a attacker) Overwrite(_ *testing.T, key string, data []byte) { a.Store.Overwrite(key, data) }

func TestVersionsAreKept(t *testing.T) {
	blobtest.RunVersioned(t, func(*testing.T) (blob.Store, blobtest.Attacker) {
		s := mem.NewVersioned(nil)
		return s, attacker{s}
	})
}

func TestThePastIsAsItWas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mem.NewVersioned(nil)
		create := func(key, data string) {
			if err := s.Create(t.Context(), key, blob.Bytes(data)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Second)
		}
		create("a", "one")
		create("b", "two")
		then := time.Now()
		time.Sleep(time.Second)
		create("c", "three")
		s.Hide("a")
		s.Overwrite("b", []byte("rubbish"))
		past, err := blob.At(blob.Retry(blob.Limit(s, 2), blob.RetryOptions{}), then)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		err = past.List(t.Context(), "", "", func(i blob.Info) error {
			b, err := blob.ReadAll(t.Context(), past, i.Key, 100)
			got[i.Key] = string(b)
			return err
		})
		if err != nil || len(got) != 2 || got["a"] != "one" || got["b"] != "two" {
			t.Errorf("%v, %v", got, err)
		}
		if _, err := past.Stat(t.Context(), "c"); !errors.Is(err, errs.NotFound) {
			t.Errorf("what came later: %v", err)
		}
		var listed []string
		err = blob.Overlay(s, past).List(t.Context(), "", "", func(i blob.Info) error { listed = append(listed, i.Key); return nil })
		if want := []string{"a", "b", "c"}; err != nil || !slices.Equal(listed, want) {
			t.Errorf("overlay: %v, %v", listed, err)
		}
		if b, err := blob.ReadAll(t.Context(), blob.Overlay(s, past), "b", 100); string(b) != "rubbish" || err != nil {
			t.Errorf("overlay: the first store's object is %q, %v", b, err)
		}
	})
}

func TestALockDefersADeletion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const day = 24 * time.Hour
		s := mem.NewVersioned(func(string) time.Duration { return 10 * day })
		for _, store := range []blob.Store{s, blob.Retry(blob.Limit(new(blob.Meter).Store(s), 2), blob.RetryOptions{})} {
			l, err := blob.AsLocker(store)
			if err != nil || l.LockTime("a") != 10*day {
				t.Fatalf("%v", err)
			}
			if err := store.Create(t.Context(), "a", blob.Bytes("one")); err != nil {
				t.Fatal(err)
			}
			time.Sleep(6 * day)
			if until, err := l.Lock(t.Context(), "a"); err != nil || !until.Equal(time.Now().Add(10*day)) {
				t.Errorf("%v, %v", until, err)
			}
			time.Sleep(9 * day)
			for range 2 {
				if err := store.Delete(t.Context(), "a"); !errors.Is(err, errs.Locked) {
					t.Errorf("delete of a locked object: %v", err)
				}
				if _, err := store.Stat(t.Context(), "a"); !errors.Is(err, errs.NotFound) {
					t.Errorf("it is still seen: %v", err)
				}
			}
			if _, err := l.Lock(t.Context(), "a"); !errors.Is(err, errs.NotFound) {
				t.Errorf("what is hidden is locked: %v", err)
			}
			time.Sleep(2 * day)
			if err := store.Delete(t.Context(), "a"); err != nil {
				t.Errorf("after the lock's end: %v", err)
			}
			if err := s.Versions(t.Context(), "", "", func(v blob.Version) error { return errors.New("left: " + v.Key) }); err != nil {
				t.Error(err)
			}
		}
		if _, err := blob.AsLocker(mem.New()); !errors.Is(err, errs.Unsupported) {
			t.Error(err)
		}
		if _, err := blob.AsLocker(blob.ReadOnly(mem.New())); !errors.Is(err, errs.Unsupported) {
			t.Error(err)
		}
	})
}
