package export

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/factsql"
	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// The files of a whole instance.
const (
	globalsFile   = "globals.sql"
	createFile    = "create.sql"
	settingsFile  = "settings.sql"
	databasesPath = "databases"
	manifestFile  = "manifest.json"
	readmeFile    = "README"
)

// instance writes everything in a snapshot into an empty folder.
func (r *run) instance(ctx context.Context, path string) error {
	if err := writeFile(filepath.Join(path, globalsFile), r.globals); err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(path, databasesPath), 0o700); err != nil {
		return errs.OfFile(err)
	}
	var loaded []loadable
	for i := range r.content.Logical.Databases {
		d := &r.content.Logical.Databases[i]
		if d.State == repo.DatabaseFailed {
			r.report.Problems = append(r.report.Problems, Problem{d.Name.Display(), "database", "its backup failed: there is nothing of it in the snapshot"})
			if !r.KeepGoing {
				return fmt.Errorf("database %s: its backup failed, there is nothing of it in the snapshot (export the others by keeping going): %w", d.Name.Display(), errs.NotFound)
			}
			continue
		}
		one := loadable{database: d, path: filepath.Join(databasesPath, r.fileOf(d))}
		if err := r.one(ctx, d, filepath.Join(path, one.path), one.path); err != nil {
			if !r.failed(ctx, err) {
				return err
			}
			r.report.Problems = append(r.report.Problems, Problem{d.Name.Display(), "database", err.Error()})
			if err := os.RemoveAll(filepath.Join(path, one.path)); err != nil {
				return errs.OfFile(err)
			}
			continue
		}
		loaded = append(loaded, one)
	}
	for _, f := range []struct {
		name string
		fn   func(io.Writer) error
	}{
		{createFile, func(w io.Writer) error { return r.create(w, loaded) }},
		{settingsFile, func(w io.Writer) error { return r.owners(w, loaded) }},
		{manifestFile, r.manifest},
		{readmeFile, func(w io.Writer) error { return r.readme(w, loaded) }},
	} {
		if err := writeFile(filepath.Join(path, f.name), f.fn); err != nil {
			return err
		}
	}
	return nil
}

// loadable is a database that was written.
type loadable struct {
	database *repo.Database
	path     string // within the output
}

// one writes one database of an instance.
func (r *run) one(ctx context.Context, d *repo.Database, path, name string) error {
	if r.Format == Plain {
		return writeFile(path, func(w io.Writer) error {
			return r.packed(w, func(w io.Writer) error { return r.plain(ctx, d, w, name) })
		})
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		return errs.OfFile(err)
	}
	return r.directory(ctx, d, path, name)
}

// harmless are names that mean nothing to any shell or file system.
var harmless = regexp.MustCompile(`^[a-z0-9_][a-z0-9_-]{0,62}$`)

// fileOf gives the name of a database's file or folder.
func (r *run) fileOf(d *repo.Database) string {
	name := string(d.Name)
	if !harmless.MatchString(name) || strings.HasPrefix(name, "database-") {
		name = fmt.Sprintf("database-%d", d.OID)
	}
	switch {
	case r.Format == Directory:
		return name
	case r.Compress:
		return name + ".sql.gz"
	}
	return name + ".sql"
}

// create writes the script that makes empty databases.
func (r *run) create(w io.Writer, all []loadable) error {
	s := newScript(w, !r.NoRestrict)
	s.comment("Empty databases of snapshot %s. Load it after globals.sql: psql -X -v ON_ERROR_STOP=1 -d postgres -f create.sql", r.Snapshot)
	s.line("SET client_encoding = 'UTF8';")
	for _, l := range all {
		if slices.Contains(standing, l.database.Name) {
			s.comment("Database %s is there on every new server", l.database.Name.Display())
			continue
		}
		p, err := repo.PropertiesOf(l.database)
		if err != nil {
			return err
		}
		s.line(factsql.CreateDatabase(l.database.Name, l.database.Encoding, p, r.content.Instance.Version) + ";")
	}
	return s.close()
}

// owners writes the script that gives databases their owners and settings.
func (r *run) owners(w io.Writer, all []loadable) error {
	s := newScript(w, !r.NoRestrict)
	s.comment("Owners, privileges and settings of the databases of snapshot %s. Load it last: psql -X -v ON_ERROR_STOP=1 -d postgres -f settings.sql", r.Snapshot)
	s.line("SET client_encoding = 'UTF8';")
	for _, l := range all {
		p, err := repo.PropertiesOf(l.database)
		if err == nil {
			err = databaseSettings(s, l.database, p)
		}
		if err != nil {
			return err
		}
	}
	return s.close()
}

// manifest writes the report, with row counts and fingerprints.
func (r *run) manifest(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(r.report)
}

// readme writes the commands that load everything.
func (r *run) readme(w io.Writer, all []loadable) error {
	var b strings.Builder
	say := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	say("Snapshot %s of instance %s, PostgreSQL %s, exported by Tuskvault.", r.Snapshot, pg.Name(r.content.Instance.Name).Display(), r.content.Instance.Version)
	say("")
	say("It is loaded by psql and pg_restore alone, into a new server of version %d or later,", r.content.Instance.Version.Major())
	say("as a superuser, in this folder (set PGHOST, PGPORT and PGUSER first):")
	say("")
	const psql = "    psql -X -q -v ON_ERROR_STOP=1 "
	say(psql + "-d postgres -f " + globalsFile)
	say(psql + "-d postgres -f " + createFile)
	for _, l := range all {
		// A database may be set to read only, or be made so by settings.sql.
		switch {
		case r.Format == Directory:
			say("    pg_restore --exit-on-error -j 4 -d %s %s", shellName(l.database.Name), l.path)
		case r.Compress:
			say("    gzip -dc %s | psql -X -q -v ON_ERROR_STOP=1 -d %s -f -", l.path, shellName(l.database.Name))
		default:
			say(psql+"-d %s -f %s", shellName(l.database.Name), l.path)
		}
	}
	say(psql + "-d postgres -f " + settingsFile)
	say("")
	say("%s has the rows and fingerprints of every table (docs/FORMAT.md of Tuskvault says", manifestFile)
	say("what a fingerprint is). Roles that exist already are left as they are.")
	if !r.NoRestrict {
		say("The scripts use \\restrict, which psql knows from 13.22, 14.19, 15.14, 16.10, 17.6 and 18 on.")
	}
	for _, p := range r.report.Problems {
		say("")
		say("NOT EXPORTED: database %s, %s: %s", p.Database, p.Object, pg.Name(p.Reason).Display())
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// shellName gives a database's name as -d takes it, quoted for a shell: a name
// with an equals sign would be read as a connection string.
func shellName(n pg.Name) string {
	if harmless.MatchString(string(n)) {
		return string(n)
	}
	conninfo := "dbname='" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(string(n)) + "'"
	return "'" + strings.ReplaceAll(conninfo, "'", `'\''`) + "'"
}
