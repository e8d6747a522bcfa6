package erase_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap/zaptest"

	"github.com/tuskvault/tuskvault/controller/internal/audit"
	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/erase"
	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/blob/blobtest"
	"github.com/tuskvault/tuskvault/internal/blob/mem"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/repo/repotest"
	"github.com/tuskvault/tuskvault/internal/seal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var by = erase.By{Actor: "operator/admin"}

// world has two instances with snapshots in domains of their own.
type world struct {
	t          *testing.T
	inner      blob.Store
	store      *blobtest.Faulty
	repository *repo.Repository
	unlocker   *seal.KeyFile
	domain     *repo.Domain
	other      *repo.Domain
	file       string
	catalog    *catalog.Catalog
	service    *erase.Service
	instance   catalog.Instance
	neighbour  catalog.Instance
	kept       repo.JobID
	forgotten  []seal.DomainID
}

func (w *world) Forget(d seal.DomainID) error { w.forgotten = append(w.forgotten, d); return nil }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, inner: mem.New(), file: filepath.Join(t.TempDir(), "catalog.db")}
	w.store = blobtest.NewFaulty(w.inner)
	w.repository, w.domain, w.unlocker = repotest.New(t, w.store)
	second, err := w.repository.CreateDomain(t.Context())
	must(t, err)
	w.other, err = w.repository.Domain(t.Context(), second)
	must(t, err)
	w.catalog, err = catalog.Create(t.Context(), w.file, catalog.Meta{Repository: w.repository.ID(), Epoch: 1}, catalog.Options{Detached: true})
	must(t, err)
	t.Cleanup(func() { _ = w.catalog.Close() })
	w.instance, _ = w.fill("db1", w.domain, 2)
	w.neighbour, w.kept = w.fill("db2", w.other, 1)
	w.open(w.repository)
	return w
}

func (w *world) open(r *repo.Repository) {
	log := zaptest.NewLogger(w.t)
	w.repository = r
	w.service = erase.New(r, w.catalog, audit.New(w.catalog, log), w, log)
}

// fill makes an instance with snapshots, and gives the last of them.
func (w *world) fill(agent string, d *repo.Domain, snapshots int) (catalog.Instance, repo.JobID) {
	w.t.Helper()
	b := repotest.NewBackups(w.t, w.repository, d)
	i := catalog.Instance{ID: b.Instance, Agent: repo.NewID(), AgentName: agent, Name: "main", Domain: d.ID(), OwnDomain: d.ID(), Incarnation: 1}
	var last repo.JobID
	must(w.t, w.catalog.Update(w.t.Context(), catalog.Async, func(tx *catalog.Tx) error {
		if err := tx.PutInstance(i); err != nil {
			return err
		}
		for n := range snapshots {
			last = b.Backup(repotest.Table{Database: "app", Name: "t", Rows: 40, Seed: agent + strings.Repeat("x", n)})
			s := catalog.Snapshot{ID: last, Instance: i.ID, InstanceName: i.FullName(), Domain: d.ID(), Kind: repo.KindLogical, Committed: time.Unix(int64(1700000000+n), 0)}
			if err := errors.Join(tx.PutSnapshot(s), tx.PutDrill(catalog.Drill{Snapshot: last, Job: repo.NewID(), Verdict: "passed"}, catalog.DrillReport{Statement: []byte("{}")})); err != nil {
				return err
			}
		}
		return nil
	}))
	return i, last
}

func (w *world) request() erase.Request {
	return erase.Request{Instance: "db1/main", Confirm: "db1/main"}
}

// objects counts what the inner store has of a domain, and of db1's snapshots.
func (w *world) objects(d seal.DomainID) (n int) {
	w.t.Helper()
	for _, prefix := range []string{repo.DomainPrefix(d), repo.IndexPrefix(d), repo.PackPrefix(d), repo.SnapshotPrefix(w.instance.ID)} {
		must(w.t, w.inner.List(w.t.Context(), prefix, "", func(blob.Info) error { n++; return nil }))
	}
	return n
}

func (w *world) listed(i repo.InstanceID) (n int) {
	w.t.Helper()
	must(w.t, w.catalog.View(w.t.Context(), func(tx *catalog.Tx) error {
		rows, _, err := tx.SnapshotsOf(i, catalog.Page{Size: catalog.MaxPage})
		n = len(rows)
		return err
	}))
	return n
}

// finish runs the service until it has nothing to do.
func (w *world) finish() {
	w.t.Helper()
	must(w.t, w.service.Finish(w.t.Context()))
}

// erased holds that nothing of db1 is left and everything of db2 is.
func (w *world) erased(what string) {
	w.t.Helper()
	ctx := w.t.Context()
	if n := w.objects(w.domain.ID()); n != 0 {
		w.t.Errorf("%s: %d objects are left", what, n)
	}
	r, err := repo.Open(ctx, w.inner, w.unlocker)
	must(w.t, err)
	if _, err := r.Domain(ctx, w.domain.ID()); errs.KindOf(err) != errs.NotFound {
		w.t.Errorf("%s: the domain opens: %v", what, err)
	}
	if _, err := r.ReadSnapshot(ctx, w.neighbour.ID, w.kept); err != nil {
		w.t.Errorf("%s: the neighbour's snapshot: %v", what, err)
	}
	if w.listed(w.instance.ID) != 0 || w.listed(w.neighbour.ID) != 1 {
		w.t.Errorf("%s: %d and %d snapshots are listed", what, w.listed(w.instance.ID), w.listed(w.neighbour.ID))
	}
	must(w.t, w.catalog.View(ctx, func(tx *catalog.Tx) error {
		e, err := tx.Erasure(w.domain.ID())
		if err != nil || e.Destroyed.IsZero() || e.Done.IsZero() || e.Snapshots != 2 || e.By != by.Actor {
			w.t.Errorf("%s: %+v, %v", what, e, err)
		}
		i, err := tx.Instance(w.instance.ID)
		if err != nil {
			return err
		}
		if i.Domain == w.domain.ID() || i.OwnDomain != i.Domain {
			w.t.Errorf("%s: the instance still writes to the erased domain", what)
		}
		// Its next backup starts anew, in a domain that opens.
		d, err := r.Domain(ctx, i.Domain)
		if err != nil {
			return err
		}
		b := repotest.NewBackups(w.t, r, d)
		b.Instance = i.ID
		if _, err := r.ReadSnapshot(ctx, i.ID, b.Backup(repotest.Table{Database: "app", Name: "t", Rows: 40, Seed: "db1"})); err != nil {
			w.t.Errorf("%s: the next backup: %v", what, err)
		}
		return nil
	}))
}

func TestAnErasedInstanceIsGoneAndItsNextBackupStartsAnew(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	keys := w.domain.Keys()
	plan, err := w.service.Plan(ctx, "db1/main")
	if err != nil || plan.Snapshots != 2 || len(plan.Domains) != 1 || len(plan.Instances) != 1 {
		t.Fatalf("plan %+v, %v", plan, err)
	}
	got, err := w.service.Erase(ctx, w.request(), by)
	if err != nil || !got.Destroyed || got.Snapshots != 2 {
		t.Fatalf("%+v, %v", got, err)
	}
	// A domain that somebody still holds open makes no new keys.
	if _, err := w.domain.BumpSealEpoch(ctx); errs.KindOf(err) != errs.NotFound {
		t.Errorf("a new seal epoch of an erased domain: %v", err)
	}
	w.finish()
	if len(w.forgotten) != 1 {
		t.Errorf("forgotten: %v", w.forgotten)
	}
	w.erased("erased")
	must(t, w.catalog.Close())
	raw, err := os.ReadFile(w.file)
	must(t, err)
	for _, root := range []seal.Key{keys.Data, keys.Control} {
		for _, form := range [][]byte{root[:], []byte(hex.EncodeToString(root[:])), []byte(base64.StdEncoding.EncodeToString(root[:]))} {
			if bytes.Contains(raw, form) {
				t.Error("the catalog holds a root of the domain")
			}
		}
	}
}

func TestAnErasureIsRefusedWhatItMustNotDo(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	refused := func(what string, r erase.Request, want *errs.Kind) {
		t.Helper()
		if _, err := w.service.Erase(ctx, r, by); errs.KindOf(err) != want {
			t.Errorf("%s: %v", what, err)
		}
	}
	refused("not typed again", erase.Request{Instance: "db1/main"}, errs.Invalid)
	refused("another one typed", erase.Request{Instance: "db1/main", Confirm: "db2/main"}, errs.Invalid)
	refused("not the full name", erase.Request{Instance: "main", Confirm: "main"}, errs.Invalid)
	refused("nobody", erase.Request{Instance: "db9/main", Confirm: "db9/main"}, errs.NotFound)
	j := catalog.Job{ID: repo.NewID(), Kind: catalog.JobBackup, Backup: &catalog.BackupSpec{}, State: catalog.JobRunning, Instance: w.instance.ID, InstanceName: "db1/main", Created: time.Now()}
	put := func() {
		must(t, w.catalog.Update(ctx, catalog.Async, func(tx *catalog.Tx) error { return tx.PutJob(j) }))
	}
	put()
	refused("a job is under way", w.request(), errs.Conflict)
	j.State = catalog.JobFailed
	put()
	must(t, w.catalog.Update(ctx, catalog.Async, func(tx *catalog.Tx) error {
		_, err := tx.Pause(catalog.Pause{Kind: catalog.PauseRebuild, Reason: "rebuilt", Since: time.Now()})
		return err
	}))
	refused("deletion is paused", w.request(), errs.Conflict)
	must(t, w.catalog.Update(ctx, catalog.Async, func(tx *catalog.Tx) error { _, err := tx.ResumeDeletion("x"); return err }))
	// Another instance has its snapshots in the same domain.
	must(t, w.catalog.Update(ctx, catalog.Async, func(tx *catalog.Tx) error {
		i, err := tx.Instance(w.neighbour.ID)
		if err != nil {
			return err
		}
		i.Domain = w.domain.ID()
		return tx.PutInstance(i)
	}))
	refused("a neighbour in the domain", w.request(), errs.Conflict)
	if w.listed(w.instance.ID) != 2 {
		t.Error("something was erased")
	}
	r := w.request()
	r.WholeDomain = true
	if got, err := w.service.Erase(ctx, r, by); err != nil || len(got.Instances) != 2 {
		t.Errorf("with the whole domain: %+v, %v", got, err)
	}
}

func TestAnErasureThatIsCutOffAnywhereIsFinishedByTheNextStart(t *testing.T) {
	for n := 0; ; n++ {
		w := newWorld(t)
		w.store.StopAfter(n)
		_, err := w.service.Erase(t.Context(), w.request(), by)
		if err == nil {
			err = w.service.Finish(t.Context())
		}
		stopped := w.store.Stopped()
		r, openErr := repo.Open(t.Context(), w.inner, w.unlocker)
		must(t, openErr)
		_, domainErr := r.Domain(t.Context(), w.domain.ID())
		// What is listed can be restored: never the other way round.
		if w.listed(w.instance.ID) > 0 && domainErr != nil {
			t.Errorf("%d steps: snapshots are listed and their keys are gone", n)
		}
		w.open(r)
		if w.listed(w.instance.ID) > 0 { // it never came to be on record
			_, err := w.service.Erase(t.Context(), w.request(), by)
			must(t, err)
		}
		w.finish()
		w.erased("cut off")
		if !stopped {
			must(t, err)
			if n < 5 {
				t.Errorf("only %d steps", n)
			}
			return
		}
	}
}

func TestKeysThatTheStoreHoldsAreTriedAgainAndALatePutIsFound(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	w.store.Plan(blobtest.Fault{Op: blob.OpDelete, Prefix: repo.DomainsPrefix, Nth: 1, Effect: blobtest.Fail, Err: errs.Denied},
		blobtest.Fault{Op: blob.OpDelete, Prefix: repo.PacksPrefix, Nth: 1, Effect: blobtest.Fail, Err: errs.Denied})
	record, err := blob.ReadAll(ctx, w.inner, repo.DomainObject(w.domain.ID(), 1), 1<<16)
	must(t, err)
	if got, err := w.service.Erase(ctx, w.request(), by); err != nil || got.Destroyed {
		t.Errorf("under a lock: %+v, %v", got, err)
	}
	w.finish()
	w.finish()
	w.erased("after the lock")
	must(t, w.inner.Create(ctx, repo.DomainObject(w.domain.ID(), 1), blob.Bytes(record)))
	w.finish()
	if r, err := repo.Open(ctx, w.inner, w.unlocker); err != nil {
		t.Error(err)
	} else if _, err := r.Domain(ctx, w.domain.ID()); errs.KindOf(err) != errs.NotFound {
		t.Errorf("keys that came back: %v", err)
	}
	w.store.Verify(t)
}
