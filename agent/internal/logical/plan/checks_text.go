package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// checkLocales judges whether the databases and their collations can be made with
// the locales that they have.
func (p *Plan) checkLocales(needs map[*repo.Database]*Needs) {
	x := p.Target.Texts
	if !x.Read {
		return
	}
	for i := range p.Databases {
		d := &p.Databases[i]
		name := d.Source.Name
		locales := []pg.Name{d.Properties.Collate}
		if d.Properties.Ctype != d.Properties.Collate {
			locales = append(locales, d.Properties.Ctype)
		}
		for _, l := range locales {
			p.checkLocale(name, "locale "+l.Display(), "the database", d.Source.Encoding, l)
		}
		switch d.Properties.Provider {
		case "icu":
			p.checkProvider(name, "icu", 15, "the database")
			p.checkLanguage(name, pg.Name(d.Properties.Locale), "the database")
		case "builtin":
			p.checkProvider(name, "builtin", 17, "the database")
		}
		n := needs[d.Source]
		if n == nil {
			continue
		}
		for _, c := range n.Collations {
			for _, l := range c.Locales {
				switch c.Provider {
				case "libc":
					p.checkLocale(name, "locale "+l.Display(), c.By, "", l)
				case "icu":
					p.checkProvider(name, "icu", 10, c.By)
					p.checkLanguage(name, l, c.By)
				case "builtin":
					p.checkProvider(name, "builtin", 17, c.By)
				}
			}
		}
	}
}

// checkLocale judges a locale of libc; encoding is that of the database, "" where
// it does not matter.
func (p *Plan) checkLocale(database pg.Name, object, by, encoding string, locale pg.Name) {
	l, known := p.Target.Texts.Locales[locale]
	switch {
	case !known: // C and POSIX
	case !l.Exists:
		p.refuse(database, object, "the server's host does not have it; needed by "+by, generate(locale))
	case encoding != "" && encoding != "SQL_ASCII" && len(l.Encodings) > 0 && !slices.Contains(l.Encodings, encoding):
		p.refuse(database, object, fmt.Sprintf("it is for encoding %s on the server's host, the database is %s", strings.Join(l.Encodings, ", "), encoding), generate(locale+"."+pg.Name(encoding)))
	}
}

// generate tells how a locale comes to a host.
func generate(locale pg.Name) string {
	l := locale.Display()
	lang, _, _ := strings.Cut(l, "_")
	return fmt.Sprintf("on the server's host: localedef -i %s -f %s %s (Debian: locale-gen %s; Red Hat: dnf install glibc-langpack-%s); then restart the server",
		strings.SplitN(l, ".", 2)[0], charmap(l), l, l, lang)
}

// charmap is the part of a locale's name after the dot, in the words of localedef.
func charmap(locale string) string {
	_, set, ok := strings.Cut(locale, ".")
	if !ok || strings.EqualFold(set, "utf8") || strings.EqualFold(set, "utf-8") {
		return "UTF-8"
	}
	return set
}

// checkProvider judges whether the server has a provider of locales.
func (p *Plan) checkProvider(database pg.Name, provider string, since int, by string) {
	switch {
	case p.Target.Version.Major() < since:
		p.refuse(database, "locale provider "+provider, fmt.Sprintf("servers have it since version %d; needed by %s", since, by), fmt.Sprintf("restore to an instance of version %d or later", since))
	case provider == "icu" && !p.Target.Texts.ICU:
		p.refuse(database, "locale provider icu", "the server was built without it; needed by "+by, "install a build of PostgreSQL with ICU, as the packages of distributions are")
	}
}

// checkLanguage warns of a language that ICU would silently treat as none.
func (p *Plan) checkLanguage(database pg.Name, locale pg.Name, by string) {
	l := language(locale)
	if known, looked := p.Target.Texts.Languages[l]; looked && !known {
		p.warn(database, "locale "+locale.Display(), fmt.Sprintf("ICU on the server does not know language %s and sorts as for none; needed by %s", l, by), "install a newer ICU on the server's host")
	}
}

// checkCollations compares the versions of collations with those of the backup.
func (p *Plan) checkCollations() {
	x := p.Target.Texts
	if !x.Read {
		return
	}
	for i := range p.Databases {
		d := p.Databases[i].Source
		var unknown []string
		for _, f := range d.Collations {
			object := collationName(f)
			if f.Schema == "pg_catalog" && !x.System[f.Name] {
				p.refuse(d.Name, object, "the server does not have it; needed by "+useNames(f.Uses[:min(1, len(f.Uses))], 0),
					"make its locale on the server's host, then in template0: SELECT pg_import_system_collations('pg_catalog');")
				continue
			}
			now, known := x.Versions[CollationKey{f.Provider, f.Locale}]
			switch {
			case !known:
				unknown = append(unknown, object)
			case now != f.Version:
				p.warn(d.Name, object, atRisk(f, now), "if that must not be, restore where "+f.Provider+" has version "+f.Version)
			}
		}
		if len(unknown) > 0 {
			p.unchecked("database "+d.Name.Display(), "the server does not tell the versions of: "+some(unknown, 0), "")
		}
	}
}

func collationName(f repo.CollationFacts) string {
	if f.Name == "" {
		return "default collation " + f.Locale.Display()
	}
	return "collation " + f.Schema.Display() + "." + f.Name.Display()
}

// atRisk says what another version of a collation means. A restore is logical:
// indexes are built anew and fit the server. What may change is the order of
// texts, and with it what was decided by that order before.
func atRisk(f repo.CollationFacts, now string) string {
	by := map[string][]repo.CollationUse{}
	for _, u := range f.Uses {
		by[u.Kind] = append(by[u.Kind], u)
	}
	parts := []string{fmt.Sprintf("%s had version %s at the backup and has %s here: texts may come in another order", f.Provider, f.Version, now)}
	say := func(kind, words string) {
		if len(by[kind]) > 0 {
			parts = append(parts, words+useNames(by[kind], 0))
		}
	}
	say("partition", "rows may belong to other partitions, or to none: ")
	say("check", "rows may violate constraints that compare texts: ")
	if !f.Deterministic {
		say("unique", "texts that differed may be equal, and unique indexes fail: ")
	} else {
		by["index"] = append(by["unique"], by["index"]...)
	}
	if n := int64(len(by["index"])) + f.More; n > 0 {
		parts = append(parts, "indexes are built anew and will be right: "+useNames(by["index"], f.More))
	}
	return strings.Join(parts, "; ")
}

func useNames(uses []repo.CollationUse, more int64) string {
	var names []string
	for _, u := range uses {
		name := u.Schema.Display() + "."
		if u.Table != "" {
			name += u.Table.Display() + " "
		}
		names = append(names, name+u.Name.Display())
	}
	return some(names, more)
}
