package check

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// traced says what of one chunk list is lost.
type traced struct {
	whole  []int      // findings that lose all of the list
	places []lostSpot // by position
}

type lostSpot struct {
	position uint16
	finding  int32
}

// trace finds the snapshots, databases and tables that need lost chunks: chunk →
// entries of lists → lists of snapshots → spans of tables.
func (d *domain) trace(ctx context.Context) error {
	lists, err := d.lostLists(ctx)
	if err != nil || len(lists) == 0 {
		return err
	}
	for _, s := range d.snapshots {
		if s.domain != d.id {
			continue
		}
		if err := d.traceSnapshot(ctx, s, lists); err != nil {
			return err
		}
	}
	return nil
}

// lostLists gives the lists that lost chunks are in, by name.
func (d *domain) lostLists(ctx context.Context) (map[seal.Name]*traced, error) {
	out := map[seal.Name]*traced{}
	at := func(list uint32) *traced {
		name := d.lists.claim(list).Name
		if out[name] == nil {
			out[name] = &traced{}
		}
		return out[name]
	}
	for list, finding := range d.lists.lost {
		at(list).whole = append(at(list).whole, finding)
	}
	lost, err := d.lost.finish(ctx)
	if err != nil || d.lists.needed == nil {
		return out, err
	}
	defer func() { _ = lost.remove() }() // the folder goes with the check
	spots := 0
	err = joinOn(ctx, d.lists.needed, lost, nameSize, maxPlaces, func(need []byte, causes [][]byte, _ bool) error {
		for _, cause := range causes {
			if spots++; spots > maxTraced {
				d.report.Untraced++
				continue
			}
			t := at(binary.BigEndian.Uint32(need[nameSize+5:]))
			t.places = append(t.places, lostSpot{binary.BigEndian.Uint16(need[nameSize+9:]), int32(binary.BigEndian.Uint32(cause[nameSize:]))})
		}
		return nil
	})
	for _, t := range out {
		slices.SortFunc(t.places, func(a, b lostSpot) int { return int(a.position) - int(b.position) })
	}
	return out, err
}

// traceSnapshot looks whether a snapshot has any of the lists, and which of its
// tables use what is lost.
func (d *domain) traceSnapshot(ctx context.Context, ref snapshotRef, lists map[seal.Name]*traced) error {
	s, err := d.repo.ReadSnapshot(ctx, ref.instance, ref.job)
	if errors.Is(err, errs.NotFound) {
		return nil // forgotten since, or never one
	}
	if err != nil {
		return d.snapshotFailed(ctx, repo.SnapshotObject(ref.instance, ref.job), err)
	}
	refs, err := s.OpenReferences(d.keys.roots.Refs())
	if err != nil {
		return d.snapshotFailed(ctx, repo.SnapshotObject(ref.instance, ref.job), err)
	}
	t := tracer{refs: refs, lists: lists}
	if !t.any() {
		return nil
	}
	content, err := s.OpenContent(d.keys.roots.Seal(s.Header.SealEpoch), refs)
	if err != nil {
		// Nothing can be told of its tables: what is lost may be in any.
		for _, finding := range t.all() {
			d.hurts(finding, Effect{Snapshot: ref.job, Instance: ref.instance})
		}
		return d.snapshotFailed(ctx, repo.SnapshotObject(ref.instance, ref.job), err)
	}
	objects := int64(0)
	t.content(content, func(database, object string, findings []int) {
		objects++
		for _, finding := range findings {
			d.hurts(finding, Effect{Snapshot: ref.job, Instance: ref.instance, Database: database, Object: object})
		}
	})
	if objects > 0 {
		d.hurtSnapshot(ref.instance, ref.job, false, objects)
	}
	return nil
}

// tracer follows the spans of one snapshot.
type tracer struct {
	refs  *repo.References
	lists map[seal.Name]*traced
}

// any tells whether the snapshot has one of the lists.
func (t *tracer) any() bool {
	return slices.ContainsFunc(t.refs.Lists, func(l repo.ListRef) bool { return t.lists[l.Name] != nil })
}

// all gives every finding that concerns one of the snapshot's lists.
func (t *tracer) all() []int {
	var out []int
	for _, l := range t.refs.Lists {
		if found := t.lists[l.Name]; found != nil {
			out = appendFindings(out, found, 0, l.Entries)
		}
	}
	return out
}

// content calls fn for each archive, table and set of large objects that uses
// something lost, with the findings.
func (t *tracer) content(c *repo.Content, fn func(database, object string, findings []int)) {
	if c.Logical == nil {
		return
	}
	for i := range c.Logical.Databases {
		db := &c.Logical.Databases[i]
		name := db.Name.Display()
		tell := func(object string, streams ...repo.Stream) {
			if findings := t.streams(streams...); len(findings) > 0 {
				fn(name, object, findings)
			}
		}
		if db.Archive != nil {
			tell("schema archive", db.Archive.Stream)
		}
		for j := range db.Tables {
			table := &db.Tables[j]
			var streams []repo.Stream
			for _, r := range table.Runs {
				streams = append(streams, r.Stream)
			}
			tell(fmt.Sprintf("%s.%s", table.Schema.Display(), table.Name.Display()), streams...)
		}
		if db.LargeObjects != nil {
			tell("large objects", db.LargeObjects.Data, db.LargeObjects.Meta)
		}
	}
}

// streams gives the findings that concern any of the chunks of streams.
func (t *tracer) streams(streams ...repo.Stream) []int {
	var out []int
	for _, s := range streams {
		for _, span := range s.Spans {
			if found := t.lists[t.refs.Lists[span.List].Name]; found != nil {
				out = appendFindings(out, found, span.First, span.Count)
			}
		}
	}
	return out
}

// appendFindings adds, each once, the findings that concern count entries of a
// list from first on.
func appendFindings(out []int, t *traced, first, count uint32) []int {
	add := func(f int) {
		if !slices.Contains(out, f) {
			out = append(out, f)
		}
	}
	for _, f := range t.whole {
		add(f)
	}
	i, _ := slices.BinarySearchFunc(t.places, first, func(s lostSpot, first uint32) int { return int(s.position) - int(first) })
	for ; i < len(t.places) && uint32(t.places[i].position) < first+count; i++ {
		add(int(t.places[i].finding))
	}
	return out
}
