package check

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/index"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// scanIndexes reads every index file.
func (d *domain) scanIndexes(ctx context.Context) (err error) {
	entries := newSorter(d.dir, "indexed", indexedSize)
	for n := range d.indexes {
		f := &d.indexes[n]
		key := repo.IndexObject(d.id, f.id)
		err := d.scanIndex(ctx, key, n, entries)
		if err == nil {
			continue
		}
		f.bad = true
		if d.gone(ctx, key, err) {
			d.vanished = true
			continue
		}
		if err := d.failed(ctx, key, err); err != nil {
			return err
		}
	}
	d.indexed, err = entries.finish(ctx)
	return err
}

func (d *domain) scanIndex(ctx context.Context, key string, n int, entries *sorter) (err error) {
	f := d.indexes[n]
	if f.size > maxIndexFile {
		return fmt.Errorf("%s: %d bytes, at most %d can be right: %w", key, f.size, int64(maxIndexFile), errs.Corrupt)
	}
	r, err := d.store.Open(ctx, key, 0, -1)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }() // only read from
	record := make([]byte, 0, indexedSize)
	return index.Scan(r, f.size, d.id, f.id, func(e *index.Scanned) error {
		number, err := d.number(e.Pack)
		if err != nil {
			return err
		}
		record = append(record[:0], e.Prefix[:]...)
		record = place{number, uint32(e.Offset), e.Length}.append(record)
		return entries.add(binary.BigEndian.AppendUint32(record, uint32(n)))
	})
}

// comparison counts how directories and index files differ.
type comparison struct {
	d *domain
	// absent counts entries by the number of a pack that is not there, uncovered
	// frames in packs that no index file names.
	absent    map[uint32]int64
	uncovered int64
	packs     int64
	firstPack string
}

// compareIndexes compares directories and index files, both ways. Both are in
// order of the names' first halves.
func (d *domain) compareIndexes(ctx context.Context) error {
	c := comparison{d: d, absent: map[uint32]int64{}}
	if err := c.cover(ctx); err != nil {
		return err
	}
	if err := joinOn(ctx, d.indexed, d.places, prefixSize, maxSamePrefix, c.entry); err != nil {
		return err
	}
	if err := joinOn(ctx, d.places, d.indexed, prefixSize, maxSamePrefix, c.frame); err != nil {
		return err
	}
	if err := c.missingPacks(ctx); err != nil {
		return err
	}
	return c.uncoveredPacks(ctx)
}

// cover notes for each pack an index file that names it.
func (c *comparison) cover(ctx context.Context) error {
	return c.d.indexed.each(ctx, func(b []byte) error {
		p, file := readPlace(b[prefixSize:]), binary.BigEndian.Uint32(b[prefixSize+12:])
		if int(p.pack) < len(c.d.packs) && !c.d.indexes[file].bad {
			c.d.packs[p.pack].covered = file + 1
		}
		return nil
	})
}

// entry looks for the frame that an index entry names.
func (c *comparison) entry(l []byte, frames [][]byte, more bool) error {
	p, file := readPlace(l[prefixSize:]), binary.BigEndian.Uint32(l[prefixSize+12:])
	if c.d.indexes[file].bad {
		return nil
	}
	if int(p.pack) >= len(c.d.packs) {
		c.absent[p.pack]++
		return nil
	}
	if c.d.packs[p.pack].finding != notBad || more {
		return nil // there is no telling
	}
	for _, f := range frames {
		if readPlace(f[nameSize:]) == p {
			return nil
		}
	}
	c.d.add(Finding{Object: repo.IndexObject(c.d.id, c.d.indexes[file].id), Problem: Contradictory, Chunks: 1,
		Detail: fmt.Sprintf("it names a chunk at %d of %s that is not in that pack's directory", p.offset, c.d.packKey(p.pack))})
	return nil
}

// frame looks for the index entry of a frame.
func (c *comparison) frame(l []byte, entries [][]byte, more bool) error {
	p := readPlace(l[nameSize:])
	covered := c.d.packs[p.pack].covered
	if covered == 0 {
		c.uncovered++
		return nil
	}
	for _, e := range entries {
		if readPlace(e[prefixSize:]) == p && !c.d.indexes[binary.BigEndian.Uint32(e[prefixSize+12:])].bad {
			return nil
		}
	}
	if !more {
		c.d.add(Finding{Object: repo.IndexObject(c.d.id, c.d.indexes[covered-1].id), Problem: Contradictory, Chunks: 1,
			Detail: fmt.Sprintf("it does not name the chunk at %d of %s, a pack that it covers", p.offset, c.d.packKey(p.pack))})
	}
	return nil
}

// missingPacks makes findings of packs that index files name and that are not
// there. Pruning deletes index files first, so one whose file is gone by now
// was deleted in order.
func (c *comparison) missingPacks(ctx context.Context) error {
	namedBy := map[uint32]uint32{}
	err := c.d.indexed.each(ctx, func(b []byte) error {
		p, file := readPlace(b[prefixSize:]), binary.BigEndian.Uint32(b[prefixSize+12:])
		if _, ok := c.absent[p.pack]; ok && !c.d.indexes[file].bad {
			namedBy[p.pack] = file
		}
		return nil
	})
	if err != nil {
		return err
	}
	for number, entries := range c.absent {
		key := c.d.packKey(number)
		by := repo.IndexObject(c.d.id, c.d.indexes[namedBy[number]].id)
		if _, err := c.d.store.Stat(ctx, by); errors.Is(err, errs.NotFound) {
			continue
		}
		_, err := c.d.store.Stat(ctx, key)
		if err == nil {
			continue // it came meanwhile
		}
		if !errors.Is(err, errs.NotFound) {
			if err := c.d.fatal(ctx, err); err != nil {
				return err
			}
		}
		n := c.d.add(Finding{Object: key, Problem: Missing, Chunks: entries, Detail: by + " names it"})
		c.d.badPack(c.d.absent[int(number)-len(c.d.packs)])
		c.d.absentFindings[number] = n
	}
	return nil
}

// uncoveredPacks makes a finding of packs that no index file names, as far as
// nobody knows why: a job that runs, or that was cut off, leaves some, and so
// does an index file that is damaged.
func (c *comparison) uncoveredPacks(ctx context.Context) error {
	if slices.ContainsFunc(c.d.indexes, func(f indexFile) bool { return f.bad }) {
		return nil
	}
	if grown, err := c.grown(ctx); err != nil || grown {
		return err
	}
	for _, p := range c.d.packs {
		if p.covered != 0 || p.finding != notBad {
			continue
		}
		if c.d.o.Known != nil {
			waiting, err := c.d.o.Known.Unindexed(ctx, p.id)
			if err != nil {
				return fmt.Errorf("look up pack %s: %w", p.id.Short(), err)
			}
			if waiting {
				continue
			}
		}
		if c.packs++; c.packs == 1 {
			c.firstPack = repo.PackObject(c.d.id, p.id)
		}
	}
	if c.packs > 0 {
		c.d.add(Finding{Object: repo.IndexPrefix(c.d.id), Problem: Missing, Harmless: true,
			Detail: fmt.Sprintf("no index file names %d packs, the first is %s; readers look into the packs themselves", c.packs, c.firstPack)})
	}
	return nil
}

// grown tells whether an index file has come since they were listed: it may name
// the packs that none named then.
func (c *comparison) grown(ctx context.Context) (bool, error) {
	known := map[[32]byte]bool{}
	for _, f := range c.d.indexes {
		known[f.id] = true
	}
	grown := false
	err := c.d.store.List(ctx, repo.IndexPrefix(c.d.id), "", func(info blob.Info) error {
		if _, id, err := repo.ParseIndexObject(info.Key); err == nil && !known[id] {
			grown = true
		}
		return nil
	})
	return grown, err
}

// packOf finds, for a chunk that is in no directory, the pack that an index file
// says it was in, and gives that pack's finding; notBad when there is none.
func (d *domain) packOf(entries [][]byte) int {
	for _, e := range entries {
		p := readPlace(e[prefixSize:])
		if d.indexes[binary.BigEndian.Uint32(e[prefixSize+12:])].bad {
			continue
		}
		if int(p.pack) >= len(d.packs) {
			if n, ok := d.absentFindings[p.pack]; ok {
				return n
			}
		} else if f := d.packs[p.pack].finding; f != notBad && f != packGone {
			return int(f)
		}
	}
	return notBad
}
