package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/index"
	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// flushIndex writes an index file of the job's packs that no file covers yet:
//
//  1. Each pack's directory is read back from the store. A pack that is not there,
//     or not whole, although the store said so, is forgotten: `have` then answers
//     missing, and the error says that this attempt cannot be trusted.
//  2. The file is put into the store, 3. taken into the local Set, 4. the journal
//     marks its packs. A crash between any two leaves packs that the journal calls
//     not indexed; the next start makes a file of them, equal or overlapping.
func (s *Server) flushIndex(ctx context.Context, j *jobState) error {
	if err := j.flushing.Acquire(ctx, 1); err != nil {
		return context.Cause(ctx)
	}
	defer j.flushing.Release(1)
	f := j.freeze()
	if f == nil {
		return nil
	}
	size := f.len()
	lost, err := s.readBack(ctx, j.dom, f.packs)
	if err == nil && len(lost) > 0 {
		j.forget(lost)
		err = s.lose(ctx, j.id, lost)
	} else if err == nil {
		j.readBack(f.packs)
		b := index.NewBuilder(j.dom.id)
		for name := range f.places {
			l, _ := f.find(name)
			b.Add(name, l)
		}
		if err = s.addIndex(ctx, j.dom, b); err == nil {
			err = s.o.Journal.PackIndexed(ctx, j.id, f.packs)
		}
	}
	left := j.thaw(err == nil)
	s.mu.Lock()
	s.pending -= size - left
	s.mu.Unlock()
	return err
}

// readBack reads the directories of packs and tells which are not in the store
// as they were put.
func (s *Server) readBack(ctx context.Context, d *domain, packs []pack.ID) (lost map[pack.ID]error, err error) {
	var mu sync.Mutex
	lost = map[pack.ID]error{}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(readers)
	for _, id := range packs {
		group.Go(func() error {
			_, err := s.directory(ctx, d, id)
			if errors.Is(err, errs.NotFound) || errors.Is(err, errs.Corrupt) {
				mu.Lock()
				defer mu.Unlock()
				lost[id] = err
				return nil
			}
			return err
		})
	}
	err = group.Wait()
	return lost, err
}

// lose drops packs that the store has lost from the journal and makes an error
// of them. It is of the kind that is retried: the next attempt sends again what
// was in them.
func (s *Server) lose(ctx context.Context, job repo.JobID, lost map[pack.ID]error) error {
	var all error
	for id, why := range lost {
		all = errors.Join(all, s.o.Journal.PackDropped(ctx, job, id))
		s.o.Logger.Error("pack is not in the store as it was put", zap.Stringer("job_id", job), zap.Stringer("pack", id), zap.Error(why))
		all = errors.Join(all, fmt.Errorf("pack %s: the store took it and does not have it: %v: %w", id, why, errs.Unavailable)) //nolint:errorlint // replaces the kind
	}
	return all
}

// forget removes packs.
func (f *fresh) forget(lost map[pack.ID]error) {
	for name, p := range f.places {
		if _, ok := lost[f.packs[p.pack]]; ok {
			delete(f.places, name)
		}
	}
	kept := &fresh{places: f.places}
	renumber := make([]uint32, len(f.packs))
	for i, id := range f.packs {
		if _, ok := lost[id]; !ok {
			renumber[i] = uint32(len(kept.packs))
			kept.packs = append(kept.packs, id)
		}
	}
	for name, p := range f.places {
		p.pack = renumber[p.pack]
		f.places[name] = p
	}
	f.packs = kept.packs
}

// addIndex makes an index file durable in the store and takes it into the
// domain's Set.
func (s *Server) addIndex(ctx context.Context, d *domain, b *index.Builder) error {
	if err := d.indexing.Acquire(ctx, 1); err != nil {
		return context.Cause(ctx)
	}
	defer d.indexing.Release(1)
	err := s.storeIndex(ctx, d, b, func(file *os.File, id index.FileID) error {
		_, err := d.set.AddFile(ctx, file, id)
		return err
	})
	if err != nil {
		return err
	}
	return d.set.Merge(ctx)
}

// putIndex makes an index file durable in the store alone.
func (s *Server) putIndex(ctx context.Context, d *domain, b *index.Builder) (id index.FileID, err error) {
	err = s.storeIndex(ctx, d, b, func(_ *os.File, made index.FileID) error { id = made; return nil })
	return id, err
}

// storeIndex makes an index file durable in the store and calls then with it.
func (s *Server) storeIndex(ctx context.Context, d *domain, b *index.Builder, then func(*os.File, index.FileID) error) (err error) {
	file, err := os.CreateTemp(s.o.SpoolDir, "index-*.spool")
	if err != nil {
		return fmt.Errorf("write index file: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close(), os.Remove(file.Name())) }()
	if err := b.Build(file); err != nil {
		return err
	}
	var id index.FileID // the last bytes of the file
	if end, err := file.Seek(0, io.SeekEnd); err != nil {
		return fmt.Errorf("read index file: %w", err)
	} else if _, err := file.ReadAt(id[:], end-int64(len(id))); err != nil {
		return fmt.Errorf("read index file: %w", err)
	}
	if err := s.createSmall(ctx, repo.IndexObject(d.id, id), blob.File(file.Name())); err != nil {
		return fmt.Errorf("put index file %s: %w", id.Short(), err)
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("read index file: %w", err)
	}
	return then(file, id)
}

// createSmall puts an object whose key is the hash of its content: one that
// exists is the same. An ambiguous outcome is found out by comparing.
func (s *Server) createSmall(ctx context.Context, key string, body blob.Body) error {
	pause := putPause
	for try := 1; ; try++ {
		err := s.store.Create(ctx, key, body)
		if err == nil {
			return nil
		}
		if !ambiguous(err) {
			return err
		}
		equal, lookErr := blob.Equal(ctx, s.store, key, body)
		switch {
		case equal:
			return nil
		case lookErr == nil:
			return fmt.Errorf("object %s is there with other bytes: %w", key, errs.Corrupt)
		case !errors.Is(lookErr, errs.NotFound) && !ambiguous(lookErr), try == putTries:
			return errors.Join(err, lookErr)
		}
		if err := wait(ctx, pause); err != nil {
			return err
		}
		pause *= 2
	}
}

// tidy writes index files of jobs that have been quiet for a while, and forgets
// jobs of which nothing is left in memory.
func (s *Server) tidy(ctx context.Context) {
	s.mu.Lock()
	var quiet []*jobState
	for _, j := range s.jobs {
		if j.idle(idleJob) {
			quiet = append(quiet, j)
		}
	}
	s.mu.Unlock()
	for _, j := range quiet {
		if err := s.flushIndex(ctx, j); err != nil {
			s.o.Logger.Warn("index file was not written", zap.Stringer("job_id", j.id), zap.Error(err))
			continue
		}
		s.dropJob(j)
	}
}

func (j *jobState) idle(since time.Duration) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.streams == 0 && time.Since(j.quiet) >= since
}

// dropJob forgets a job unless it is in use again.
func (s *Server) dropJob(j *jobState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.streams == 0 && j.current.len() == 0 && j.frozen == nil && s.jobs[j.key()] == j {
		delete(s.jobs, j.key())
	}
}

// EndJob tells that a job has ended, whatever way: its chunks are written to an
// index file. Calling it is optional (Run does the same for jobs that have been
// quiet for a while) and repeating it is harmless.
func (s *Server) EndJob(ctx context.Context, job repo.JobID) error {
	for _, j := range s.jobStates(job) {
		if err := s.flushIndex(ctx, j); err != nil {
			return fmt.Errorf("end job %s: %w", job, err)
		}
		s.dropJob(j)
	}
	return nil
}
