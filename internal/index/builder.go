package index

import (
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// BuilderEntries is the number of entries at which a caller should add what it
// has built and start again, so that a large job does not hold its whole index
// in memory: 256 Ki entries are 7 MiB (twice that while the slice grows) and 65
// GB of rows.
const BuilderEntries = 1 << 18

// Builder collects locations for one new index file. It holds 28 bytes for
// each. One goroutine at a time may use it.
type Builder struct {
	domain  seal.DomainID
	records []record
	packs   []pack.ID
	numbers map[pack.ID]uint32
}

// NewBuilder makes an empty Builder for a domain.
func NewBuilder(domain seal.DomainID) *Builder {
	return &Builder{domain: domain, numbers: make(map[pack.ID]uint32)}
}

// Add takes in where a chunk is. The same location may be added twice; it is
// kept once.
func (b *Builder) Add(name seal.Name, l Location) {
	if l.Offset < 0 || l.Offset > math.MaxUint32 {
		panic("index: offset beyond any pack")
	}
	number, ok := b.numbers[l.Pack]
	if !ok {
		number = uint32(len(b.packs))
		b.packs = append(b.packs, l.Pack)
		b.numbers[l.Pack] = number
	}
	b.records = append(b.records, newRecord(&name, number, uint32(l.Offset), l.Length))
}

// AddPack takes in every frame of a pack.
func (b *Builder) AddPack(d *pack.Directory) {
	for _, e := range d.Entries {
		b.Add(e.Name, Location{Pack: d.ID, Offset: e.Offset, Length: e.Length})
	}
}

// Len is the number of locations added.
func (b *Builder) Len() int { return len(b.records) }

// Build writes the index file: the same bytes for the same locations, in
// whatever order they were added. More may be added afterwards, for another
// file.
func (b *Builder) Build(w io.Writer) error {
	_, err := b.build(w)
	return err
}

func (b *Builder) build(w io.Writer) (FileID, error) {
	b.sort()
	id, err := writeFile(w, b.domain, b.packs, uint64(len(b.records)), func(fn func(*record) error) error {
		for i := range b.records {
			if err := fn(&b.records[i]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return FileID{}, fmt.Errorf("build index file: %w", err)
	}
	return id, nil
}

// sort numbers packs in the order of their ids, and orders records.
func (b *Builder) sort() {
	order := make([]uint32, len(b.packs))
	for i := range order {
		order[i] = uint32(i)
	}
	slices.SortFunc(order, func(x, y uint32) int { return slices.Compare(b.packs[x][:], b.packs[y][:]) })
	packs, renumber := make([]pack.ID, len(order)), make([]uint32, len(order))
	for to, from := range order {
		packs[to], renumber[from] = b.packs[from], uint32(to)
	}
	for i := range b.records {
		b.records[i].setNumber(renumber[b.records[i].number()])
	}
	for id, from := range b.numbers {
		b.numbers[id] = renumber[from]
	}
	b.packs = packs
	slices.SortFunc(b.records, compareRecords)
	b.records = slices.Compact(b.records)
}
