package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tuskvault/tuskvault/internal/pgtest"
)

// stock runs one of PostgreSQL's own programs; it must exit 0.
func stock(t *testing.T, pg *pgtest.Server, stdin io.Reader, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(pg.Bin, name), args...)
	cmd.Stdin = stdin
	cmd.Env = append(os.Environ(), pg.Env("postgres")...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// empty makes an empty database.
func empty(t *testing.T, pg *pgtest.Server, name string) string {
	t.Helper()
	sql(t, pg, "postgres", "CREATE DATABASE "+name+" TEMPLATE template0")
	return dropLater(t, pg, name)
}

// same compares a loaded database with its source.
func same(t *testing.T, from *pgtest.Server, source string, to *pgtest.Server, loaded string) {
	t.Helper()
	if d := cmp.Diff(digests(t, from, source), digests(t, to, loaded)); d != "" {
		t.Errorf("rows (-%s +%s): %s", source, loaded, d)
	}
	if d := cmp.Diff(schemaOf(t, from, source), schemaOf(t, to, loaded)); d != "" {
		t.Errorf("schema (-%s +%s): %s", source, loaded, d)
	}
}

// nothingAt wants no trace of an export.
func nothingAt(t *testing.T, path string) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(filepath.Dir(path), "*"+filepath.Base(path)+"*"))
	must(t, err)
	hidden, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".*"+filepath.Base(path)+"*"))
	must(t, err)
	if len(left)+len(hidden) > 0 {
		t.Errorf("left behind: %v %v", left, hidden)
	}
}

// report is what tuskctl prints of an export.
type report struct {
	Databases []struct {
		Name   string `json:"name"`
		Rows   int64  `json:"rows"`
		Tables []struct {
			Name        string `json:"name"`
			Rows        int64  `json:"rows"`
			Fingerprint string `json:"fingerprint"`
			Incomplete  bool   `json:"incomplete"`
		} `json:"tables"`
	} `json:"databases"`
	Problems []struct {
		Object string `json:"object"`
		Reason string `json:"reason"`
	} `json:"problems"`
}

func TestStockToolsLoadWhatIsExported(t *testing.T) {
	pg := shared.Server(t)
	source := filled(t, pg, 0.05)
	s := running(t, pg)
	id := backup(t, s, "--database", source)
	dir := t.TempDir()

	folder := filepath.Join(dir, "folder")
	var r report
	must(t, s.JSON(t.Context(), &r, "snapshot", "export", id, "--database", source, "--output", folder, "--jobs", "3"))
	if len(r.Databases) != 1 || r.Databases[0].Rows == 0 || len(r.Problems) != 0 {
		t.Errorf("report: %+v", r)
	}
	if list := stock(t, pg, nil, "pg_restore", "-l", folder); !strings.Contains(list, "TABLE DATA shop customers") {
		t.Errorf("pg_restore -l: %s", list)
	}
	for _, f := range []string{folder, filepath.Join(folder, "toc.dat")} {
		i, err := os.Stat(f)
		must(t, err)
		if i.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %o", f, i.Mode().Perm())
		}
	}
	restored := empty(t, pg, source+"_d")
	stock(t, pg, nil, "pg_restore", "--exit-on-error", "-j2", "-d", restored, folder)
	same(t, pg, source, pg, restored)

	script := filepath.Join(dir, "plain.sql.gz")
	ok(t, s, "snapshot", "export", "latest", "--database", source, "--format", "plain", "--output", script)
	loaded := empty(t, pg, source+"_p")
	unpacked, err := exec.CommandContext(t.Context(), "gzip", "-dc", script).Output()
	must(t, err)
	stock(t, pg, bytes.NewReader(unpacked), "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", loaded, "-f", "-")
	same(t, pg, source, pg, loaded)

	// Standard output gets the same but for the key of \restrict.
	out := ok(t, s, "snapshot", "export", id[:10], "--database", source, "--format", "plain", "--output", "-")
	if len(out) != len(unpacked) {
		t.Errorf("standard output has %d bytes, the file %d", len(out), len(unpacked))
	}

	before := tree(t, dir)
	refused(t, s, 9, []string{folder, "already", "hint:"}, "snapshot", "export", id, "--database", source, "--output", folder)
	refused(t, s, 9, []string{script, "already"}, "snapshot", "export", id, "--database", source, "--format", "plain", "--output", script)
	refused(t, s, 3, []string{"nosuch"}, "snapshot", "export", id, "--database", "nosuch", "--output", filepath.Join(dir, "x"))
	refused(t, s, 2, []string{"--database"}, "snapshot", "export", id, "--output", filepath.Join(dir, "x"))
	refused(t, s, 2, []string{"folder"}, "snapshot", "export", id, "--database", source, "--output", "-")
	refused(t, s, 3, []string{"no such file"}, "snapshot", "export", id, "--database", source, "--output", filepath.Join(dir, "no", "x"))
	if after := tree(t, dir); after != before {
		t.Errorf("refused exports changed files:\n%s\n%s", before, after)
	}
}

func TestAWholeInstanceIsLoadedByTheCommandsOfItsReadme(t *testing.T) {
	from := pgtest.Start(t, pgtest.Options{})
	odd := "odd \"na'me\" $HOME é;\nx"
	sql(t, from, "postgres", "CREATE ROLE clerk LOGIN PASSWORD 'x' VALID UNTIL '2030-01-01'", `CREATE ROLE "own'er \" NOLOGIN CREATEDB`, `GRANT "own'er \" TO clerk WITH ADMIN OPTION`, "GRANT pg_monitor TO clerk",
		"ALTER ROLE clerk SET work_mem = '9MB'", "COMMENT ON ROLE clerk IS 'it''s a clerk'",
		"CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0",
		`CREATE DATABASE "`+strings.ReplaceAll(odd, `"`, `""`)+`" OWNER "own'er \"`)
	sql(t, from, odd, `CREATE TABLE "t;\! touch /tmp/x" (a int, b text); INSERT INTO "t;\! touch /tmp/x" SELECT i, 'row ' || i FROM generate_series(1, 1000) i; GRANT SELECT ON "t;\! touch /tmp/x" TO clerk`)
	sql(t, from, "latin", `CREATE TABLE "tä" (x text); INSERT INTO "tä" VALUES ('grüße')`, `COMMENT ON TABLE "tä" IS 'für'`)
	sql(t, from, "postgres", `ALTER DATABASE latin SET work_mem = '7MB'`, "ALTER DATABASE latin SET default_transaction_read_only = on", `ALTER ROLE clerk IN DATABASE latin SET statement_timeout = '3s'`,
		"COMMENT ON DATABASE latin IS 'old'", "REVOKE CONNECT ON DATABASE latin FROM PUBLIC", "GRANT CONNECT ON DATABASE latin TO clerk", "ALTER DATABASE latin CONNECTION LIMIT 5")
	s := running(t, from)
	id := backup(t, s)
	for _, format := range []string{"directory", "plain"} {
		t.Run(format, func(t *testing.T) {
			to := pgtest.Start(t, pgtest.Options{})
			out := filepath.Join(t.TempDir(), "all")
			ok(t, s, "snapshot", "export", id, "--all", "--format", format, "--with-passwords", "--output", out)
			var r report
			manifest, err := os.ReadFile(filepath.Join(out, "manifest.json"))
			must(t, err)
			must(t, json.Unmarshal(manifest, &r))
			if len(r.Databases) != 3 {
				t.Errorf("manifest: %s", manifest)
			}
			readme, err := os.ReadFile(filepath.Join(out, "README"))
			must(t, err)
			commands := string(readme)[strings.Index(string(readme), "    psql"):strings.Index(string(readme), "\n\nmanifest.json")]
			cmd := exec.CommandContext(t.Context(), "sh", "-e", "-c", commands)
			cmd.Dir = out
			cmd.Env = append(os.Environ(), append(to.Env("postgres"), "PATH="+to.Bin+":"+os.Getenv("PATH"))...)
			if text, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("the commands of the README: %v\n%s\n%s", err, text, commands)
			}
			for _, db := range []string{odd, "latin"} {
				same(t, from, db, to, db)
			}
			for what, query := range map[string]string{
				"roles":       "SELECT string_agg(rolname || ' ' || rolcanlogin || rolcreatedb || coalesce(rolpassword, '') || coalesce(rolvaliduntil::text, '') || coalesce(shobj_description(oid, 'pg_authid'), ''), ',' ORDER BY rolname) FROM pg_authid WHERE rolname !~ '^pg_'",
				"memberships": "SELECT string_agg(roleid::regrole || ' ' || member::regrole || ' ' || admin_option, ',' ORDER BY roleid::regrole::text) FROM pg_auth_members WHERE member::regrole::text !~ '^pg_'",
				"settings":    "SELECT string_agg(coalesce(d.datname, '') || ' ' || s.setrole::regrole || ' ' || setconfig::text, ',' ORDER BY d.datname, s.setrole) FROM pg_db_role_setting s LEFT JOIN pg_database d ON d.oid = setdatabase",
				"databases":   "SELECT string_agg(datname || ' ' || datdba::regrole || pg_encoding_to_char(encoding) || datcollate || datconnlimit || coalesce((SELECT string_agg(x::text, ' ' ORDER BY x::text) FROM unnest(datacl) x), '') || coalesce(shobj_description(oid, 'pg_database'), ''), ',' ORDER BY datname) FROM pg_database",
			} {
				if want, got := value(t, from.URL("postgres"), query), value(t, to.URL("postgres"), query); want != got || want == "" {
					t.Errorf("%s: source %q, loaded %q", what, want, got)
				}
			}
		})
	}
	globals := ok(t, s, "snapshot", "export", id, "--globals", "--output", "-")
	if strings.Contains(globals, "SCRAM") || !strings.Contains(globals, `CREATE ROLE "clerk"`) {
		t.Errorf("globals without passwords: %s", globals)
	}
	if globals := ok(t, s, "snapshot", "export", id, "--globals", "--with-passwords", "--output", "-"); !strings.Contains(globals, "SCRAM") {
		t.Errorf("globals with passwords: %s", globals)
	}
}

func TestDamageFailsAnExportAndNamesTheTable(t *testing.T) {
	pg := shared.Server(t)
	source := pg.Database(t)
	sql(t, pg, source, "CREATE TABLE whole AS SELECT i, md5(i::text) FROM generate_series(1, 100) i", "CREATE TABLE broken AS SELECT i, repeat(md5(i::text), 30) FROM generate_series(1, 5000) i")
	s := running(t, pg)
	id := backup(t, s, "--database", source)
	// The middle of the largest pack is in the larger table.
	largest, size := "", int64(0)
	for _, p := range packs(t, s) {
		i, err := os.Stat(p)
		must(t, err)
		if i.Size() > size {
			largest, size = p, i.Size()
		}
	}
	flip(t, largest)
	dir := t.TempDir()
	for _, format := range []string{"directory", "plain"} {
		out := filepath.Join(dir, format)
		refused(t, s, 7, []string{"public.broken", "corrupt", "--keep-going"}, "snapshot", "export", id, "--database", source, "--format", format, "--output", out)
		nothingAt(t, out)
		refused(t, s, 7, []string{"public.broken", "incomplete"}, "snapshot", "export", id, "--database", source, "--format", format, "--keep-going", "--output", out)
		loaded := empty(t, pg, source+"_"+format)
		if format == "plain" {
			stock(t, pg, nil, "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", loaded, "-f", out)
		} else {
			stock(t, pg, nil, "pg_restore", "--exit-on-error", "-d", loaded, out)
		}
		// Of the damaged table at most what came before the damage.
		if n := value(t, pg.URL(loaded), "SELECT (SELECT count(*) FROM whole) || ' ' || (SELECT count(*) < 5000 FROM broken)"); n != "100 true" {
			t.Errorf("%s: rows loaded: %s", format, n)
		}
	}
}

func TestAnExportOutlivesARestartOfTheController(t *testing.T) {
	pg := shared.Server(t)
	source := filled(t, pg, 0.1)
	s := running(t, pg)
	id := backup(t, s, "--database", source)
	whole := ok(t, s, "snapshot", "export", id, "--database", source, "--format", "plain", "--no-restrict", "--output", "-")

	cmd := exec.CommandContext(t.Context(), s.Bin.Ctl, "snapshot", "export", id, "--database", source, "--format", "plain", "--no-restrict", "--output", "-")
	cmd.Env = append(os.Environ(), "TUSKCTL_CONFIG="+filepath.Join(s.ControllerDir(), "admin-context.yaml"))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	// Nobody reads on: what is under way fills every buffer, and the rest waits.
	var got bytes.Buffer
	_, err = io.CopyN(&got, stdout, 1<<20)
	must(t, err)
	must(t, s.Controller.Kill())
	must(t, s.StartController(t.Context()))
	_, err = io.Copy(&got, stdout)
	must(t, err)
	if err := cmd.Wait(); err != nil {
		t.Fatalf("export: %v\n%s", err, stderr.String())
	}
	if got.String() != whole {
		t.Errorf("%d bytes over the restart, %d without", got.Len(), len(whole))
	}
}

// exportMemory is the most that an export may have at once.
const exportMemory = 256 << 20

func TestAnExportOfLargeDataTakesLittleMemory(t *testing.T) {
	if !long() {
		t.Skip("a long test: set TUSKVAULT_LONG")
	}
	pg := shared.Server(t)
	source := filled(t, pg, 1)
	s := running(t, pg)
	id := backup(t, s, "--database", source)
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), s.Bin.Ctl, "snapshot", "export", id, "--database", source, "--output", filepath.Join(t.TempDir(), "d"))
	cmd.Env = append(os.Environ(), "TUSKCTL_CONFIG="+filepath.Join(s.ControllerDir(), "admin-context.yaml"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Logf("peak memory %d MiB, %s of processor", cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss>>10, cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime())
	if peak := cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss << 10; peak > exportMemory {
		t.Errorf("tuskctl took %d bytes, at most %d", peak, exportMemory)
	}
}
