package load

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"math"
	"strings"

	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/pgarchive"
)

// createDatabase gives the statement that makes the database of a plan. target is
// the version of the server: before 15 there was one provider of
// locales and no word for it.
func createDatabase(d *DatabasePlan, target pg.Version) string {
	p := d.Properties
	q := "CREATE DATABASE " + d.Temporary.Quote() + " TEMPLATE template0 ENCODING " + lit(pg.Name(d.Source.Encoding))
	add := func(option string, value pg.Name) {
		if value != "" {
			q += " " + option + " " + lit(value)
		}
	}
	add("LC_COLLATE", p.Collate)
	add("LC_CTYPE", p.Ctype)
	if target.Major() >= 15 {
		q += " LOCALE_PROVIDER " + p.Provider
		switch p.Provider {
		case "icu":
			add("ICU_LOCALE", pg.Name(p.Locale))
			if target.Major() >= 16 {
				add("ICU_RULES", pg.Name(p.ICURules))
			}
		case "builtin":
			add("BUILTIN_LOCALE", pg.Name(p.Locale))
		}
	}
	if p.Tablespace != "" && p.Tablespace != "pg_default" {
		q += " TABLESPACE " + p.Tablespace.Quote()
	}
	return q
}

func lit(n pg.Name) string { return strings.TrimSpace(n.Literal()) }

// finishStatements give the database, still under its temporary name, its owner,
// privileges, settings and the rest. Each is tried by itself where optional is
// set: a setting that the server does not know must not cost the whole restore.
func (p *Plan) finishStatements(d *DatabasePlan, settings []dbSetting) []statement {
	var all []statement
	object := "DATABASE " + d.Temporary.Quote()
	if !p.request.NoOwner {
		all = append(all, statement{sql: "ALTER " + object + " OWNER TO " + d.Properties.Owner.Quote()})
		for _, q := range grants(object, d.Properties.Owner, d.Properties.ACL) {
			all = append(all, statement{sql: q})
		}
	}
	for _, s := range settings {
		name, clause, ok := setting(s.text)
		if !ok {
			continue
		}
		what := "setting " + name
		q := "ALTER " + object + " " + clause
		if s.role != "" {
			if p.request.NoOwner && !p.target.Roles[s.role] {
				continue
			}
			what += " of role " + s.role.Display()
			q = "ALTER ROLE " + s.role.Quote() + " IN " + object + " " + clause
		}
		all = append(all, statement{sql: q, optional: what})
	}
	if n := d.Properties.ConnectionLimit; n >= 0 {
		all = append(all, statement{sql: fmt.Sprintf("ALTER %s CONNECTION LIMIT %d", object, n)})
	}
	if d.Properties.IsTemplate {
		all = append(all, statement{sql: "ALTER " + object + " IS_TEMPLATE true"})
	}
	if !d.Properties.AllowConnections {
		all = append(all, statement{sql: "ALTER " + object + " ALLOW_CONNECTIONS false"})
	}
	comment := "NULL" // not the mark of a half-made one
	if c := d.Properties.Comment; c != nil {
		comment = lit(pg.Name(*c))
	}
	return append(all, statement{sql: "COMMENT ON " + object + " IS " + comment})
}

// statement is one of a list; optional names it when its failure is a warning.
type statement struct {
	sql      string
	optional string
}

// dbSetting is one setting of a database, of all roles or of one.
type dbSetting struct {
	role pg.Name
	text string
}

// fromDisplay reads what pg.Name.Display gives.
func fromDisplay(s string) (pg.Name, bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b.WriteByte(s[i])
			continue
		}
		rest := s[i+1:]
		switch {
		case strings.HasPrefix(rest, `\`):
			b.WriteByte('\\')
			i++
		case strings.HasPrefix(rest, "x") && len(rest) >= 3:
			c, err := hex.DecodeString(rest[1:3])
			if err != nil || c[0] == 0 {
				return "", false
			}
			b.WriteByte(c[0])
			i += 3
		default:
			return "", false
		}
	}
	return pg.Name(b.String()), true
}

// Sorting for a b-tree is cheapest in memory that the processor's caches hold in
// good part, as long as what is sorted piece by piece is merged in one go: a
// merge of n pieces takes n times mergeBytes.
const (
	sortBytes  = 32 << 20
	mergeBytes = 264 << 10
)

// memoryFor is the maintenance_work_mem with which an entry is made over a table
// of heap bytes, between sortBytes and limit. Processes that help need their own.
// What is no b-tree, and the check of a foreign key, uses a hash or a tree in
// memory and gets the limit.
func memoryFor(e *pgarchive.Entry, heap int64, parallel int, limit int64) int64 {
	sorts := e.Desc == "INDEX" && strings.Contains(e.Defn, " USING btree (") || e.Desc == "CONSTRAINT" && !strings.Contains(e.Defn, " EXCLUDE ")
	if !sorts {
		return limit
	}
	merge := int64(math.Sqrt(float64(heap) * mergeBytes))
	return min(max(sortBytes, merge)*int64(1+parallel), limit)
}

// clampMemory is maintenance_work_mem for each of jobs sessions: an eighth of
// the host's memory between them, at least 64 MiB and at most 512 MiB (more was
// measured to be no faster, at times slower). memory 0 means unknown.
func clampMemory(memory int64, jobs int) int64 {
	return min(max(memory/8/int64(cmp.Or(jobs, 1)), 64<<20), 512<<20)
}
