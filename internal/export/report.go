package export

import (
	"cmp"
	"strings"
	"sync"
	"time"

	"github.com/tuskvault/tuskvault/internal/repo"
)

// Report says what an export wrote. As JSON it is the manifest.json of a whole
// instance. Names are in display form.
type Report struct {
	Snapshot string `json:"snapshot"`
	Instance string `json:"instance"`
	// Version of the source.
	Version   string           `json:"postgresql_version"`
	Format    string           `json:"format"`
	Output    string           `json:"output"`
	Databases []DatabaseReport `json:"databases"`
	// Problems are what could not be exported. With one, not everything that was in
	// the snapshot is in the files.
	Problems []Problem `json:"problems"`
}

// DatabaseReport is one database.
type DatabaseReport struct {
	Name string `json:"name"`
	// Path of the file or folder, of a whole instance within the output.
	Path     string `json:"path"`
	Encoding string `json:"encoding"`
	// State in the snapshot, with what is not complete in it.
	State         string        `json:"state"`
	Missing       []string      `json:"missing"`
	ArchiveFormat string        `json:"archive_format"`
	Rows          int64         `json:"rows"`
	Bytes         int64         `json:"bytes"`
	Sequences     int           `json:"sequences"`
	LargeObjects  int64         `json:"large_objects"`
	Tables        []TableReport `json:"tables"`
}

// TableReport is one table.
type TableReport struct {
	Schema string `json:"schema"`
	Name   string `json:"name"`
	// Rows written, and the fingerprint of its rows of text; see docs/FORMAT.md.
	Rows        int64  `json:"rows"`
	Fingerprint string `json:"fingerprint"`
	// Omitted says why the snapshot has no rows of it, or is empty.
	Omitted string `json:"omitted,omitempty"`
	// Incomplete says that not all its rows were written.
	Incomplete bool `json:"incomplete,omitempty"`
}

// Problem is something that could not be exported.
type Problem struct {
	Database string `json:"database"`
	Object   string `json:"object"`
	Reason   string `json:"reason"`
}

// Progress is how far the export of one database is.
type Progress struct {
	Database            string
	Tables, TablesTotal int
	Rows                int64
	Bytes, BytesTotal   int64
}

// progressEvery is the pause between two reports of progress.
const progressEvery = 200 * time.Millisecond

// tracker counts for one database.
type tracker struct {
	tell func(Progress)

	mu   sync.Mutex // held while tell runs, so that it is told in order
	now  Progress
	told time.Time
}

func (r *run) track(d *repo.Database) *tracker {
	t := &tracker{tell: r.Progress, now: Progress{Database: d.Name.Display()}}
	for i := range d.Tables {
		if d.Tables[i].Omitted != "" {
			continue
		}
		t.now.TablesTotal++
		for _, run := range d.Tables[i].Runs {
			t.now.BytesTotal += run.Stream.Bytes
		}
	}
	if d.LargeObjects != nil {
		t.now.BytesTotal += d.LargeObjects.Data.Bytes
	}
	t.tell(t.now)
	return t
}

func (t *tracker) add(tables int, rows, bytes int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.now.Tables += tables
	t.now.Rows += rows
	t.now.Bytes += bytes
	if now := time.Now(); now.Sub(t.told) >= progressEvery || t.now.Tables == t.now.TablesTotal && tables > 0 {
		t.told = now
		t.tell(t.now)
	}
}

// rows is add as rows pass.
func (t *tracker) rows(rows, bytes int64) { t.add(0, rows, bytes) }

// describe begins the report of a database.
func describe(d *repo.Database, path string) *DatabaseReport {
	out := &DatabaseReport{Name: d.Name.Display(), Path: path, Encoding: d.Encoding, State: string(d.State), Missing: []string{}, Sequences: len(d.Sequences), Tables: []TableReport{}}
	if d.Archive != nil {
		out.ArchiveFormat = d.Archive.FormatVersion
	}
	for _, p := range d.Problems {
		if p.Severity == "error" {
			out.Missing = append(out.Missing, p.Object+": "+p.Reason)
		}
	}
	for i := range d.Tables {
		if t := &d.Tables[i]; t.Omitted != "" {
			out.Tables = append(out.Tables, TableReport{Schema: t.Schema.Display(), Name: t.Name.Display(), Fingerprint: t.Fingerprint.String(), Omitted: t.Omitted})
		}
	}
	return out
}

// wrote adds a table.
func (d *DatabaseReport) wrote(t *repo.Table, rows int64) {
	total := int64(0)
	for _, r := range t.Runs {
		total += r.Rows
		d.Bytes += r.Stream.Bytes
	}
	d.Rows += rows
	d.Tables = append(d.Tables, TableReport{Schema: t.Schema.Display(), Name: t.Name.Display(), Rows: rows, Fingerprint: t.Fingerprint.String(), Incomplete: rows != total})
}

func compareReports(a, b TableReport) int {
	return cmp.Or(strings.Compare(a.Schema, b.Schema), strings.Compare(a.Name, b.Name))
}
