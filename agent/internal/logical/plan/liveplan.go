package plan

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tuskvault/tuskvault/agent/internal/job"
	"github.com/tuskvault/tuskvault/agent/internal/logical/selection"
	"github.com/tuskvault/tuskvault/agent/internal/logical/sqltext"
	"github.com/tuskvault/tuskvault/agent/internal/postgres"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// LivePlan says how tables come into a database that is in use.
type LivePlan struct {
	// InPlace: rows replace those of live tables. Otherwise tables come beside them.
	InPlace bool
	// Staging is the schema that is loaded into. Schema is what remains: the same,
	// renamed, with the tables, or one that keeps the rows that were replaced.
	Staging, Schema pg.Name
	// Units are the live tables whose rows are replaced.
	Units []selection.Unit
	// Sequences that move forward with the rows of their tables.
	Sequences []repo.Sequence
	// Done: an earlier attempt of the same job did it already.
	Done bool

	// Keys are the foreign keys from and to the live tables.
	Keys []ForeignKey
}

// DropCommand is the one command that removes what remains.
func (l *LivePlan) DropCommand() string { return "DROP SCHEMA " + l.Schema.Quote() + " CASCADE;" }

// stagingName and schemaName are made of the job, so that each attempt finds
// what an earlier one left.
func stagingName(id repo.JobID, n int) pg.Name {
	return pg.Name(fmt.Sprintf("tuskvault_restore_%s_%d", id.Short(), n+1))
}

func schemaName(id repo.JobID, n int, r job.Restore) pg.Name {
	if name, ok := fromDisplay(r.LiveSchema); ok && name != "" {
		return name
	}
	if r.Replace {
		return pg.Name(fmt.Sprintf("tuskvault_replaced_%s_%d", id.Short(), n+1))
	}
	return pg.Name(fmt.Sprintf("tuskvault_beside_%s_%d", id.Short(), n+1))
}

// Mark begins the comments on the schemas of a job.
func Mark(id repo.JobID) string { return "tuskvault restore, job " + id.String() + ": " }

// MarkDone begins the comment on a schema of a job that is done. What follows it is
// true once it can be read.
func MarkDone(id repo.JobID) string { return Mark(id) + "done; " }

// lookAtLive reads the databases in use and moves what is restored to schemas
// beside the live tables. A database that does not exist is left to the planner.
func (p *planner) lookAtLive(ctx context.Context, all []*asked) error {
	request := p.request
	for n, one := range all {
		if one.part == nil {
			continue
		}
		name, ok := liveName(request, one.source)
		if !ok {
			continue
		}
		facts, err := p.readLive(ctx, name, n, one)
		if postgres.Code(err) == postgres.CodeUndefinedDatabase || errors.Is(err, errs.NotFound) {
			continue
		}
		if err != nil {
			return fmt.Errorf("look at database %s: %w", name.Display(), err)
		}
		one.chosen.Live = facts
		one.chosen.Along, one.chosen.LeftOut = one.part.Along, one.part.LeftOut
	}
	return nil
}

// liveName gives the database in use for one of the snapshot.
func liveName(r job.Restore, d *repo.Database) (pg.Name, bool) {
	for _, m := range r.Databases {
		if m.Source == d.Name.Display() {
			return fromDisplay(cmp.Or(m.Target, m.Source))
		}
	}
	return d.Name, true
}

func (p *planner) readLive(ctx context.Context, name pg.Name, n int, one *asked) (*LiveFacts, error) {
	c, err := postgres.Connect(ctx, p.server, name, Application)
	if err != nil {
		return nil, err
	}
	defer c.Close(ctx)
	// Read-only, so that nothing can be changed before the plan stands.
	if err := c.Apply(ctx, append([]postgres.Setting{{Name: "search_path"}, {Name: "quote_all_identifiers", Value: "off"}}, readOnly...)); err != nil {
		return nil, err
	}
	f := &LiveFacts{replica: c.Superuser, staging: stagingName(p.id, n), schema: schemaName(p.id, n, p.request), sequences: one.part.Database.Sequences}
	err = c.One(ctx, &f.create, "SELECT pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE')")
	if err == nil {
		err = f.ReadSchemas(ctx, c, f.staging, f.schema)
	}
	if err != nil {
		return nil, err
	}
	if !f.replica && c.Version.Major() >= 15 {
		if err := c.One(ctx, &f.replica, "SELECT pg_catalog.has_parameter_privilege('session_replication_role', 'SET')"); err != nil {
			return nil, err
		}
	}
	if !p.request.Replace {
		if err := f.readShared(ctx, c, one.part.Archive); err != nil {
			return nil, err
		}
		f.refusals, err = selection.Beside(one.part, f.staging, f.exists)
		return f, err
	}
	f.refusals = unfit(one.part.Database)
	if f.units, err = selection.Staged(one.part, f.staging, c.Version.Major() >= 14); err != nil {
		return nil, err
	}
	return f, f.ReadTables(ctx, c, LiveNames(f.units))
}

// LiveNames are the live tables of the units.
func LiveNames(units []selection.Unit) []sqltext.QualifiedName {
	var out []sqltext.QualifiedName
	for _, u := range units {
		out = append(out, u.Live)
	}
	return out
}

// unfit gives the tables whose rows cannot take the place of others.
func unfit(d *repo.Database) []selection.Note {
	var all []selection.Note
	for i := range d.Tables {
		t := &d.Tables[i]
		object := "table " + t.Schema.Display() + "." + t.Name.Display()
		switch {
		case t.Omitted != "":
			all = append(all, selection.Note{Object: object, Reason: "its rows are not in the snapshot: " + t.Omitted})
		case t.Extension != "":
			all = append(all, selection.Note{Object: object, Reason: "belongs to extension " + t.Extension.Display() + ": it is restored with a database only"})
		case len(t.Columns) == 0:
			all = append(all, selection.Note{Object: object, Reason: "has no columns with values of their own"})
		}
	}
	return all
}

// live plans what comes into a database in use.
func (p *Plan) live(n int, id repo.JobID, out *DatabasePlan) {
	d, r := out.Source, p.Request
	l := &LivePlan{InPlace: r.Replace, Staging: stagingName(id, n), Schema: schemaName(id, n, r)}
	if out.Chosen != nil && out.Chosen.Live != nil {
		l.Staging, l.Schema = out.Chosen.Live.staging, out.Chosen.Live.schema
	}
	out.Live, out.Temporary = l, out.Target
	refuse := func(object, reason, hint string) { p.refuse(d.Name, object, reason, hint) }
	if len(l.Schema) > maxIdentifier {
		refuse("live schema", fmt.Sprintf("%q is longer than %d bytes", l.Schema.Display(), maxIdentifier), "")
	}
	if r.LiveSchema != "" && (strings.HasPrefix(string(l.Schema), "pg_") || len(p.Databases) > 0) {
		refuse("live schema", "one name serves one database, and none that begins with pg_", "restore the databases one after the other")
	}
	if _, ok := p.Target.Databases[out.Target]; !ok {
		refuse("database "+out.Target.Display(), "it does not exist", "without --live a new database is made")
		return
	}
	if out.Chosen == nil || out.Chosen.Live == nil {
		return // refused already
	}
	f := out.Chosen.Live
	if comment, there := f.Schemas[l.Schema]; there {
		l.Done = strings.HasPrefix(comment, MarkDone(id))
		if !l.Done {
			refuse("schema "+l.Schema.Display(), "it exists already", "choose another name (--live-schema), or: "+l.DropCommand())
		}
	}
	if comment, there := f.Schemas[l.Staging]; there && !strings.HasPrefix(comment, Mark(id)) {
		refuse("schema "+l.Staging.Display(), "it exists already and is not of this job", "DROP SCHEMA "+l.Staging.Quote()+" CASCADE;")
	}
	if !f.create {
		refuse("role "+p.Target.Role.Display(), "it may not create schemas in the database", "GRANT CREATE ON DATABASE "+out.Target.Quote()+" TO "+p.Target.Role.Quote()+";")
	}
	for _, x := range f.refusals {
		refuse(x.Object, x.Reason, "")
	}
	if l.Done || !l.InPlace {
		return
	}
	l.Units, l.Sequences = f.units, f.sequences
	p.inPlace(d.Name, l, f)
}

// inPlace judges the live tables.
func (p *Plan) inPlace(database pg.Name, l *LivePlan, f *LiveFacts) {
	if !p.Request.Wants(job.Data) {
		p.refuse(database, "sections", "without rows there is nothing to replace", "leave --section out")
	}
	if len(l.Units) == 0 {
		p.refuse(database, "selection", "it has no tables with rows", "")
	}
	if !f.replica {
		p.refuse(database, "role "+p.Target.Role.Display(), "it may not turn triggers and foreign keys off, which replacing rows needs",
			"ALTER ROLE "+p.Target.Role.Quote()+" SUPERUSER; or, from version 15 on: GRANT SET ON PARAMETER session_replication_role TO "+p.Target.Role.Quote()+";")
	}
	for _, u := range l.Units {
		t := f.Tables[u.Live]
		for _, x := range Judge(u, t) {
			p.refuse(database, x.Object, x.Reason, "bring it in beside (without --replace) and move what is needed by hand")
		}
		if t == nil {
			continue
		}
		for _, v := range t.views {
			p.warn(database, "materialized view "+v.String(), "shows the old rows of "+u.Live.String(), "REFRESH MATERIALIZED VIEW "+v.Quoted()+";")
		}
		for _, k := range t.ForeignKeys {
			if !slices.ContainsFunc(l.Keys, func(o ForeignKey) bool { return o.name == k.name && o.From == k.From }) {
				l.Keys = append(l.Keys, k)
			}
		}
	}
}

// Judge tells why the rows of a unit cannot take the place of a live table's.
func Judge(u selection.Unit, t *LiveTable) []selection.Note {
	object := "table " + u.Live.String()
	var all []selection.Note
	no := func(format string, args ...any) {
		all = append(all, selection.Note{Object: object, Reason: fmt.Sprintf(format, args...)})
	}
	if t == nil {
		no("does not exist in the live database")
		return all
	}
	if t.Kind != "r" && t.Kind != "p" {
		no("is no table in the live database")
		return all
	}
	gone, added := lacking(u.Columns, t.columns), lacking(t.columns, u.Columns)
	if len(gone)+len(added) > 0 {
		no("its columns differ: only in the snapshot (%s), only in the live table (%s)", displays(gone), displays(added))
	}
	if len(t.triggers) > 0 {
		no("triggers or rules fire even when they are turned off for the session: %s (ENABLE ALWAYS or REPLICA)", displays(t.triggers))
	}
	if len(t.noIdentity) > 0 {
		no("is published without a replica identity: %s", displays(t.noIdentity))
	}
	for _, k := range t.ForeignKeys {
		if k.period {
			no("%s is over periods, which cannot be checked", k)
		}
	}
	return all
}

func lacking(of, in []pg.Name) []pg.Name {
	return slices.DeleteFunc(slices.Clone(of), func(n pg.Name) bool { return slices.Contains(in, n) })
}

func displays(names []pg.Name) string {
	var all []string
	for _, n := range names {
		all = append(all, n.Display())
	}
	return strings.Join(all, ", ")
}

// liveLines word the plan of one database in use.
func (p *Plan) liveLines(d *DatabasePlan) []string {
	l := d.Live
	var all []string
	say := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	switch {
	case l.Done:
		say("database %s: an earlier attempt of this job did it already; what remains is in schema %s", d.Target.Display(), l.Schema.Display())
	case l.InPlace:
		say("database %s, in use: replace the rows of %d tables by those of the snapshot, in one transaction", d.Target.Display(), len(l.Units))
		say("  %d rows, %s, are loaded into schema %s and compared first", d.Rows, size(d.Bytes), l.Staging.Display())
		for _, u := range l.Units {
			say("  table %s: readers see the old rows until the end, writers wait", u.Live)
		}
		for _, k := range l.Keys {
			if k.Validated {
				say("  %s is checked before the end; a violation leaves everything as it is", k)
			} else {
				say("  %s is not valid now and is not checked", k)
			}
		}
		say("  the replaced rows are kept in schema %s; to drop them: %s", l.Schema.Display(), l.DropCommand())
	default:
		say("database %s, in use: %d tables come into the new schema %s, %d rows, %s; nothing else is touched", d.Target.Display(), d.Tables, l.Schema.Display(), d.Rows, size(d.Bytes))
		say("  under the name %s until they are complete and compared; to drop them: %s", l.Staging.Display(), l.DropCommand())
	}
	return all
}
