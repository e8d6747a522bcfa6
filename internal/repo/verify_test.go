package repo_test

import (
	"testing"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/blob/mem"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/repo/repotest"
)

// Every object that is read whole is what its key says, under no other key, and
// not with any bit changed.
func TestVerifyObjectKnowsEachObjectByItsBytes(t *testing.T) {
	store := mem.New()
	r, d, _ := repotest.New(t, store)
	fatal := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	epoch, err := r.ClaimEpoch(t.Context())
	fatal(err)
	fatal(r.PutCA(t.Context(), "aa01", []byte("root")))
	log, err := repo.OpenLog(t.Context(), r, epoch)
	fatal(err)
	head, err := log.Append(t.Context(), repo.LogSynchronous, []byte("a batch"))
	fatal(err)
	fatal(log.PutFull(t.Context(), head, []byte("everything")))
	b := repotest.NewBackups(t, r, d)
	b.LogNumber = head.Number
	job := b.Backup(repotest.Table{Database: "app", Name: "t", Rows: 10})
	other := map[string]string{
		repo.DescriptionObject: "repository.1.json", repo.KeyObject(r.ID()): "keys/x", repo.DomainObject(d.ID(), 1): repo.DomainObject(d.ID(), 2), repo.CAObject("aa01"): repo.CAObject("aa02"),
		repo.EpochObject(1): repo.EpochObject(2), repo.SnapshotObject(b.Instance, job): repo.SnapshotObject(b.Instance, repo.NewID()), repo.LogObject(1): repo.LogObject(2), repo.FullObject(1): repo.LogObject(1),
	}
	for key, elsewhere := range other {
		raw, err := blob.ReadAll(t.Context(), store, key, 1<<20)
		fatal(err)
		if err := r.VerifyObject(t.Context(), key, raw); err != nil {
			t.Errorf("%s: %v", key, err)
		}
		if err := r.VerifyObject(t.Context(), elsewhere, raw); err == nil {
			t.Errorf("%s passes for %s", key, elsewhere)
		}
		for at := range raw {
			raw[at] ^= 0x10
			if err := r.VerifyObject(t.Context(), key, raw); err == nil {
				t.Errorf("%s: byte %d is another, and it passes", key, at)
				break
			}
			raw[at] ^= 0x10
		}
		if err := r.VerifyObject(t.Context(), key, raw[:len(raw)-1]); err == nil {
			t.Errorf("%s: cut, and it passes", key)
		}
	}
	for _, key := range []string{repo.PackPrefix(d.ID()) + "x", repo.IndexPrefix(d.ID()) + "x", "something"} {
		if err := r.VerifyObject(t.Context(), key, nil); errs.KindOf(err) != errs.Invalid {
			t.Errorf("%s: %v", key, err)
		}
	}
	info, err := store.Stat(t.Context(), repo.SnapshotObject(b.Instance, job))
	fatal(err)
	if n, err := r.SnapshotLogNumber(t.Context(), info.Key, info.Size); n != head.Number || err != nil {
		t.Errorf("log number %d, %v", n, err)
	}
	if _, err := r.SnapshotLogNumber(t.Context(), info.Key, info.Size-1); errs.KindOf(err) != errs.Corrupt {
		t.Errorf("of another size: %v", err)
	}
}
