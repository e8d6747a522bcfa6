package ingest

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sync/semaphore"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/index"
	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// domain is an open dedup domain.
type domain struct {
	*repo.Domain
	id       seal.DomainID
	keys     seal.DomainKeys
	set      *index.Set
	maxPlain int
	lists    *seal.Opener        // opens chunk lists, no data
	indexing *semaphore.Weighted // of 1: one index file at a time

	completed bool // by completeIndex; guarded by indexing
	verified  bool // by verifyIndexes; guarded by Server.mu

	mu        sync.Mutex
	uploaders map[pack.ID]repo.InstanceID
}

// keptUploaders bounds the packs of a shared domain whose uploader is
// remembered: 64 Ki packs are 4 TB and take 5 MiB. Past it all are forgotten and
// read again from the packs' trailers.
const keptUploaders = 64 << 10

// opening is a domain that is open or being opened.
type opening struct {
	done chan struct{}
	dom  *domain
	err  error
}

// domain gives an open domain. The first caller opens it, which may mean to make
// its index again; others wait. A failure is not remembered.
func (s *Server) domain(ctx context.Context, id seal.DomainID) (*domain, error) {
	s.mu.Lock()
	o := s.domains[id]
	mine := o == nil
	if mine {
		o = &opening{done: make(chan struct{})}
		s.domains[id] = o
	}
	s.mu.Unlock()
	if mine {
		o.dom, o.err = s.openDomain(ctx, id)
		if o.err != nil {
			s.mu.Lock()
			delete(s.domains, id)
			s.mu.Unlock()
		}
		close(o.done)
	}
	select {
	case <-o.done:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if o.err != nil {
		return nil, fmt.Errorf("open domain %s: %w", id, o.err)
	}
	return o.dom, nil
}

// Forget drops what is open and cached of a domain that was erased. Mapped index
// files stay mapped until the program ends: a reader may still be in them.
func (s *Server) Forget(id seal.DomainID) error {
	s.mu.Lock()
	delete(s.domains, id)
	s.mu.Unlock()
	s.distrust.forget(id)
	if err := os.RemoveAll(filepath.Join(s.o.IndexDir, id.String())); err != nil {
		return fmt.Errorf("remove index of domain %s: %w", id, err)
	}
	return nil
}

func (s *Server) openDomain(ctx context.Context, id seal.DomainID) (*domain, error) {
	rd, err := s.o.Repository.Domain(ctx, id)
	if err != nil {
		return nil, err
	}
	d := &domain{
		Domain:    rd,
		id:        id,
		keys:      rd.Keys(),
		maxPlain:  max(rd.Params().Max, repo.MaxListBytes),
		indexing:  semaphore.NewWeighted(1),
		uploaders: map[pack.ID]repo.InstanceID{},
	}
	d.lists = seal.NewOpener(id, d.keys.Name(), d.keys.Refs(), nil, d.maxPlain)
	if d.set, err = s.openIndex(ctx, d); err != nil {
		return nil, err
	}
	return d, nil
}

// view is what one attempt may know of a domain's chunks: the domain's index as
// far as the instance's own packs go, and the job's own new chunks.
type view struct {
	s        *Server
	dom      *domain
	job      *jobState // nil for restores
	instance repo.InstanceID
	shared   bool
	// claims is set while the job's snapshot is being committed.
	claims  repo.JobID
	scratch []index.Location
	copied  *fromCopies // of restores and exports
}

// has tells whether the chunk is durable and findable for this attempt, in a
// place that is not known to be damaged and will not be deleted. Names are compared by their first 16
// bytes in index files: two chunks of a domain that agree in these do not occur
// by chance, and an agent that makes them deceives only its own instance.
func (v *view) has(ctx context.Context, name seal.Name) (bool, error) {
	if v.job != nil {
		if _, ok := v.job.find(name); ok {
			return true, nil
		}
	}
	if !v.shared && !v.s.distrust.touches(v.dom.id, name) {
		return v.dom.set.Has(name)
	}
	var err error
	if v.scratch, err = v.dom.set.Lookup(v.scratch[:0], name); err != nil {
		return false, err
	}
	good := v.s.distrust.trusted(v.dom.id, v.scratch, v.claims)
	if !v.shared {
		return good > 0, nil
	}
	for _, l := range v.scratch[:good] {
		own, err := v.own(ctx, l.Pack)
		if own || err != nil {
			return own, err
		}
	}
	return false, nil
}

// find gives the places of a chunk, those to be tried first first: those that are
// not known to be damaged, and among these in a shared domain the instance's own
// packs, since another instance could have stored rubbish under the name.
func (v *view) find(ctx context.Context, dst []index.Location, name seal.Name) ([]index.Location, error) {
	if v.job != nil {
		if l, ok := v.job.find(name); ok {
			dst = append(dst, l)
		}
	}
	dst, err := v.dom.set.Lookup(dst, name)
	if err != nil {
		return dst, err
	}
	good := v.s.distrust.trusted(v.dom.id, dst, v.claims)
	if !v.shared {
		return dst, nil
	}
	own := 0
	for i, l := range dst[:good] {
		mine, err := v.own(ctx, l.Pack)
		if err != nil {
			return dst, err
		}
		if mine {
			dst[own], dst[i] = dst[i], dst[own]
			own++
		}
	}
	return dst, nil
}

// own tells whether the attempt's instance uploaded a pack.
func (v *view) own(ctx context.Context, id pack.ID) (bool, error) {
	v.dom.mu.Lock()
	uploader, ok := v.dom.uploaders[id]
	v.dom.mu.Unlock()
	if !ok {
		read := v.s.directory
		if v.job == nil {
			read = v.s.directoryAnywhere
		}
		d, err := read(ctx, v.dom, id)
		if err != nil {
			return false, err
		}
		uploader = d.Uploader
		v.dom.remember(id, uploader)
	}
	return uploader == v.instance, nil
}

func (d *domain) remember(id pack.ID, uploader repo.InstanceID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.uploaders) >= keptUploaders {
		clear(d.uploaders)
	}
	d.uploaders[id] = uploader
}

// directory reads what a stored pack says about itself and verifies that this
// domain's controller wrote it.
func (s *Server) directory(ctx context.Context, d *domain, id pack.ID) (*pack.Directory, error) {
	return directoryIn(ctx, s.store, d, id)
}

func directoryIn(ctx context.Context, from blob.Store, d *domain, id pack.ID) (*pack.Directory, error) {
	key := repo.PackObject(d.id, id)
	info, err := from.Stat(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("pack %s: %w", id, err)
	}
	dir, err := pack.ReadDirectory(ctx, func(ctx context.Context, off, n int64) (io.ReadCloser, error) { return from.Open(ctx, key, off, n) }, info.Size, id)
	if err != nil {
		return nil, err
	}
	if dir.Domain != d.id {
		return nil, fmt.Errorf("pack %s: is of domain %s: %w", id, dir.Domain, errs.Corrupt)
	}
	return dir, pack.VerifyMAC(dir, d.keys.Pack())
}

// readRange reads a range of an object.
func (s *Server) readRange(ctx context.Context, key string, off, n int64) ([]byte, error) {
	return blob.ReadRange(ctx, s.store, key, off, n)
}
