package distrust_test

import (
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap/zaptest"

	"github.com/tuskvault/tuskvault/controller/internal/audit"
	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/distrust"
	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/blob/blobtest"
	"github.com/tuskvault/tuskvault/internal/blob/mem"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/repo/repotest"
	"github.com/tuskvault/tuskvault/internal/seal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var by = distrust.By{Actor: "operator/admin"}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// marks is an index that notes what it is told.
type marks map[pack.ID]bool

func (m marks) DistrustHost(_ seal.DomainID, packs ...pack.ID) {
	for _, id := range packs {
		m[id] = true
	}
}

// world is a domain that two hosts share.
type world struct {
	t       *testing.T
	store   *blobtest.Faulty
	repo    *repo.Repository
	domain  *repo.Domain
	catalog *catalog.Catalog
	index   marks
	service *distrust.Service
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, store: blobtest.NewFaulty(mem.New())}
	w.repo, w.domain, _ = repotest.New(t, w.store)
	var err error
	w.catalog, err = catalog.Create(t.Context(), filepath.Join(t.TempDir(), "catalog.db"), catalog.Meta{Repository: w.repo.ID(), Epoch: 1}, catalog.Options{Detached: true})
	must(t, err)
	t.Cleanup(func() { _ = w.catalog.Close() })
	w.restart()
	return w
}

// restart forgets everything that is not in the catalog.
func (w *world) restart() {
	w.index = marks{}
	log := zaptest.NewLogger(w.t)
	w.service = distrust.New(w.repo, w.catalog, audit.New(w.catalog, log), w.index, log)
}

// host makes an agent with an instance in the domain, and one backup of it; it
// gives the packs.
func (w *world) host(name string) (packs []pack.ID) {
	w.t.Helper()
	before := w.packs()
	b := repotest.NewBackups(w.t, w.repo, w.domain)
	b.Backup(repotest.Table{Database: "app", Name: "t", Rows: 100, Seed: name})
	a := catalog.Agent{ID: repo.NewID(), Name: name, State: catalog.AgentActive}
	must(w.t, w.catalog.Update(w.t.Context(), catalog.Async, func(tx *catalog.Tx) error {
		if err := tx.PutAgent(a); err != nil {
			return err
		}
		return tx.PutInstance(catalog.Instance{ID: b.Instance, Agent: a.ID, AgentName: name, Name: "main", Domain: w.domain.ID(), OwnDomain: w.domain.ID()})
	}))
	for id := range w.packs() {
		if !before[id] {
			packs = append(packs, id)
		}
	}
	return packs
}

func (w *world) packs() map[pack.ID]bool {
	w.t.Helper()
	out := map[pack.ID]bool{}
	must(w.t, w.store.List(w.t.Context(), repo.PacksPrefix, "", func(info blob.Info) error {
		_, id, err := repo.ParsePackObject(info.Key)
		out[id] = true
		return err
	}))
	return out
}

// distrusted wants exactly these.
func (w *world) distrusted(what string, want []pack.ID) {
	w.t.Helper()
	if len(w.index) != len(want) {
		w.t.Errorf("%s: %d packs are distrusted, want %d", what, len(w.index), len(want))
	}
	for _, id := range want {
		if !w.index[id] {
			w.t.Errorf("%s: pack %s is relied on", what, id.Short())
		}
	}
}

func TestWhatAHostUploadedIsNotReliedOnAlsoAfterARestart(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	bad := w.host("db1")
	w.host("db2")
	found, err := w.service.Agent(ctx, "db1", time.Now().Add(-time.Hour), by)
	if err != nil || found.Packs != int64(len(bad)) || found.Domains != 1 || len(bad) == 0 {
		t.Fatalf("%+v of %d packs, %v", found, len(bad), err)
	}
	w.distrusted("at once", bad)
	w.restart()
	must(t, w.service.Load(ctx))
	w.distrusted("after a restart", bad)
	for name, since := range map[string]time.Time{"the future": time.Now().Add(time.Hour), "no time": {}} {
		if _, err := w.service.Agent(ctx, "db1", since, by); errs.KindOf(err) != errs.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := w.service.Agent(ctx, "db9", time.Now().Add(-time.Hour), by); errs.KindOf(err) != errs.NotFound {
		t.Errorf("nobody: %v", err)
	}
}

func TestOnlyPacksOfTheTimeAreDistrusted(t *testing.T) {
	w := newWorld(t)
	w.host("db1")
	since := time.Now()
	found, err := w.service.Agent(t.Context(), "db1", since, by)
	if err != nil || found.Packs != 0 {
		t.Errorf("%+v, %v", found, err)
	}
	w.distrusted("since after the upload", nil)
	// A second decision never shortens the first.
	must2 := func(at time.Time) distrust.Found {
		t.Helper()
		f, err := w.service.Agent(t.Context(), "db1", at, by)
		must(t, err)
		return f
	}
	first := must2(since.Add(-time.Hour))
	if second := must2(time.Now()); first.Packs == 0 || second.Packs != first.Packs {
		t.Errorf("%+v, then %+v", first, second)
	}
}

func TestADistrustThatWasCutOffIsFinishedBeforeAnythingIsServed(t *testing.T) {
	w := newWorld(t)
	bad := w.host("db1")
	w.store.Plan(blobtest.Fault{Op: blob.OpOpen, Prefix: repo.PacksPrefix, Nth: 3, Effect: blobtest.Fail})
	if _, err := w.service.Agent(t.Context(), "db1", time.Now().Add(-time.Hour), by); errs.KindOf(err) != errs.Unavailable {
		t.Fatalf("a store that does not answer: %v", err)
	}
	w.restart()
	must(t, w.service.Load(t.Context()))
	w.distrusted("after the next start", bad)
	w.store.Verify(t)
}
