package e2e_test

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tuskvault/tuskvault/e2e/dataset"
	"github.com/tuskvault/tuskvault/e2e/faultfs"
	"github.com/tuskvault/tuskvault/e2e/harness"
	"github.com/tuskvault/tuskvault/internal/pgtest"
)

// machine is a controller whose state folder and store are on a disk that can
// lose its power and fail; the agent is on another machine.
type machine struct {
	*harness.System
	t      *testing.T
	disk   *faultfs.Disk
	pg     *pgtest.Server
	rng    *rand.Rand
	config string
}

func newMachine(t *testing.T, settings string) *machine {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can mount")
	}
	m := &machine{t: t, rng: seeded(t), pg: pgtest.Start(t, pgtest.Options{})}
	at := filepath.Join(t.TempDir(), "disk")
	must(t, os.Mkdir(at, 0o700))
	var err error
	if m.disk, err = faultfs.Mount(at, rand.New(rand.NewPCG(m.rng.Uint64(), 1))); err != nil {
		cannotMount(t, err)
	}
	t.Cleanup(func() { must(t, m.disk.Unmount()) })
	m.System = system(t)
	m.State, m.Store = filepath.Join(at, "controller"), "file://"+filepath.Join(at, "store")
	m.config = filepath.Join(m.Dir, "controller.yaml")
	must(t, os.WriteFile(m.config, []byte(settings), 0o600))
	must(t, m.Init(t.Context()))
	m.start()
	must(t, m.Enroll(t.Context(), "db1", m.pg.Env("postgres")))
	sql(t, m.pg, "postgres", "CREATE DATABASE shop")
	must(t, dataset.Fill(t.Context(), m.pg.URL("shop"), 0.05))
	return m
}

func (m *machine) start() {
	m.t.Helper()
	must(m.t, m.StartController(m.t.Context(), "--config", m.config))
}

// lose cuts the power, now, and brings the machine up again.
func (m *machine) lose() {
	m.t.Helper()
	m.disk.Lose()
	must(m.t, m.Controller.Kill())
	must(m.t, m.disk.Restart())
	m.start()
	must(m.t, m.Online(m.t.Context(), "db1/main"))
}

func (m *machine) restores(snapshot, target string, want map[string]string) {
	m.t.Helper()
	ok(m.t, m.System, "restore", snapshot, "--to", "db1/main", "--database", "shop="+target, "--wait")
	if d := cmp.Diff(want, digests(m.t, m.pg, target)); d != "" {
		m.t.Fatalf("%s, restored as %s: %s", snapshot, target, d)
	}
	sql(m.t, m.pg, "postgres", "DROP DATABASE "+target)
}

// TestAPowerLossOfTheControllersMachineLosesNothing cuts the power of state folder
// and store at random moments of backups, and keeps of what was not fsynced what
// chance will. Whatever tuskctl had said before is still so: jobs that were begun
// end well, snapshots that were reported are restored. Catalog file, index cache
// and store are all on that disk.
func TestAPowerLossOfTheControllersMachineLosesNothing(t *testing.T) {
	losses := 2
	if long() {
		losses = 60
	}
	if s := os.Getenv("TUSKVAULT_LOSSES"); s != "" {
		var err error
		losses, err = strconv.Atoi(s)
		must(t, err)
	}
	m := newMachine(t, quick)
	reported := map[string]bool{}
	before := m.disk.Changes()
	reported[backup(t, m.System, "--database", "shop")] = true
	usual := m.disk.Changes() - before
	sectors, names := 0, 0
	for i := range losses {
		must(t, dataset.Change(t.Context(), m.pg.URL("shop"), 0.05))
		want := digests(t, m.pg, "shop")
		lost := m.disk.LoseAfter(1 + m.rng.IntN(usual))
		if i%3 == 2 { // fsyncs have failed before, which is another kind of doubt
			m.disk.Fail(func(op faultfs.Op, _ string) syscall.Errno {
				if op == faultfs.OpFsync && m.rng.IntN(8) == 0 { // called under the disk's lock
					return syscall.EIO
				}
				return 0
			})
		}
		var v jobs
		id := ""
		if r := m.Ctl(t.Context(), "backup", "db1/main", "--database", "shop", "-o", "json"); r.Code == 0 {
			must(t, json.Unmarshal([]byte(r.Stdout), &v))
			id = v.Jobs[0].ID
			watched := make(chan harness.Result, 1)
			go func() { watched <- m.Ctl(t.Context(), "job", "watch", id) }()
			select {
			case <-lost:
			case r := <-watched: // it ended before, or fsyncs failed it
				if r.Code == 0 {
					reported[id] = true
				}
			}
		}
		m.disk.Lose()
		s, n := m.disk.Dirty()
		sectors, names = sectors+s, names+n
		m.lose()
		if id == "" { // not even the job was acknowledged
			id = backup(t, m.System, "--database", "shop")
		} else if r := m.Ctl(t.Context(), "job", "watch", id); r.Code != 0 {
			if reported[id] || i%3 != 2 {
				t.Fatalf("loss %d: %v", i, r.Err())
			}
			id = backup(t, m.System, "--database", "shop")
		}
		reported[id] = true
		m.restores(id, "again", want)
		list := ok(t, m.System, "snapshot", "ls", "-o", "name")
		for id := range reported {
			if !strings.Contains(list, id) {
				t.Fatalf("loss %d: snapshot %s is gone", i, id)
			}
		}
	}
	ok(t, m.System, "repo", "check", "--read-data")
	t.Logf("%d losses, in which %d sectors and %d names were in doubt; a backup changes or syncs %d times", losses, sectors, names, usual)
}

// TestAFailingDiskFailsBackupsInItsWordsAndLosesNothing makes calls on the store's
// disk fail with EIO.
func TestAFailingDiskFailsBackupsInItsWordsAndLosesNothing(t *testing.T) {
	m := newMachine(t, "jobs:\n  attempts: 1\n")
	want := digests(t, m.pg, "shop")
	first := backup(t, m.System, "--database", "shop")
	eio := func(op faultfs.Op, below string) func(faultfs.Op, string) syscall.Errno {
		return func(o faultfs.Op, path string) syscall.Errno {
			if o == op && strings.HasPrefix(path, below) {
				return syscall.EIO
			}
			return 0
		}
	}
	for _, op := range []faultfs.Op{faultfs.OpWrite, faultfs.OpFsync, faultfs.OpCreate} {
		must(t, dataset.Change(t.Context(), m.pg.URL("shop"), 0.05))
		m.disk.Fail(eio(op, "store/packs"))
		refused(t, m.System, 6, []string{"input/output error"}, "backup", "db1/main", "--database", "shop", "--wait")
		if m.disk.Failed() == 0 {
			t.Errorf("no %s has failed", op)
		}
		m.restores(first, "meanwhile", want)
		m.disk.Fail(nil)
	}
	m.disk.Fail(eio(faultfs.OpRead, "store/packs"))
	// The system's cache would answer: the controller starts on a cold one.
	must(t, m.Controller.Kill())
	must(t, errors.Join(os.WriteFile("/proc/sys/vm/drop_caches", []byte("1"), 0)))
	m.start()
	must(t, m.Online(t.Context(), "db1/main"))
	refused(t, m.System, 6, []string{"input/output error"}, "restore", first, "--to", "db1/main", "--database", "shop=unread", "--wait")
	refused(t, m.System, 7, []string{"input/output error"}, "repo", "check", "--read-data")
	if n := value(t, m.pg.URL("postgres"), "SELECT count(*)::text FROM pg_database WHERE datname = 'unread' OR datname LIKE 'tuskvault%'"); n != "0" {
		t.Errorf("%s databases were left behind", n)
	}
	m.disk.Fail(nil)
	// Afterwards everything works, and nothing was taken for stored that is not.
	m.restores(first, "again", want)
	want = digests(t, m.pg, "shop")
	second := backup(t, m.System, "--database", "shop")
	m.lose()
	m.restores(second, "after", want)
	ok(t, m.System, "repo", "check", "--read-data")
}
