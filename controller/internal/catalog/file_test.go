package catalog_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	"google.golang.org/protobuf/proto"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/catalog/catalogpb"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// writeV1 writes a file of schema version 1 with nothing but bbolt and the
// messages of that version. It is never changed: a program of any later version
// must open what it writes.
func writeV1(t *testing.T, path string) (agent, instance, job repo.ID) {
	t.Helper()
	agent, instance, job = repo.ID{1}, repo.ID{2}, repo.ID{3}
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	message := func(m proto.Message) []byte {
		b, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	be := func(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }
	inverted := be(^uint64(0)) // the time 1970
	contents := map[string]map[string][]byte{
		"meta": {"schema": {0, 0, 0, 1}, "meta": message(&catalogpb.Meta{Repository: make([]byte, 16), Epoch: 4, Counter: 17, Name: "old"})},
		"agents": {string(agent[:]): message(&catalogpb.Agent{Id: agent[:], Name: "db1", State: catalogpb.AgentState_AGENT_STATE_ACTIVE,
			Labels: map[string]string{"env": "prod"}})},
		"agents.name": {"db1": agent[:]},
		"inventory":   {}, "tokens": {}, "tokens.time": {}, "clusters": {},
		"instances":      {string(instance[:]): message(&catalogpb.Instance{Id: instance[:], Agent: agent[:], AgentName: "db1", Name: "main", Incarnation: 1})},
		"instances.name": {"db1/main": instance[:]},
		"operators":      {"admin": message(&catalogpb.Operator{Name: "admin", Role: catalogpb.Role_ROLE_ADMIN})},
		"jobs": {string(job[:]): message(&catalogpb.Job{Id: job[:], Kind: catalogpb.JobKind_JOB_KIND_BACKUP, State: catalogpb.JobState_JOB_STATE_RUNNING,
			Instance: instance[:], InstanceName: "db1/main", Agent: agent[:], Work: &catalogpb.Job_Backup{Backup: &catalogpb.BackupSpec{}},
			Current: &catalogpb.Fence{Epoch: 4, Counter: 17}})},
		"jobs.time":     {string(inverted) + string(job[:]): {}},
		"jobs.state":    {"\x03" + string(be(0)) + string(job[:]): {}},
		"jobs.instance": {string(instance[:]) + string(inverted) + string(job[:]): {}},
		"attempts": {string(job[:]) + string(be(4)) + string(be(17)): message(&catalogpb.Attempt{Job: job[:], Fence: &catalogpb.Fence{Epoch: 4, Counter: 17},
			Agent: agent[:], State: catalogpb.AttemptState_ATTEMPT_STATE_RUNNING})},
		"joblogs": {}, "snapshots": {}, "snapshots.time": {}, "snapshots.instance": {}, "packs": {}, "packs.open": {}, "audit": {}, "outbox": {}, "shipping": {},
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		for name, entries := range contents {
			b, err := tx.CreateBucket([]byte(name))
			if err != nil {
				return err
			}
			for k, v := range entries {
				if err := b.Put([]byte(k), v); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	return agent, instance, job
}

func TestAFileOfTheFirstVersionIsReadAndWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "catalog.db")
	agent, instance, job := writeV1(t, path)
	c, err := catalog.Open(t.Context(), path, catalog.Options{Detached: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	view(t, c, func(tx *catalog.Tx) error {
		m, err := tx.Meta()
		if err != nil || m.Name != "old" || m.Epoch != 4 {
			t.Errorf("meta %+v, %v", m, err)
		}
		if a, err := tx.FindAgent("db1"); err != nil || a.ID != agent || a.Labels["env"] != "prod" {
			t.Errorf("agent %+v, %v", a, err)
		}
		if i, err := tx.FindInstance("main"); err != nil || i.ID != instance {
			t.Errorf("instance %+v, %v", i, err)
		}
		if o, err := tx.Operator("admin"); err != nil || o.Role != catalog.RoleAdmin {
			t.Errorf("operator %+v, %v", o, err)
		}
		n := 0
		for j, err := range tx.JobsIn(catalog.JobRunning) {
			if err != nil || j.ID != job {
				t.Errorf("job %+v, %v", j, err)
			}
			n++
		}
		for _, filter := range []catalog.JobFilter{{}, {Instance: instance}} {
			if list, _, err := tx.Jobs(catalog.Page{}, filter); err != nil || len(list) != 1 {
				t.Errorf("jobs %v, %v", list, err)
			}
		}
		if as, err := tx.Attempts(job, 5); n != 1 || err != nil || len(as) != 1 {
			t.Errorf("%d jobs, attempts %v, %v", n, as, err)
		}
		return nil
	})
	update(t, c, func(tx *catalog.Tx) error {
		f, err := tx.NextFence()
		if f != (repo.Fence{Epoch: 4, Counter: 18}) {
			t.Errorf("fence %s", f)
		}
		return err
	})
}

func TestMigrationsRunOnceInOrderBehindACopy(t *testing.T) {
	path := filepath.Join(t.TempDir(), "catalog.db")
	writeV1(t, path)
	const first = catalog.SchemaVersion // of those made up here, behind the real ones
	var ran []uint32
	broken := errors.New("power cut")
	step := func(fail uint32) func(uint32, *bbolt.Tx) error {
		return func(from uint32, tx *bbolt.Tx) error {
			if from == fail {
				return broken
			}
			ran = append(ran, from)
			return tx.Bucket([]byte("meta")).Put(fmt.Appendf(nil, "step %d", from), []byte{1})
		}
	}
	if _, err := catalog.OpenWith(t.Context(), path, first+3, step(first+1)); !errors.Is(err, broken) {
		t.Fatalf("a failed step: %v", err)
	}
	c, err := catalog.OpenWith(t.Context(), path, first+3, step(0))
	if err != nil {
		t.Fatal(err)
	}
	view(t, c, func(tx *catalog.Tx) error {
		for _, from := range []int{first, first + 1, first + 2} {
			if tx.Bolt().Bucket([]byte("meta")).Get(fmt.Appendf(nil, "step %d", from)) == nil {
				t.Errorf("step from %d left no trace", from)
			}
		}
		return nil
	})
	if err := c.Close(); err != nil || fmt.Sprint(ran) != fmt.Sprint([]uint32{first, first + 1, first + 2}) {
		t.Errorf("steps %v, %v", ran, err)
	}
	// The copy is the file as it was.
	old, err := catalog.Open(t.Context(), path+".v1", catalog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	_ = old.Close()
	_, err = catalog.Open(t.Context(), path, catalog.Options{})
	wants(t, err, errs.Unsupported, fmt.Sprintf("newer version (schema %d, this program knows %d)", first+3, first))
}

func TestAFileThatIsNoCatalogIsRefusedWithItsReason(t *testing.T) {
	dir := t.TempDir()
	good := filepath.Join(dir, "good.db")
	writeV1(t, good)
	whole, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	files := 0
	write := func(b []byte) string {
		files++
		path := filepath.Join(dir, fmt.Sprintf("bad%d.db", files))
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	_, err = catalog.Open(t.Context(), filepath.Join(dir, "missing.db"), catalog.Options{})
	wants(t, err, errs.NotFound, "missing.db")
	for name, b := range map[string][]byte{"empty": {}, "rubbish": make([]byte, 65536), "text": []byte("not a catalog"), "cut": whole[:len(whole)/2]} {
		_, err := catalog.Open(t.Context(), write(b), catalog.Options{})
		if errs.KindOf(err) != errs.Corrupt {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Damage in any page that holds records is found when the file is opened, or
	// else does not touch what is read.
	page := os.Getpagesize()
	refused := 0
	for at := 2 * page; at < len(whole); at += page {
		b := append([]byte(nil), whole...)
		for i := at; i < at+64; i++ {
			b[i] ^= 0xff
		}
		c, err := catalog.Open(t.Context(), write(b), catalog.Options{})
		switch {
		case err == nil:
			_ = c.Close()
		case errs.KindOf(err) == errs.Corrupt:
			refused++
		default:
			t.Errorf("page %d: %v", at/page, err)
		}
	}
	if refused == 0 {
		t.Error("no damaged page was noticed")
	}
}

func TestAnOpenFileIsBusyAndANewOneReplacesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "catalog.db")
	c, err := catalog.Create(t.Context(), path, catalog.Meta{}, catalog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = catalog.Open(t.Context(), path, catalog.Options{})
	wants(t, err, errs.Busy, "another process has it open")
	_, err = catalog.Create(t.Context(), path, catalog.Meta{}, catalog.Options{})
	wants(t, err, errs.Exists, path)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	wants(t, c.Update(t.Context(), catalog.Local, func(*catalog.Tx) error { return nil }), errs.Unavailable, "closed")
	wants(t, c.View(t.Context(), func(*catalog.Tx) error { return nil }), errs.Unavailable, "closed")
	// What an interrupted Create left is no obstacle.
	half := filepath.Join(t.TempDir(), "catalog.db")
	if err := os.WriteFile(half+".part", []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err = catalog.Create(t.Context(), half, catalog.Meta{Created: time.Now()}, catalog.Options{}); err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
}
