package offline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// Reader is an open repository.
type Reader struct {
	repository *repo.Repository
	dir        string

	mu      sync.Mutex
	domains map[seal.DomainID]*domain
}

// Open opens the repository in a store. Index files are kept in a new folder
// below parent, the system's temporary folder if that is empty; Close removes it.
func Open(ctx context.Context, store blob.Store, parent string, unlockers ...seal.Unlocker) (*Reader, error) {
	r, err := repo.Open(ctx, store, unlockers...)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(parent, "tuskvault-offline-")
	if err != nil {
		return nil, fmt.Errorf("make a folder for the index: %w", err)
	}
	return &Reader{repository: r, dir: dir, domains: map[seal.DomainID]*domain{}}, nil
}

// Repository is what was opened.
func (r *Reader) Repository() *repo.Repository { return r.repository }

// Close removes the local folder. No stream may be open.
func (r *Reader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var failed []error
	for _, d := range r.domains {
		failed = append(failed, d.close())
	}
	return errors.Join(append(failed, os.RemoveAll(r.dir))...)
}

// Snapshot is a snapshot as it is in the store.
type Snapshot struct {
	ID       repo.JobID
	Instance repo.InstanceID
	Domain   seal.DomainID
	// Complete tells that every database asked for is completely in it.
	Complete  bool
	Committed time.Time
	// Size of the object in bytes.
	Size int64
	// Content is what is in it.
	Content *repo.Content
	// Err is set, and what could not be read is zero, when the object is damaged.
	Err error

	refs      *repo.References
	sealEpoch uint32
}

// List calls fn for each snapshot, in no useful order, with its content, which is
// fn's to keep or not. A damaged one is given with Err set. Abort markers are left out.
func (r *Reader) List(ctx context.Context, fn func(*Snapshot) error) error {
	return r.repository.ListSnapshots(ctx, repo.InstanceID{}, func(info repo.SnapshotInfo) error {
		if info.Err == nil && info.Header.State != repo.SnapshotCommitted {
			return nil
		}
		s, err := r.read(ctx, info)
		if err != nil {
			return err
		}
		return fn(s)
	})
}

// read reads one snapshot. Damage is in it, the store's trouble is the error.
func (r *Reader) read(ctx context.Context, info repo.SnapshotInfo) (*Snapshot, error) {
	instance, job, err := repo.ParseSnapshotObject(info.Key)
	if err != nil {
		return &Snapshot{Size: info.Size, Err: fmt.Errorf("%s: %w", info.Key, err)}, nil
	}
	s := &Snapshot{ID: job, Instance: instance, Size: info.Size, Err: info.Err}
	if s.Err != nil {
		return s, nil
	}
	err = r.open(ctx, s)
	if err != nil && (errors.Is(err, errs.Unavailable) || ctx.Err() != nil) {
		return nil, err
	}
	s.Err = err
	return s, nil
}

// open reads and verifies the object.
func (r *Reader) open(ctx context.Context, s *Snapshot) error {
	object, err := r.repository.ReadSnapshot(ctx, s.Instance, s.ID)
	if err != nil {
		return err
	}
	h := object.Header
	s.Domain, s.Complete, s.Committed, s.sealEpoch = h.Domain, h.Complete, object.Commit.Time, h.SealEpoch
	d, err := r.repository.Domain(ctx, h.Domain)
	if err != nil {
		return err
	}
	if s.refs, err = object.OpenReferences(d.Keys().Refs()); err != nil {
		return err
	}
	s.Content, err = object.OpenContent(d.Keys().Seal(h.SealEpoch), s.refs)
	return err
}

// latest begins references to the newest complete snapshot.
const latest = "latest"

// Find finds a snapshot by its id, a unique prefix of that, "latest", or
// "latest:INSTANCE" with an instance's name or a prefix of its id: the newest
// complete one. A damaged one that is named is given as the error.
func (r *Reader) Find(ctx context.Context, ref string) (*Snapshot, error) {
	instance, ok := strings.CutPrefix(ref, latest)
	if ok && (instance == "" || instance[0] == ':') {
		return r.newest(ctx, ref, strings.TrimPrefix(instance, ":"))
	}
	var found []repo.SnapshotInfo
	err := r.repository.ListSnapshots(ctx, repo.InstanceID{}, func(info repo.SnapshotInfo) error {
		_, job, err := repo.ParseSnapshotObject(info.Key)
		if err == nil && ref != "" && strings.HasPrefix(job.String(), strings.ToLower(ref)) && (info.Err != nil || info.Header.State == repo.SnapshotCommitted) {
			found = append(found, info)
		}
		if len(found) > 1 {
			return fmt.Errorf("snapshot %q: is the beginning of several ids: %w", ref, errs.Invalid)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("snapshot %q: %w", ref, errs.NotFound)
	}
	s, err := r.read(ctx, found[0])
	if err == nil {
		err = s.Err
	}
	return s, err
}

// newest finds the newest complete snapshot, of one instance if that is not empty.
func (r *Reader) newest(ctx context.Context, ref, instance string) (*Snapshot, error) {
	var best *Snapshot
	of := map[repo.InstanceID]bool{}
	err := r.List(ctx, func(s *Snapshot) error {
		if s.Err != nil || !s.Complete {
			return nil
		}
		if instance != "" && s.Content.Instance.Name != instance && !strings.HasPrefix(s.Instance.String(), strings.ToLower(instance)) {
			return nil
		}
		of[s.Instance] = true
		if best == nil || s.Committed.After(best.Committed) {
			best = s
		}
		return nil
	})
	switch {
	case err != nil:
		return nil, err
	case best == nil:
		return nil, fmt.Errorf("snapshot %q: there is no complete one that can be read: %w", ref, errs.NotFound)
	case instance != "" && len(of) > 1:
		return nil, fmt.Errorf("snapshot %q: %d instances have that name, name one by its id: %w", ref, len(of), errs.Invalid)
	}
	return best, nil
}

// Sort puts snapshots in order: the newest first, damaged ones last.
func Sort(all []*Snapshot) {
	slices.SortFunc(all, func(a, b *Snapshot) int {
		return cmp.Or(cmp.Compare(b2i(a.Err != nil), b2i(b.Err != nil)), b.Committed.Compare(a.Committed), slices.Compare(a.ID[:], b.ID[:]))
	})
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// domain gives an open domain.
func (r *Reader) domain(ctx context.Context, id seal.DomainID) (*domain, error) {
	r.mu.Lock()
	defer r.mu.Unlock() // a Reader has few callers, and they all need the index
	if d := r.domains[id]; d != nil {
		return d, nil
	}
	d, err := openDomain(ctx, r.repository, id, filepath.Join(r.dir, id.String()))
	if err != nil {
		return nil, fmt.Errorf("open domain %s: %w", id, err)
	}
	r.domains[id] = d
	return d, nil
}
