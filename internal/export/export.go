package export

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// Format is how a database is written.
type Format string

// The formats.
const (
	// Directory is a folder for pg_restore, also in parallel.
	Directory Format = "directory"
	// Plain is SQL for psql.
	Plain Format = "plain"
)

// Selection says what of a snapshot is exported. Exactly one of Database, Globals
// and All is set.
type Selection struct {
	// Database is the display form of a name.
	Database string
	// Globals are roles, their memberships and settings, and tablespaces.
	Globals bool
	// All is the whole instance: globals and every database that is in the snapshot.
	All bool
}

// Options say how to export.
type Options struct {
	Selection
	// Source gives the snapshot's streams.
	Source Source
	// Snapshot is its id, for people who find the files later.
	Snapshot string
	Format   Format
	// Output is the file or folder to make; "-" is Stdout, for one script.
	Output string
	Stdout io.Writer
	// Compress scripts by gzip. It is on when Output ends with ".gz".
	Compress bool
	// Passwords writes the hashes of roles' passwords, if the snapshot has them.
	Passwords bool
	// NoRestrict leaves \restrict out of scripts, for a psql that does not know it.
	NoRestrict bool
	// KeepGoing writes what can be written although something is damaged.
	KeepGoing bool
	// Jobs is how many tables are written at once in the directory format; 1 if less.
	Jobs int
	// Progress, if set, is told several times a second how far it is, by one
	// goroutine at a time.
	Progress func(Progress)
}

// maxJobs bounds Options.Jobs: each has buffers of some two megabytes.
const maxJobs = 32

// Run exports. Its steps, in order:
//
//  1. Everything is written under a temporary name beside Output and synced. A
//     crash leaves that, and nothing under the name.
//  2. It gets its name, which must not exist (errs.Exists), and the folder that
//     it is in is synced.
//
// Output "-" is written as it comes: an error is all that tells that it is not whole.
//
// The report says what was written, also when the error is errs.Corrupt after
// KeepGoing: then the files are there, and not all that was in the snapshot is in
// them. With any other error nothing is left.
func Run(ctx context.Context, content *repo.Content, o Options) (*Report, error) {
	if err := o.check(content); err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	r := &run{Options: o, content: content, report: &Report{Snapshot: o.Snapshot, Instance: content.Instance.Name, Version: content.Instance.Version.String(),
		Format: string(o.Format), Output: o.Output, Databases: []DatabaseReport{}, Problems: []Problem{}}}
	err := r.write(ctx)
	if err != nil {
		return r.report, fmt.Errorf("export snapshot %s: %w", shortID(o.Snapshot), err)
	}
	if len(r.report.Problems) > 0 {
		return r.report, fmt.Errorf("export snapshot %s: %s: %w", shortID(o.Snapshot), summary(r.report.Problems), errs.Corrupt)
	}
	return r.report, nil
}

func shortID(id string) string { return id[:min(8, len(id))] }

func (o *Options) check(content *repo.Content) error {
	chosen := 0
	for _, on := range []bool{o.Database != "", o.Globals, o.All} {
		if on {
			chosen++
		}
	}
	stdout := o.Output == "-"
	switch {
	case content.Logical == nil:
		return fmt.Errorf("a snapshot of kind %q: %w", content.Kind, errs.Unsupported)
	case chosen != 1:
		return fmt.Errorf("either one database, the globals or the whole instance: %w", errs.Invalid)
	case o.Format != Directory && o.Format != Plain:
		return fmt.Errorf("format %q, must be %s or %s: %w", o.Format, Directory, Plain, errs.Invalid)
	case o.Output == "":
		return fmt.Errorf("no place for the output: %w", errs.Invalid)
	case stdout && (o.All || o.Database != "" && o.Format == Directory):
		return fmt.Errorf("a folder cannot be written to standard output: %w", errs.Invalid)
	}
	if !o.All && strings.HasSuffix(o.Output, ".gz") {
		o.Compress = true
	}
	if o.Progress == nil {
		o.Progress = func(Progress) {}
	}
	o.Jobs = min(max(o.Jobs, 1), maxJobs)
	return nil
}

// run is one export.
type run struct {
	Options
	content *repo.Content
	report  *Report
}

func (r *run) write(ctx context.Context) error {
	switch {
	case r.All:
		return r.place(func(path string) error { return r.instance(ctx, path) })
	case r.Globals:
		return r.file(r.Output, r.globals)
	}
	d, err := r.find()
	if err != nil {
		return err
	}
	if r.Format == Directory {
		return r.place(func(path string) error { return r.directory(ctx, d, path, r.Output) })
	}
	return r.file(r.Output, func(w io.Writer) error { return r.plain(ctx, d, w, r.Output) })
}

// find finds the database asked for.
func (r *run) find() (*repo.Database, error) {
	var names []string
	for i := range r.content.Logical.Databases {
		d := &r.content.Logical.Databases[i]
		if d.Name.Display() == r.Database {
			return d, nil
		}
		names = append(names, d.Name.Display())
	}
	return nil, fmt.Errorf("database %s: the snapshot has %s: %w", pg.Name(r.Database).Display(), strings.Join(names, ", "), errs.NotFound)
}

// problem notes what is wrong with an object, or gives it back as an error when
// that ends the export.
func (r *run) problem(ctx context.Context, d *repo.Database, object string, err error) error {
	if err == nil {
		return nil
	}
	named := fmt.Errorf("database %s: %s: %w", d.Name.Display(), object, err)
	if !r.KeepGoing || !survivable(ctx, err) {
		return named
	}
	r.report.Problems = append(r.report.Problems, Problem{Database: d.Name.Display(), Object: object, Reason: err.Error()})
	return nil
}

// summary words problems in one line.
func summary(all []Problem) string {
	p := all[0]
	s := fmt.Sprintf("database %s: %s: %s", p.Database, p.Object, strings.ReplaceAll(p.Reason, "\n", "; "))
	if n := len(all) - 1; n > 0 {
		s += fmt.Sprintf(" (and %d more)", n)
	}
	return s
}

// failed tells whether an error is about the one database that it came from, so
// that an export of all goes on with the next.
func (r *run) failed(ctx context.Context, err error) bool {
	return r.KeepGoing && (survivable(ctx, err) || ctx.Err() == nil && errors.Is(err, errs.NotFound))
}
