package copies_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/copies"
	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/blob/blobtest"
	"github.com/tuskvault/tuskvault/internal/blob/mem"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
)

func TestDeletionsWaitForTheStoreAndGoBackwards(t *testing.T) {
	w := newWorld(t)
	old := w.backup()
	w.backup()
	second, err := w.repo.CreateDomain(t.Context())
	must(t, err)
	to := mem.New()
	s := w.service(map[string]blob.Store{"a": to})
	w.follow(s, "a")

	// Permitted and still there: nothing goes. A domain goes with all that is in it.
	snapshot := repo.SnapshotObject(w.backups.Instance, old)
	index := keys(t, w.store, repo.IndexesPrefix)
	must(t, w.catalog.Update(t.Context(), catalog.Local, func(tx *catalog.Tx) error {
		return tx.PermitDelete(time.Now(), append([]string{snapshot, repo.DomainPrefix(second), repo.PackPrefix(second)}, index...)...)
	}))
	w.follow(s, "a")
	w.same(w.store, to)
	for _, key := range append([]string{snapshot, repo.DomainObject(second, 1)}, index...) {
		must(t, w.store.Delete(t.Context(), key))
	}
	faulty := blobtest.NewFaulty(to)
	faulty.Plan(blobtest.Fault{Op: blob.OpDelete, Prefix: repo.IndexesPrefix, Nth: 1, Effect: blobtest.Fail, Err: errs.Denied})
	s = w.service(map[string]blob.Store{"a": faulty})
	w.follow(s, "a")
	if _, err := to.Stat(t.Context(), snapshot); !errors.Is(err, errs.NotFound) {
		t.Errorf("the snapshot is still there: %v", err)
	}
	if _, err := to.Stat(t.Context(), repo.DomainObject(second, 1)); err != nil {
		t.Errorf("the domain went before the index files: %v", err)
	}
	faulty.Verify(t)
	w.follow(s, "a")
	w.same(w.store, to)

	// Index files that were merged into others need no permit.
	w.backup()
	w.backup()
	w.follow(s, "a")
	must(t, w.store.Delete(t.Context(), keys(t, w.store, repo.IndexesPrefix)[0]))
	w.follow(s, "a")
	w.same(w.store, to)
	if c := w.status(s, "a"); c.Strays != 0 {
		t.Errorf("%d strays after a merge of index files", c.Strays)
	}

	// A copy that was not there meanwhile keeps what is in it alone, and says so.
	away := mem.New()
	for _, key := range keys(t, w.store, "") {
		must(t, away.Create(t.Context(), key, blob.Bytes(object(t, w.store, key))))
	}
	pack := keys(t, w.store, repo.PacksPrefix)[0]
	must(t, w.store.Delete(t.Context(), pack))
	b := w.service(map[string]blob.Store{"b": away})
	w.follow(b, "b")
	if c := w.status(b, "b"); c.Strays != 1 {
		t.Errorf("%d strays", c.Strays)
	}
	if _, err := w.store.Stat(t.Context(), pack); !errors.Is(err, errs.NotFound) {
		t.Errorf("put back by a copy that was away: %v", err)
	}
}

func TestAStoreBehindItsCopyPausesDeletion(t *testing.T) {
	w := newWorld(t)
	w.backup()
	to := mem.New()
	s := w.service(map[string]blob.Store{"a": to})
	w.follow(s, "a")
	before := keys(t, w.store, "")
	w.backup()
	w.follow(s, "a")
	for _, key := range keys(t, w.store, "") { // set back to what it was
		if !contains(before, key) {
			must(t, w.store.Delete(t.Context(), key))
		}
	}
	for what, next := range map[string]*copies.Service{"at the start": w.service(map[string]blob.Store{"a": to}), "while it runs": s} {
		_, err := next.Round(t.Context(), "a")
		wantKind(t, what, err, errs.Conflict)
	}
	if p := w.pauses(); len(p) != 1 || p[0].Kind != catalog.PauseRolledBack || !strings.Contains(p[0].Reason, "copy a") {
		t.Errorf("pauses %+v", p)
	}
	w.clean("the copy", to, 2)
	// Another past: the same numbers, other records.
	must(t, w.catalog.Update(t.Context(), catalog.Local, func(tx *catalog.Tx) error { _, err := tx.ResumeDeletion("me"); return err }))
	r, err := repo.Open(t.Context(), w.repo.Store(), w.key)
	must(t, err)
	w.log, err = repo.OpenLog(t.Context(), r, 2)
	must(t, err)
	w.append()
	w.append()
	_, err = w.service(map[string]blob.Store{"a": to}).Round(t.Context(), "a")
	wantKind(t, "another past", err, errs.Conflict)
	w.clean("the copy", to, 2)
}

func contains(all []string, key string) bool {
	for _, k := range all {
		if k == key {
			return true
		}
	}
	return false
}
