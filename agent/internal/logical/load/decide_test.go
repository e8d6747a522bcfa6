package load_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tuskvault/tuskvault/agent/internal/job"
	"github.com/tuskvault/tuskvault/agent/internal/logical/load"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/pgarchive"
	"github.com/tuskvault/tuskvault/internal/repo"
)

func TestSettingsAreWrittenAsTheyWereMeant(t *testing.T) {
	for in, want := range map[string]string{
		`search_path="$user", public`:      `SET "search_path" TO '$user', 'public'`,
		`search_path=""`:                   `SET "search_path" TO ''`,
		`search_path="a, b", "c""d"`:       `SET "search_path" TO 'a, b', 'c"d'`,
		`work_mem=7MB`:                     `SET "work_mem" TO '7MB'`,
		`my.thing=it's = a, b`:             `SET "my"."thing" TO 'it''s = a, b'`,
		`log_line_prefix=\x`:               `SET "log_line_prefix" TO E'\\x'`,
		`temp_tablespaces=`:                `SET "temp_tablespaces" TO ''`,
		`DateStyle=SQL, DMY`:               `SET "DateStyle" TO 'SQL, DMY'`,
		`default_transaction_read_only=on`: `SET "default_transaction_read_only" TO 'on'`,
	} {
		if got, ok := load.Setting(in); !ok || got != want {
			t.Errorf("%s: %s", in, got)
		}
	}
	if _, ok := load.Setting("nonsense"); ok {
		t.Error("a setting without a value was taken")
	}
}

func TestNamesSurviveTheirDisplayForm(t *testing.T) {
	for _, name := range []pg.Name{"plain", `back\slash`, "tab\tx", "caf\xe9", "café", `\x41`, " "} {
		if got, ok := load.FromDisplay(name.Display()); !ok || got != name {
			t.Errorf("%q became %q", name, got)
		}
	}
	for _, bad := range []string{`\`, `\q`, `\x4`, `\xzz`, `\x00`} {
		if got, ok := load.FromDisplay(bad); ok {
			t.Errorf("%q became %q", bad, got)
		}
	}
}

func TestDatabasesAreCreatedAsTheSourceWas(t *testing.T) {
	libc := repo.DatabaseProperties{Provider: "libc", Collate: "de_DE.UTF-8", Ctype: "C", Tablespace: "pg_default"}
	icu := repo.DatabaseProperties{Provider: "icu", Collate: "C", Ctype: "C", Locale: "und", ICURules: "&a < b", Tablespace: "fast"}
	builtin := repo.DatabaseProperties{Provider: "builtin", Collate: "C", Ctype: "C", Locale: "C.UTF-8"}
	const head = `CREATE DATABASE "tmp" TEMPLATE template0 ENCODING 'UTF8' `
	for _, c := range []struct {
		p       repo.DatabaseProperties
		version pg.Version
		want    string
	}{
		{libc, 130016, `LC_COLLATE 'de_DE.UTF-8' LC_CTYPE 'C'`},
		{libc, 150018, `LC_COLLATE 'de_DE.UTF-8' LC_CTYPE 'C' LOCALE_PROVIDER libc`},
		{icu, 150018, `LC_COLLATE 'C' LC_CTYPE 'C' LOCALE_PROVIDER icu ICU_LOCALE 'und' TABLESPACE "fast"`},
		{icu, 160000, `LC_COLLATE 'C' LC_CTYPE 'C' LOCALE_PROVIDER icu ICU_LOCALE 'und' ICU_RULES '&a < b' TABLESPACE "fast"`},
		{builtin, 170000, `LC_COLLATE 'C' LC_CTYPE 'C' LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'`},
	} {
		if got := load.CreateStatement("UTF8", c.p, c.version); got != head+c.want {
			t.Errorf("%s: %s", c.version, got)
		}
	}
}

func TestMemoryForIndexesIsAShareWithinBounds(t *testing.T) {
	for _, c := range [][3]int64{{0, 2, 64 << 20}, {1 << 30, 2, 64 << 20}, {8 << 30, 4, 256 << 20}, {64 << 30, 2, 512 << 20}, {8 << 30, 0, 512 << 20}} {
		if got := load.ClampMemory(c[0], int(c[1])); got != c[2] {
			t.Errorf("%d bytes for %d jobs: %d", c[0], c[1], got)
		}
	}
}

func TestSortsGetLittleMemoryAndWhatIsNoSortTheLimit(t *testing.T) {
	const limit = 512 << 20
	index := func(am string) *pgarchive.Entry {
		return &pgarchive.Entry{Desc: "INDEX", Defn: "CREATE INDEX i ON public.t USING " + am + " (c);"}
	}
	key := &pgarchive.Entry{Desc: "CONSTRAINT", Defn: "ALTER TABLE ONLY public.t ADD CONSTRAINT k PRIMARY KEY (id);"}
	for _, c := range []struct {
		entry     *pgarchive.Entry
		heap      int64
		parallel  int
		min, most int64
	}{
		{key, 0, 0, 32 << 20, 32 << 20},
		{index("btree"), 1 << 30, 0, 32 << 20, 32 << 20},
		{index("btree"), 1 << 30, 2, 96 << 20, 96 << 20},
		{index("btree"), 100 << 30, 0, 160 << 20, 170 << 20}, // one merge of 600 pieces
		{index("btree"), 10 << 40, 0, limit, limit},
		{index("gin"), 0, 0, limit, limit},
		{&pgarchive.Entry{Desc: "CONSTRAINT", Defn: "ALTER TABLE ONLY public.t ADD CONSTRAINT k EXCLUDE USING gist (c WITH &&);"}, 0, 0, limit, limit},
		{&pgarchive.Entry{Desc: "FK CONSTRAINT", Defn: "ALTER TABLE ONLY public.t ADD CONSTRAINT f FOREIGN KEY (c) REFERENCES public.u(id);"}, 0, 0, limit, limit},
	} {
		if got := load.MemoryFor(c.entry, c.heap, c.parallel, limit); got < c.min || got > c.most {
			t.Errorf("%s over %d bytes, %d processes: %d bytes", c.entry.Defn, c.heap, c.parallel, got)
		}
	}
}

// snapshot is a manifest of one small database.
func snapshot() *repo.Content {
	return &repo.Content{
		Kind: repo.KindLogical, Instance: repo.InstanceFacts{Version: 150018, BlockSize: 8192},
		Logical: &repo.Logical{Databases: []repo.Database{
			{Name: "app", State: repo.DatabaseComplete, Encoding: "UTF8", Properties: json.RawMessage(`{"owner": "ann", "datlocprovider": "c", "datallowconn": true, "datconnlimit": -1}`),
				Tables: []repo.Table{{Schema: "s", Name: "t", Pages: 10, Runs: []repo.Run{{Rows: 3, Stream: repo.Stream{Bytes: 9}}}}}},
			{Name: "broken", State: repo.DatabaseFailed, Encoding: "UTF8"},
		}},
	}
}

func target() *load.Target {
	return &load.Target{
		Version: 150018, BlockSize: 8192, Role: "postgres", Superuser: true, CreateDB: true, Maintenance: "postgres",
		Databases: map[pg.Name]load.Existing{"postgres": {Empty: true}, "template1": {}, "old": {Subscriptions: []pg.Name{"sub"}}},
		Roles:     map[pg.Name]bool{"postgres": true, "ann": true}, Tablespaces: map[pg.Name]bool{"pg_default": true},
		Extensions: map[pg.Name]string{"hstore": "1.8"}, Encodings: map[string]bool{"UTF8": true},
	}
}

func TestWhatCannotBeDoneIsRefusedWithAHint(t *testing.T) {
	app := func(to string) []job.Mapping { return []job.Mapping{{Source: "app", Target: to}} }
	need := func(role, space, extension pg.Name, essential bool) func(*load.Needs) {
		return func(n *load.Needs) {
			if role != "" {
				n.Roles[role] = load.Need{By: "TABLE s.t", Essential: essential}
			}
			if space != "" {
				n.Tablespaces[space] = load.Need{By: "TABLE s.t", Essential: true}
			}
			if extension != "" {
				n.Extensions[extension] = load.Need{By: "EXTENSION x", Essential: true}
			}
		}
	}
	for name, c := range map[string]struct {
		request job.Restore
		target  func(*load.Target)
		content func(*repo.Content)
		needs   func(*load.Needs)
		kind    *errs.Kind
		words   string // of the refusal; empty: it is allowed
		hint    string
	}{
		"a new name is fine":        {request: job.Restore{Databases: app("new")}},
		"an older server":           {request: job.Restore{Databases: app("new")}, target: func(t *load.Target) { t.Version = 140020 }, kind: errs.Conflict, words: "older servers", hint: "version 15 or later"},
		"a newer server is fine":    {request: job.Restore{Databases: app("new")}, target: func(t *load.Target) { t.Version = 180006 }},
		"a standby":                 {request: job.Restore{Databases: app("new")}, target: func(t *load.Target) { t.InRecovery = true }, kind: errs.Conflict, words: "standby", hint: "primary"},
		"a role without rights":     {request: job.Restore{Databases: app("new")}, target: func(t *load.Target) { t.CreateDB = false }, kind: errs.Conflict, words: "may not create databases", hint: "ALTER ROLE"},
		"no such database":          {request: job.Restore{Databases: []job.Mapping{{Source: "nope"}}}, kind: errs.NotFound, words: "no database of that name", hint: "app, broken"},
		"a database that failed":    {request: job.Restore{Databases: []job.Mapping{{Source: "broken"}}}, kind: errs.Conflict, words: "its backup failed"},
		"the name is taken":         {request: job.Restore{Databases: app("postgres")}, kind: errs.Exists, words: "exists already", hint: "--replace"},
		"a template":                {request: job.Restore{Databases: app("template1"), Replace: true}, kind: errs.Conflict, words: "template"},
		"replacing is fine":         {request: job.Restore{Databases: app("postgres"), Replace: true}},
		"replacing a subscriber":    {request: job.Restore{Databases: app("old"), Replace: true}, kind: errs.Conflict, words: "enabled subscription sub", hint: "DISABLE"},
		"one name twice":            {request: job.Restore{Databases: append(app("x"), app("x")...)}, kind: errs.Conflict, words: "two databases"},
		"a name that is none":       {request: job.Restore{Databases: app(strings.Repeat("x", 64))}, kind: errs.Conflict, words: "cannot be the name"},
		"an unknown encoding":       {request: job.Restore{Databases: app("new")}, target: func(t *load.Target) { t.Encodings = nil }, kind: errs.Conflict, words: "encoding UTF8"},
		"a missing role":            {request: job.Restore{Databases: app("new")}, needs: need("bob", "", "", false), kind: errs.NotFound, words: "role bob: it does not exist; needed by TABLE s.t", hint: "--no-owner"},
		"a missing role, no owners": {request: job.Restore{Databases: app("new"), NoOwner: true}, needs: need("bob", "", "", false)},
		"an essential missing role": {request: job.Restore{Databases: app("new"), NoOwner: true}, needs: need("bob", "", "", true), kind: errs.NotFound, words: "role bob", hint: "--globals"},
		"a role from the globals": {request: job.Restore{Databases: app("new"), Globals: true}, needs: need("bob", "", "", true),
			content: func(c *repo.Content) {
				c.Logical.Globals = repo.Globals{Roles: []json.RawMessage{[]byte(`{"rolname": "bob"}`)}, PasswordsRead: true}
			}},
		"a role in no globals": {request: job.Restore{Databases: app("new"), Globals: true}, needs: need("bob", "", "", false), kind: errs.NotFound, words: "role bob", hint: "does not have it either"},
		"a missing tablespace": {request: job.Restore{Databases: app("new")}, needs: need("", "fast", "", false), kind: errs.NotFound, words: "tablespace fast", hint: "CREATE TABLESPACE"},
		"a tablespace from the globals": {request: job.Restore{Databases: app("new"), Globals: true}, needs: need("", "fast", "", false),
			content: func(c *repo.Content) {
				c.Logical.Globals = repo.Globals{Tablespaces: []json.RawMessage{[]byte(`{"name": "fast", "owner": "ann", "location": "/fast"}`)}}
			}},
		"a missing extension": {request: job.Restore{Databases: app("new")}, needs: need("", "", "postgis", false), kind: errs.Conflict, words: "extension postgis", hint: "install the package"},
	} {
		t.Run(name, func(t *testing.T) {
			content, to := snapshot(), target()
			if c.content != nil {
				c.content(content)
			}
			if c.target != nil {
				c.target(to)
			}
			n := &load.Needs{Roles: map[pg.Name]load.Need{}, Tablespaces: map[pg.Name]load.Need{}, Extensions: map[pg.Name]load.Need{}}
			if c.needs != nil {
				c.needs(n)
			}
			p := load.Decide(content, map[*repo.Database]*load.Needs{&content.Logical.Databases[0]: n}, to, repo.ID{0xab}, c.request)
			err := p.Err()
			if c.words == "" {
				if err != nil {
					t.Errorf("refused: %v", err)
				}
				return
			}
			if !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.words) {
				t.Errorf("kind %v: %v", errs.KindOf(err), err)
			}
			if !strings.Contains(p.Refusals[0].Hint, c.hint) {
				t.Errorf("hint %q", p.Refusals[0].Hint)
			}
		})
	}
}

func TestThePlanSaysWhatWillHappen(t *testing.T) {
	content, to := snapshot(), target()
	p := load.Decide(content, nil, to, repo.ID{0xab}, job.Restore{Databases: []job.Mapping{{Source: "app", Target: "postgres"}}, Replace: true})
	want := []string{
		"server 15.18, snapshot of 15.18",
		"create database postgres from app: 1 tables, 3 rows, 9 B of rows, about 80.0 KiB of heap; encoding UTF8, locale libc ",
		"  under the name tuskvault_restore_ab000000_1 until it is complete and compared",
		"  owner ann",
		"  then sessions in the existing database postgres are ended, it is renamed to tuskvault_replaced_ab000000_1 and dropped",
		"time: no past restore to estimate from",
	}
	if d := cmp.Diff(want, p.Lines()); d != "" {
		t.Error(d)
	}
}

func TestPrivilegesAreGivenByTheirGrantorsInOrder(t *testing.T) {
	acl := repo.ACL{
		{Grantor: "ann", Grantee: "", Privilege: "CONNECT"}, {Grantor: "bob", Grantee: "eve", Privilege: "CREATE"},
		{Grantor: "ann", Grantee: "bob", Privilege: "CREATE", Grantable: true}, {Grantor: "ann", Grantee: "ann", Privilege: "CREATE"},
	}
	want := []string{
		`REVOKE ALL ON DATABASE "d" FROM PUBLIC;`, `REVOKE ALL ON DATABASE "d" FROM "ann";`, `GRANT CREATE ON DATABASE "d" TO "ann";`,
		`GRANT CREATE ON DATABASE "d" TO "bob" WITH GRANT OPTION;`, `GRANT CONNECT ON DATABASE "d" TO PUBLIC;`,
		`SET LOCAL SESSION AUTHORIZATION "bob"; GRANT CREATE ON DATABASE "d" TO "eve"; SET LOCAL SESSION AUTHORIZATION DEFAULT;`,
	}
	if d := cmp.Diff(want, load.Grants(`DATABASE "d"`, "ann", acl)); d != "" {
		t.Error(d)
	}
	if load.Grants("x", "ann", nil) != nil || len(load.Grants("x", "ann", repo.ACL{})) != 2 {
		t.Error("no privileges recorded means the default, an empty list means none")
	}
	if q := load.Grants("x", "ann", repo.ACL{{Grantor: "ann", Grantee: "b", Privilege: "ALL; DROP"}}); slices.ContainsFunc(q, func(s string) bool { return strings.Contains(s, "DROP") }) {
		t.Error("a privilege can be a statement")
	}
}
