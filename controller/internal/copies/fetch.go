package copies

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sync/semaphore"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// Spool files are named so, with a random number for the star.
const spoolPattern = "copy-*.spool"

// wholeBytes bounds the objects that are held in memory whole while they are
// verified, over all copies: one of the largest that there can be passes alone.
// Packs and index files go through spool files.
const wholeBytes = 64 << 20

// fetcher reads objects whole and verifies them.
type fetcher struct {
	repo   *repo.Repository
	dir    string // of spool files
	memory *semaphore.Weighted
}

func newFetcher(r *repo.Repository, dir string) *fetcher {
	return &fetcher{repo: r, dir: dir, memory: semaphore.NewWeighted(wholeBytes)}
}

// cleanSpool makes the folder and removes what a process that died left in it.
func (f *fetcher) cleanSpool() error {
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return fmt.Errorf("prepare the spool folder of copies: %w", err)
	}
	left, err := filepath.Glob(filepath.Join(f.dir, spoolPattern))
	for _, path := range left {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}

// fetched is an object that was read whole and is what its key says. Release
// must be called when its body is not needed any more.
type fetched struct {
	body    blob.Body
	release func()
}

// fetch reads and verifies an object. errs.NotFound means that there is none,
// errs.Corrupt, and errs.Unsupported, that it is not what its key says; see
// atFault for what else can be wrong with it.
func (f *fetcher) fetch(ctx context.Context, from blob.Store, key string, p *pace) (fetched, error) {
	info, err := from.Stat(ctx, key)
	if err != nil {
		return fetched{}, fmt.Errorf("read object %s: %w", key, err)
	}
	if k := kindOf(key); k == kindPack || k == kindIndex {
		return f.spooled(ctx, from, info, p)
	}
	limit := repo.MaxObjectBytes(key)
	if info.Size > limit {
		return fetched{}, fmt.Errorf("read object %s: %d bytes, at most %d can be right: %w", key, info.Size, limit, errs.Corrupt)
	}
	held := min(info.Size, wholeBytes)
	if err := f.memory.Acquire(ctx, held); err != nil {
		return fetched{}, context.Cause(ctx)
	}
	release := func() { f.memory.Release(held) }
	raw, err := blob.ReadAll(ctx, from, key, limit)
	if err == nil {
		err = p.wait(ctx, len(raw))
	}
	if err == nil {
		err = f.repo.VerifyObject(ctx, key, raw)
	}
	if err != nil {
		release()
		return fetched{}, err
	}
	return fetched{body: blob.Bytes(raw), release: release}, nil
}

// spooled reads a pack or an index file into a file and verifies it there.
func (f *fetcher) spooled(ctx context.Context, from blob.Store, info blob.Info, p *pace) (_ fetched, err error) {
	file, err := os.CreateTemp(f.dir, spoolPattern)
	if err != nil {
		return fetched{}, fmt.Errorf("spool object %s: %w", info.Key, diskError(err))
	}
	path := file.Name()
	defer func() {
		if err != nil {
			_ = os.Remove(path) // what is left is removed at the next start
		}
	}()
	sum := &tail{hash: sha256.New()}
	err = download(ctx, from, info, io.MultiWriter(diskWriter{file}, sum), p)
	if err == nil && kindOf(info.Key) == kindIndex {
		err = verifyIndex(info.Key, sum)
	} else if err == nil {
		err = verifyPack(ctx, info, file)
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return fetched{}, err
	}
	return fetched{body: blob.File(path), release: func() { _ = os.Remove(path) }}, nil
}

// download reads a whole object at a pace.
func download(ctx context.Context, from blob.Store, info blob.Info, to io.Writer, p *pace) (err error) {
	r, err := from.Open(ctx, info.Key, 0, info.Size)
	if err != nil {
		return fmt.Errorf("read object %s: %w", info.Key, err)
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	n, err := io.Copy(to, pacedReader{Reader: r, ctx: ctx, pace: p})
	if err != nil {
		return fmt.Errorf("read object %s: %w", info.Key, err)
	}
	if n != info.Size {
		return fmt.Errorf("read object %s: %d of %d bytes: %w", info.Key, n, info.Size, errs.Corrupt)
	}
	return nil
}

// verifyPack verifies a whole pack in a file, without any key: its id commits to
// every byte.
func verifyPack(ctx context.Context, info blob.Info, file *os.File) error {
	domain, id, err := repo.ParsePackObject(info.Key)
	if err != nil {
		return err
	}
	open := func(_ context.Context, off, n int64) (io.ReadCloser, error) {
		return io.NopCloser(io.NewSectionReader(file, off, n)), nil
	}
	dir, err := pack.ReadDirectory(ctx, open, info.Size, id)
	if err != nil {
		return fmt.Errorf("%s: %w", info.Key, err)
	}
	if dir.Domain != domain {
		return fmt.Errorf("%s: is of domain %s: %w", info.Key, dir.Domain, errs.Corrupt)
	}
	err = pack.Scrub(ctx, open, dir, func(_ pack.Entry, damage error) error { return damage })
	if err != nil {
		return fmt.Errorf("%s: %w", info.Key, err)
	}
	return nil
}

// verifyIndex compares the hash of an index file with its id, which is in its key
// and at its end.
func verifyIndex(key string, sum *tail) error {
	_, id, err := repo.ParseIndexObject(key)
	if err != nil {
		return err
	}
	if !bytes.Equal(sum.hash.Sum(nil), id[:]) || !bytes.Equal(sum.last, id[:]) {
		return fmt.Errorf("%s: its bytes have another hash: %w", key, errs.Corrupt)
	}
	return nil
}

// tail hashes everything but the last 32 bytes, which it keeps.
type tail struct {
	hash hash.Hash
	last []byte
}

// Write never fails.
func (t *tail) Write(b []byte) (int, error) {
	all := append(t.last, b...)
	cut := max(0, len(all)-sha256.Size)
	t.hash.Write(all[:cut])
	t.last = append(t.last[:0:0], all[cut:]...)
	return len(b), nil
}

// diskWriter gives errors of the spool's disk their kinds, so that they are not
// taken for those of a store.
type diskWriter struct{ w io.Writer }

// Write writes to the disk.
func (d diskWriter) Write(b []byte) (int, error) {
	n, err := d.w.Write(b)
	return n, diskError(err)
}

// diskError is errs.Exhausted: whatever is wrong with the spool's disk, no object
// is at fault.
func diskError(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", err, errs.Exhausted)
}

// atFault tells whether an error of fetch is the object's (it is damaged, or
// cannot be read while others can) and not the store's, the network's or the end
// of ctx.
func atFault(ctx context.Context, s blob.Store, err error) bool {
	if err == nil || ctx.Err() != nil {
		return false
	}
	switch errs.KindOf(err) {
	case errs.Corrupt, errs.Unsupported, errs.Denied:
		return true
	case errs.NotFound, errs.Exhausted, errs.Canceled, errs.Timeout:
		return false
	}
	_, probe := s.Stat(ctx, repo.DescriptionObject)
	return probe == nil
}

// kind is what an object is.
type kind byte

const (
	kindNone kind = iota // no object of a repository
	kindDescription
	kindKey
	kindDomain
	kindCA
	kindEpoch
	kindPack
	kindIndex
	kindSnapshot
	kindLog
)

// kindOf tells what is under a key. A key that no object has is nothing: it is
// neither copied nor deleted.
func kindOf(key string) kind {
	of, err := kindNone, error(nil)
	switch folder, _, _ := strings.Cut(key, "/"); folder {
	case repo.DescriptionObject:
		return kindDescription
	case "keys":
		of = kindKey
		if _, err = repo.ParseSuccessionObject(key); err != nil {
			_, _, err = repo.ParseKeyObject(key)
		}
	case "domains":
		of = kindDomain
		_, _, err = repo.ParseDomainObject(key)
	case "ca":
		of = kindCA
		_, _, err = repo.ParseCAObject(key)
	case "epochs":
		of = kindEpoch
		_, err = repo.ParseEpochObject(key)
	case "packs":
		of = kindPack
		_, _, err = repo.ParsePackObject(key)
	case "index":
		of = kindIndex
		_, _, err = repo.ParseIndexObject(key)
	case "snapshots":
		of = kindSnapshot
		_, _, err = repo.ParseSnapshotObject(key)
	case "catalog":
		of = kindLog
		_, _, err = repo.ParseCatalogObject(key)
	}
	if err != nil {
		return kindNone
	}
	return of
}
