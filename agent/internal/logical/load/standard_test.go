package load_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tuskvault/tuskvault/agent/internal/logical/load"
	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/repo"
)

func TestSchemaPublicBeginsAsTheArchiveTakesForGranted(t *testing.T) {
	const open, closed = "{postgres=UC/postgres,=UC/postgres}", "{o=UC/o,r=U/o}"
	for name, c := range map[string]struct {
		tool, target pg.Version
		acl          string
		want         []string
	}{
		"old tool, old server":              {130016, 140001, open, []string{`ALTER SCHEMA public OWNER TO "o";`}},
		"old tool, new server":              {130016, 180006, open, []string{`ALTER SCHEMA public OWNER TO "o";`, "GRANT CREATE ON SCHEMA public TO PUBLIC;"}},
		"old tool, new server, not allowed": {140016, 150001, closed, []string{`ALTER SCHEMA public OWNER TO "o";`}},
		"new tool, old server":              {150018, 140023, closed, []string{"REVOKE CREATE ON SCHEMA public FROM PUBLIC;"}},
		"new tool, new server":              {170001, 160001, open, nil},
	} {
		t.Run(name, func(t *testing.T) {
			d := &repo.Database{PublicOwner: "o", PublicACL: c.acl, Archive: &repo.Archive{Tool: c.tool}}
			if d := cmp.Diff(c.want, load.SchemaPublic(d, c.target)); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestWhatTheSourceDroppedGoes(t *testing.T) {
	usual := []repo.ExtensionFacts{{Name: "plpgsql"}}
	if got := load.Removed(&repo.Database{PublicOwner: "o", PublicACL: "{o=UC/o}", Extensions: usual}, false); got != nil {
		t.Errorf("of a usual database: %v", got)
	}
	if d := cmp.Diff([]string{"DROP SCHEMA IF EXISTS public;", "DROP EXTENSION IF EXISTS plpgsql;"}, load.Removed(&repo.Database{}, false)); d != "" {
		t.Error(d)
	}
	anew := &repo.Database{PublicOwner: "o", Extensions: usual, Archive: &repo.Archive{Tool: 130016}}
	if d := cmp.Diff([]string{"DROP SCHEMA IF EXISTS public;", `CREATE SCHEMA public AUTHORIZATION "o";`}, load.Removed(anew, false)); d != "" {
		t.Error(d)
	}
	anew.Archive.Tool = 150001 // it says so itself
	if got := load.Removed(anew, false); got != nil {
		t.Errorf("by a newer tool: %v", got)
	}
}

func TestWhatIsInternalToTheSourcesServerIsLeftOut(t *testing.T) {
	for defn, want := range map[string]string{
		"ALTER TABLE ONLY t ALTER COLUMN a SET (pg_attver=79884256);":                                "ALTER TABLE ONLY t ALTER COLUMN a RESET (n_distinct);",
		"ALTER TABLE ONLY t ALTER COLUMN a SET (n_distinct=-0.5, pg_attver=7);":                      "ALTER TABLE ONLY t ALTER COLUMN a SET (n_distinct=-0.5);",
		"ALTER TABLE ONLY t ALTER COLUMN a SET (pg_attver=7, n_distinct=-0.5);":                      "ALTER TABLE ONLY t ALTER COLUMN a SET (n_distinct=-0.5);",
		"ALTER TABLE ONLY t ALTER COLUMN a SET (n_distinct=1, pg_attver=7, n_distinct_inherited=2);": "ALTER TABLE ONLY t ALTER COLUMN a SET (n_distinct=1, n_distinct_inherited=2);",
		"CREATE TABLE t (a int);": "CREATE TABLE t (a int);",
	} {
		if got := load.WithoutInternal(defn); got != want {
			t.Errorf("%s\ngives %s\nwant  %s", defn, got, want)
		}
	}
}
