package blobtest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"syscall"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/blob/dir"
	"github.com/tuskvault/tuskvault/internal/errs"
)

// errPower is what every call gets once its process is gone.
var errPower = fmt.Errorf("this process is dead: %w", errs.Unavailable)

// Guard makes a store on the disk fail to be read, too, once the power is gone or
// its process is killed: the dead must not look at what they left. Wrap what a
// program of several goroutines uses.
func (d *Disk) Guard(s blob.Store) blob.Store {
	d.mu.Lock()
	defer d.mu.Unlock()
	return &guarded{Store: s, d: d, epoch: d.epoch}
}

type guarded struct {
	blob.Store
	d     *Disk
	epoch int
}

func (g *guarded) alive() error {
	g.d.mu.Lock()
	defer g.d.mu.Unlock()
	if g.d.lost || g.epoch != g.d.epoch {
		return errPower
	}
	return nil
}

// Open is that of the store, while the process lives.
func (g *guarded) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if err := g.alive(); err != nil {
		return nil, err
	}
	return g.Store.Open(ctx, key, offset, length)
}

// Stat is that of the store, while the process lives.
func (g *guarded) Stat(ctx context.Context, key string) (blob.Info, error) {
	if err := g.alive(); err != nil {
		return blob.Info{}, err
	}
	return g.Store.Stat(ctx, key)
}

// List is that of the store, while the process lives.
func (g *guarded) List(ctx context.Context, prefix, after string, fn func(blob.Info) error) error {
	if err := g.alive(); err != nil {
		return err
	}
	return g.Store.List(ctx, prefix, after, func(i blob.Info) error {
		if err := g.alive(); err != nil {
			return err
		}
		return fn(i)
	})
}

// diskProcess is the calls of one process on a Disk.
type diskProcess struct {
	d      *Disk
	epoch  int
	system dir.System
}

var _ dir.Files = diskProcess{}

// call makes one change, in the real folder and in the model, as one step. The
// step at which the process ends is made or not, and not answered.
func (p diskProcess) call(real func() error, model func()) error {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	if p.d.lost || p.epoch != p.d.epoch {
		return errPower
	}
	last := p.d.limit >= 0 && p.d.steps >= p.d.limit
	if last && p.d.rng.IntN(2) == 0 {
		p.d.end(p.d.kill)
		return errPower
	}
	err := real()
	if err == nil {
		model()
	}
	if last {
		p.d.end(p.d.kill)
		return errPower
	}
	p.d.steps++
	return err
}

func (p diskProcess) Create(path string) (dir.File, error) {
	var real dir.File
	node := &diskNode{}
	err := p.call(func() (err error) {
		real, err = p.system.Create(path)
		return err
	}, func() {
		folder, name, err := p.d.find(path)
		if err != nil {
			p.d.t.Fatalf("disk: create %s: %v", path, err)
		}
		folder.set(name, node)
	})
	if err != nil {
		if real != nil {
			err = errors.Join(err, real.Close())
		}
		return nil, err
	}
	return diskFile{p: p, real: real, node: node}, nil
}

func (p diskProcess) Mkdir(path string) error {
	return p.call(func() error { return p.system.Mkdir(path) }, func() { p.place(path, newFolderNode()) })
}

func (p diskProcess) Link(from, to string) error {
	return p.call(func() error { return p.system.Link(from, to) }, func() {
		folder, name, err := p.d.find(from)
		if err != nil || folder.names[name] == nil {
			p.d.t.Fatalf("disk: link from %s, which is not there: %v", from, err)
		}
		p.place(to, folder.names[name])
	})
}

func (p diskProcess) Remove(path string) error {
	return p.call(func() error { return p.system.Remove(path) }, func() { p.place(path, nil) })
}

// place is called with the lock held.
func (p diskProcess) place(path string, node *diskNode) {
	folder, name, err := p.d.find(path)
	if err != nil {
		p.d.t.Fatalf("disk: %v", err)
	}
	folder.set(name, node)
}

func (p diskProcess) SyncFolder(path string) error {
	node := &diskNode{}
	return p.call(func() (err error) {
		if node, err = p.d.folder(path); err == nil && p.d.failsSync() {
			err = &fs.PathError{Op: "fsync", Path: path, Err: syscall.EIO} // the names stay as undecided as they were
		}
		return err
	}, func() { node.syncNames() })
}

func (p diskProcess) SyncAll(string) error {
	return p.call(func() error { return nil }, func() { syncTree(p.d.tree) })
}

// syncTree makes a node and what is below durable. What a failed fsync lost stays
// lost: nobody knows of it any more.
func syncTree(n *diskNode) {
	if !n.folder {
		n.stable = append(n.stable, n.data[len(n.stable):]...)
		return
	}
	n.syncNames()
	for _, to := range n.names {
		syncTree(to)
	}
}

// diskFile is an open file.
type diskFile struct {
	p    diskProcess
	real dir.File
	node *diskNode
}

func (f diskFile) Write(b []byte) (n int, err error) {
	err = f.p.call(func() (err error) {
		n, err = f.real.Write(b)
		return err
	}, func() { f.node.data = append(f.node.data, b...) })
	if err != nil {
		return 0, err
	}
	return n, nil
}

func (f diskFile) Sync() error {
	return f.p.call(func() error {
		if !f.p.d.failsSync() {
			return nil
		}
		// The system takes the blocks for clean from now on, written or not.
		for at := len(f.node.stable); at < len(f.node.data); at += diskBlock {
			block := f.node.data[at:min(at+diskBlock, len(f.node.data))]
			if f.p.d.rng.IntN(2) == 0 {
				block = make([]byte, len(block))
			}
			f.node.stable = append(f.node.stable, block...)
		}
		return &fs.PathError{Op: "fsync", Path: "file", Err: syscall.EIO}
	}, func() { f.node.stable = append(f.node.stable, f.node.data[len(f.node.stable):]...) })
}

// Close closes the real file also when the process is dead: the test goes on.
func (f diskFile) Close() error {
	closed := f.real.Close()
	return errors.Join(closed, f.p.call(func() error { return nil }, func() {}))
}

// failsSync is called with the lock held.
func (d *Disk) failsSync() bool {
	if d.failed == 0 || d.rng.IntN(3) > 0 {
		return false
	}
	d.failed--
	return true
}

func sortedNames[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
