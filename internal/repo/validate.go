package repo

import (
	"fmt"
	"math"
	"slices"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// Validate tells whether a content can be what it claims to be, given the
// references part beside it: every span lies within its list, no chunk is used
// more often than there are chunks, counts add up and nothing is negative. It
// names the first thing that is wrong; the error is errs.Invalid. Whoever takes
// a content from elsewhere calls it before believing anything in it.
func (c *Content) Validate(refs *References) error {
	if err := c.validate(refs); err != nil {
		return fmt.Errorf("content: %w: %w", err, errs.Invalid)
	}
	return nil
}

func (c *Content) validate(refs *References) error {
	if c.Version != contentVersion {
		return fmt.Errorf("version %d", c.Version)
	}
	if c.Kind != KindLogical || c.Logical == nil {
		return fmt.Errorf("kind %q, or its section is missing", c.Kind)
	}
	if c.Finished.Before(c.Started) {
		return fmt.Errorf("finished %s before it started %s", c.Finished, c.Started)
	}
	v := validator{refs: refs, left: refs.Chunks}
	seen := map[string]bool{}
	for i := range c.Logical.Databases {
		d := &c.Logical.Databases[i]
		if seen[string(d.Name)] || d.Name == "" {
			return fmt.Errorf("database %q: named twice or not at all", d.Name.Display())
		}
		seen[string(d.Name)] = true
		if err := v.database(d); err != nil {
			return fmt.Errorf("database %q: %w", d.Name.Display(), err)
		}
	}
	return nil
}

// validator counts down the chunks that spans may still use. Every entry of a
// list belongs to one stream, so that all spans together are no more than all
// entries: without it, a small manifest could ask for the same gigabyte a
// million times.
type validator struct {
	refs *References
	left int64
}

func (v *validator) database(d *Database) error {
	switch d.State {
	case DatabaseComplete, DatabasePartial:
		if d.Archive == nil {
			return fmt.Errorf("%s without a schema archive", d.State)
		}
	case DatabaseFailed:
	default:
		return fmt.Errorf("state %q", d.State)
	}
	if d.Archive != nil {
		if err := v.stream(&d.Archive.Stream); err != nil {
			return fmt.Errorf("schema archive: %w", err)
		}
	}
	if s := d.Size; s != nil && (s.Bytes < 0 || s.Indexes < 0 || slices.ContainsFunc(s.Elsewhere, func(e SpaceFacts) bool { return e.Bytes < 0 })) {
		return fmt.Errorf("size %+v", *s)
	}
	oids := make(map[uint32]bool, len(d.Tables))
	for i := range d.Tables {
		t := &d.Tables[i]
		err := v.table(t)
		if err == nil && oids[t.OID] {
			err = fmt.Errorf("oid %d twice", t.OID)
		}
		if err != nil {
			return fmt.Errorf("table %s.%s: %w", t.Schema.Display(), t.Name.Display(), err)
		}
		oids[t.OID] = true
	}
	if d.LargeObjects != nil {
		if err := v.largeObjects(d.LargeObjects); err != nil {
			return fmt.Errorf("large objects: %w", err)
		}
	}
	return nil
}

func (v *validator) table(t *Table) error {
	if t.Name == "" || t.Rows < 0 || t.Pages < 0 {
		return fmt.Errorf("%d rows, %d pages", t.Rows, t.Pages)
	}
	if t.Omitted != "" && len(t.Runs) > 0 {
		return fmt.Errorf("rows omitted (%s), yet %d runs", t.Omitted, len(t.Runs))
	}
	var rows int64
	var sum Fingerprint
	for i := range t.Runs {
		r := &t.Runs[i]
		if err := v.run(r); err != nil {
			return fmt.Errorf("run %d: %w", i, err)
		}
		if r.Binary {
			continue // a table's totals are those of its text rows
		}
		if rows > math.MaxInt64-r.Rows {
			return fmt.Errorf("run %d: more rows than can be counted", i)
		}
		rows += r.Rows
		sum.Merge(r.Fingerprint)
	}
	if rows != t.Rows || sum != t.Fingerprint {
		return fmt.Errorf("%d rows with fingerprint %s, its runs have %d with %s", t.Rows, t.Fingerprint, rows, sum)
	}
	return nil
}

func (v *validator) run(r *Run) error {
	if err := v.stream(&r.Stream); err != nil {
		return err
	}
	return rowsIn(r.Rows, r.Fingerprint, r.Stream.Bytes)
}

func (v *validator) largeObjects(l *LargeObjects) error {
	if err := v.stream(&l.Data); err != nil {
		return fmt.Errorf("data: %w", err)
	}
	if err := v.stream(&l.Meta); err != nil {
		return fmt.Errorf("metadata: %w", err)
	}
	if l.Count < 0 || l.Count > l.Meta.Bytes || l.BlockSize <= 0 {
		return fmt.Errorf("%d objects in blocks of %d bytes, with %d bytes of metadata", l.Count, l.BlockSize, l.Meta.Bytes)
	}
	return rowsIn(l.Rows, l.Fingerprint, l.Data.Bytes)
}

// rowsIn refuses rows that cannot be in so many bytes: a row has at least one.
func rowsIn(rows int64, f Fingerprint, bytes int64) error {
	if rows < 0 || rows > bytes || (rows == 0) != (bytes == 0) || rows == 0 && f != (Fingerprint{}) {
		return fmt.Errorf("%d rows with fingerprint %s in %d bytes", rows, f, bytes)
	}
	return nil
}

func (v *validator) stream(s *Stream) error {
	var chunks, most int64
	for i, span := range s.Spans {
		if int64(span.List) >= int64(len(v.refs.Lists)) {
			return fmt.Errorf("span %d: list %d of %d", i, span.List, len(v.refs.Lists))
		}
		list := v.refs.Lists[span.List]
		if span.Count == 0 || int64(span.First)+int64(span.Count) > int64(list.Entries) {
			return fmt.Errorf("span %d: %d entries from %d of a list of %d", i, span.Count, span.First, list.Entries)
		}
		if v.left -= int64(span.Count); v.left < 0 {
			return fmt.Errorf("span %d: more chunks used than there are", i)
		}
		chunks += int64(span.Count)
		most += list.Bytes // at most refs.Bytes for each use of a chunk, see left
		if most < 0 {
			most = math.MaxInt64
		}
	}
	if s.Bytes < chunks || s.Bytes > most {
		return fmt.Errorf("%d bytes in %d chunks of lists of %d bytes", s.Bytes, chunks, most)
	}
	return nil
}
