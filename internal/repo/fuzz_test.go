package repo_test

import (
	"errors"
	"testing"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/blob/mem"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/repo/repotest"
)

// damaged wants an error that says: damage, or newer than this program.
func damaged(t *testing.T, err error) {
	t.Helper()
	if err != nil && !errors.Is(err, errs.Corrupt) && !errors.Is(err, errs.Unsupported) {
		t.Error(err)
	}
}

func FuzzDescribe(f *testing.F) {
	f.Add([]byte(block(f, "json repository.json")))
	f.Fuzz(func(t *testing.T, text []byte) {
		store := mem.New()
		if err := store.Create(t.Context(), repo.DescriptionObject, blob.Bytes(text)); err != nil {
			t.Fatal(err)
		}
		d, err := repo.Describe(t.Context(), store)
		if damaged(t, err); err == nil && (d.ID.IsZero() || d.Name == "" || d.Cut.Validate() != nil) {
			t.Errorf("accepted %+v", d)
		}
	})
}

func FuzzDecodeRecordHeader(f *testing.F) {
	f.Add(dump(f, "log-record"))
	f.Fuzz(func(t *testing.T, raw []byte) { damaged(t, repo.DecodeRecordHeader(raw)) })
}

func FuzzDomain(f *testing.F) {
	f.Add([]byte(block(f, "json domain")))
	store := mem.New()
	_, _, unlocker := repotest.New(f, store)
	key := repo.DomainObject(documentDomain, 1)
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := errors.Join(store.Delete(t.Context(), key), store.Create(t.Context(), key, blob.Bytes(text))); err != nil {
			t.Fatal(err)
		}
		r, err := repo.Open(t.Context(), store, unlocker)
		if err != nil {
			t.Fatal(err)
		}
		// Sealed under another repository's key: whatever the text, it must not open.
		_, err = r.Domain(t.Context(), documentDomain)
		if damaged(t, err); err == nil {
			t.Error("opened")
		}
	})
}

func FuzzParseObjectKeys(f *testing.F) {
	for _, key := range []string{repo.LogObject(1), repo.FullObject(2), repo.EpochObject(3), repo.DomainObject(documentDomain, 4),
		repo.SnapshotObject(documentInstance, documentJob), repo.PackObject(documentDomain, [32]byte{5}), repo.IndexObject(documentDomain, [32]byte{6})} {
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, key string) {
		var again []string
		if n, full, err := repo.ParseCatalogObject(key); err == nil {
			if full {
				again = append(again, repo.FullObject(n))
			} else {
				again = append(again, repo.LogObject(n))
			}
		}
		if n, err := repo.ParseEpochObject(key); err == nil {
			again = append(again, repo.EpochObject(n))
		}
		if d, n, err := repo.ParseDomainObject(key); err == nil {
			again = append(again, repo.DomainObject(d, n))
		}
		if i, j, err := repo.ParseSnapshotObject(key); err == nil {
			again = append(again, repo.SnapshotObject(i, j))
		}
		if d, p, err := repo.ParsePackObject(key); err == nil {
			again = append(again, repo.PackObject(d, p))
		}
		if d, x, err := repo.ParseIndexObject(key); err == nil {
			again = append(again, repo.IndexObject(d, x))
		}
		for _, a := range again {
			if a != key || len(again) != 1 {
				t.Errorf("%q is read as %v", key, again)
			}
		}
	})
}
