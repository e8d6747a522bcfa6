package plan

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/tuskvault/tuskvault/agent/internal/postgres"
	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// Texts is what a server knows of locales and collations, as far as the snapshot
// needs it.
type Texts struct {
	// Read tells that the rest was looked at.
	Read bool
	// ICU tells whether the server was built with it, Languages which of the
	// languages asked for it knows.
	ICU       bool
	Languages map[string]bool
	// Locales are those of libc.
	Locales map[pg.Name]Locale
	// Versions are those of the providers now; a locale that has none is missing.
	Versions map[CollationKey]string
	// System are the collations of pg_catalog that exist.
	System map[pg.Name]bool
}

// CollationKey is a provider's word for a collation.
type CollationKey struct {
	Provider string
	Locale   pg.Name
}

// Locale is a locale of libc.
type Locale struct {
	// Exists on the server's host.
	Exists bool
	// Encodings that it is for; empty when it is for any, or that is not known.
	Encodings []string
}

// readTexts looks locales and collations up.
func (t *Target) readTexts(ctx context.Context, c *postgres.Conn, q inquiry) error {
	x := &t.Texts
	*x = Texts{Languages: map[string]bool{}, Locales: map[pg.Name]Locale{}, Versions: map[CollationKey]string{}, System: map[pg.Name]bool{}}
	if err := c.One(ctx, &x.ICU, "SELECT EXISTS (SELECT FROM pg_catalog.pg_collation WHERE collprovider = 'i')"); err != nil {
		return err
	}
	libc, icu := q.locales()
	for _, name := range libc {
		l, err := readLocale(ctx, c, name)
		if err != nil {
			return err
		}
		x.Locales[name] = l
	}
	for _, name := range icu {
		var known bool
		l := language(name)
		if err := c.One(ctx, &known, "SELECT EXISTS (SELECT FROM pg_catalog.pg_collation WHERE collprovider = 'i' AND collname ~ ('^' || $1 || '-'))", l); err != nil {
			return err
		}
		x.Languages[l] = known
	}
	for d := range q.needs {
		for _, f := range d.Collations {
			if err := x.look(ctx, c, f); err != nil {
				return err
			}
		}
	}
	x.Read = true
	return nil
}

// locales gives the locales of libc and of ICU that databases and collations
// need, in order.
func (q inquiry) locales() (libc, icu []pg.Name) {
	sets := map[string]map[pg.Name]bool{"libc": {}, "icu": {}}
	for d, n := range q.needs {
		if p, err := repo.PropertiesOf(d); err == nil { // else the plan refuses it
			sets["libc"][p.Collate], sets["libc"][p.Ctype] = true, true
			if p.Provider == "icu" {
				sets["icu"][pg.Name(p.Locale)] = true
			}
		}
		for _, x := range n.Collations {
			for _, l := range x.Locales {
				if sets[x.Provider] != nil {
					sets[x.Provider][l] = true
				}
			}
		}
	}
	for l := range sets["libc"] {
		if l == "" || l == "C" || l == "POSIX" {
			delete(sets["libc"], l)
		}
	}
	for l := range sets["icu"] {
		if !letters(language(l)) {
			delete(sets["icu"], l)
		}
	}
	return slices.Sorted(maps.Keys(sets["libc"])), slices.Sorted(maps.Keys(sets["icu"]))
}

// language is the first part of an ICU locale, "" for the root.
func language(locale pg.Name) string {
	l := strings.ToLower(string(locale))
	if i := strings.IndexAny(l, "-_@"); i >= 0 {
		l = l[:i]
	}
	if l == "und" || l == "root" {
		return ""
	}
	return l
}

// letters tells whether s is made of letters, and of some: what is not is no
// language, and must not get into a pattern.
func letters(s string) bool {
	return s != "" && strings.IndexFunc(s, func(r rune) bool { return r < 'a' || r > 'z' }) < 0
}

// readLocale tries a locale of libc: the server refuses to take one for any
// setting that its host does not have. The setting ends with the statement.
func readLocale(ctx context.Context, c *postgres.Conn, name pg.Name) (Locale, error) {
	var l Locale
	err := c.Run(ctx, "SELECT pg_catalog.set_config('lc_monetary', $1, true)", name)
	if postgres.Code(err) == "22023" {
		return l, nil
	}
	if err != nil {
		return l, err
	}
	l.Exists = true
	var encoding string
	const plain = "pg_catalog.lower(pg_catalog.replace(%, '-', ''))"
	err = c.Each(ctx, "SELECT DISTINCT pg_catalog.pg_encoding_to_char(collencoding)::text FROM pg_catalog.pg_collation WHERE collprovider = 'c' AND collencoding >= 0 AND "+
		strings.ReplaceAll(plain, "%", "collcollate::text")+" = "+strings.ReplaceAll(plain, "%", "$1")+" ORDER BY 1",
		[]any{name}, []any{&encoding}, func() error { l.Encodings = append(l.Encodings, encoding); return nil })
	return l, err
}

// look finds out which version a collation would have here.
func (x *Texts) look(ctx context.Context, c *postgres.Conn, f repo.CollationFacts) error {
	if f.Schema == "pg_catalog" {
		var exists bool
		if err := c.One(ctx, &exists, "SELECT EXISTS (SELECT FROM pg_catalog.pg_collation WHERE collnamespace = 'pg_catalog'::pg_catalog.regnamespace AND collname = $1)", f.Name); err != nil {
			return err
		}
		x.System[f.Name] = exists
	}
	key := CollationKey{f.Provider, f.Locale}
	if _, ok := x.Versions[key]; ok {
		return nil
	}
	code := map[string]string{"libc": "c", "icu": "i", "builtin": "b"}[f.Provider]
	// libc has one version for all of its locales, and ICU nearly always: another
	// locale's tells more than nothing where there is no collation of this one.
	var version string
	err := c.One(ctx, &version, `SELECT coalesce((SELECT v.version FROM pg_catalog.pg_collation c, pg_catalog.to_jsonb(c) j,
			LATERAL (SELECT coalesce(j->>'colllocale', j->>'colliculocale', j->>'collcollate')) l(locale),
			LATERAL (SELECT CASE WHEN l.locale = $2 OR c.collname IN ('und-x-icu', 'unicode', 'ucs_basic') OR c.collprovider = 'c' THEN pg_catalog.pg_collation_actual_version(c.oid) END) v(version)
		WHERE c.collprovider = $1 AND v.version IS NOT NULL ORDER BY l.locale = $2 DESC, c.oid LIMIT 1), '')`, code, f.Locale)
	if err != nil {
		return err
	}
	if version != "" {
		x.Versions[key] = version
	}
	return nil
}
