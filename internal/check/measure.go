package check

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/index"
	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// Measured is what is stored, as far as a listing tells.
type Measured struct {
	// Objects by kind.
	Objects map[string]ObjectCount
	// Domains in order of their ids, with packs, index files and, by the index, frames.
	Domains []DomainCount
}

// Bytes of all objects.
func (m *Measured) Bytes() (n int64) {
	for _, c := range m.Objects {
		n += c.Bytes
	}
	return n
}

// Measure counts what is in a store, without any key. It lists all of it and
// reads the first bytes of every index file; what is damaged is counted as it is.
func Measure(ctx context.Context, store blob.Store) (*Measured, error) {
	m := &Measured{Objects: map[string]ObjectCount{}}
	counts := map[seal.DomainID]*DomainCount{}
	domain := func(id seal.DomainID) *DomainCount {
		if counts[id] == nil {
			counts[id] = &DomainCount{Domain: id}
		}
		return counts[id]
	}
	err := store.List(ctx, "", "", func(info blob.Info) error {
		kind := known(info.Key)
		n := m.Objects[kind]
		m.Objects[kind] = ObjectCount{Objects: n.Objects + 1, Bytes: n.Bytes + info.Size}
		if id, _, err := repo.ParsePackObject(info.Key); err == nil {
			d := domain(id)
			d.Packs, d.Bytes = d.Packs+1, d.Bytes+info.Size
		}
		if id, _, err := repo.ParseIndexObject(info.Key); err == nil {
			d := domain(id)
			d.IndexFiles, d.IndexBytes = d.IndexFiles+1, d.IndexBytes+info.Size
			return countFrames(ctx, store, info, d)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("measure repository: %w", err)
	}
	for _, d := range counts {
		d.FrameBytes = max(0, d.Bytes-pack.Overhead(d.Packs, d.Frames))
		m.Domains = append(m.Domains, *d)
	}
	slices.SortFunc(m.Domains, func(a, b DomainCount) int { return cmp.Compare(a.Domain.String(), b.Domain.String()) })
	return m, nil
}

// countFrames adds what an index file says of itself to have. It is an answer
// for people: a file that cannot be read counts as nothing.
func countFrames(ctx context.Context, store blob.Store, info blob.Info, d *DomainCount) error {
	head, err := blob.ReadRange(ctx, store, info.Key, 0, min(info.Size, index.HeaderSize))
	if err != nil {
		return storeAtFault(ctx, store, err)
	}
	if n, err := index.CountEntries(head, info.Size); err == nil {
		d.Frames += n
	}
	return nil
}
