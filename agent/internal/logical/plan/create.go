package plan

import (
	"encoding/hex"
	"strings"

	"github.com/tuskvault/tuskvault/agent/internal/logical/sqltext"
	"github.com/tuskvault/tuskvault/internal/pg"
)

// createDatabase gives the statement that makes the database of a plan. target is
// the version of the server: before 15 there was one provider of
// locales and no word for it.
func createDatabase(d *DatabasePlan, target pg.Version) string {
	p := d.Properties
	q := "CREATE DATABASE " + d.Temporary.Quote() + " TEMPLATE template0 ENCODING " + sqltext.Literal(pg.Name(d.Source.Encoding))
	add := func(option string, value pg.Name) {
		if value != "" {
			q += " " + option + " " + sqltext.Literal(value)
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
