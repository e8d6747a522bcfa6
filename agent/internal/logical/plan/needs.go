package plan

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/tuskvault/tuskvault/agent/internal/logical/selection"
	"github.com/tuskvault/tuskvault/agent/internal/logical/sqltext"
	"github.com/tuskvault/tuskvault/agent/internal/logical/stream"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/pgarchive"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// Needs is what the objects of a database need of the server around it.
type Needs struct {
	// Roles by name, with the first thing that needs them.
	Roles map[pg.Name]Need
	// Tablespaces and Extensions, the same.
	Tablespaces map[pg.Name]Need
	Extensions  map[pg.Name]Need
	// Collations that are made.
	Collations []CollationNeed
	// EventTriggers and Subscriptions that are made.
	EventTriggers []pg.Name
	Subscriptions []pg.Name
	// Locks is the largest number of relations that one statement locks: those of
	// a partitioned table with all partitions and their indexes. LocksBy names it.
	Locks   int
	LocksBy string
	// Chosen says what of the database is restored; nil means all of it.
	Chosen *Chosen
}

// CollationNeed is a collation that is made.
type CollationNeed struct {
	// By names it.
	By string
	// Provider is "libc", "icu" or "builtin", Locales its words.
	Provider string
	Locales  []pg.Name
}

// Need says why something is needed.
type Need struct {
	// By names the first object.
	By string
	// Essential: it is needed even when owners and privileges are left out.
	Essential bool
}

func newNeeds() *Needs {
	return &Needs{Roles: map[pg.Name]Need{}, Tablespaces: map[pg.Name]Need{}, Extensions: map[pg.Name]Need{}}
}

func add(to map[pg.Name]Need, name pg.Name, by string, essential bool) {
	if name == "" {
		return
	}
	n, ok := to[name]
	if !ok {
		n.By = by
	}
	n.Essential = n.Essential || essential
	to[name] = n
}

// needsOf collects what a database needs; a is its archive.
func needsOf(d *repo.Database, a *pgarchive.Archive) (*Needs, error) {
	n := newNeeds()
	props, err := repo.PropertiesOf(d)
	if err != nil {
		return nil, err
	}
	add(n.Roles, props.Owner, "the database", false)
	addACL(n, props.ACL, "the database")
	if d.Archive.Tool.Major() < 15 { // see schemaPublic in package load
		add(n.Roles, d.PublicOwner, "schema public", false)
	}
	if props.Tablespace != "pg_default" {
		add(n.Tablespaces, props.Tablespace, "the database", true)
	}
	for _, raw := range d.Settings {
		var s repo.SettingFacts
		if err := json.Unmarshal(raw, &s); err != nil {
			return nil, fmt.Errorf("settings of database %s: %w: %w", d.Name.Display(), err, errs.Corrupt)
		}
		add(n.Roles, s.Role, "a setting of the role in the database", false)
	}
	for _, q := range d.Statements {
		if IsOwnerStatement(q) {
			for _, r := range sqltext.Roles("OWNER", q) {
				add(n.Roles, r, "a subscription", false)
			}
		}
	}
	for i := range a.Entries {
		e := &a.Entries[i]
		add(n.Roles, e.Owner, e.String(), false)
		add(n.Tablespaces, e.Tablespace, e.String(), true)
		for _, r := range sqltext.Roles(e.Desc, e.Defn) {
			add(n.Roles, r, e.String(), !e.IsPrivilege())
		}
		switch e.Desc {
		case "EXTENSION":
			add(n.Extensions, e.Tag, e.String(), true)
		case "COLLATION":
			n.Collations = append(n.Collations, collationIn(e))
		case "EVENT TRIGGER":
			n.EventTriggers = append(n.EventTriggers, e.Tag)
		case "SUBSCRIPTION":
			n.Subscriptions = append(n.Subscriptions, e.Tag)
		}
	}
	n.Locks, n.LocksBy = locks(d, a)
	return n, nil
}

// collationIn reads what CREATE COLLATION says.
func collationIn(e *pgarchive.Entry) CollationNeed {
	n := CollationNeed{By: e.String(), Provider: "libc"}
	all := sqltext.Tokens(e.Defn)
	for i := 0; i+2 < len(all); i++ {
		if all[i+1].Text != "=" {
			continue
		}
		switch value := all[i+2].Text; all[i].Keyword {
		case "PROVIDER":
			n.Provider = value
		case "LOCALE", "LC_COLLATE", "LC_CTYPE":
			n.Locales = append(n.Locales, pg.Name(value))
		}
	}
	return n
}

// locks finds the partitioned table whose reading back, or whose foreign key,
// locks most: a restore executes one statement a transaction.
func locks(d *repo.Database, a *pgarchive.Archive) (most int, by string) {
	indexes := map[sqltext.QualifiedName]int{}
	for i := range a.Entries {
		e := &a.Entries[i]
		if e.Desc != "INDEX" && e.Desc != "CONSTRAINT" {
			continue
		}
		for _, id := range e.Deps {
			if t := a.Entry(id); t != nil && t.Desc == "TABLE" {
				indexes[sqltext.QualifiedName{Schema: t.Namespace, Name: t.Tag}]++
				break
			}
		}
	}
	trees := map[sqltext.QualifiedName]int{}
	for i := range d.Tables {
		t := &d.Tables[i]
		root := sqltext.QualifiedName{Schema: t.RootSchema, Name: t.RootName}
		if t.Root == 0 {
			root = sqltext.QualifiedName{Schema: t.Schema, Name: t.Name}
		} else if trees[root] == 0 {
			trees[root] = 1 + indexes[root]
		}
		trees[root] += 1 + indexes[sqltext.QualifiedName{Schema: t.Schema, Name: t.Name}]
	}
	for r, n := range trees {
		if n > most || n == most && r.String() < by {
			most, by = n, r.String()
		}
	}
	return most, by
}

// IsOwnerStatement tells whether one of the statements that stand in for what
// pg_dump leaves out sets an owner.
func IsOwnerStatement(q string) bool {
	return strings.HasPrefix(q, "ALTER SUBSCRIPTION ") && strings.Contains(q, " OWNER TO ")
}

func addACL(n *Needs, acl repo.ACL, by string) {
	for _, i := range acl {
		add(n.Roles, i.Grantee, by, false)
		add(n.Roles, i.Grantor, by, false)
	}
}

// addObjects collects the roles that large objects need.
func addObjects(ctx context.Context, n *Needs, source stream.Source, o *repo.LargeObjects, names selection.Names) error {
	return stream.EachObject(ctx, source, o, func(f *repo.LargeObjectFacts) error {
		by := fmt.Sprintf("large object %d", f.OID)
		add(n.Roles, names.Role(f.Owner), by, false)
		addACL(n, names.ACL(f.ACL), by)
		return nil
	})
}
