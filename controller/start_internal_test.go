package controller

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap/zaptest"

	"github.com/tuskvault/tuskvault/controller/internal/audit"
	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// starts is the start of the old controller on its own catalog, with a chunk index.
func (p *past) starts() (index string, err error) {
	p.t.Helper()
	c := p.config()
	index = filepath.Join(c.indexFolder(), "domain", "complete")
	must(p.t, os.MkdirAll(filepath.Dir(index), 0o700))
	must(p.t, os.WriteFile(index, nil, 0o600))
	r, err := repo.Open(p.t.Context(), p.store, p.unlocker)
	must(p.t, err)
	log := zaptest.NewLogger(p.t)
	s := &starter{config: &c, repository: r, catalog: p.catalog, trail: audit.New(p.catalog, log), log: log}
	return index, s.compare(p.t.Context(), p.log, p.catalog.Head())
}

// setBack removes what was written after record n of the log, and the object of
// a snapshot.
func (p *past) setBack(n uint64) {
	p.t.Helper()
	var later []string
	must(p.t, p.store.List(p.t.Context(), repo.CatalogPrefix, "", func(info blob.Info) error {
		if number, _, err := repo.ParseCatalogObject(info.Key); err != nil || number > n {
			later = append(later, info.Key)
		}
		return nil
	}))
	for _, key := range append(later, repo.SnapshotObject(p.instance, p.unknown)) {
		must(p.t, p.store.Delete(p.t.Context(), key))
	}
}

func (p *past) mayDelete() (err error) {
	p.t.Helper()
	must(p.t, p.catalog.View(p.t.Context(), func(tx *catalog.Tx) error { err = tx.MayDelete(); return nil }))
	return err
}

func (p *past) snapshot(id repo.JobID) (err error) {
	p.t.Helper()
	must(p.t, p.catalog.View(p.t.Context(), func(tx *catalog.Tx) error { _, err = tx.Snapshot(id); return nil }))
	return err
}

func TestAnOrdinaryStartTakesInWhatTheStoreHasAndNoMore(t *testing.T) {
	p := newPast(t)
	index, err := p.starts()
	must(t, err)
	if _, err := os.Stat(index); err != nil {
		t.Errorf("the index: %v", err)
	}
	if err := p.mayDelete(); err != nil {
		t.Error(err)
	}
	for _, id := range []repo.JobID{p.ended, p.running, p.unknown} {
		if err := p.snapshot(id); err != nil {
			t.Error(err)
		}
	}
}

func TestACatalogThatIsAheadOfTheStoreMakesItWholeAgain(t *testing.T) {
	p := newPast(t)
	_, err := p.starts() // knows all three snapshots
	must(t, err)
	p.change(func(tx *catalog.Tx) error { return tx.PutCluster(catalog.Cluster{Name: "late"}) })
	p.setBack(2)
	index, err := p.starts()
	must(t, err)
	if _, err := os.Stat(index); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an index that may name packs that are gone is kept: %v", err)
	}
	if err := p.mayDelete(); errs.KindOf(err) != errs.Conflict || !strings.Contains(fmt.Sprint(err), "the store was rolled back") {
		t.Errorf("may delete: %v", err)
	}
	if err := p.snapshot(p.unknown); errs.KindOf(err) != errs.NotFound {
		t.Errorf("a snapshot that is not in the store: %v", err)
	}
	if err := p.snapshot(p.ended); err != nil {
		t.Error(err)
	}
	// The log goes on, and says all that the catalog knew.
	p.change(func(tx *catalog.Tx) error { return tx.PutCluster(catalog.Cluster{Name: "later"}) })
	c := p.config()
	out, err := p.rebuild(t.Context(), p.store, c, RebuildOptions{})
	must(t, err)
	if len(out.Log.Faults) > 0 || out.Snapshots != 2 || out.Adopted != 0 || out.AuditFault != nil {
		t.Errorf("rebuilt %+v", out)
	}
	cat, err := catalog.Open(t.Context(), c.catalogFile(), catalog.Options{Detached: true})
	must(t, err)
	defer func() { _ = cat.Close() }()
	must(t, cat.View(t.Context(), func(tx *catalog.Tx) error {
		for _, name := range []string{"late", "later"} {
			if _, err := tx.Cluster(name); err != nil {
				t.Error(err)
			}
		}
		return nil
	}))
}

func TestAnInstanceWhoseKeysAreGoneGetsNewOnes(t *testing.T) {
	p := newPast(t)
	p.setBack(1)
	must(t, p.store.Delete(t.Context(), repo.DomainObject(p.domain.ID(), 1)))
	_, err := p.starts()
	must(t, err)
	must(t, p.catalog.View(t.Context(), func(tx *catalog.Tx) error {
		i, err := tx.Instance(p.instance)
		if err != nil || i.Domain == p.domain.ID() || i.OwnDomain != i.Domain || i.Domain == (seal.DomainID{}) {
			t.Errorf("instance %+v, %v", i, err)
		}
		r, err := repo.Open(t.Context(), p.store, p.unlocker)
		must(t, err)
		_, err = r.Domain(t.Context(), i.Domain)
		return err
	}))
}

func TestADamagedNewestRecordIsReplacedByAFullOne(t *testing.T) {
	p := newPast(t)
	key := repo.LogObject(p.head.Number)
	must(t, p.store.Delete(t.Context(), key))
	must(t, p.store.Create(t.Context(), key, blob.Bytes([]byte("rubbish"))))
	_, err := p.starts()
	must(t, err)
	if err := p.mayDelete(); errs.KindOf(err) != errs.Conflict || !strings.Contains(fmt.Sprint(err), "damaged") {
		t.Errorf("may delete: %v", err)
	}
	out, err := p.rebuild(t.Context(), p.store, p.config(), RebuildOptions{})
	must(t, err)
	if len(out.Log.Faults) > 0 || out.Agents != 1 {
		t.Errorf("rebuilt %+v", out)
	}
}

func TestALogThatSomebodyElseWentOnWithIsLeftAlone(t *testing.T) {
	p := newPast(t)
	p.setBack(2)
	r, err := repo.Open(t.Context(), p.store, p.unlocker)
	must(t, err)
	other, err := repo.OpenLog(t.Context(), r, 1)
	must(t, err)
	for {
		w, err := other.Append(t.Context(), repo.LogSynchronous, []byte("of another past"))
		must(t, err)
		if w.Number == p.head.Number {
			break
		}
	}
	if _, err := p.starts(); errs.KindOf(err) != errs.Conflict || !strings.Contains(fmt.Sprint(err), "rebuild") {
		t.Errorf("start: %v", err)
	}
	if err := p.mayDelete(); err != nil {
		t.Errorf("it wrote: %v", err)
	}
}
