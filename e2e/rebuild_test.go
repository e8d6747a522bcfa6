package e2e_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tuskvault/tuskvault/e2e/dataset"
	"github.com/tuskvault/tuskvault/e2e/harness"
	"github.com/tuskvault/tuskvault/internal/pgtest"
)

// disaster is a system of which parts are lost.
type disaster struct {
	*harness.System
	t   *testing.T
	pg  *pgtest.Server
	key string // copy of the key, kept elsewhere
	// config makes heartbeats, and with them witnesses, come each second.
	config string
}

func newDisaster(t *testing.T) *disaster {
	t.Helper()
	d := &disaster{System: system(t), t: t, pg: pgtest.Start(t, pgtest.Options{})}
	d.config = filepath.Join(d.Dir, "controller.yaml")
	must(t, os.WriteFile(d.config, []byte(quick), 0o600))
	must(t, d.Init(t.Context()))
	d.key = filepath.Join(d.Dir, "key")
	text, err := os.ReadFile(filepath.Join(d.ControllerDir(), "unlock.key"))
	must(t, err)
	must(t, os.WriteFile(d.key, text, 0o600))
	must(t, d.StartController(t.Context(), "--config", d.config))
	must(t, d.Enroll(t.Context(), "db1", d.pg.Env("postgres")))
	sql(t, d.pg, "postgres", "CREATE DATABASE shop")
	must(t, dataset.Fill(t.Context(), d.pg.URL("shop"), 0.05))
	return d
}

// lose kills the controller and removes its state folder.
func (d *disaster) lose() {
	d.t.Helper()
	must(d.t, d.Controller.Kill())
	must(d.t, os.RemoveAll(d.ControllerDir()))
}

// rebuild makes the controller again and wants words in what it says.
func (d *disaster) rebuild(words ...string) {
	d.t.Helper()
	r := d.Rebuild(d.t.Context(), "file:"+d.key)
	must(d.t, r.Err())
	for _, w := range words {
		if !strings.Contains(r.Stderr, w) {
			d.t.Errorf("rebuild does not say %q:\n%s", w, r.Stderr)
		}
	}
}

// returns starts the controller and waits until the agent, untouched, is back.
func (d *disaster) returns() {
	d.t.Helper()
	must(d.t, d.StartController(d.t.Context(), "--config", d.config))
	must(d.t, d.Online(d.t.Context(), "db1/main"))
}

// restores restores a snapshot and compares.
func (d *disaster) restores(snapshot, target string, want map[string]string) {
	d.t.Helper()
	ok(d.t, d.System, "restore", snapshot, "--to", "db1/main", "--database", "shop="+target, "--wait")
	if diff := cmp.Diff(want, digests(d.t, d.pg, target)); diff != "" {
		d.t.Errorf("restored %s: %s", target, diff)
	}
	sql(d.t, d.pg, "postgres", "DROP DATABASE "+target)
}

// says waits until status has the words.
func (d *disaster) says(words string) {
	d.t.Helper()
	must(d.t, d.Eventually(d.t.Context(), "status says "+words, d.Controller, func() (bool, error) {
		return strings.Contains(d.Ctl(d.t.Context(), "status").Stdout, words), nil
	}))
}

// objects lists the store.
func (d *disaster) objects() (keys []string) {
	d.t.Helper()
	must(d.t, filepath.WalkDir(d.StoreDir(), func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			keys = append(keys, strings.TrimPrefix(path, d.StoreDir()))
		}
		return err
	}))
	return keys
}

// records lists the catalog log in the store.
func (d *disaster) records() []string {
	return slices.DeleteFunc(d.objects(), func(k string) bool { return !strings.HasSuffix(k, ".log") })
}

func TestALostControllerIsMadeAgainFromStoreAndKey(t *testing.T) {
	d := newDisaster(t)
	want := digests(t, d.pg, "shop")
	first := backup(t, d.System, "--database", "shop")
	ok(t, d.System, "agent", "label", "db1", "env=prod")
	token := strings.TrimSpace(ok(t, d.System, "agent", "token", "create", "--name", "db2", "-o", "name"))
	old := filepath.Join(d.Dir, "old-context.yaml")
	text, err := os.ReadFile(filepath.Join(d.ControllerDir(), "admin-context.yaml"))
	must(t, err)
	must(t, os.WriteFile(old, text, 0o600))
	must(t, dataset.Change(t.Context(), d.pg.URL("shop"), 0.05))
	wantSecond := digests(t, d.pg, "shop")
	second := backup(t, d.System, "--database", "shop")
	// What the catalog says of the second backup is not in the store yet: the log is
	// some records behind the objects.
	d.lose()

	before := d.objects()
	wrong := filepath.Join(d.Dir, "wrong")
	must(t, os.WriteFile(wrong, []byte("not the passphrase"), 0o600))
	r := d.Rebuild(t.Context(), "file:"+wrong)
	if r.Code != 4 || !strings.Contains(r.Stderr, "nothing was written") {
		t.Errorf("with a wrong key: exit code %d\n%s", r.Code, r.Stderr)
	}
	if diff := cmp.Diff(before, d.objects()); diff != "" {
		t.Errorf("a wrong key changed the store: %s", diff)
	}

	start := time.Now()
	d.rebuild("1 agents, 1 instances", "snapshots  2,", "1 join tokens", "deletion   is paused")
	made := time.Since(start)
	d.returns()
	back := time.Since(start)
	d.restores(second, "again2", wantSecond)
	t.Logf("from store and key to a restored database: %s, of which %s rebuild, %s until the agent was back by itself",
		time.Since(start).Round(time.Millisecond), made.Round(time.Millisecond), (back - made).Round(time.Millisecond))
	d.restores(first, "again1", want)
	if j := job(t, d.System, first); j.State != "JOB_STATE_SUCCEEDED" {
		t.Errorf("job of the first backup: %+v", j)
	}
	// The second job is as known as the log was shipped; if it is, it has ended well.
	if d.Ctl(t.Context(), "job", "show", second).Code == 0 {
		must(t, d.Ctl(t.Context(), "job", "watch", second).Err())
	}
	if out := ok(t, d.System, "agent", "show", "db1"); !strings.Contains(out, "env=prod") {
		t.Errorf("labels are gone:\n%s", out)
	}
	if r := d.CtlAs(t.Context(), old, "status"); r.Code != 4 {
		t.Errorf("an admin's context of before: exit code %d\n%s", r.Code, r.Stderr)
	}
	must(t, d.StartAgent(t.Context(), "db2", token, d.pg.Env("postgres")))
	if code, err := d.Agents["db2"].Wait(t.Context()); err != nil || code == 0 || !strings.Contains(d.Agents["db2"].Tail(), "expired") {
		t.Errorf("a token of before: exit code %d, %v\n%s", code, err, d.Agents["db2"].Tail())
	}
	delete(d.Agents, "db2")
	// New seal keys and a new master key; what was sealed under the old ones is still
	// read, and the catalog made again (below).
	ok(t, d.System, "repo", "key", "rotate", "--seal-keys")
	ok(t, d.System, "repo", "key", "rotate", "--yes")
	backup(t, d.System, "--database", "shop")
	d.says("deletion is paused: the catalog was made again")
	refused(t, d.System, 2, []string{"the catalog was made again from the store", "--yes"}, "repo", "resume-deletion")
	ok(t, d.System, "repo", "resume-deletion", "--yes")
	if out := ok(t, d.System, "status"); strings.Contains(out, "paused") {
		t.Errorf("status after resume-deletion:\n%s", out)
	}

	// Again, in the same folder: refused. Elsewhere: the same once more, and what the
	// first rebuild made is as lost as what init had made.
	if r := d.Rebuild(t.Context(), "file:"+d.key); r.Code == 0 {
		t.Error("rebuild in the folder of a controller")
	}
	// That a snapshot is to go, and is held, no object says: the log has it before the
	// command returns.
	ok(t, d.System, "snapshot", "hold", second, "--until", "90d", "--reason", "audit")
	refused(t, d.System, 9, []string{"is held until", "tuskctl snapshot release"}, "snapshot", "forget", second, "--yes")
	ok(t, d.System, "snapshot", "forget", first, "--yes", "--reason", "old")
	d.lose()
	d.rebuild("1 agents, 1 instances", "snapshots  3,")
	d.returns()
	if out := ok(t, d.System, "snapshot", "ls"); !strings.Contains(out, "complete, forgotten, purge in 71h") || !strings.Contains(out, "complete, held until ") {
		t.Errorf("after a rebuild:\n%s", out)
	}
	if out := ok(t, d.System, "snapshot", "diff", first, second); !strings.Contains(out, "changed") {
		t.Errorf("compared:\n%s", out)
	}
	d.restores(first, "thrice", want) // a forgotten one is there until it is purged
	ok(t, d.System, "snapshot", "unforget", first)
	d.says("deletion is paused")
}

func TestARecoverySheetMakesTheControllerAgain(t *testing.T) {
	s := system(t)
	must(t, s.Init(t.Context()))
	must(t, s.StartController(t.Context()))
	const nag = "one key alone opens the repository"
	if out := ok(t, s, "status"); !strings.Contains(out, nag) {
		t.Errorf("status with one key:\n%s", out)
	}
	path := filepath.Join(s.Dir, "sheet.txt")
	ok(t, s, "repo", "key", "export", "--file", path)
	refused(t, s, 9, []string{"already exists"}, "repo", "key", "export", "--file", path)
	refused(t, s, 2, []string{"--file"}, "repo", "key", "export", "-o", "json")
	info, err := os.Stat(path)
	must(t, err)
	text, err := os.ReadFile(path)
	must(t, err)
	if info.Mode().Perm() != 0o600 || !strings.Contains(string(text), s.StoreDir()) {
		t.Errorf("sheet, mode %s:\n%s", info.Mode(), text)
	}
	if out := ok(t, s, "status"); !strings.Contains(out, nag) {
		t.Errorf("status before anybody has the sheet:\n%s", out)
	}
	refused(t, s, 3, []string{"no sheet of this repository has that word"}, "repo", "key", "confirm", "babab-babab")
	_, word, _ := strings.Cut(string(text), "repo key confirm ")
	ok(t, s, "repo", "key", "confirm", strings.TrimSpace(word))
	if out := ok(t, s, "status"); strings.Contains(out, nag) {
		t.Errorf("status with a confirmed sheet:\n%s", out)
	}
	t.Setenv("REPOSITORY_PASSPHRASE", "correct horse battery staple")
	ok(t, s, "repo", "key", "add", "--name", "phrase", "--passphrase", "env:REPOSITORY_PASSPHRASE")
	t.Setenv("SHORT", "horse")
	refused(t, s, 2, []string{"at least 12"}, "repo", "key", "add", "--passphrase", "env:SHORT")
	refused(t, s, 2, []string{"no terminal"}, "repo", "key", "add")
	ok(t, s, "repo", "key", "add", "--name", "team", "--age", "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj")
	refused(t, s, 2, []string{"age recipient"}, "repo", "key", "add", "--age", "age1nonsense")
	var keys struct {
		Keys []struct {
			ID, Name, Kind string
			InUse          bool `json:"in_use"`
		}
	}
	must(t, s.JSON(t.Context(), &keys, "repo", "key", "ls"))
	byName := map[string]string{}
	for _, k := range keys.Keys {
		byName[k.Name] = k.ID
	}
	if len(byName) != 4 {
		t.Fatalf("keys %+v", keys)
	}
	refused(t, s, 9, []string{"this controller opens the repository with it"}, "repo", "key", "rm", byName["first"], "--yes")
	old, err := os.ReadFile(filepath.Join(s.ControllerDir(), "unlock.key"))
	must(t, err)
	first := filepath.Join(s.Dir, "first.key")
	must(t, os.WriteFile(first, old, 0o600))

	// Controller and key file are lost; paper is left.
	must(t, s.Controller.Kill())
	must(t, os.RemoveAll(s.ControllerDir()))
	typed := strings.ToUpper(string(text))
	mistyped := filepath.Join(s.Dir, "mistyped")
	must(t, os.WriteFile(mistyped, []byte(strings.Replace(typed, " 3  ", " 3  B", 1)), 0o600))
	if r := s.Rebuild(t.Context(), "file:"+mistyped); r.Code != 2 || !strings.Contains(r.Stderr, "row 3") {
		t.Errorf("a mistyped sheet: exit code %d\n%s", r.Code, r.Stderr)
	}
	must(t, os.WriteFile(path, []byte(typed), 0o600))
	must(t, s.Rebuild(t.Context(), "file:"+path).Err())
	must(t, s.StartController(t.Context()))
	// What the old key opened, it opens no more.
	refused(t, s, 9, []string{"deletion is paused"}, "repo", "key", "rm", byName["first"], "--yes")
	ok(t, s, "repo", "resume-deletion", "--yes")
	ok(t, s, "repo", "key", "rm", byName["first"][:8], "--yes")
	_, err = s.Controller.Stop(t.Context())
	must(t, err)
	s.State = filepath.Join(s.Dir, "second")
	if r := s.Rebuild(t.Context(), "file:"+first); r.Code != 4 {
		t.Errorf("a removed key: exit code %d\n%s", r.Code, r.Stderr)
	}
	must(t, s.Rebuild(t.Context(), "env:REPOSITORY_PASSPHRASE").Err())
}

func TestAnOldControllerOnTheSameStoreStopsItself(t *testing.T) {
	d := newDisaster(t)
	want := digests(t, d.pg, "shop")
	first := backup(t, d.System, "--database", "shop")
	old := d.Controller
	d.State = filepath.Join(d.Dir, "other")
	d.rebuild("1 agents")
	code, err := old.Wait(t.Context())
	must(t, err)
	if tail := old.Tail(); code != 9 || !strings.Contains(tail, "another controller (epoch 2) has taken over") || !strings.Contains(tail, "hint: this controller has stopped") {
		t.Errorf("the old controller: exit code %d\n%s", code, tail)
	}
	n := len(d.records())
	// The new one takes the old one's address, and with it its agents.
	d.returns()
	d.restores(first, "again", want)
	// The old one does not come back either.
	late, err := harness.New(d.Bin, t.TempDir())
	must(t, err)
	late.State = filepath.Join(d.Dir, "controller")
	if err := late.StartController(t.Context(), "--listen", late.Addr); err == nil || !strings.Contains(late.Controller.Tail(), "has taken over") {
		t.Errorf("the old controller started again: %v\n%s", err, late.Controller.Tail())
	}
	if len(d.records()) < n {
		t.Error("records of the log are gone")
	}
}

func TestAStoreThatWasRolledBackIsNoticed(t *testing.T) {
	d := newDisaster(t)
	want := digests(t, d.pg, "shop")
	first := backup(t, d.System, "--database", "shop")
	must(t, d.Eventually(t.Context(), "the log has the first backup", d.Controller, func() (bool, error) {
		var v struct {
			Lag string `json:"catalog_export_lag"`
		}
		err := d.JSON(t.Context(), &v, "status")
		return v.Lag == "" || v.Lag == "0s", err
	}))
	saved := filepath.Join(d.Dir, "saved")
	must(t, os.CopyFS(saved, os.DirFS(d.StoreDir())))
	rollBack := func() {
		t.Helper()
		must(t, os.RemoveAll(d.StoreDir()))
		must(t, os.CopyFS(d.StoreDir(), os.DirFS(saved)))
	}
	must(t, dataset.Change(t.Context(), d.pg.URL("shop"), 0.05))
	wantSecond := digests(t, d.pg, "shop")
	second := backup(t, d.System, "--database", "shop")

	// The store is set back under a controller that knows more.
	_, err := d.Controller.Stop(t.Context())
	must(t, err)
	rollBack()
	d.returns()
	d.says("the store was rolled back")
	refused(t, d.System, 3, nil, "snapshot", "show", second)
	d.restores(first, "again", want)
	third := backup(t, d.System, "--database", "shop")
	d.restores(third, "third", wantSecond)

	// The controller is lost too: its log begins again at the full record with which
	// it went on, so nothing is lost; what agents saw of the store fits.
	d.lose()
	d.rebuild("snapshots  2,")
	d.returns()
	d.restores(third, "third", wantSecond)

	// Both are set back: only the agent knows.
	d.lose()
	rollBack()
	d.rebuild("snapshots  1,")
	d.returns()
	d.says("agent db1 has seen")
	d.restores(first, "again", want)
	fourth := backup(t, d.System, "--database", "shop")
	d.restores(fourth, "fourth", wantSecond)
	ok(t, d.System, "repo", "resume-deletion", "--yes")
	if out := ok(t, d.System, "status"); strings.Contains(out, "paused") {
		t.Errorf("status after resume-deletion:\n%s", out)
	}
}
