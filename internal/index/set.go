package index

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/seal"
)

const (
	// MaxFiles is the number of files above which Merge has work: each file is
	// one more place to ask for every chunk that is not stored yet.
	MaxFiles = 8
	// MaxCandidates bounds the answer of Lookup. Two would be enough (a chunk
	// lies in two packs while prune moves it, or after two hosts sent it at
	// once); a host that sends one name a million times must not make it long.
	MaxCandidates = 64
)

// Set is all index files of one domain in a local folder of its own. Its
// methods may be called concurrently; lookups never wait for a file to be
// written, only for the moment in which the list of files changes.
type Set struct {
	dir    string
	domain seal.DomainID

	// writing admits one Add, AddFile, Merge or Close at a time. It is held over
	// I/O on purpose: it is what makes the folder have one writer.
	writing sync.Mutex

	// mu guards files and closed. Lookups hold it for reading while they touch
	// mapped memory, so that no file is unmapped under them.
	mu     sync.RWMutex
	files  []*file // newest first
	closed bool
}

// Open maps all index files in a folder, which is made if it does not exist, and
// removes what an interrupted writer left. It looks at the first and the last
// bytes of each file only, which takes a millisecond whatever their size: a file
// was verified whole before it got its name, so what can be wrong since is that
// the disk has rotted. Verify finds that, and is to be called soon.
//
// Files whose structure is damaged, and files of another domain, fail it with
// errs.Corrupt: the error joins a *FileError for each, see DamagedFiles. The
// caller deletes those and rebuilds what they held from pack directories.
func Open(dir string, domain seal.DomainID) (*Set, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open index: %w", errs.OfFile(err))
	}
	found, err := listFolder(dir)
	if err != nil {
		return nil, fmt.Errorf("open index: %w", err)
	}
	s := &Set{dir: dir, domain: domain}
	var failed []error
	for _, n := range found {
		f, err := openFile(n.path(dir), n.seq, domain, n.id, false)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		s.files = append(s.files, f)
	}
	if len(failed) > 0 {
		return nil, fmt.Errorf("open index: %w", errors.Join(append(failed, s.Close())...))
	}
	sortFiles(s.files)
	return s, nil
}

// DamagedFiles gives the paths of the index files that an error calls corrupt.
func DamagedFiles(err error) []string {
	var paths []string
	var walk func(error)
	walk = func(err error) {
		if f, ok := err.(*FileError); ok { //nolint:errorlint // the tree is walked by hand: As finds only the first
			if errors.Is(f.Err, errs.Corrupt) {
				paths = append(paths, f.Path)
			}
			return
		}
		switch e := err.(type) { //nolint:errorlint // as above
		case interface{ Unwrap() []error }:
			for _, err := range e.Unwrap() {
				walk(err)
			}
		case interface{ Unwrap() error }:
			walk(e.Unwrap())
		}
	}
	walk(err)
	return paths
}

// Lookup appends the places where a chunk of that name may be, those in the
// newest file first, at most MaxCandidates. Each is a candidate by the first 16
// bytes of the name: see the package's comment on what settles it. A *FileError
// of kind errs.Corrupt says that a file became unreadable.
func (s *Set) Lookup(dst []Location, name seal.Name) ([]Location, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return dst, fmt.Errorf("look up chunk %s: index is closed: %w", name.Short(), errs.Unavailable)
	}
	start := len(dst)
	at := 0
	err := guard(func() (err error) {
		for ; at < len(s.files); at++ {
			before := len(dst)
			if dst, err = s.files[at].find(dst, name[:prefixSize], start+MaxCandidates); err != nil {
				return err
			}
			dst = dropRepeated(dst, start, before)
		}
		return nil
	})
	if err != nil {
		return dst[:start], fmt.Errorf("look up chunk %s: %w", name.Short(), &FileError{Path: s.files[at].info.Path, Err: err})
	}
	return dst, nil
}

// dropRepeated removes from dst[before:] what dst[start:before] has: an
// interrupted merge leaves the same entry in two files.
func dropRepeated(dst []Location, start, before int) []Location {
	kept := dst[:before]
	for _, l := range dst[before:] {
		if !slices.Contains(dst[start:before], l) {
			kept = append(kept, l)
		}
	}
	return kept
}

// Has tells whether Lookup would find a candidate, with its errors. An error
// must never be taken for "stored": the asker would not send the chunk.
func (s *Set) Has(name seal.Name) (bool, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return false, fmt.Errorf("look up chunk %s: index is closed: %w", name.Short(), errs.Unavailable)
	}
	found, at := false, 0
	err := guard(func() error {
		for ; at < len(s.files) && !found; at++ {
			found = s.files[at].has(name[:prefixSize])
		}
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("look up chunk %s: %w", name.Short(), &FileError{Path: s.files[at].info.Path, Err: err})
	}
	return found, nil
}

// Add writes what b has built as a new file and takes it into the Set. When it
// returns nil, the file is durable and lookups find its entries. An equal file
// that is there already is not written again; an empty Builder adds nothing and
// gives the zero FileInfo.
//
// The steps, and what a crash leaves:
//
//  1. write a temporary file and sync it: Open removes it.
//  2. rename it to its final name and sync the folder: Open finds the file,
//     whole, or does not find it.
//  3. map it.
func (s *Set) Add(ctx context.Context, b *Builder) (FileInfo, error) {
	if b.domain != s.domain {
		return FileInfo{}, fmt.Errorf("add to index of domain %s: built for domain %s: %w", s.domain, b.domain, errs.Invalid)
	}
	if b.Len() == 0 {
		return FileInfo{}, nil
	}
	return s.add(ctx, func(w io.Writer) (FileID, error) { return b.build(w) })
}

// AddFile takes in a whole index file that was read from elsewhere (the store),
// as Add does. Its bytes must have the id want, or it is errs.Corrupt.
func (s *Set) AddFile(ctx context.Context, r io.Reader, want FileID) (FileInfo, error) {
	return s.add(ctx, func(w io.Writer) (FileID, error) {
		b := bufio.NewWriterSize(w, 256<<10)
		if _, err := io.Copy(b, r); err != nil {
			return FileID{}, err
		}
		return want, b.Flush() // verified when it is mapped
	})
}

func (s *Set) add(ctx context.Context, write func(io.Writer) (FileID, error)) (FileInfo, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := ctx.Err(); err != nil {
		return FileInfo{}, context.Cause(ctx)
	}
	old, err := s.current()
	if err != nil {
		return FileInfo{}, err
	}
	seq := uint64(1)
	if len(old) > 0 {
		seq = old[0].seq + 1
	}
	f, err := s.create(seq, old, write)
	if err != nil {
		return FileInfo{}, fmt.Errorf("add to index of domain %s: %w", s.domain, err)
	}
	if !slices.Contains(old, f) {
		s.publish(append([]*file{f}, old...))
	}
	return f.info, nil
}

// Files describes the Set's files, newest first.
func (s *Set) Files() []FileInfo {
	s.mu.RLock()
	defer s.mu.RUnlock()
	infos := make([]FileInfo, len(s.files))
	for i, f := range s.files {
		infos[i] = f.info
	}
	return infos
}

// Close unmaps all files. Afterwards lookups find nothing and everything else
// fails. It may be called twice.
func (s *Set) Close() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.Lock()
	files := s.files
	s.files, s.closed = nil, true
	s.mu.Unlock()
	var failed []error
	for _, f := range files {
		failed = append(failed, f.close())
	}
	return errors.Join(failed...)
}

// current gives the list of files to a writer, which must not change it.
func (s *Set) current() ([]*file, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return nil, fmt.Errorf("index of domain %s is closed: %w", s.domain, errs.Unavailable)
	}
	return s.files, nil
}

// publish makes lookups use another list. When it returns, no lookup uses a
// file that is not in it.
func (s *Set) publish(files []*file) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files = files
}

// sortFiles puts the newest first; equal numbers, left by an interrupted merge,
// in any order that does not change.
func sortFiles(files []*file) {
	slices.SortFunc(files, func(a, b *file) int {
		if c := cmp.Compare(b.seq, a.seq); c != 0 {
			return c
		}
		return slices.Compare(a.info.ID[:], b.info.ID[:])
	})
}
