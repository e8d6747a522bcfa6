package ingest

import (
	"sync"

	"github.com/tuskvault/tuskvault/internal/check"
	"github.com/tuskvault/tuskvault/internal/index"
	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// distrust is what is known to be damaged in the store: places that the index
// still names and that must not be relied on. A chunk all of whose places are
// among them counts as not stored, so that the next backup of the same rows
// sends it again, and every snapshot that names it is whole again; a restore
// tries these places last.
//
// Memory is bounded by whoever tells: a pack takes at most check.MaxBadFrames
// frames, about 20 KiB.
type distrust struct {
	mu      sync.RWMutex
	domains map[seal.DomainID]*distrusted
}

// distrusted are the places of one domain.
type distrusted struct {
	packs map[pack.ID]check.BadPack
	whole int               // damaged packs of which nothing counts
	names map[seal.Name]int // chunks with a bad frame, by the number of those
	// condemned packs are whole and will be deleted: see prune.go. They are apart from
	// what is damaged, since nothing that a scrub finds may take them back.
	condemned map[pack.ID]*sentence
	// marked packs are whole and not counted either. Each reason is set and lifted by
	// itself: a pack that was found sound is still not relied on for another reason.
	marked map[pack.ID]reason
}

// reason says why a pack that is whole is not counted.
type reason byte

const (
	// byHost: who uploaded it is not trusted.
	byHost reason = 1 << iota
)

// DistrustHost takes in that the uploader of packs is not trusted.
func (s *Server) DistrustHost(domain seal.DomainID, packs ...pack.ID) {
	s.distrust.mark(byHost, domain, packs)
}

// mark adds a reason to packs.
func (d *distrust) mark(why reason, domain seal.DomainID, packs []pack.ID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	of := d.ofLocked(domain)
	for _, id := range packs {
		of.marked[id] |= why
	}
}

// ofLocked gives what is known of a domain, for writing.
func (d *distrust) ofLocked(domain seal.DomainID) *distrusted {
	of := d.domains[domain]
	if of == nil {
		of = &distrusted{packs: map[pack.ID]check.BadPack{}, names: map[seal.Name]int{}, condemned: map[pack.ID]*sentence{}, marked: map[pack.ID]reason{}}
		d.domains[domain] = of
	}
	return of
}

// Distrust takes in that something in packs is damaged. What it said of the same
// packs before is forgotten.
func (s *Server) Distrust(bad ...check.BadPack) {
	s.distrust.mu.Lock()
	defer s.distrust.mu.Unlock()
	for _, b := range bad {
		s.distrust.removeLocked(b.Domain, b.Pack)
		s.distrust.addLocked(b)
	}
}

// Trust takes in that packs are whole again, or are gone for good.
func (s *Server) Trust(domain seal.DomainID, packs ...pack.ID) {
	s.distrust.mu.Lock()
	defer s.distrust.mu.Unlock()
	for _, id := range packs {
		s.distrust.removeLocked(domain, id)
	}
}

// forget drops all that is known of a domain.
func (d *distrust) forget(domain seal.DomainID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.domains, domain)
}

func (d *distrust) addLocked(b check.BadPack) {
	of := d.ofLocked(b.Domain)
	of.packs[b.Pack] = b
	if b.Whole {
		of.whole++
		return
	}
	for _, f := range b.Frames {
		of.names[f.Name]++
	}
}

func (d *distrust) removeLocked(domain seal.DomainID, id pack.ID) {
	of := d.domains[domain]
	if of == nil {
		return
	}
	b, ok := of.packs[id]
	if !ok {
		return
	}
	delete(of.packs, id)
	if b.Whole {
		of.whole--
		return
	}
	for _, f := range b.Frames {
		if of.names[f.Name]--; of.names[f.Name] == 0 {
			delete(of.names, f.Name)
		}
	}
}

// touches tells whether any place of a chunk may be distrusted: usually none is,
// and the index alone answers.
func (d *distrust) touches(domain seal.DomainID, name seal.Name) bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	of := d.domains[domain]
	return of != nil && (of.whole > 0 || len(of.marked) > 0 || of.names[name] > 0 || len(of.condemned) > 0)
}

// trusted puts the places that may be relied on first and gives their number.
// claims is the job for which a snapshot is being made, if any: condemned packs
// count for the jobs that their prune waits for.
func (d *distrust) trusted(domain seal.DomainID, places []index.Location, claims repo.JobID) int {
	d.mu.RLock()
	defer d.mu.RUnlock()
	of := d.domains[domain]
	if of == nil {
		return len(places)
	}
	var bad []index.Location
	good := 0
	for _, l := range places {
		if of.bad(l) || of.condemned[l.Pack].bars(claims) {
			bad = append(bad, l)
			continue
		}
		places[good] = l
		good++
	}
	copy(places[good:], bad)
	return good
}

func (d *distrusted) bad(l index.Location) bool {
	if d.marked[l.Pack] != 0 {
		return true
	}
	b, ok := d.packs[l.Pack]
	if !ok || b.Whole {
		return ok
	}
	for _, f := range b.Frames {
		if f.Offset == l.Offset {
			return true
		}
	}
	return false
}
