package ingest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/index"
	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// Recover finishes what the process before left undone, in this order:
//
//  1. Spool files are removed: what was in them was never acknowledged.
//  2. Each intent is looked for in the store: a pack that is there becomes a
//     record, one that is not is dropped. (A put that is still under way in some
//     store may land later; prune finds such a pack by listing.)
//  3. Packs that no index file covers are read and indexed.
//  4. Each commit that has not ended is settled by what the store has.
//
// Every step can be repeated, so a crash in between is one more start. It must
// be called once, before any other process of this controller touches chunks.
// What is damaged in the store concerns those whose data it is: it is logged and
// left as it is, and the rest goes on.
// Unavailable means that the store could not be asked and that it may be called
// again.
func (s *Server) Recover(ctx context.Context) error {
	if err := s.cleanSpool(); err != nil {
		return fmt.Errorf("recover chunks: %w", err)
	}
	if err := s.settleIntents(ctx); err != nil {
		return fmt.Errorf("recover chunks: %w", err)
	}
	if err := s.indexRest(ctx); err != nil {
		return fmt.Errorf("recover chunks: %w", err)
	}
	if err := s.settleAll(ctx); err != nil {
		return fmt.Errorf("recover chunks: %w", err)
	}
	return nil
}

func (s *Server) cleanSpool() error {
	n, err := pack.CleanSpool(s.o.SpoolDir)
	if err != nil {
		return err
	}
	for _, pattern := range []string{"index-*.spool", "commit-*.spool"} {
		found, err := filepath.Glob(filepath.Join(s.o.SpoolDir, pattern))
		if err != nil {
			return fmt.Errorf("clean spool: %w", err)
		}
		for _, path := range found {
			if err := os.Remove(path); err != nil {
				return fmt.Errorf("clean spool: %w", err)
			}
		}
		n += len(found)
	}
	if n > 0 {
		s.o.Logger.Info("spool files removed", zap.Int("files", n))
	}
	return nil
}

// settleIntents ends every intent of a pack that is not on its way in this
// process. Run calls it too: a put whose outcome stayed unknown, or whose record
// could not be journalled, is found out when store and catalog are well again.
func (s *Server) settleIntents(ctx context.Context) error {
	intents, err := s.o.Journal.Intents(ctx)
	if err != nil {
		return fmt.Errorf("list pack intents: %w", err)
	}
	for _, i := range intents {
		if s.isFlying(i.ID) {
			continue
		}
		if err := s.settleIntent(ctx, i); harmed(err) {
			s.o.Logger.Error("pack intent not settled", zap.Stringer("job_id", i.Job), zap.Error(err))
		} else if err != nil {
			return err
		}
	}
	return nil
}

// harmed tells an error that the store's answers will give again and again for
// one object, from one of the store or the catalog as a whole.
func harmed(err error) bool {
	switch errs.KindOf(err) {
	case errs.Corrupt, errs.NotFound, errs.Unsupported:
		return true
	}
	return false
}

func (s *Server) settleIntent(ctx context.Context, i PackIntent) error {
	log := s.o.Logger.With(zap.Stringer("job_id", i.Job), zap.Stringer("pack", i.ID))
	there, err := s.stored(ctx, i.Domain, i.ID, i.Size)
	if errors.Is(err, errs.Corrupt) {
		// A torn object under a pack's key. Nobody was told that its chunks are
		// stored; it stays where it is for `check` to find.
		log.Error("pack is damaged", zap.Error(err))
	} else if err != nil {
		return err
	}
	if !there {
		err = s.o.Journal.PackDropped(ctx, i.Job, i.ID)
	} else if err = s.o.Journal.PackStored(ctx, i.Job, i.ID); err == nil {
		var d *domain
		if d, err = s.domain(ctx, i.Domain); err == nil {
			err = s.indexPacks(ctx, d, []PackRecord{{PackIntent: i}})
		}
	}
	if err != nil {
		return fmt.Errorf("settle pack %s: %w", i.ID.Short(), err)
	}
	log.Info("pack intent settled", zap.Bool("stored", there))
	return nil
}

// indexRest indexes every pack of the journal that no index file covers.
func (s *Server) indexRest(ctx context.Context) error {
	records, err := s.o.Journal.Unindexed(ctx)
	if err != nil {
		return fmt.Errorf("list packs: %w", err)
	}
	byDomain := map[seal.DomainID][]PackRecord{}
	for _, r := range records {
		byDomain[r.Domain] = append(byDomain[r.Domain], r)
	}
	for id, records := range byDomain {
		d, err := s.domain(ctx, id)
		if err == nil {
			err = s.indexPacks(ctx, d, records)
		}
		if harmed(err) {
			s.o.Logger.Error("packs not indexed", zap.Stringer("domain", id), zap.Int("packs", len(records)), zap.Error(err))
		} else if err != nil {
			return fmt.Errorf("index packs of domain %s: %w", id, err)
		}
	}
	return nil
}

// indexPacks reads directories and writes index files of bounded size.
func (s *Server) indexPacks(ctx context.Context, d *domain, records []PackRecord) error {
	for len(records) > 0 {
		b := index.NewBuilder(d.id)
		n := 0
		jobs := map[repo.JobID][]pack.ID{}
		for n < len(records) && b.Len() < jobPending {
			batch := records[n:min(n+readers, len(records))]
			if err := s.addPacks(ctx, d, b, batch, jobs); err != nil {
				return err
			}
			n += len(batch)
		}
		if b.Len() > 0 {
			if err := s.addIndex(ctx, d, b); err != nil {
				return err
			}
		}
		for job, ids := range jobs {
			if err := s.o.Journal.PackIndexed(ctx, job, ids); err != nil {
				return fmt.Errorf("journal packs: %w", err)
			}
		}
		s.o.Logger.Info("packs indexed", zap.Int("packs", n), zap.Int("chunks", b.Len()))
		records = records[n:]
	}
	return nil
}

// addPacks reads a few directories at once. A pack that the store has lost is
// dropped: its chunks are then missing, and the next backup sends them again.
func (s *Server) addPacks(ctx context.Context, d *domain, b *index.Builder, batch []PackRecord, jobs map[repo.JobID][]pack.ID) error {
	dirs, failed := make([]*pack.Directory, len(batch)), make([]error, len(batch))
	group, groupCtx := errgroup.WithContext(ctx)
	for i, r := range batch {
		group.Go(func() error {
			dirs[i], failed[i] = s.directory(groupCtx, d, r.ID)
			return nil
		})
	}
	_ = group.Wait() // each error is in failed
	for i, r := range batch {
		switch err := failed[i]; {
		case err == nil:
			b.AddPack(dirs[i])
			jobs[r.Job] = append(jobs[r.Job], r.ID)
		case errors.Is(err, errs.NotFound), errors.Is(err, errs.Corrupt):
			s.o.Logger.Error("pack is not in the store as it was put", zap.Stringer("job_id", r.Job), zap.Stringer("pack", r.ID), zap.Error(err))
			if err := s.o.Journal.PackDropped(ctx, r.Job, r.ID); err != nil {
				return fmt.Errorf("journal packs: %w", err)
			}
		default:
			return err
		}
	}
	return nil
}

// completeFile marks a local index that covers every pack of the store.
const completeFile = "complete"

// openIndex opens a domain's local index. When it was never completed, was
// deleted or is damaged, it is made again from the store.
func (s *Server) openIndex(ctx context.Context, d *domain) (*index.Set, error) {
	dir := filepath.Join(s.o.IndexDir, d.id.String())
	complete := filepath.Join(dir, completeFile) // goes with the folder
	_, err := os.Stat(complete)
	if err == nil {
		set, err := index.Open(dir, d.id)
		if err == nil {
			return set, nil
		}
		if len(index.DamagedFiles(err)) == 0 {
			return nil, err
		}
		s.o.Logger.Error("index is damaged and is made again", zap.Stringer("domain", d.id), zap.Error(err))
	} else if !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("open index: %w", err)
	}
	// Steps: the mark goes, the files go, new files come, the mark comes. A crash in
	// between leaves no mark, and all is made again.
	if err := errors.Join(removeIfThere(complete), os.RemoveAll(dir)); err != nil {
		return nil, fmt.Errorf("open index: %w", err)
	}
	set, err := index.Open(dir, d.id)
	if err != nil {
		return nil, err
	}
	if err := s.rebuild(ctx, d, set); err != nil {
		return nil, errors.Join(fmt.Errorf("rebuild index of domain %s: %w", d.id, err), set.Close())
	}
	if err := os.WriteFile(complete, nil, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("open index: %w", err), set.Close())
	}
	return set, nil
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// maxIndexFile bounds an index file that is taken from the store: ours have at
// most jobPending entries of 28 bytes, pruning may write larger ones.
const maxIndexFile = 16 << 30

// rebuild fills an empty Set from the store: its index files first, then the
// directories of packs that these do not cover.
func (s *Server) rebuild(ctx context.Context, d *domain, set *index.Set) error {
	err := s.store.List(ctx, repo.IndexPrefix(d.id), "", func(info blob.Info) error {
		_, id, err := repo.ParseIndexObject(info.Key)
		if err != nil {
			return err
		}
		if info.Size > maxIndexFile {
			return fmt.Errorf("object %s: %d bytes: %w", info.Key, info.Size, errs.Corrupt)
		}
		err = s.fetchIndex(ctx, set, info.Key, id)
		if errors.Is(err, errs.Corrupt) {
			// The packs' own directories say the same.
			s.o.Logger.Error("index file in the store is damaged", zap.String("object", info.Key), zap.Error(err))
			return nil
		}
		if errors.Is(err, errs.NotFound) {
			return nil // a prune has put another in its place since it was listed
		}
		return err
	})
	if err != nil {
		return err
	}
	packs, err := s.addUncovered(ctx, d, set)
	if err != nil {
		return err
	}
	if files := set.Files(); len(files) > 0 {
		s.o.Logger.Info("index made again from the store", zap.Stringer("domain", d.id), zap.Int("files", len(files)), zap.Int("packs_read", packs))
	}
	return nil
}

// addUncovered lists the domain's packs and takes in those that no file of the
// Set covers.
func (s *Server) addUncovered(ctx context.Context, d *domain, set *index.Set) (packs int, err error) {
	b := index.NewBuilder(d.id)
	add := func() error {
		full := b
		b = index.NewBuilder(d.id)
		if _, err := set.Add(ctx, full); err != nil {
			return err
		}
		return set.Merge(ctx)
	}
	err = s.store.List(ctx, repo.PackPrefix(d.id), "", func(info blob.Info) error {
		_, id, err := repo.ParsePackObject(info.Key)
		if err != nil {
			return err
		}
		if covered, err := set.HasPack(id); covered || err != nil {
			return err
		}
		dir, err := s.directory(ctx, d, id)
		if errors.Is(err, errs.Corrupt) {
			s.o.Logger.Error("pack is damaged", zap.String("object", info.Key), zap.Error(err))
			return nil
		}
		if errors.Is(err, errs.NotFound) {
			return nil // pruned since it was listed
		}
		if err != nil {
			return err
		}
		b.AddPack(dir)
		if packs++; b.Len() < index.BuilderEntries {
			return nil
		}
		return add()
	})
	if err != nil {
		return packs, err
	}
	return packs, add()
}

// completeIndex looks once more for packs that the local index does not cover,
// when a snapshot names a chunk that it does not find: index files may have been
// deleted under us. It does so once for each domain that is opened.
func (s *Server) completeIndex(ctx context.Context, d *domain) (bool, error) {
	if err := d.indexing.Acquire(ctx, 1); err != nil {
		return false, context.Cause(ctx)
	}
	defer d.indexing.Release(1)
	if d.completed {
		return false, nil
	}
	packs, err := s.addUncovered(ctx, d, d.set)
	if err != nil {
		return false, fmt.Errorf("complete index of domain %s: %w", d.id, err)
	}
	d.completed = true
	if packs > 0 {
		s.o.Logger.Warn("index was not complete", zap.Stringer("domain", d.id), zap.Int("packs_read", packs))
	}
	return true, nil
}

// fetchIndex takes one index file from the store.
func (s *Server) fetchIndex(ctx context.Context, set *index.Set, key string, id index.FileID) (err error) {
	r, err := s.store.Open(ctx, key, 0, -1)
	if err != nil {
		return fmt.Errorf("read object %s: %w", key, err)
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if _, err := set.AddFile(ctx, r, id); err != nil {
		return err
	}
	return set.Merge(ctx)
}
