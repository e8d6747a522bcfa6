package check

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// The records of sorted files of one domain. Packs are numbers: positions in
// domain.packs. All integers are big endian, so that byte order is number order.
const (
	// placeSize: name 32, pack 4, offset 4, length 4: a frame in a directory.
	placeSize = 32 + 4 + 4 + 4
	// indexedSize: prefix 16, pack 4, offset 4, length 4, index file 4.
	indexedSize = 16 + 4 + 4 + 4 + 4
	prefixSize  = 16
	nameSize    = 32
)

// domain is the check of one domain.
type domain struct {
	*checker
	id    seal.DomainID
	count *DomainCount
	keys  *domainKeys // nil without keys

	// indexes are the index files. Listed before the packs, since a file is written
	// after the packs it names.
	indexes []indexFile
	packs   []packState
	// absent are packs that only index files name: numbers from len(packs) on.
	absent         []pack.ID
	numbers        map[pack.ID]uint32 // of absent
	absentFindings map[uint32]int
	// badFrames are the packs with bad frames by number, toldApart counts the frames.
	badFrames map[uint32]*badFrames
	toldApart int

	places  *sorted // frames by name
	indexed *sorted // entries of index files by prefix
	bad     *sorter // frames found bad, as places
	lost    *sorter // chunks of which no copy is whole: name 32, finding 4
	wanted  *sorter // frames whose kind and plain length a list tells: see wantedSize
	lists   chunkLists
	// vanished tells that something of it was deleted while it was being read.
	vanished bool
}

// packState is what is known of a pack.
type packState struct {
	id   pack.ID
	size int64
	// finding says why nothing in it can be relied on, or is notBad or packGone.
	finding int32
	// covered is one more than the number of an index file that names it, or 0.
	covered uint32
}

// What stands in the place of a finding.
const (
	// notBad: the pack's directory is good.
	notBad = -2
	// packGone: the pack was deleted since it was listed.
	packGone = -3
)

// indexFile is an index file of the domain.
type indexFile struct {
	id   [32]byte
	size int64
	bad  bool // what it says is worth nothing
}

// domainKeys are what opens a domain.
type domainKeys struct {
	*repo.Domain
	roots  seal.DomainKeys
	epoch  uint32       // the newest seal epoch that opener knows
	opener *seal.Opener // chunks and lists
}

// checkDomains checks every domain that anything names and that is not erased, in
// order of the ids.
func (c *checker) checkDomains(ctx context.Context) error {
	needs, err := c.lists.finish(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = needs.remove() }() // the folder goes with the check
	from, err := needs.open()
	if err != nil {
		return err
	}
	defer from.close()
	ids := slices.SortedFunc(maps.Keys(c.domains), func(a, b seal.DomainID) int { return slices.Compare(a[:], b[:]) })
	c.tell(func(p *Progress) { p.Domains = len(ids) })
	for i, id := range ids {
		c.tell(func(p *Progress) { p.Domain, p.DomainsDone = id, i })
		if erased, err := c.erased(ctx, id); err != nil {
			return err
		} else if erased {
			continue
		}
		d := &domain{checker: c, id: id, count: c.domainCount(id), numbers: map[pack.ID]uint32{}, absentFindings: map[uint32]int{},
			badFrames: map[uint32]*badFrames{}}
		if err := d.run(ctx, from); err != nil {
			return fmt.Errorf("domain %s: %w", id, err)
		}
	}
	return nil
}

func (d *domain) run(ctx context.Context, needs *reader) (err error) {
	if err := d.open(ctx); err != nil {
		return err
	}
	defer func() {
		if err == nil {
			err = errors.Join(d.places.remove(), d.indexed.remove(), d.lists.remove())
		}
	}()
	if err := d.takeClaims(ctx, needs); err != nil {
		return err
	}
	if err := d.structure(ctx); err != nil {
		return err
	}
	d.phase(PhaseFrames)
	if err := d.readFrames(ctx); err != nil {
		return err
	}
	d.markBad()
	d.phase(PhaseTrace)
	if err := d.loseBad(ctx); err != nil {
		return err
	}
	return d.trace(ctx)
}

// open opens the domain's keys. A domain whose record is damaged is a finding
// already; its packs are checked as if there were no keys.
func (d *domain) open(ctx context.Context) error {
	if d.repo == nil {
		return nil
	}
	rd, err := d.repo.Domain(ctx, d.id)
	if err != nil {
		if !d.domains[d.id].present {
			d.add(Finding{Object: repo.DomainPrefix(d.id), Problem: Missing, Detail: "there are objects of this domain, and no record of it that can be opened"})
		}
		return d.fatal(ctx, err)
	}
	d.keys = openKeys(rd)
	return nil
}

// openKeys makes what opens everything of a domain that was sealed up to now.
func openKeys(d *repo.Domain) *domainKeys {
	roots := d.Keys()
	k := &domainKeys{Domain: d, roots: roots, epoch: d.SealEpoch()}
	sealKeys := map[uint32]seal.Key{}
	for e := uint32(1); e <= k.epoch; e++ {
		sealKeys[e] = roots.Seal(e)
	}
	k.opener = seal.NewOpener(d.ID(), roots.Name(), roots.Refs(), sealKeys, max(d.Params().Max, repo.MaxListBytes))
	return k
}

// list remembers the index files, then the packs.
func (d *domain) list(ctx context.Context) error {
	err := d.store.List(ctx, repo.IndexPrefix(d.id), "", func(info blob.Info) error {
		_, id, err := repo.ParseIndexObject(info.Key)
		if err != nil {
			return nil // it is a finding already
		}
		if len(d.indexes) >= maxPacks {
			return fmt.Errorf("more than %d index files: %w", maxPacks, errs.Exhausted)
		}
		d.indexes = append(d.indexes, indexFile{id: id, size: info.Size})
		d.count.IndexFiles++
		d.count.IndexBytes += info.Size
		return nil
	})
	if err != nil {
		return err
	}
	err = d.store.List(ctx, repo.PackPrefix(d.id), "", func(info blob.Info) error {
		_, id, err := repo.ParsePackObject(info.Key)
		if err != nil {
			return nil // it is a finding already
		}
		if len(d.packs) >= maxPacks {
			return fmt.Errorf("more than %d packs: %w", maxPacks, errs.Exhausted)
		}
		d.packs = append(d.packs, packState{id: id, size: info.Size, finding: notBad})
		d.count.Packs++
		d.count.Bytes += info.Size
		return nil
	})
	if len(d.packs) > 0 && d.keys == nil && !d.domains[d.id].present {
		d.add(Finding{Object: repo.DomainPrefix(d.id), Problem: Missing, Detail: "there are packs of this domain, and no record of it"})
	}
	d.tell(func(p *Progress) { p.Packs += int64(len(d.packs)) })
	return err
}

// number gives the number of a pack: one beyond those that are there for a pack
// that is not.
func (d *domain) number(id pack.ID) (uint32, error) {
	n, ok := slices.BinarySearchFunc(d.packs, id, func(p packState, id pack.ID) int { return slices.Compare(p.id[:], id[:]) })
	if ok {
		return uint32(n), nil
	}
	if n, ok := d.numbers[id]; ok {
		return n, nil
	}
	if len(d.absent) >= maxPacks {
		return 0, fmt.Errorf("index files name more than %d packs that are not there: %w", maxPacks, errs.Exhausted)
	}
	at := uint32(len(d.packs) + len(d.absent))
	d.absent = append(d.absent, id)
	d.numbers[id] = at
	return at, nil
}

func (d *domain) packKey(n uint32) string {
	if int(n) < len(d.packs) {
		return repo.PackObject(d.id, d.packs[n].id)
	}
	return repo.PackObject(d.id, d.absent[int(n)-len(d.packs)])
}

// place is a record of a frame, or of an index entry after its prefix.
type place struct {
	pack, offset, length uint32
}

func (p place) append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, p.pack)
	dst = binary.BigEndian.AppendUint32(dst, p.offset)
	return binary.BigEndian.AppendUint32(dst, p.length)
}

func readPlace(b []byte) place {
	return place{binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint32(b[8:])}
}

// takeClaims takes in, from needs, which is in the order of domains, the lists
// that snapshots of this domain name.
func (d *domain) takeClaims(ctx context.Context, needs *reader) error {
	for needs.head != nil {
		switch c := bytes.Compare(needs.head[:16], d.id[:]); {
		case c > 0:
			return nil
		case c == 0:
			if err := d.lists.take(needs.head[16:]); err != nil {
				return err
			}
		}
		if err := needs.next(); err != nil {
			return err
		}
	}
	return nil
}
