package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tuskvault/tuskvault/agent/internal/postgres"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/pgtest"
)

var shared = pgtest.Shared{Options: pgtest.Options{Password: `p'w \ 1`}}

func TestMain(m *testing.M) {
	code := shared.Main(m)
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

func config(s *pgtest.Server) postgres.Config {
	return postgres.Config{Host: s.Dir, Port: s.Port, User: pgtest.Superuser, SSLMode: "disable",
		Password: func() (string, error) { return s.Password, nil }, ToolDirs: []string{s.Bin}}
}

func connect(t *testing.T, s *pgtest.Server, database string) *postgres.Conn {
	t.Helper()
	c, err := postgres.Connect(t.Context(), config(s), pg.Name(database), "test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(context.WithoutCancel(t.Context())) })
	return c
}

func TestConnectErrorsSayWhatToDo(t *testing.T) {
	s := shared.Server(t)
	s.Exec(t, "postgres", "CREATE ROLE stranger LOGIN PASSWORD 'x'", "CREATE DATABASE closed", "REVOKE CONNECT ON DATABASE closed FROM public")
	t.Cleanup(func() { s.DropDatabase(t, "closed") })
	for name, tc := range map[string]struct {
		change   func(*postgres.Config)
		database pg.Name
		kind     *errs.Kind
		says     string
	}{
		"wrong password":    {func(c *postgres.Config) { c.Password = func() (string, error) { return "wrong", nil } }, "postgres", errs.Denied, "password authentication failed"},
		"no such role":      {func(c *postgres.Config) { c.User = "nobody_here" }, "postgres", errs.Denied, "nobody_here"},
		"no such database":  {func(*postgres.Config) {}, "no_such_db", errs.NotFound, `database "no_such_db" does not exist`},
		"server down":       {func(c *postgres.Config) { c.Port = 1 }, "postgres", errs.Unavailable, "no such file or directory"},
		"nothing listens":   {func(c *postgres.Config) { c.Host, c.Port = "127.0.0.1", 1 }, "postgres", errs.Unavailable, "connection refused"},
		"no TLS at server":  {func(c *postgres.Config) { c.Host, c.SSLMode = "127.0.0.1", "require" }, "postgres", errs.Invalid, "TLS"},
		"not let in":        {func(c *postgres.Config) { c.User, c.Password = "stranger", func() (string, error) { return "x", nil } }, "closed", errs.Denied, "permission denied for database"},
		"bad settings":      {func(c *postgres.Config) { c.Host, c.SSLMode = "127.0.0.1", "maybe" }, "postgres", errs.Invalid, "sslmode"},
		"several hosts":     {func(c *postgres.Config) { c.Host = "a,b" }, "postgres", errs.Invalid, "name one"},
		"password not read": {func(c *postgres.Config) { c.Password = func() (string, error) { return "", errs.NotFound } }, "postgres", errs.NotFound, "read password"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config(s)
			tc.change(&cfg)
			c, err := postgres.Connect(t.Context(), cfg, tc.database, "test")
			if err == nil {
				c.Close(t.Context())
				t.Fatal("connected")
			}
			if !errors.Is(err, tc.kind) || !strings.Contains(err.Error(), tc.says) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %q (hint %q), want kind %v and %q", err, postgres.Hint(err), tc.kind, tc.says)
			}
			if strings.Contains(err.Error(), s.Password) {
				t.Errorf("error %q shows the password", err)
			}
			if tc.kind == errs.Denied && postgres.Hint(err) == "" {
				t.Errorf("error %q has no hint", err)
			}
		})
	}
}

func TestTheEnvironmentLeadsToTheServerAsForLibpq(t *testing.T) {
	s := shared.Server(t)
	dir := t.TempDir()
	pass := filepath.Join(dir, "pass")
	line := fmt.Sprintf("localhost:%d:*:%s:%s\n", s.Port, pgtest.Superuser, strings.NewReplacer(`\`, `\\`).Replace(s.Password))
	if err := os.WriteFile(pass, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	service := filepath.Join(dir, "service")
	if err := os.WriteFile(service, []byte(fmt.Sprintf("[tv]\nhost=%s\nport=%d\nuser=%s\n", s.Dir, s.Port, pgtest.Superuser)), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Run("variables", func(t *testing.T) {
		for _, e := range s.Env("template1") {
			k, v, _ := strings.Cut(e, "=")
			t.Setenv(k, v)
		}
		t.Setenv("PGCLIENTENCODING", "LATIN1")
		c, err := postgres.Connect(t.Context(), postgres.Config{}, "postgres", "test")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close(t.Context())
		if e := c.Parameter("client_encoding"); e != "UTF8" {
			t.Errorf("client_encoding %s", e)
		}
	})
	t.Run("service and password file", func(t *testing.T) {
		c, err := postgres.Connect(t.Context(), postgres.Config{Service: "tv", ServiceFile: service, PassFile: pass}, "postgres", "test")
		if err != nil {
			t.Fatal(err)
		}
		c.Close(t.Context())
	})
}

func TestTimeoutsOfTheRoleDoNotEndTheSession(t *testing.T) {
	s := shared.Server(t)
	s.Exec(t, "postgres", "CREATE ROLE hasty LOGIN SUPERUSER PASSWORD 'x'", "ALTER ROLE hasty SET statement_timeout = '100ms'", "ALTER ROLE hasty SET lock_timeout = '50ms'",
		"ALTER ROLE hasty SET idle_in_transaction_session_timeout = '100ms'", "DO $$ BEGIN EXECUTE 'ALTER ROLE hasty SET idle_session_timeout = ''100ms'''; EXCEPTION WHEN undefined_object THEN NULL; END $$")
	cfg := config(s)
	cfg.User, cfg.Password = "hasty", func() (string, error) { return "x", nil }
	c, err := postgres.Connect(t.Context(), cfg, "postgres", "test")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(t.Context())
	if err := c.Exec(t.Context(), "BEGIN; SELECT pg_sleep(0.3)"); err != nil {
		t.Fatal(err)
	}
	<-time.After(300 * time.Millisecond) // idle in a transaction: the server's clock, not ours
	if err := c.Exec(t.Context(), "SELECT pg_sleep(0.2)"); err != nil {
		t.Fatal(err)
	}
}

func TestSourceSessionFixesWhatRowsLookLike(t *testing.T) {
	s := shared.Server(t)
	db := s.Database(t)
	for _, set := range []string{"DateStyle = 'German'", "TimeZone = 'Asia/Tokyo'", "IntervalStyle = 'iso_8601'", "bytea_output = 'escape'", "extra_float_digits = 0", "search_path = 'public'", "synchronize_seqscans = on"} {
		s.Exec(t, "postgres", `ALTER DATABASE "`+db+`" SET `+set)
	}
	c := connect(t, s, db)
	if err := c.Apply(t.Context(), postgres.SourceSession(c.Version, c.Superuser)); err != nil {
		t.Fatal(err)
	}
	var got string
	if err := c.One(t.Context(), &got, `SELECT concat_ws(' ', '2024-03-31 10:00+02'::timestamptz, '2024-02-01'::date, '1 day 2 s'::interval, '\x00ff'::bytea, 0.1::float8 + 0.2::float8, current_setting('search_path'))`); err != nil {
		t.Fatal(err)
	}
	if want := `2024-03-31 08:00:00+00 2024-02-01 1 day 00:00:02 \x00ff 0.30000000000000004 `; strings.TrimRight(got, ` "`) != strings.TrimRight(want, " ") {
		t.Errorf("got %q, want %q", got, want)
	}
	load := connect(t, s, db)
	if err := load.Apply(t.Context(), postgres.LoadSession(load.Version, load.Superuser)); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"TimeZone": "Asia/Tokyo", "IntervalStyle": "postgres", "synchronous_commit": "off"} {
		var v string
		if err := load.One(t.Context(), &v, "SELECT current_setting($1)", name); err != nil || v != want {
			t.Errorf("%s = %q, want %q (%v)", name, v, want, err)
		}
	}
}

func TestToolsForAServerAreItsOwnMajorOrTheNextNewer(t *testing.T) {
	found := postgres.Tools{Searched: []string{"/a", "/b"}, Found: []postgres.Tool{{Path: "/18", Version: 180001}, {Path: "/14", Version: 140020}, {Path: "/16", Version: 160002}}}
	for server, want := range map[pg.Version]string{140000: "/14", 130000: "/14", 150018: "/16", 160099: "/16", 170000: "/18"} {
		if tool, err := found.For("pg_dump", server); err != nil || tool.Path != want {
			t.Errorf("for %s: %+v, %v; want %s", server, tool, err, want)
		}
	}
	_, err := found.For("pg_dump", 190000)
	if !errors.Is(err, errs.NotFound) || !strings.Contains(err.Error(), "/16 (16.2)") || !strings.Contains(postgres.Hint(err), "postgresql-client-19") {
		t.Errorf("too old: %v, hint %q", err, postgres.Hint(err))
	}
	_, err = postgres.Tools{Searched: []string{"/a", "/b"}}.For("pg_dump", 150000)
	if !errors.Is(err, errs.NotFound) || !strings.Contains(err.Error(), "/a, /b") || !strings.Contains(postgres.Hint(err), "postgresql-client-15") {
		t.Errorf("missing: %v, hint %q", err, postgres.Hint(err))
	}
}

func TestToolsAreSearchedInTheGivenFoldersFirst(t *testing.T) {
	dir := t.TempDir()
	for name, body := range map[string]string{"pg_dump": "echo 'pg_dump (PostgreSQL) 99devel'", "pg_restore": "exit 1"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+body+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", "")
	tools := postgres.FindTools(t.Context(), "pg_dump", []string{dir})
	if len(tools.Found) == 0 || tools.Found[0].Path != filepath.Join(dir, "pg_dump") || tools.Found[0].Version != 990000 {
		t.Errorf("found %+v", tools.Found)
	}
	for _, tool := range postgres.FindTools(t.Context(), "pg_restore", []string{dir}).Found {
		if strings.HasPrefix(tool.Path, dir) {
			t.Errorf("a program that does not tell its version was taken: %+v", tool)
		}
	}
}

func TestInventoryDescribesTheInstance(t *testing.T) {
	s := shared.Server(t)
	db := s.Database(t)
	s.Exec(t, db, "CREATE EXTENSION hstore")
	inv, err := postgres.Probe(t.Context(), config(s))
	if err != nil {
		t.Fatal(err)
	}
	if inv.Version.Major() < 13 || inv.SystemIdentifier == 0 || inv.Timeline != 1 || inv.InRecovery || inv.BlockSize != 8192 ||
		inv.DataDirectory != s.Data || inv.LockTableSize < 64*100 || len(inv.Tablespaces) != 2 || len(inv.Available) == 0 {
		t.Errorf("inventory: %+v", inv)
	}
	for _, d := range inv.Databases {
		if d.Name == pg.Name(db) && (d.Encoding != "UTF8" || d.Size <= 0 || d.Locale != "C" || d.LocaleProvider != "libc" || !d.AllowConnections || len(d.Extensions) != 2) {
			t.Errorf("database: %+v", d)
		}
	}
}
