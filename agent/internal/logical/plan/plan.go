package plan

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tuskvault/tuskvault/agent/internal/job"
	"github.com/tuskvault/tuskvault/agent/internal/logical/selection"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/factsql"
	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// Plan is what a restore will do, or why it will not.
type Plan struct {
	// Databases in the order in which they are restored.
	Databases []DatabasePlan
	// Globals to create before them.
	Globals GlobalsPlan
	// Refusals are reasons not to begin. Nothing is touched when there is one.
	Refusals []repo.Problem
	// Warnings are what a person should know.
	Warnings []repo.Problem
	// Unchecked is what could not be looked at, with the reason.
	Unchecked []repo.Problem

	// Request is what was asked for, Target the server as it was found, and Names
	// what stands for roles and tablespaces of the snapshot.
	Request job.Restore
	Target  *Target
	Names   selection.Names

	source pg.Version
	shaper *shaper                   // of a plan that Make made
	asked  map[*repo.Database]*asked // by what is restored of it; the same
}

// DatabasePlan is the plan for one database.
type DatabasePlan struct {
	// Source is the database in the snapshot, Properties what CREATE DATABASE needs of it.
	Source     *repo.Database
	Properties repo.DatabaseProperties
	// Target is the name in the end, Temporary the name until then.
	Target, Temporary pg.Name
	// Replaced is the name under which an existing database of the target's name
	// waits to be dropped; empty when there is none.
	Replaced pg.Name
	// Create is the statement that makes the database.
	Create string
	// Rows and Bytes (plain) that will be loaded, and the size of the heaps at the source.
	Rows, Bytes, Heap int64
	// Tables with rows to load.
	Tables int
	// Chosen says what of the database is restored; nil means all of it.
	Chosen *Chosen
	// Chunks that are fetched for rows and large objects.
	Chunks int64
	// Live says how the tables come into a database that is in use; nil for a new
	// database. Target and Temporary are then both the database in use.
	Live *LivePlan
}

// Decide makes the plan. needs are by position in content's databases, nil for
// those that are not restored. It is a pure function.
func Decide(content *repo.Content, needs map[*repo.Database]*Needs, t *Target, id repo.JobID, r job.Restore) *Plan {
	p := &Plan{Request: r, Target: t, source: content.Instance.Version}
	if s, err := newShaper(r); err == nil { // else nothing is prepared
		p.Names = s.names
	}
	p.server(content)
	for n, s := range p.selected(content) {
		p.database(n, id, s, content.Instance.BlockSize, needs[s.database])
	}
	p.globals(content, needs)
	p.needs(content, needs)
	p.check(content, needs)
	return p
}

func (p *Plan) refuse(database pg.Name, object, reason, hint string) {
	p.Refusals = append(p.Refusals, repo.Problem{Severity: "error", Database: database, Object: object, Reason: reason, Hint: hint})
}

func (p *Plan) warn(database pg.Name, object, reason, hint string) {
	p.Warnings = append(p.Warnings, repo.Problem{Severity: "warning", Database: database, Object: object, Reason: reason, Hint: hint})
}

// server judges the server as a whole.
func (p *Plan) server(content *repo.Content) {
	t := p.Target
	if s := content.Instance.Version; t.Version.Major() < s.Major() {
		p.refuse("", "server", fmt.Sprintf("the snapshot is of version %s, the server is %s: older servers cannot be restored into", s, t.Version),
			fmt.Sprintf("restore into an instance of version %d or later", s.Major()))
	}
	if t.InRecovery {
		p.refuse("", "server", "the server is a standby: it cannot be written", "restore into the primary")
	}
	if !t.CreateDB && !p.Request.Live && !p.Request.GlobalsOnly {
		p.refuse("", "role "+t.Role.Display(), "the role may not create databases", "ALTER ROLE "+t.Role.Quote()+" SUPERUSER; a restore needs it to set owners")
	} else if !t.Superuser && !p.Request.Live {
		p.warn("", "role "+t.Role.Display(), "the role is no superuser: owners, some extensions and event triggers cannot be restored by it",
			"ALTER ROLE "+t.Role.Quote()+" SUPERUSER; or restore without owners")
	}
}

// wanted is one database asked for.
type wanted struct {
	database *repo.Database
	target   pg.Name
	whole    bool // no databases were named: the whole snapshot
}

// selected finds the databases asked for.
func (p *Plan) selected(content *repo.Content) []wanted {
	var all []wanted
	if p.Request.GlobalsOnly {
		return nil
	}
	if len(p.Request.Databases) == 0 {
		for i := range content.Logical.Databases {
			d := &content.Logical.Databases[i]
			all = append(all, wanted{d, d.Name, true})
		}
	}
	for _, m := range p.Request.Databases {
		d := find(content, m.Source)
		if d == nil {
			p.refuse(pg.Name(m.Source), "database", "the snapshot has no database of that name", "it has: "+databaseNames(content))
			continue
		}
		target, ok := fromDisplay(cmp.Or(m.Target, m.Source))
		if !ok || target == "" || len(target) > maxIdentifier {
			p.refuse(d.Name, "target name", fmt.Sprintf("%q cannot be the name of a database", m.Target), "")
			continue
		}
		all = append(all, wanted{d, target, false})
	}
	if len(all) == 0 && len(p.Refusals) == 0 && !p.Request.Selective() { // else the patterns that match nothing are named
		p.refuse("", "snapshot", "it has no databases", "")
	}
	return all
}

// maxIdentifier is NAMEDATALEN-1 of every server that was not built otherwise.
const maxIdentifier = 63

func find(content *repo.Content, display string) *repo.Database {
	for i := range content.Logical.Databases {
		if d := &content.Logical.Databases[i]; d.Name.Display() == display {
			return d
		}
	}
	return nil
}

func databaseNames(content *repo.Content) string {
	var all []string
	for i := range content.Logical.Databases {
		all = append(all, content.Logical.Databases[i].Name.Display())
	}
	return strings.Join(all, ", ")
}

// database plans one database.
func (p *Plan) database(n int, id repo.JobID, s wanted, blockSize int, needs *Needs) {
	d := s.database
	if d.State == repo.DatabaseFailed {
		p.refuse(d.Name, "snapshot", "its backup failed: there is nothing of it in the snapshot", "choose another snapshot, or name the databases to restore")
		return
	}
	for _, x := range d.Problems {
		p.Warnings = append(p.Warnings, repo.Problem{Severity: "warning", Database: d.Name, Object: x.Object, Reason: "in the snapshot: " + x.Reason, Hint: x.Hint})
	}
	props, err := repo.PropertiesOf(d)
	if err != nil {
		p.refuse(d.Name, "properties", err.Error(), "")
		return
	}
	out := DatabasePlan{Source: d, Properties: props, Target: s.target, Temporary: pg.Name(fmt.Sprintf("tuskvault_restore_%s_%d", id.Short(), n+1))}
	if needs != nil && needs.Chosen != nil {
		out.Chosen = needs.Chosen
		p.choice(s.database.Name, out.Chosen, len(p.Request.Databases) > 0)
	}
	if p.Request.Live {
		p.live(n, id, &out)
	} else {
		p.name(s, &out, id, n)
	}
	if !p.Target.Encodings[d.Encoding] {
		p.refuse(d.Name, "encoding", fmt.Sprintf("the server does not know encoding %s", d.Encoding), "")
	}
	if p.Target.BlockSize != blockSize && d.LargeObjects != nil {
		p.warn(d.Name, "large objects", "source and target have different block sizes: large objects are compared on the way in and counted, not read back", "")
	}
	for i := range d.Tables {
		t := &d.Tables[i]
		if t.Omitted != "" {
			p.warn(d.Name, "table "+t.Schema.Display()+"."+t.Name.Display(), "without rows in the snapshot: "+t.Omitted, "")
			continue
		}
		out.Tables++
		out.Heap += t.Pages * int64(blockSize)
		for _, r := range t.Runs {
			out.Rows += r.Rows
			out.add(r.Stream)
		}
	}
	if d.LargeObjects != nil {
		out.add(d.LargeObjects.Data)
		out.add(d.LargeObjects.Meta)
	}
	out.Create = factsql.CreateDatabase(out.Temporary, d.Encoding, out.Properties, p.Target.Version)
	p.Databases = append(p.Databases, out)
}

// add counts a stream that is fetched.
func (d *DatabasePlan) add(s repo.Stream) {
	d.Bytes += s.Bytes
	for _, span := range s.Spans {
		d.Chunks += int64(span.Count)
	}
}

// name decides about the target's name.
func (p *Plan) name(s wanted, out *DatabasePlan, id repo.JobID, n int) {
	for _, other := range p.Databases {
		if other.Target == s.target {
			p.refuse(s.database.Name, "database "+s.target.Display(), "two databases would get this name", "give one of them another name")
		}
	}
	if s.target == "template0" || s.target == "template1" {
		p.refuse(s.database.Name, "database "+s.target.Display(), "a template of the server cannot be restored over", "restore it under another name")
		return
	}
	existing, ok := p.Target.Databases[s.target]
	if !ok {
		return
	}
	// A new server has an unused "postgres": restoring a whole instance into it
	// replaces nothing.
	fresh := s.whole && s.target == "postgres" && existing.Empty
	if !p.Request.Replace && !fresh {
		p.refuse(s.database.Name, "database "+s.target.Display(), "it exists already",
			"restore under another name ("+s.database.Name.Display()+"=NEW), or allow replacing it (--replace)")
		return
	}
	for _, sub := range existing.Subscriptions {
		p.refuse(s.database.Name, "database "+s.target.Display(), "it has the enabled subscription "+sub.Display()+" and cannot be replaced",
			"in that database: ALTER SUBSCRIPTION "+sub.Quote()+" DISABLE;")
	}
	out.Replaced = pg.Name(fmt.Sprintf("tuskvault_replaced_%s_%d", id.Short(), n+1))
}

// needs checks that what the databases need is there or will be.
func (p *Plan) needs(content *repo.Content, needs map[*repo.Database]*Needs) {
	for i := range p.Databases {
		d := p.Databases[i].Source
		n := needs[d]
		if n == nil {
			continue
		}
		for _, role := range slices.Sorted(maps.Keys(n.Roles)) {
			need := n.Roles[role]
			if p.Target.Roles[role] || p.Globals.hasRole(role) || p.Request.NoOwner && !need.Essential {
				continue
			}
			hint := "CREATE ROLE " + role.Quote() + "; or restore with missing roles created (--globals)"
			if p.Request.Globals {
				hint = "CREATE ROLE " + role.Quote() + "; the snapshot does not have it either"
			}
			if !need.Essential {
				hint += ", or without owners and privileges (--no-owner)"
			}
			p.refuse(d.Name, "role "+role.Display(), "it does not exist; needed by "+need.By, hint)
		}
		for _, space := range slices.Sorted(maps.Keys(n.Tablespaces)) {
			if p.Target.Tablespaces[space] || p.Globals.hasTablespace(space) {
				continue
			}
			p.refuse(d.Name, "tablespace "+space.Display(), "it does not exist; needed by "+n.Tablespaces[space].By,
				"CREATE TABLESPACE "+space.Quote()+" LOCATION '…'; or restore with it created (--globals)")
		}
		for _, x := range slices.Sorted(maps.Keys(n.Extensions)) {
			if _, ok := p.Target.Extensions[x]; !ok {
				p.refuse(d.Name, "extension "+x.Display(), "the server does not have it", "install the package with extension "+x.Display()+" on the server's host")
			}
		}
	}
}

// Err says why the restore cannot begin, or nil. Its kind is Exists if a
// database is in the way, NotFound if something is missing.
func (p *Plan) Err() error {
	if len(p.Refusals) == 0 {
		return nil
	}
	first := p.Refusals[0]
	kind := errs.Conflict
	switch {
	case strings.Contains(first.Reason, "exists already"):
		kind = errs.Exists
	case strings.Contains(first.Reason, "does not exist") || strings.Contains(first.Reason, "no database of that name") || strings.Contains(first.Reason, matchesNothing):
		kind = errs.NotFound
	case strings.HasPrefix(first.Reason, DamagedRows):
		kind = errs.Corrupt
	}
	text := describe(first)
	if n := len(p.Refusals) - 1; n > 0 {
		text += fmt.Sprintf(" (and %d more)", n)
	}
	return fmt.Errorf("plan restore: %s: %w", text, kind)
}

func describe(x repo.Problem) string {
	s := x.Object + ": " + x.Reason
	if x.Database != "" && x.Object != "database "+x.Database.Display() {
		s = "database " + x.Database.Display() + ": " + s
	}
	return s
}

// Lines words the plan for people: what stands in its way comes first.
func (p *Plan) Lines() []string {
	all := p.verdicts()
	say := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	say("server %s, snapshot of %s", p.Target.Version, p.source)
	all = append(all, p.Globals.Lines()...)
	for i := range p.Databases {
		all = append(all, p.databaseLines(&p.Databases[i])...)
	}
	return append(all, p.time())
}

func (p *Plan) databaseLines(d *DatabasePlan) []string {
	var all []string
	say := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	if d.Live != nil {
		return append(p.liveLines(d), d.choiceLines()...)
	}
	say("create database %s from %s: %d tables, %d rows, %s of rows, about %s of heap; encoding %s, locale %s %s",
		d.Target.Display(), d.Source.Name.Display(), d.Tables, d.Rows, size(d.Bytes), size(d.Heap), d.Source.Encoding,
		d.Properties.Provider, cmp.Or(d.Properties.Locale, d.Properties.Collate.Display()))
	say("  under the name %s until it is complete and compared", d.Temporary.Display())
	if p.Request.ReadBack {
		say("  every table is read back and compared once more")
	}
	if p.Request.NoOwner {
		say("  owners and privileges are left out; role %s owns everything", p.Target.Role.Display())
	} else {
		say("  owner %s", d.Properties.Owner.Display())
	}
	if d.Replaced != "" {
		say("  then sessions in the existing database %s are ended, it is renamed to %s and dropped", d.Target.Display(), d.Replaced.Display())
	}
	return append(all, d.choiceLines()...)
}

func size(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}
	f, i := float64(n), 0
	for f >= 1024 && i < len(units)-1 {
		f, i = f/1024, i+1
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", f, units[i])
}
