package load

import (
	"regexp"
	"slices"
	"strings"

	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// A new database has a schema public and the language plpgsql, whatever the
// source had: pg_dump takes both for granted, and what it takes for granted
// depends on its own version. These are the statements that make the two what
// they were.

// removed gives what is done before anything else: what the source's users
// dropped goes, what they made anew comes again.
func removed(d *repo.Database, noOwner bool) []string {
	var sql []string
	switch {
	case d.PublicOwner == "":
		sql = append(sql, "DROP SCHEMA IF EXISTS public;")
	case d.PublicACL == "" && d.Archive.Tool.Major() < 15:
		// Somebody made it anew, without the privileges that initdb gives; this
		// pg_dump does not say so.
		create := "CREATE SCHEMA public"
		if !noOwner {
			create += " AUTHORIZATION " + d.PublicOwner.Quote()
		}
		sql = append(sql, "DROP SCHEMA IF EXISTS public;", create+";")
	}
	if !slices.ContainsFunc(d.Extensions, func(e repo.ExtensionFacts) bool { return e.Name == "plpgsql" }) {
		sql = append(sql, "DROP EXTENSION IF EXISTS plpgsql;")
	}
	return sql
}

// schemaPublic gives what is done before the archive's privileges. pg_dump before
// 15 never says who owns the schema, and takes it for granted that everybody may
// create in it; from 15 on it takes for granted that nobody may. The privileges of
// the archive are the difference from that, so the target must begin with it.
func schemaPublic(d *repo.Database, target pg.Version) []string {
	if d.PublicOwner == "" {
		return nil
	}
	if d.Archive.Tool.Major() >= 15 {
		if target.Major() >= 15 {
			return nil
		}
		return []string{"REVOKE CREATE ON SCHEMA public FROM PUBLIC;"}
	}
	sql := []string{"ALTER SCHEMA public OWNER TO " + d.PublicOwner.Quote() + ";"}
	if target.Major() < 15 {
		return sql
	}
	for item := range strings.SplitSeq(strings.Trim(d.PublicACL, "{}"), ",") {
		rights, ok := strings.CutPrefix(item, "=")
		rights, _, _ = strings.Cut(rights, "/")
		if ok && strings.Contains(rights, "C") {
			sql = append(sql, "GRANT CREATE ON SCHEMA public TO PUBLIC;")
		}
	}
	return sql
}

// pg_attver is an option by which servers from 17.12 on mark columns for
// their own use. Their pg_dump leaves it out; an older one writes it like any
// other, and no server takes it back.
var (
	attributeVersion = regexp.MustCompile(`(, )?\bpg_attver='?\d+'?(, )?`)
	attributeAlone   = regexp.MustCompile(`\bSET \(pg_attver='?\d+'?\)`)
)

// withoutInternal takes out of a table's statements what is internal to the server
// that they were read from.
func withoutInternal(defn string) string {
	if !strings.Contains(defn, "pg_attver=") {
		return defn
	}
	// Alone it leaves a statement that changes nothing.
	defn = attributeAlone.ReplaceAllString(defn, "RESET (n_distinct)")
	return attributeVersion.ReplaceAllStringFunc(defn, func(m string) string {
		if strings.HasPrefix(m, ", ") && strings.HasSuffix(m, ", ") {
			return ", "
		}
		return ""
	})
}
