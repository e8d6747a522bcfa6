package check

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/tuskvault/tuskvault/internal/seal"
)

// wantedSize is the length of a record of what a list tells of a frame: pack 4,
// offset 4, kind 1, plain length 4. Its name is that of the directory.
const wantedSize = 4 + 4 + 1 + 4

// chunkWalk goes along the chunks that lists name, by name.
type chunkWalk struct {
	d       *domain
	missing *sorter // names that are in no directory
	last    [nameSize]byte
	begun   bool
}

// checkChunks looks for every chunk of every list in the packs' directories: it
// must be there, with a length that its plain length allows.
func (d *domain) checkChunks(ctx context.Context) error {
	if d.lists.needed == nil {
		return nil
	}
	w := chunkWalk{d: d, missing: newSorter(d.dir, "missing", nameSize)}
	if err := joinOn(ctx, d.lists.needed, d.places, nameSize, maxPlaces, w.chunk); err != nil {
		return err
	}
	missing, err := w.missing.finish(ctx)
	if err != nil {
		return err
	}
	err = joinOn(ctx, missing, d.indexed, prefixSize, maxPlaces, func(name []byte, entries [][]byte, _ bool) error {
		return d.loseChunk(name, d.missingChunk(name, entries))
	})
	return errors.Join(err, missing.remove())
}

// chunk looks at one entry of one list.
func (w *chunkWalk) chunk(need []byte, frames [][]byte, _ bool) error {
	name, kind, plain := need[:nameSize], need[nameSize], binary.BigEndian.Uint32(need[nameSize+1:])
	first := !w.begun || !bytes.Equal(w.last[:], name)
	w.begun = true
	copy(w.last[:], name)
	if len(frames) == 0 {
		if !first {
			return nil
		}
		return w.missing.add(name)
	}
	if first {
		w.d.count.ReferencedBytes += int64(readPlace(frames[0][nameSize:]).length)
	}
	fits := false
	for _, f := range frames {
		p := readPlace(f[nameSize:])
		fits = fits || int64(p.length) <= int64(seal.MaxFrame(0))+int64(plain)
		if w.d.o.ReadData && w.d.o.Sample > 0 {
			b := binary.BigEndian.AppendUint32(make([]byte, 0, wantedSize), p.pack)
			b = append(binary.BigEndian.AppendUint32(b, p.offset), kind)
			if err := w.d.wanted.add(binary.BigEndian.AppendUint32(b, plain)); err != nil {
				return err
			}
		}
	}
	if fits {
		return nil
	}
	p := readPlace(frames[0][nameSize:])
	finding := w.d.add(Finding{Object: w.d.packKey(p.pack), Problem: Contradictory, Chunks: 1,
		Detail: fmt.Sprintf("the frame of chunk %s at %d has %d bytes, too many for the %d that a list says it holds", seal.Name(name), p.offset, p.length, plain)})
	return w.d.loseChunk(name, finding)
}

// loseChunk notes that no copy of a chunk is whole.
func (d *domain) loseChunk(name []byte, finding int) error {
	return d.lost.add(binary.BigEndian.AppendUint32(append(make([]byte, 0, nameSize+4), name...), uint32(int32(finding))))
}

// loseBad finds, among the chunks of which a copy is bad, those of which none is
// good.
func (d *domain) loseBad(ctx context.Context) error {
	bad, err := d.bad.finish(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = bad.remove() }() // the folder goes with the check
	g := group{width: nameSize, limit: maxPlaces}
	if g.reader, err = bad.open(); err != nil {
		return err
	}
	defer g.reader.close()
	var last [nameSize]byte
	begun := false
	return joinOn(ctx, bad, d.places, nameSize, maxPlaces, func(b []byte, frames [][]byte, more bool) error {
		if begun && bytes.Equal(last[:], b[:nameSize]) {
			return nil
		}
		begun = true
		copy(last[:], b)
		if err := g.moveTo(b[:nameSize]); err != nil {
			return err
		}
		for _, f := range frames {
			if !isBad(f, g.records) {
				return nil // a whole copy
			}
		}
		if more {
			return nil
		}
		for _, record := range g.records {
			if err := d.loseChunk(record[:nameSize], int(int32(readPlace(record[nameSize:]).length))); err != nil {
				return err
			}
		}
		return nil
	})
}

// isBad tells whether a frame is among the bad places of its chunk.
func isBad(frame []byte, bad [][]byte) bool {
	for _, b := range bad {
		if bytes.Equal(b[:nameSize+8], frame[:nameSize+8]) {
			return true
		}
	}
	return false
}
