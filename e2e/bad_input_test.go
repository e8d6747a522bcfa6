package e2e_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/tuskvault/tuskvault/e2e/harness"
	"github.com/tuskvault/tuskvault/internal/pgtest"
)

// program runs a program to its end and gives what it said and its exit code.
func program(t *testing.T, env []string, name string, args ...string) (string, int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// says wants words in a text.
func says(t *testing.T, what, text string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("%s: %q is not said:\n%s", what, w, text)
		}
	}
}

func TestWrongConnectionsSayWhyAndWhatToDo(t *testing.T) {
	pg := pgtest.Start(t, pgtest.Options{Password: "right"})
	s := system(t)
	must(t, errors.Join(s.Init(t.Context()), s.StartController(t.Context())))
	token := strings.TrimSpace(ok(t, s, "agent", "token", "create", "-o", "name"))
	env := append(pg.Env("postgres"), "PGPASSWORD=wrong")
	must(t, s.StartAgent(t.Context(), "db1", token, env))
	must(t, s.Eventually(t.Context(), "the instance is known", s.Agents["db1"], func() (bool, error) {
		return s.Ctl(t.Context(), "instance", "show", "db1/main").Code == 0, nil
	}))
	out := ok(t, s, "instance", "show", "db1/main")
	says(t, "instance show", out, "password authentication failed")
	refused(t, s, 6, []string{"password authentication failed"}, "backup", "db1/main", "--wait")

	_, err := s.Agents["db1"].Stop(t.Context())
	must(t, err)
	must(t, s.StartAgent(t.Context(), "db1", "", pg.Env("postgres")))
	must(t, s.Online(t.Context(), "db1/main"))
	refused(t, s, 6, []string{"nosuch"}, "backup", "db1/main", "--database", "nosuch", "--wait")
	must(t, pg.Stop())
	refused(t, s, 6, []string{"connect"}, "backup", "db1/main", "--wait")
}

func TestARoleThatCannotReadEverythingIsToldEachGrant(t *testing.T) {
	pg := pgtest.Start(t, pgtest.Options{})
	sql(t, pg, "postgres", "CREATE DATABASE shop", "CREATE ROLE tuskvault LOGIN")
	sql(t, pg, "shop", "CREATE SCHEMA s; CREATE TABLE s.secrets (a int); INSERT INTO s.secrets VALUES (1); CREATE TABLE rls (a int); ALTER TABLE rls ENABLE ROW LEVEL SECURITY; INSERT INTO rls VALUES (1)")
	env := append(pg.Env("postgres"), "PGUSER=tuskvault")
	s := system(t)
	must(t, errors.Join(s.Init(t.Context()), s.StartController(t.Context()), s.Enroll(t.Context(), "db1", env)))
	refused(t, s, 6, []string{"s.secrets", "GRANT"}, "backup", "db1/main", "--database", "shop", "--wait")
	out, code := program(t, env, s.Bin.Agent, "doctor", "--state-dir", s.AgentDir("db1"))
	says(t, "doctor", out, "secrets", "GRANT")
	if code == 0 {
		t.Errorf("doctor found nothing wrong:\n%s", out)
	}

	sql(t, pg, "postgres", "GRANT pg_read_all_data, pg_monitor TO tuskvault")
	refused(t, s, 6, []string{"rls", "BYPASSRLS"}, "backup", "db1/main", "--database", "shop", "--wait")
	sql(t, pg, "postgres", "ALTER ROLE tuskvault BYPASSRLS")
	ok(t, s, "backup", "db1/main", "--database", "shop", "--wait")
	if out, code := program(t, env, s.Bin.Agent, "doctor", "--state-dir", s.AgentDir("db1")); code != 0 {
		t.Errorf("doctor still complains:\n%s", out)
	}
}

func TestTokensWorkOnceAndOnlyAsMade(t *testing.T) {
	pg := shared.Server(t)
	s := running(t, pg)
	enroll := func(name, token string) (string, int) {
		return program(t, append(pg.Env("postgres"), "TUSKVAULT_TOKEN="+token), s.Bin.Agent, "run", "--state-dir", filepath.Join(s.Dir, "x-"+name), "--name", name, "--controller", s.Addr)
	}
	used := strings.TrimSpace(ok(t, s, "agent", "token", "create", "--name", "db2", "-o", "name"))
	must(t, s.StartAgent(t.Context(), "db2", used, pg.Env("postgres")))
	must(t, s.Online(t.Context(), "db2/main"))
	for _, c := range []struct{ name, token, says string }{
		{"db3", used, "used"},
		{"db3", "tv1.000000000000." + strings.SplitN(used, ".", 4)[2] + "." + strings.SplitN(used, ".", 4)[3], "token"},
		{"db3", "nonsense", "token"},
		{"db1", strings.TrimSpace(ok(t, s, "agent", "token", "create", "-o", "name")), "tuskctl agent replace"},
		{"db4", strings.TrimSpace(ok(t, s, "agent", "token", "create", "--name", "db5", "-o", "name")), "another name"},
	} {
		out, code := enroll(c.name, c.token)
		if code == 0 {
			t.Errorf("%s: enrolled with %s", c.name, c.token)
		}
		says(t, "enroll "+c.name, out, c.says)
		if strings.Contains(out, strings.SplitN(used, ".", 4)[2]) {
			t.Errorf("the secret is repeated:\n%s", out)
		}
	}
	ok(t, s, "agent", "revoke", "db2", "--yes")
	must(t, s.Eventually(t.Context(), "the revoked agent is cut", nil, func() (bool, error) {
		return strings.Contains(ok(t, s, "agent", "ls"), "revoked"), nil
	}))
	refused(t, s, 9, []string{"revoked"}, "backup", "db2/main", "--wait")
}

func TestConfigurationIsStrict(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Chmod(dir, 0o700))
	config := filepath.Join(dir, "c.yaml")
	must(t, os.WriteFile(config, []byte("lisen: 127.0.0.1:1\n"), 0o600))
	for _, bin := range []string{programs.Controller, programs.Agent} {
		out, code := program(t, nil, bin, "run", "--state-dir", dir, "--config", config)
		if code != 2 {
			t.Errorf("%s: exit code %d, want 2", filepath.Base(bin), code)
		}
		says(t, filepath.Base(bin), out, "lisen", config)
	}
}

func TestInitRefusesToTouchWhatExists(t *testing.T) {
	s := system(t)
	must(t, s.Init(t.Context()))
	before := tree(t, s.Dir)
	if err := s.Init(t.Context()); err == nil {
		t.Error("a second init succeeded")
	} else {
		says(t, "second init", err.Error(), s.ControllerDir())
	}
	if after := tree(t, s.Dir); after != before {
		t.Errorf("the second init changed files:\n%s\n%s", before, after)
	}
}

// tree lists files with sizes and times.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	must(t, filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		i, err := e.Info()
		if err == nil && i.Mode().IsRegular() {
			b.WriteString(p + " " + i.ModTime().String() + "\n")
		}
		return err
	}))
	return b.String()
}

func TestAFullStoreFailsTheBackupWithTheStoresWordsAndLosesNothing(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can mount a small file system")
	}
	pg := shared.Server(t)
	source := filled(t, pg, 0.1)
	small := filepath.Join(t.TempDir(), "small")
	must(t, os.Mkdir(small, 0o700))
	if err := syscall.Mount("tmpfs", small, "tmpfs", 0, "size=12m"); err != nil {
		cannotMount(t, err)
	}
	t.Cleanup(func() { must(t, syscall.Unmount(small, syscall.MNT_DETACH)) })
	s := system(t)
	s.Store = "file://" + filepath.Join(small, "store")
	must(t, errors.Join(s.Init(t.Context()), s.StartController(t.Context()), s.Enroll(t.Context(), "db1", pg.Env("postgres"))))
	sql(t, pg, source, "CREATE TABLE public.little AS SELECT 1 AS x")
	tiny := pg.Database(t)
	sql(t, pg, tiny, "CREATE TABLE little AS SELECT 1 AS x")
	id := backup(t, s, "--database", tiny)
	ballast := filepath.Join(small, "ballast")
	must(t, os.WriteFile(ballast, bytes.Repeat([]byte("x"), 6<<20), 0o600))
	refused(t, s, 6, []string{"no space left"}, "backup", "db1/main", "--database", source, "--wait")
	must(t, os.Remove(ballast))
	new := dropLater(t, pg, tiny+"_new")
	ok(t, s, "restore", id, "--to", "db1/main", "--database", tiny+"="+new, "--wait")
}

// cannotMount skips a test where even root may not mount, unless the tests were
// told to prove everything.
func cannotMount(t *testing.T, err error) {
	t.Helper()
	if os.Getenv("REQUIRE_SERVICES") == "1" {
		t.Fatalf("mount: %v", err)
	}
	t.Skipf("mount: %v", err)
}

func TestAReadOnlyStoreFailsTheBackupAndWhatIsThereIsRestored(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can mount")
	}
	pg := shared.Server(t)
	source := filled(t, pg, 0.01)
	s := running(t, pg)
	id := backup(t, s, "--database", source)
	store := s.StoreDir()
	if err := syscall.Mount(store, store, "", syscall.MS_BIND, ""); err != nil {
		cannotMount(t, err)
	}
	t.Cleanup(func() { must(t, syscall.Unmount(store, syscall.MNT_DETACH)) })
	must(t, syscall.Mount("", store, "", syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
	// The controller has the store open; a mount over it is another folder to it, as
	// it would be after a disk was replaced.
	must(t, s.Controller.Kill())
	must(t, s.StartController(t.Context()))
	must(t, s.Online(t.Context(), "db1/main"))
	sql(t, pg, source, "INSERT INTO shop.events SELECT now(), 'x', '{}' FROM generate_series(1, 1000)")
	refused(t, s, 6, []string{"read-only"}, "backup", "db1/main", "--database", source, "--wait")
	target := dropLater(t, pg, source+"_new")
	ok(t, s, "restore", id, "--to", "db1/main", "--database", source+"="+target, "--wait")
}

// packs lists the packs of a local store.
func packs(t *testing.T, s *harness.System) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(s.StoreDir(), "packs", "*", "*", "*"))
	must(t, err)
	if len(files) == 0 {
		t.Fatal("the store has no packs")
	}
	return files
}

// flip changes one byte in the middle of a file.
func flip(t *testing.T, file string) {
	t.Helper()
	b, err := os.ReadFile(file)
	must(t, err)
	b[len(b)/2] ^= 1
	must(t, os.Chmod(file, 0o600))
	must(t, os.WriteFile(file, b, 0o600))
}

func TestDamageIsNamedAndNothingWrongIsRestored(t *testing.T) {
	pg := shared.Server(t)
	source := filled(t, pg, 0.02)
	s := running(t, pg)
	id := backup(t, s, "--database", source)
	for _, p := range packs(t, s) {
		flip(t, p)
	}
	target := source + "_new"
	refused(t, s, 6, []string{"corrupt"}, "restore", id, "--to", "db1/main", "--database", source+"="+target, "--wait")
	if n := value(t, pg.URL("postgres"), "SELECT count(*)::text FROM pg_database WHERE datname = '"+target+"' OR datname LIKE 'tuskvault%'"); n != "0" {
		t.Errorf("%s databases were left behind", n)
	}
	manifests, err := filepath.Glob(filepath.Join(s.StoreDir(), "snapshots", "*", "*"))
	must(t, err)
	for _, m := range manifests {
		flip(t, m)
	}
	refused(t, s, 7, []string{"corrupt"}, "snapshot", "show", id)
}

func TestAnUnreachableControllerIsExitCode5(t *testing.T) {
	s := system(t)
	must(t, s.Init(t.Context()))
	refused(t, s, 5, []string{"hint:"}, "status", "--timeout", "3s")
}
