package plan_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tuskvault/tuskvault/agent/internal/job"
	"github.com/tuskvault/tuskvault/agent/internal/logical/plan"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/repo"
)

func TestNamesSurviveTheirDisplayForm(t *testing.T) {
	for _, name := range []pg.Name{"plain", `back\slash`, "tab\tx", "caf\xe9", "café", `\x41`, " "} {
		if got, ok := plan.FromDisplay(name.Display()); !ok || got != name {
			t.Errorf("%q became %q", name, got)
		}
	}
	for _, bad := range []string{`\`, `\q`, `\x4`, `\xzz`, `\x00`} {
		if got, ok := plan.FromDisplay(bad); ok {
			t.Errorf("%q became %q", bad, got)
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

func target() *plan.Target {
	return &plan.Target{
		Version: 150018, BlockSize: 8192, Role: "postgres", Superuser: true, CreateDB: true, Maintenance: "postgres",
		Databases: map[pg.Name]plan.Existing{"postgres": {Empty: true}, "template1": {}, "old": {Subscriptions: []pg.Name{"sub"}}},
		Roles:     map[pg.Name]bool{"postgres": true, "ann": true}, Tablespaces: map[pg.Name]bool{"pg_default": true},
		Extensions: map[pg.Name]string{"hstore": "1.8"}, Encodings: map[string]bool{"UTF8": true},
	}
}

func TestWhatCannotBeDoneIsRefusedWithAHint(t *testing.T) {
	app := func(to string) []job.Mapping { return []job.Mapping{{Source: "app", Target: to}} }
	need := func(role, space, extension pg.Name, essential bool) func(*plan.Needs) {
		return func(n *plan.Needs) {
			if role != "" {
				n.Roles[role] = plan.Need{By: "TABLE s.t", Essential: essential}
			}
			if space != "" {
				n.Tablespaces[space] = plan.Need{By: "TABLE s.t", Essential: true}
			}
			if extension != "" {
				n.Extensions[extension] = plan.Need{By: "EXTENSION x", Essential: true}
			}
		}
	}
	for name, c := range map[string]struct {
		request job.Restore
		target  func(*plan.Target)
		content func(*repo.Content)
		needs   func(*plan.Needs)
		kind    *errs.Kind
		words   string // of the refusal; empty: it is allowed
		hint    string
	}{
		"a new name is fine":        {request: job.Restore{Databases: app("new")}},
		"an older server":           {request: job.Restore{Databases: app("new")}, target: func(t *plan.Target) { t.Version = 140020 }, kind: errs.Conflict, words: "older servers", hint: "version 15 or later"},
		"a newer server is fine":    {request: job.Restore{Databases: app("new")}, target: func(t *plan.Target) { t.Version = 180006 }},
		"a standby":                 {request: job.Restore{Databases: app("new")}, target: func(t *plan.Target) { t.InRecovery = true }, kind: errs.Conflict, words: "standby", hint: "primary"},
		"a role without rights":     {request: job.Restore{Databases: app("new")}, target: func(t *plan.Target) { t.CreateDB = false }, kind: errs.Conflict, words: "may not create databases", hint: "ALTER ROLE"},
		"no such database":          {request: job.Restore{Databases: []job.Mapping{{Source: "nope"}}}, kind: errs.NotFound, words: "no database of that name", hint: "app, broken"},
		"a database that failed":    {request: job.Restore{Databases: []job.Mapping{{Source: "broken"}}}, kind: errs.Conflict, words: "its backup failed"},
		"the name is taken":         {request: job.Restore{Databases: app("postgres")}, kind: errs.Exists, words: "exists already", hint: "--replace"},
		"a template":                {request: job.Restore{Databases: app("template1"), Replace: true}, kind: errs.Conflict, words: "template"},
		"replacing is fine":         {request: job.Restore{Databases: app("postgres"), Replace: true}},
		"replacing a subscriber":    {request: job.Restore{Databases: app("old"), Replace: true}, kind: errs.Conflict, words: "enabled subscription sub", hint: "DISABLE"},
		"one name twice":            {request: job.Restore{Databases: append(app("x"), app("x")...)}, kind: errs.Conflict, words: "two databases"},
		"a name that is none":       {request: job.Restore{Databases: app(strings.Repeat("x", 64))}, kind: errs.Conflict, words: "cannot be the name"},
		"an unknown encoding":       {request: job.Restore{Databases: app("new")}, target: func(t *plan.Target) { t.Encodings = nil }, kind: errs.Conflict, words: "encoding UTF8"},
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
			n := &plan.Needs{Roles: map[pg.Name]plan.Need{}, Tablespaces: map[pg.Name]plan.Need{}, Extensions: map[pg.Name]plan.Need{}}
			if c.needs != nil {
				c.needs(n)
			}
			p := plan.Decide(content, map[*repo.Database]*plan.Needs{&content.Logical.Databases[0]: n}, to, repo.ID{0xab}, c.request)
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
	p := plan.Decide(content, nil, to, repo.ID{0xab}, job.Restore{Databases: []job.Mapping{{Source: "app", Target: "postgres"}}, Replace: true})
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
