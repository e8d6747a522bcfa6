package dir

import (
	"cmp"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
)

const (
	// pageEntries bounds the names of one folder that are held at once. A folder of
	// a million files is then read sixteen times over rather than held: about 10 MB
	// a level of depth, of which only one is ever that large.
	pageEntries = 1 << 16
	// readEntries is how many entries are asked of the system at once.
	readEntries = 1024
	// maxDepth is far above the depth of any key, and bounds the walk in a tree that
	// is not ours.
	maxDepth = 16
)

// List calls fn for objects in byte order of their keys; see blob.Store. An
// object that appears or goes meanwhile may or may not be seen.
func (s *Store) List(ctx context.Context, prefix, after string, fn func(blob.Info) error) error {
	if err := blob.CheckPrefix(prefix); err != nil {
		return fmt.Errorf("list objects: %w", err)
	}
	if err := s.present(); err != nil {
		return fmt.Errorf("list objects %s: %w", prefix, err)
	}
	l := lister{ctx: ctx, prefix: prefix, after: after, fn: fn, page: pageEntries}
	// Begin in the folder that the prefix names: its siblings are not asked for.
	base := prefix[:strings.LastIndexByte(prefix, '/')+1]
	return l.folder(filepath.Join(s.root, filepath.FromSlash(base)), base, 0)
}

type lister struct {
	ctx           context.Context // of the one call that the lister belongs to
	prefix, after string
	fn            func(blob.Info) error
	page          int
}

// folder lists the objects below one folder, whose keys start with base. Its
// entries are taken in pages of the smallest names beyond the last one taken.
func (l *lister) folder(path, base string, depth int) error {
	if depth > maxDepth {
		return nil
	}
	last := ""
	for {
		page, more, err := l.readPage(path, base, last)
		if err != nil {
			if errors.Is(missing(err), errs.NotFound) {
				return nil // it went away, or never was a folder: no objects
			}
			return fmt.Errorf("list objects %s: %w", base, kind(err))
		}
		for _, e := range page {
			if err := l.entry(path, base, e, depth); err != nil {
				return err
			}
		}
		if !more {
			return nil
		}
		last = page[len(page)-1].order
	}
}

// entry is one name in a folder. The order of keys is not that of names: the
// objects below folder a are a/…, and a-b comes before them, a0 after.
type entry struct {
	name   string
	order  string // name, of a folder with a slash
	folder bool
}

func (l *lister) entry(path, base string, e entry, depth int) error {
	if err := blob.Canceled(l.ctx); err != nil {
		return fmt.Errorf("list objects %s: %w", base, err)
	}
	full := filepath.Join(path, e.name)
	if e.folder {
		return l.folder(full, base+e.order, depth+1)
	}
	info, err := os.Lstat(full)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list objects %s: %w", base, kind(err))
	}
	if !info.Mode().IsRegular() {
		return nil
	}
	return l.fn(blob.Info{Key: base + e.name, Size: info.Size(), Modified: info.ModTime()})
}

// readPage gives the smallest entries after last that may hold or be an object
// asked for, in order, and whether there are more.
func (l *lister) readPage(path, base, last string) (_ []entry, more bool, err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_DIRECTORY, 0)
	if err != nil {
		return nil, false, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	var page largestFirst
	for {
		if err := blob.Canceled(l.ctx); err != nil {
			return nil, false, err
		}
		found, err := f.ReadDir(readEntries)
		for _, d := range found {
			e, ok := l.wanted(base, last, d)
			if !ok {
				continue
			}
			heap.Push(&page, e)
			if len(page) > l.page {
				heap.Pop(&page)
				more = true
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, false, err
		}
	}
	slices.SortFunc(page, func(a, b entry) int { return cmp.Compare(a.order, b.order) })
	return page, more, nil
}

func (l *lister) wanted(base, last string, d fs.DirEntry) (entry, bool) {
	e := entry{name: d.Name(), order: d.Name(), folder: d.IsDir()}
	if e.folder {
		e.order += "/"
	}
	key := base + e.order
	if e.order <= last || blob.CheckKey(base+e.name) != nil {
		return e, false
	}
	if e.folder {
		// All its keys start with key: some may be asked for unless all differ from the
		// prefix or come before after.
		inPrefix := strings.HasPrefix(key, l.prefix) || strings.HasPrefix(l.prefix, key)
		beyond := key > l.after || strings.HasPrefix(l.after, key)
		return e, inPrefix && beyond
	}
	return e, strings.HasPrefix(key, l.prefix) && key > l.after
}

// largestFirst is a heap with the largest entry on top, to drop.
type largestFirst []entry

func (h largestFirst) Len() int           { return len(h) }
func (h largestFirst) Less(i, j int) bool { return h[i].order > h[j].order }
func (h largestFirst) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *largestFirst) Push(x any)        { *h = append(*h, x.(entry)) }

func (h *largestFirst) Pop() any {
	old := *h
	e := old[len(old)-1]
	*h = old[:len(old)-1]
	return e
}
