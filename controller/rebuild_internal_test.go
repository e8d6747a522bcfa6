package controller

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"

	"github.com/tuskvault/tuskvault/controller/internal/audit"
	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/event"
	"github.com/tuskvault/tuskvault/controller/internal/export"
	"github.com/tuskvault/tuskvault/controller/internal/forget"
	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/blob/blobtest"
	"github.com/tuskvault/tuskvault/internal/blob/mem"
	"github.com/tuskvault/tuskvault/internal/config"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pki"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/repo/repotest"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// past is a store with the history of a controller that is no more.
type past struct {
	t        *testing.T
	store    blob.Store
	unlocker *seal.KeyFile
	root     []byte // DER of the root that agents pin
	domain   *repo.Domain
	agent    repo.AgentID
	instance repo.InstanceID
	// ended, running and unknown are jobs with a snapshot in the store: one that the
	// log knows to have ended, one that it knows to run, and one it has never heard of.
	ended, running, unknown repo.JobID
	// restore is under way, as far as the log knows.
	restore repo.JobID
	// catalog and log of the old controller, for tests in which it goes on.
	catalog *catalog.Catalog
	log     *repo.Log
	head    catalog.Witness
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newPast(t *testing.T) *past {
	t.Helper()
	return newPastIn(t, mem.New())
}

func newPastIn(t *testing.T, store blob.Store) *past {
	t.Helper()
	p := &past{t: t, store: store, agent: repo.NewID(), instance: repo.NewID(), ended: repo.NewID(), running: repo.NewID(), unknown: repo.NewID(), restore: repo.NewID()}
	var r *repo.Repository
	r, p.domain, p.unlocker = repotest.New(t, p.store)
	epoch, err := r.ClaimEpoch(t.Context())
	must(t, err)
	issuer, err := makeAuthority(t.Context(), r, epoch, time.Now())
	must(t, err)
	p.root = issuer.Root().Raw
	p.catalog, err = catalog.Create(t.Context(), filepath.Join(t.TempDir(), "catalog.db"), catalog.Meta{Repository: r.ID(), Epoch: epoch}, catalog.Options{Detached: true})
	must(t, err)
	t.Cleanup(func() { _ = p.catalog.Close() })
	p.log, err = repo.OpenLog(t.Context(), r, epoch)
	must(t, err)
	p.fill()
	for i, job := range []repo.JobID{p.ended, p.running, p.unknown} {
		prepared := repotest.Prepare(t, p.domain, p.instance, job, repo.Fence{Epoch: epoch, Counter: uint64(i + 1)})
		if _, err := p.domain.PutSnapshot(t.Context(), prepared); err != nil {
			t.Fatal(err)
		}
	}
	abort, err := p.domain.PrepareAbort(p.instance, repo.NewID(), repo.Fence{Epoch: epoch, Counter: 9}, repo.Commit{})
	must(t, err)
	_, err = p.domain.PutSnapshot(t.Context(), abort)
	must(t, err)
	return p
}

// fill writes what the old controller knew, in several log records.
func (p *past) fill() {
	p.t.Helper()
	now := time.Now()
	old := catalog.Certificate{Fingerprint: [32]byte{1}, Issued: now, Expires: now.Add(time.Hour)}
	job := func(id repo.JobID, state catalog.JobState, counter uint64) catalog.Job {
		return catalog.Job{ID: id, Kind: catalog.JobBackup, State: state, Instance: p.instance, InstanceName: "db1/main", Agent: p.agent, Backup: &catalog.BackupSpec{},
			Created: now, Current: repo.Fence{Epoch: 1, Counter: counter}}
	}
	for _, fn := range []func(tx *catalog.Tx) error{
		func(tx *catalog.Tx) error {
			return errors.Join(tx.PutOperator(catalog.Operator{Name: FirstOperator, Role: catalog.RoleAdmin, Certificates: []catalog.Certificate{old}}),
				tx.PutOperator(catalog.Operator{Name: "script", Role: catalog.RoleOperator, Certificates: []catalog.Certificate{old}}),
				tx.PutToken(catalog.Token{ID: "0123456789ab", Created: now, Expires: now.Add(time.Hour)}),
				tx.PutToken(catalog.Token{ID: "ffffffffffff", Created: now, Expires: now.Add(time.Hour), Used: now, UsedBy: p.agent}))
		},
		func(tx *catalog.Tx) error {
			return errors.Join(tx.PutAgent(catalog.Agent{ID: p.agent, Name: "db1", State: catalog.AgentActive, Labels: catalog.Labels{"env": "prod"}, Certificates: []catalog.Certificate{old}}),
				tx.PutInstance(catalog.Instance{ID: p.instance, Agent: p.agent, AgentName: "db1", Name: "main", Domain: p.domain.ID(), OwnDomain: p.domain.ID(), Incarnation: 3}))
		},
		func(tx *catalog.Tx) error {
			ended := job(p.ended, catalog.JobSucceeded, 1)
			ended.SnapshotID = p.ended
			restore := job(p.restore, catalog.JobRunning, 8)
			restore.Kind, restore.Backup, restore.Restore = catalog.JobRestore, nil, &catalog.RestoreSpec{Snapshot: p.ended, Replace: true}
			lost := repo.NewID() // in the log, and not in the store
			return errors.Join(tx.PutJob(ended), tx.PutJob(restore), tx.PutJob(job(p.running, catalog.JobRunning, 7)),
				tx.PutAttempt(catalog.Attempt{Job: p.running, Fence: repo.Fence{Epoch: 1, Counter: 7}, Agent: p.agent, State: catalog.AttemptRunning, Domain: p.domain.ID()}),
				tx.PutSnapshot(catalog.Snapshot{ID: p.ended, Instance: p.instance, InstanceName: "db1/main", Incarnation: 2, StoredBytes: 777, Committed: now, Rows: 1 << 40}),
				tx.PutSnapshot(catalog.Snapshot{ID: lost, Instance: p.instance, Committed: now}))
		},
	} {
		p.change(fn)
	}
}

// change is one transaction of the old controller with an audit record, in a log
// record of its own.
func (p *past) change(fn func(tx *catalog.Tx) error) {
	p.t.Helper()
	trail := audit.New(p.catalog, zaptest.NewLogger(p.t))
	must(p.t, p.catalog.Update(p.t.Context(), catalog.Async, func(tx *catalog.Tx) error {
		return errors.Join(fn(tx), trail.Append(tx, catalog.AuditRecord{Action: "test", Outcome: audit.OK}))
	}))
	must(p.t, export.New(p.catalog, p.log, zaptest.NewLogger(p.t)).Ship(p.t.Context()))
	p.head = p.catalog.Head()
}

// config is that of a rebuild in a new folder.
func (p *past) config() Config {
	p.t.Helper()
	c := DefaultConfig()
	c.StateDir, c.Store, c.Listen = p.t.TempDir(), "file:///nowhere", "127.0.0.1:0"
	key := filepath.Join(p.t.TempDir(), "key")
	must(p.t, os.WriteFile(key, p.unlocker.Text(), 0o600))
	var err error
	c.Unlock, err = config.ParseSecret("file:" + key)
	must(p.t, err)
	return c
}

// rebuild is Rebuild from a store that is not named by a URL.
func (p *past) rebuild(ctx context.Context, store blob.Store, c Config, o RebuildOptions) (*Rebuilt, error) {
	p.t.Helper()
	if err := beginRebuild(&c); err != nil {
		return nil, err
	}
	r, err := repo.Open(ctx, store, p.unlocker)
	if err != nil {
		return nil, err
	}
	return rebuildFrom(ctx, r, c, o)
}

// check holds a rebuilt catalog against what was.
func (p *past) check(c Config, out *Rebuilt) {
	t := p.t
	t.Helper()
	if out.Agents != 1 || out.Instances != 1 || out.Snapshots != 3 || out.Adopted != 2 || out.Absent != 1 || len(out.Damaged) > 0 || len(out.Log.Faults) > 0 || out.AuditFault != nil {
		t.Errorf("rebuilt %+v", out)
	}
	r, err := repo.Open(t.Context(), p.store, p.unlocker)
	must(t, err)
	issuer, err := openAuthority(t.Context(), r, out.Epoch)
	must(t, err)
	if !bytes.Equal(issuer.Root().Raw, p.root) {
		t.Error("another root: agents would not come back")
	}
	cat, err := catalog.Open(t.Context(), c.catalogFile(), catalog.Options{Detached: true})
	must(t, err)
	defer func() { _ = cat.Close() }()
	must(t, cat.View(t.Context(), func(tx *catalog.Tx) error {
		if a, err := tx.Agent(p.agent); err != nil || a.Name != "db1" || a.Labels["env"] != "prod" || len(a.Certificates) != 1 {
			t.Errorf("agent %+v, %v", a, err)
		}
		if admin, err := tx.Operator(FirstOperator); err != nil || len(admin.Certificates) != 1 || admin.Certificates[0].Fingerprint == [32]byte{1} || !admin.Revoked.IsZero() {
			t.Errorf("admin %+v, %v", admin, err)
		}
		if o, err := tx.Operator("script"); err != nil || o.Revoked.IsZero() || len(o.Certificates) != 0 {
			t.Errorf("operator %+v, %v", o, err)
		}
		if token, err := tx.Token("0123456789ab"); err != nil || time.Now().Before(token.Expires) {
			t.Errorf("token %+v, %v", token, err)
		}
		if err := tx.MayDelete(); errs.KindOf(err) != errs.Conflict {
			t.Errorf("may delete: %v", err)
		}
		p.checkSnapshots(tx)
		m, err := tx.Meta()
		if err != nil || m.Epoch != out.Epoch || m.Repository != r.ID() || m.Base.Number < p.head.Number || m.Head.Number <= m.Base.Number || m.FullNumber != m.Head.Number {
			t.Errorf("meta %+v, %v", m, err)
		}
		n, err := tx.VerifyAudit()
		if n < 4 {
			t.Errorf("%d audit records", n)
		}
		return err
	}))
}

func (p *past) checkSnapshots(tx *catalog.Tx) {
	t := p.t
	t.Helper()
	for _, id := range []repo.JobID{p.ended, p.running, p.unknown} {
		s, err := tx.Snapshot(id)
		if err != nil || s.InstanceName != "db1/main" || s.Rows == 1<<40 || s.Rows == 0 || s.Domain != p.domain.ID() || s.ObjectHash == [32]byte{} {
			t.Errorf("snapshot %+v, %v", s, err)
		}
		if id == p.ended && (s.Incarnation != 2 || s.StoredBytes != 777) || id == p.unknown && s.Incarnation != 3 {
			t.Errorf("snapshot %+v", s)
		}
	}
	// The job manager finds the snapshot of the job that the log says is running.
	j, err := tx.Job(p.running)
	if err != nil || j.State != catalog.JobCommitting || j.Current != (repo.Fence{Epoch: 1, Counter: 2}) || !j.Doubt {
		t.Errorf("job %+v, %v", j, err)
	}
	// A restore that may have been done long ago is never done again.
	if j, err := tx.Job(p.restore); err != nil || j.State != catalog.JobLost || j.Ended.IsZero() {
		t.Errorf("restore %+v, %v", j, err)
	}
	for counter, state := range map[uint64]catalog.AttemptState{7: catalog.AttemptSuperseded, 2: catalog.AttemptCommitting} {
		if a, err := tx.Attempt(p.running, repo.Fence{Epoch: 1, Counter: counter}); err != nil || a.State != state {
			t.Errorf("attempt %d: %+v, %v", counter, a, err)
		}
	}
}

func TestARebuiltCatalogIsWhatLogAndObjectsSay(t *testing.T) {
	p := newPast(t)
	c := p.config()
	out, err := p.rebuild(t.Context(), p.store, c, RebuildOptions{})
	must(t, err)
	p.check(c, out)
	if out.Epoch != 2 || out.Tokens != 1 || out.Operators != 1 {
		t.Errorf("rebuilt %+v", out)
	}
	if _, err := os.Stat(RebuildingFile(c.StateDir)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it says that it is not done: %v", err)
	}
	if _, err := p.rebuild(t.Context(), p.store, c, RebuildOptions{}); errs.KindOf(err) != errs.Exists {
		t.Errorf("again in the same folder: %v", err)
	}
	// The old controller can write nothing more, and is told why.
	_, err = p.log.Append(t.Context(), repo.LogSynchronous, []byte("late"))
	if conflict, ok := errors.AsType[*repo.LogConflict](err); !ok || !conflict.TakenOver() {
		t.Errorf("the old controller: %v", err)
	}
	if err := p.log.Reigning(t.Context()); errs.KindOf(err) != errs.Conflict {
		t.Errorf("the old controller, which looks: %v", err)
	}
}

func TestOperatorsAreKeptAndEpochsLeaptOnlyWhenToldTo(t *testing.T) {
	p := newPast(t)
	c := p.config()
	out, err := p.rebuild(t.Context(), p.store, c, RebuildOptions{KeepOperators: true, EpochAbove: 5})
	must(t, err)
	if out.Epoch != 6 || out.Operators != 0 {
		t.Errorf("rebuilt %+v", out)
	}
	cat, err := catalog.Open(t.Context(), c.catalogFile(), catalog.Options{Detached: true})
	must(t, err)
	defer func() { _ = cat.Close() }()
	must(t, cat.View(t.Context(), func(tx *catalog.Tx) error {
		for name, n := range map[string]int{FirstOperator: 2, "script": 1} {
			if o, err := tx.Operator(name); err != nil || len(o.Certificates) != n || !o.Revoked.IsZero() {
				t.Errorf("operator %+v, %v", o, err)
			}
		}
		return nil
	}))
	if _, err := p.rebuild(t.Context(), p.store, p.config(), RebuildOptions{EpochAbove: 1 << 40}); errs.KindOf(err) != errs.Invalid {
		t.Errorf("an epoch out of reach: %v", err)
	}
}

func TestARebuildThatIsCutOffAnywhereIsMadeWholeByTheNext(t *testing.T) {
	for n := 0; ; n++ {
		p := newPast(t)
		c := p.config()
		faulty := blobtest.NewFaulty(p.store)
		faulty.StopAfter(n)
		_, err := p.rebuild(t.Context(), faulty, c, RebuildOptions{})
		if !faulty.Stopped() {
			must(t, err)
			if n < 5 {
				t.Fatalf("only %d durable steps in the store", n)
			}
			t.Logf("%d durable steps in the store", n)
			return
		}
		if err != nil {
			if _, err := os.Stat(DecisionsFile(c.StateDir)); err == nil {
				t.Errorf("stopped after step %d, and the folder looks whole", n)
			}
			out, err := p.rebuild(t.Context(), p.store, c, RebuildOptions{})
			if err != nil {
				t.Fatalf("stopped after step %d: %v", n, err)
			}
			// What the first one has put into the log is true, so that the second does
			// not find it anew.
			out.Adopted, out.Absent = 2, 1
			p.check(c, out)
		}
	}
}

// racing puts a record of the old controller just before the new one's first.
type racing struct {
	blob.Store
	race func()
	left int
}

func (s *racing) Create(ctx context.Context, key string, body blob.Body) error {
	if strings.HasSuffix(key, ".log") && s.left > 0 {
		s.left--
		s.race()
	}
	return s.Store.Create(ctx, key, body)
}

func TestWhatTheOldControllerWritesUntilTheTakeOverIsTakenIn(t *testing.T) {
	p := newPast(t)
	n := 0
	store := &racing{Store: p.store, left: 3, race: func() {
		n++
		name := fmt.Sprintf("late%d", n)
		p.change(func(tx *catalog.Tx) error { return tx.PutCluster(catalog.Cluster{Name: name}) })
	}}
	c := p.config()
	out, err := p.rebuild(t.Context(), store, c, RebuildOptions{})
	must(t, err)
	p.check(c, out)
	cat, err := catalog.Open(t.Context(), c.catalogFile(), catalog.Options{Detached: true})
	must(t, err)
	defer func() { _ = cat.Close() }()
	must(t, cat.View(t.Context(), func(tx *catalog.Tx) error {
		for i := range 3 {
			if _, err := tx.Cluster(fmt.Sprintf("late%d", i+1)); err != nil {
				t.Error(err)
			}
		}
		return nil
	}))
}

func TestADamagedLogIsReadAsFarAsItOpensAndSaysSo(t *testing.T) {
	for name, harm := range map[string]func(p *past) (key string){
		"a record is gone": func(p *past) string { return repo.LogObject(2) },
		"the newest":       func(p *past) string { return repo.LogObject(p.head.Number) },
	} {
		t.Run(name, func(t *testing.T) {
			p := newPast(t)
			// The first change came with a full record, so only later ones count.
			must(t, p.store.Delete(t.Context(), repo.FullObject(1)))
			key := harm(p)
			must(t, p.store.Delete(t.Context(), key))
			must(t, p.store.Create(t.Context(), key, blob.Bytes([]byte("rubbish"))))
			c := p.config()
			out, err := p.rebuild(t.Context(), p.store, c, RebuildOptions{})
			must(t, err)
			if len(out.Log.Faults) == 0 || !slices.ContainsFunc(out.Log.Faults, func(err error) bool { return strings.Contains(err.Error(), key) }) {
				t.Errorf("faults %v, want %s named", out.Log.Faults, key)
			}
			if out.Snapshots != 3 {
				t.Errorf("%d snapshots", out.Snapshots)
			}
			// The log is whole again behind the full record.
			again := p.config()
			out, err = p.rebuild(t.Context(), p.store, again, RebuildOptions{})
			must(t, err)
			if len(out.Log.Faults) > 0 || out.Snapshots != 3 || out.Adopted != 0 {
				t.Errorf("once more: %+v", out)
			}
		})
	}
}

func TestAStoreWithoutItsRootIsNotRebuiltBehindTheFleetsBack(t *testing.T) {
	p := newPast(t)
	var serial string
	must(t, p.store.List(t.Context(), repo.CAPrefix, "", func(info blob.Info) error {
		raw, err := blob.ReadAll(t.Context(), p.store, info.Key, 1<<20)
		must(t, err)
		r, err := repo.Open(t.Context(), p.store, p.unlocker)
		must(t, err)
		bundle, err := r.CA(t.Context(), strings.TrimPrefix(info.Key, repo.CAPrefix))
		must(t, err)
		if _, err := pki.ParseRoot(bundle); err == nil {
			serial = info.Key
			must(t, p.store.Delete(t.Context(), info.Key))
			raw[len(raw)/2] ^= 1
			must(t, p.store.Create(t.Context(), info.Key, blob.Bytes(raw)))
		}
		return nil
	}))
	if _, err := p.rebuild(t.Context(), p.store, p.config(), RebuildOptions{}); errs.KindOf(err) != errs.Corrupt || !strings.Contains(err.Error(), serial) {
		t.Errorf("a damaged root: %v", err)
	}
	must(t, p.store.Delete(t.Context(), serial))
	if _, err := p.rebuild(t.Context(), p.store, p.config(), RebuildOptions{}); errs.KindOf(err) != errs.NotFound {
		t.Errorf("no root: %v", err)
	}
}

func TestWhatWasForgottenAndHeldIsSoAfterARebuild(t *testing.T) {
	p := newPast(t)
	forgotten := catalog.Forgotten{Time: time.Now().UTC().Round(0), By: "operator/a", Reason: "old", PurgeAfter: time.Now().Add(72 * time.Hour).UTC().Round(0)}
	held := catalog.Hold{Until: time.Now().Add(1000 * time.Hour).UTC().Round(0), By: "operator/b", Reason: "court case", Time: forgotten.Time}
	alter := func(id repo.JobID, fn func(s *catalog.Snapshot)) {
		p.change(func(tx *catalog.Tx) error {
			s, err := tx.Snapshot(id)
			if errs.KindOf(err) == errs.NotFound {
				s, err = catalog.Snapshot{ID: id, Instance: p.instance, Committed: time.Now(), Domain: p.domain.ID()}, nil
			}
			fn(&s)
			return errors.Join(err, tx.PutSnapshot(s))
		})
	}
	alter(p.ended, func(s *catalog.Snapshot) { s.Forgotten, s.Hold = forgotten, held })
	alter(p.running, func(s *catalog.Snapshot) { s.Forgotten, s.Purged = forgotten, forgotten.Time })
	done := repo.NewID() // purged: its object is gone, its record is not
	alter(done, func(s *catalog.Snapshot) { s.Forgotten, s.Purged = forgotten, forgotten.Time })
	c := p.config()
	_, err := p.rebuild(t.Context(), p.store, c, RebuildOptions{})
	must(t, err)
	cat, err := catalog.Open(t.Context(), c.catalogFile(), catalog.Options{Detached: true})
	must(t, err)
	defer func() { _ = cat.Close() }()
	r, err := repo.Open(t.Context(), p.store, p.unlocker)
	must(t, err)
	read := func(id repo.JobID) (s catalog.Snapshot, err error) {
		return s, cat.View(t.Context(), func(tx *catalog.Tx) (err error) { s, err = tx.Snapshot(id); return err })
	}
	if s, err := read(p.ended); err != nil || s.Forgotten != forgotten || s.Hold != held || !s.Purged.IsZero() || len(s.Contents) == 0 {
		t.Errorf("forgotten and held: %+v, %v", s, err)
	}
	if s, err := read(p.unknown); err != nil || !s.Live() {
		t.Errorf("of which the log says nothing: %+v, %v", s, err)
	}
	trail := audit.New(cat, zaptest.NewLogger(t))
	purger := forget.NewPurger(forget.Deps{Catalog: cat, Store: r.Store(), Clock: believed{}, Trail: trail, Events: event.New(time.Now(), 10), Users: &forget.Users{}, Delay: time.Hour, Log: zaptest.NewLogger(t)})
	must(t, purger.Round(t.Context()))
	for _, id := range []repo.JobID{p.ended, p.running, done} {
		if _, err := read(id); err != nil {
			t.Errorf("snapshot %s went while deletion is paused: %v", id.Short(), err)
		}
	}
	must(t, cat.Update(t.Context(), catalog.Sync, func(tx *catalog.Tx) error { _, err := tx.ResumeDeletion("operator/a"); return err }))
	must(t, purger.Round(t.Context()))
	if s, err := read(p.ended); err != nil || s.Hold != held {
		t.Errorf("held: %+v, %v", s, err)
	}
	for _, id := range []repo.JobID{p.running, done} {
		if _, err := read(id); errs.KindOf(err) != errs.NotFound {
			t.Errorf("purged snapshot %s: %v", id.Short(), err)
		}
	}
	// The next start finds no object that it would take for news.
	rec := &reconciler{repository: r, catalog: cat}
	if found, err := rec.run(t.Context()); err != nil || found.adopted != 0 || len(found.absent) != 0 || found.snapshots != 2 {
		t.Errorf("the next start: %+v, %v", found, err)
	}
}

// believed is a clock that is right.
type believed struct{}

func (believed) Check(context.Context, bool) error { return nil }

func TestAStartWhileASnapshotIsPurgedDoesNotBringItBack(t *testing.T) {
	p := newPast(t)
	r, err := repo.Open(t.Context(), p.store, p.unlocker)
	must(t, err)
	rec := &reconciler{repository: r, catalog: p.catalog, all: true}
	_, err = rec.run(t.Context())
	must(t, err)
	at := time.Now().UTC().Round(0)
	p.change(func(tx *catalog.Tx) error {
		s, err := tx.Snapshot(p.ended)
		s.Forgotten, s.Purged = catalog.Forgotten{Time: at, By: "operator/a"}, at
		return errors.Join(err, tx.PutSnapshot(s))
	})
	for _, all := range []bool{false, true} {
		rec.all = all
		found, err := rec.run(t.Context())
		must(t, err)
		if found.adopted != 0 {
			t.Errorf("adopted %d", found.adopted)
		}
		must(t, p.catalog.View(t.Context(), func(tx *catalog.Tx) error {
			s, err := tx.Snapshot(p.ended)
			if !s.Purged.Equal(at) {
				t.Errorf("read anew %t: %+v", all, s)
			}
			return err
		}))
	}
}
