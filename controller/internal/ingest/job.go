package ingest

import (
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/index"
	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// jobState is what a job's attempts share: the chunks that are durable and in no
// index file yet. It is kept from the first upload until they are in one.
type jobState struct {
	id       repo.JobID
	dom      *domain
	flushing *semaphore.Weighted // of 1: one index file at a time
	tail     tail

	mu      sync.Mutex
	streams int                  // upload streams that are open
	waiting int                  // of these, how many wait for a flush
	quiet   time.Time            // when the last stream ended
	current *fresh               // takes new packs
	frozen  *fresh               // is being written to an index file
	read    map[pack.ID]struct{} // packs whose directories were read back
}

// fresh is an index in memory of packs that no index file covers.
type fresh struct {
	packs  []pack.ID
	places map[seal.Name]place
}

// place is where a chunk is: a number of fresh.packs, and a range that fits 32
// bits since packs do.
type place struct {
	pack, offset, length uint32
}

func newFresh() *fresh { return &fresh{places: map[seal.Name]place{}} }

func (f *fresh) add(d *pack.Directory) {
	n := uint32(len(f.packs))
	f.packs = append(f.packs, d.ID)
	for _, e := range d.Entries {
		f.places[e.Name] = place{pack: n, offset: uint32(e.Offset), length: e.Length}
	}
}

func (f *fresh) find(name seal.Name) (index.Location, bool) {
	if f == nil {
		return index.Location{}, false
	}
	p, ok := f.places[name]
	if !ok {
		return index.Location{}, false
	}
	return index.Location{Pack: f.packs[p.pack], Offset: int64(p.offset), Length: p.length}, true
}

func (f *fresh) len() int {
	if f == nil {
		return 0
	}
	return len(f.places)
}

func newJobState(id repo.JobID, d *domain) *jobState {
	return &jobState{id: id, dom: d, flushing: semaphore.NewWeighted(1), tail: newTail(), current: newFresh(), read: map[pack.ID]struct{}{}}
}

// find looks a chunk up among those that no index file covers.
func (j *jobState) find(name seal.Name) (index.Location, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if l, ok := j.current.find(name); ok {
		return l, true
	}
	return j.frozen.find(name)
}

// add takes a stored pack in and tells how many chunks are in no index file.
func (j *jobState) add(d *pack.Directory) (added, size int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	before := j.current.len()
	j.current.add(d)
	return j.current.len() - before, j.current.len()
}

// freeze sets the current packs apart for an index file; nil when there are none.
func (j *jobState) freeze() *fresh {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.current.packs) == 0 {
		return nil
	}
	j.frozen, j.current = j.current, newFresh()
	return j.frozen
}

// thaw ends freeze: an index file covers the packs, or what is left of them goes
// back. It tells how many chunks went back.
func (j *jobState) thaw(covered bool) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	f := j.frozen
	j.frozen = nil
	if covered {
		return 0
	}
	shift := uint32(len(j.current.packs))
	j.current.packs = append(j.current.packs, f.packs...)
	for name, p := range f.places {
		p.pack += shift
		j.current.places[name] = p
	}
	return f.len()
}

// forget removes packs from those that are being written to an index file.
func (j *jobState) forget(lost map[pack.ID]error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.frozen.forget(lost)
}

// readBack notes that the directories of packs were read back from the store.
// 32 bytes a pack are half a megabyte for a terabyte.
func (j *jobState) readBack(ids []pack.ID) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, id := range ids {
		j.read[id] = struct{}{}
	}
}

func (j *jobState) wasRead(id pack.ID) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	_, ok := j.read[id]
	return ok
}

// jobKey names the state of a job. An attempt may be given another domain than
// the one before, when an operator moved the instance meanwhile: what that one
// has in memory is of no use to it.
type jobKey struct {
	id     repo.JobID
	domain seal.DomainID
}

func (j *jobState) key() jobKey { return jobKey{j.id, j.dom.id} }

// enterJob finds or makes the state of a job and counts a stream in. A job that
// has too many is Exhausted.
func (s *Server) enterJob(g Grant, d *domain) (*jobState, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	j := s.jobs[jobKey{g.Job, d.id}]
	if j == nil {
		j = newJobState(g.Job, d)
		s.jobs[j.key()] = j
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.streams >= jobStreams {
		return nil, fmt.Errorf("job %s has %d streams already: %w", g.Job, j.streams, errs.Exhausted)
	}
	j.streams++
	return j, nil
}

func (s *Server) leaveJob(j *jobState) {
	j.mu.Lock()
	j.streams--
	j.quiet = time.Now()
	j.mu.Unlock()
}

// jobStates gives the states of a job, one for each domain of its attempts.
func (s *Server) jobStates(id repo.JobID) (all []*jobState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, j := range s.jobs {
		if key.id == id {
			all = append(all, j)
		}
	}
	return all
}
