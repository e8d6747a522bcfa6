package dump_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/repo"
)

func TestCollationsAreRecordedWithWhatDependsOnThem(t *testing.T) {
	s := shared.Server(t)
	db := s.Database(t)
	s.Exec(t, db, "CREATE SCHEMA s", "CREATE COLLATION s.loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false)",
		`CREATE TABLE people (id int PRIMARY KEY, name text COLLATE s.loose UNIQUE, town text COLLATE "de-x-icu" CHECK (town < 'z'), note text CHECK (note <> ''))`,
		`CREATE INDEX by_town ON people (town)`, `CREATE TABLE log (who text COLLATE "de-x-icu") PARTITION BY RANGE (who)`,
		`CREATE TABLE log_a PARTITION OF log FOR VALUES FROM ('a') TO ('n')`, `CREATE INDEX log_who ON log (who)`,
		`CREATE TABLE lists (k text COLLATE s.loose) PARTITION BY LIST (k)`, `CREATE TABLE plain (k text COLLATE "de-x-icu") PARTITION BY LIST (k)`)
	d := only(t, mustRun(t, options(s, newMemory(small), db)))
	use := func(kind, schema, name, table string) repo.CollationUse {
		return repo.CollationUse{Kind: kind, Schema: pg.Name(schema), Name: pg.Name(name), Table: pg.Name(table)}
	}
	want := []repo.CollationFacts{
		{Schema: "pg_catalog", Name: "de-x-icu", Provider: "icu", Locale: "de", Deterministic: true,
			Uses: []repo.CollationUse{use("partition", "public", "log", ""), use("check", "public", "people_town_check", "people"), use("index", "public", "by_town", ""), use("index", "public", "log_who", "")}},
		{Schema: "s", Name: "loose", Provider: "icu", Locale: "und-u-ks-level2",
			Uses: []repo.CollationUse{use("partition", "public", "lists", ""), use("unique", "public", "people_name_key", "")}},
	}
	if diff := cmp.Diff(want, d.Collations, cmpopts.IgnoreFields(repo.CollationFacts{}, "Version")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, c := range d.Collations {
		if c.Version == "" {
			t.Errorf("collation %s has no version", c.Name)
		}
	}
	if size := d.Size; size == nil || size.Bytes < 1<<20 || size.Indexes <= 0 || size.Indexes > size.Bytes || len(size.Elsewhere) != 0 {
		t.Errorf("size: %+v", size)
	}
}
